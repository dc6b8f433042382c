//! Only TLS records: the least cost of any client over TLS, and the cost through rustls.

use std::io::{BufRead, Read, Write};
use std::sync::Arc;

use bytes::BytesMut;
use pgbell::proto::wire::StartupPacket;
use rustls::crypto::cipher::{InboundOpaqueMessage, MessageDecrypter};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, Stream,
    SupportedCipherSuite,
};

use super::Job;
use super::raw::{READ_BYTES, connect, listen, touch};
use crate::outcome::Outcome;
use crate::tally::Tally;
use crate::tls;

/// Type, version and length of a record.
const HEADER_BYTES: usize = 5;

/// Decrypts every record in the receive buffer, and reads a byte of every cache line of its data.
pub(super) fn in_place(job: &Job) -> Outcome<()> {
    let mut buffer = vec![0; READ_BYTES];
    let (mut socket, connection) = secured(job, &mut buffer)?;
    let suite = connection.negotiated_cipher_suite();
    let Some(SupportedCipherSuite::Tls13(suite)) = suite else {
        return Err("expected TLS 1.3".into());
    };
    let (mut sequence, secrets) = connection.dangerous_extract_secrets()?.rx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        return Err("expected AES-256-GCM".into());
    };
    let mut decrypter = suite.aead_alg.decrypter(key, iv);
    receive(job, &mut socket, &mut buffer, |records, tally| {
        let (mut taken, mut data) = (0, 0);
        while let Some(record) = first_record(&mut records[taken..]) {
            taken += record.len();
            data += open(&mut *decrypter, sequence, record, tally)?;
            sequence += 1;
        }
        Ok((taken, data))
    })
}

fn first_record(bytes: &mut [u8]) -> Option<&mut [u8]> {
    let header: [u8; HEADER_BYTES] = *bytes.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    bytes.get_mut(..HEADER_BYTES + length)
}

/// Decrypts a record, and returns the number of its data bytes.
fn open(
    decrypter: &mut dyn MessageDecrypter,
    sequence: u64,
    record: &mut [u8],
    tally: &mut Tally,
) -> Outcome<u64> {
    let sealed = &mut record[HEADER_BYTES..];
    let (content, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
    let plain = decrypter.decrypt(InboundOpaqueMessage::new(content, version, sealed), sequence)?;
    if plain.typ != ContentType::ApplicationData {
        return Err(format!("expected a data record, found {:?}", plain.typ).into());
    }
    tally.arrived();
    touch(plain.payload);
    Ok(plain.payload.len() as u64)
}

/// Lets rustls decrypt, and reads a byte of every cache line of the data.
pub(super) fn rustls(job: &Job) -> Outcome<()> {
    let mut buffer = vec![0; READ_BYTES];
    let (mut socket, mut connection) = secured(job, &mut buffer)?;
    receive(job, &mut socket, &mut buffer, |records, tally| {
        let (mut rest, mut data) = (&*records, 0);
        while !rest.is_empty() {
            connection.read_tls(&mut rest)?;
            let state = connection.process_new_packets()?;
            let mut left = state.plaintext_bytes_to_read();
            data += left as u64;
            while left > 0 {
                let mut reader = connection.reader();
                let chunk = reader.fill_buf()?;
                let count = chunk.len();
                tally.arrived();
                touch(chunk);
                reader.consume(count);
                left -= count;
            }
        }
        Ok((records.len(), data))
    })
}

/// Returns a connection that listens. No bytes follow the last answer.
fn secured(job: &Job, buffer: &mut [u8]) -> Outcome<(std::net::TcpStream, ClientConnection)> {
    let root = job.root.as_ref().ok_or("TLS needs --root")?;
    let mut socket = connect(job)?;
    let mut out = BytesMut::new();
    StartupPacket::SslRequest.encode(&mut out)?;
    socket.write_all(&out)?;
    let mut answer = [0];
    socket.read_exact(&mut answer)?;
    if answer != *b"S" {
        return Err("the server has no TLS".into());
    }
    let mut config = tls::client_config(root)?;
    config.enable_secret_extraction = true;
    let name = ServerName::try_from("127.0.0.1")?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    listen(job, &mut Stream::new(&mut connection, &mut socket), buffer)?;
    Ok((socket, connection))
}

/// Does large reads until all bytes have arrived. `take` returns how many bytes it consumed, and how many data bytes they contained.
fn receive(
    job: &Job,
    socket: &mut impl Read,
    buffer: &mut [u8],
    mut take: impl FnMut(&mut [u8], &mut Tally) -> Outcome<(usize, u64)>,
) -> Outcome<()> {
    let wanted = job.count * job.shape.size as u64;
    let mut tally = Tally::begin(job.count)?;
    let (mut received, mut end) = (0, 0);
    while received < wanted {
        let n = socket.read(&mut buffer[end..])?;
        if n == 0 {
            return Err("the server closed the connection".into());
        }
        end += n;
        let (taken, data) = take(&mut buffer[..end], &mut tally)?;
        received += data;
        buffer.copy_within(taken..end, 0);
        end -= taken;
    }
    tally.finish_raw(received, job.shape.size)
}

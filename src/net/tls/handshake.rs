//! The handshake: rustls decides, and this module carries the bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ExtractedSecrets;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::CertificateDer;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use tokio::io::{AsyncRead, AsyncWrite};

use super::buffer::Buffer;
use super::fault::Fault;
use super::incoming::Schedule;
use super::record::Header;

/// The largest number of bytes that a server may send in the handshake. rustls limits its certificates to 64 KiB.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;

/// The largest number of records that are sent for an alert, with those before it.
const LAST_RECORDS_MAX: usize = 8;

/// Why a handshake failed.
#[derive(Debug)]
pub(super) enum HandshakeFailure {
    /// The socket failed.
    Io(io::Error),
    /// The server ended the connection.
    Closed,
    /// Bytes arrived before the client sent anything. An attacker may have sent them, so that they are taken for
    /// bytes that came through TLS.
    EarlyBytes,
    /// An error of the record layer.
    Fault(Fault),
    /// An error of rustls.
    Tls(rustls::Error),
}

impl From<io::Error> for HandshakeFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Fault> for HandshakeFailure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<rustls::Error> for HandshakeFailure {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// The results of a handshake.
pub(super) struct Completed {
    pub(super) schedule: Schedule,
    pub(super) secrets: ExtractedSecrets,
    /// The bytes that were received after it.
    pub(super) buffer: Buffer,
    /// The server's own certificate.
    pub(super) certificate: Option<CertificateDer<'static>>,
    /// The server chose the protocol that the client offered (ALPN).
    pub(super) protocol_selected: bool,
}

/// The next step of a handshake.
enum HandshakeStep {
    Again,
    Send,
    Receive,
    Completed,
}

/// Performs a handshake.
///
/// rustls is given one more record at a time, so that it never gets records after the handshake: those
/// are decrypted in `incoming`.
pub(super) async fn perform<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    mut connection: UnbufferedClientConnection,
) -> Result<Completed, HandshakeFailure> {
    let mut buffer = Buffer::new();
    check_silence(io, &mut buffer).await?;
    let mut received_bytes = 0usize;
    // Bytes at the front of the buffer that rustls was given and has not discarded.
    let mut shown = 0;
    let mut sending = Vec::new();
    loop {
        match step(&mut connection, &mut buffer, &mut shown, &mut sending) {
            Ok(HandshakeStep::Again) => {}
            Ok(HandshakeStep::Send) => {
                send(io, &sending, &mut buffer, &mut received_bytes).await?;
                sending.clear();
            }
            Ok(HandshakeStep::Receive) => loop {
                let unseen = buffer.received().get(shown..).unwrap_or_default();
                if let Some(header) = Header::whole(unseen)? {
                    shown += header.record_bytes;
                    break;
                }
                poll_fn(|cx| poll_receive(cx, io, &mut buffer, &mut received_bytes)).await?;
            },
            Ok(HandshakeStep::Completed) if shown == 0 => break,
            // rustls has kept a part of a message: the rest would be parsed as a new one.
            Ok(HandshakeStep::Completed) => {
                return Err(Fault::Unexpected("half a message at the end of the handshake").into());
            }
            Err(failure) => {
                send_alert(io, &mut connection, &mut buffer, &mut shown).await;
                return Err(failure);
            }
        }
    }
    let certificate = connection.peer_certificates().and_then(<[_]>::first).cloned();
    let protocol_selected = connection.alpn_protocol() == Some(super::ALPN);
    let (secrets, schedule) = connection.dangerous_into_kernel_connection()?;
    Ok(Completed { schedule, secrets, buffer, certificate, protocol_selected })
}

/// Checks that the server has sent nothing before the client's first message. T2.
async fn check_silence<S: AsyncRead + Unpin>(
    io: &mut S,
    buffer: &mut Buffer,
) -> Result<(), HandshakeFailure> {
    poll_fn(|cx| {
        Poll::Ready(match buffer.poll_read(cx, io) {
            Poll::Ready(Ok(0)) => Err(HandshakeFailure::Closed),
            Poll::Ready(Ok(_)) => Err(HandshakeFailure::EarlyBytes),
            Poll::Ready(Err(error)) => Err(HandshakeFailure::Io(error)),
            Poll::Pending => Ok(()),
        })
    })
    .await
}

/// Reads once.
fn poll_receive<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    io: &mut S,
    buffer: &mut Buffer,
    received_bytes: &mut usize,
) -> Poll<Result<(), HandshakeFailure>> {
    if *received_bytes >= HANDSHAKE_BYTES_MAX {
        return Poll::Ready(Err(Fault::TooLong.into()));
    }
    match ready!(buffer.poll_read(cx, io))? {
        0 => Poll::Ready(Err(HandshakeFailure::Closed)),
        count => {
            *received_bytes = received_bytes.saturating_add(count);
            Poll::Ready(Ok(()))
        }
    }
}

/// Sends all bytes. It reads meanwhile: a server may not read before its own bytes are sent.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    mut bytes: &[u8],
    buffer: &mut Buffer,
    received_bytes: &mut usize,
) -> Result<(), HandshakeFailure> {
    poll_fn(|cx| {
        while !bytes.is_empty() {
            match Pin::new(&mut *io).poll_write(cx, bytes)? {
                Poll::Ready(0) => return Poll::Ready(Err(HandshakeFailure::Closed)),
                Poll::Ready(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Poll::Pending => ready!(poll_receive(cx, io, buffer, received_bytes))?,
            }
        }
        Pin::new(&mut *io).poll_flush(cx).map_err(HandshakeFailure::Io)
    })
    .await
}

/// Lets rustls process the records that it was given, once.
fn step(
    connection: &mut UnbufferedClientConnection,
    buffer: &mut Buffer,
    shown: &mut usize,
    sending: &mut Vec<u8>,
) -> Result<HandshakeStep, HandshakeFailure> {
    let records = buffer.received_mut().get_mut(..*shown).unwrap_or_default();
    let UnbufferedStatus { discard, state } = connection.process_tls_records(records);
    let next = match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(&mut data, sending).map(|()| HandshakeStep::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // This promises that the data is sent before the next call.
            data.done();
            Ok(HandshakeStep::Send)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(HandshakeStep::Receive),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(HandshakeStep::Completed),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(HandshakeFailure::Closed),
        // rustls is not given data, and early data is for servers.
        Ok(_) => Err(Fault::Unexpected("data within the handshake").into()),
        Err(error) => Err(error.into()),
    };
    buffer.advance(discard);
    *shown = shown.saturating_sub(discard);
    next
}

/// Appends a record of rustls to `sending`.
fn encode(
    data: &mut EncodeTlsData<'_, ClientConnectionData>,
    sending: &mut Vec<u8>,
) -> Result<(), HandshakeFailure> {
    let begin = sending.len();
    let mut room = 0;
    loop {
        sending.resize(begin + room, 0);
        let error = match data.encode(sending.get_mut(begin..).unwrap_or_default()) {
            Ok(count) => {
                sending.truncate(begin + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(error)) if error.required_size > room => {
                room = error.required_size;
                continue;
            }
            Err(error) => error.to_string(),
        };
        return Err(rustls::Error::General(error).into());
    }
}

/// Sends the alert of rustls, if it has one and the socket accepts it at once.
async fn send_alert<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    connection: &mut UnbufferedClientConnection,
    buffer: &mut Buffer,
    shown: &mut usize,
) {
    let mut sending = Vec::new();
    for _ in 0..LAST_RECORDS_MAX {
        match step(connection, buffer, shown, &mut sending) {
            Ok(HandshakeStep::Again) => {}
            _ => break,
        }
    }
    poll_fn(|cx| {
        if !sending.is_empty() {
            let _ = Pin::new(&mut *io).poll_write(cx, &sending);
        }
        Poll::Ready(())
    })
    .await;
}

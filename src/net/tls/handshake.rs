//! The handshake: rustls decides, we carry the bytes.

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

/// Most bytes that a server may send before it is done: its certificates are at most 64 KiB for rustls.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;

/// Most records of an alert and what is queued before it.
const LAST_RECORDS_MAX: usize = 8;

/// Why it failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The socket broke.
    Io(io::Error),
    /// The server ended the connection.
    Closed,
    /// Bytes were there before we had said anything. Whoever put them there wanted them to be taken for
    /// something else.
    Stuffed,
    /// Below the handshake.
    Fault(Fault),
    /// In the handshake.
    Tls(rustls::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// What came of it.
pub(super) struct Done {
    pub(super) schedule: Schedule,
    pub(super) secrets: ExtractedSecrets,
    /// What was received behind it.
    pub(super) buffer: Buffer,
    /// The server's own certificate.
    pub(super) certificate: Option<CertificateDer<'static>>,
    /// Whether the server chose the protocol that we offered.
    pub(super) protocol_selected: bool,
}

/// What rustls wants next.
enum Next {
    Again,
    Send,
    Receive,
    Done,
}

/// Shakes hands.
///
/// rustls is shown one record more at a time, so that it never sees what comes after the handshake: those
/// records are ours.
pub(super) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    mut connection: UnbufferedClientConnection,
) -> Result<Done, Failure> {
    let mut buffer = Buffer::new();
    check_silence(io, &mut buffer).await?;
    let mut received_bytes = 0usize;
    // Bytes at the front of the buffer that rustls was shown and has not let go.
    let mut shown = 0;
    let mut sending = Vec::new();
    loop {
        match step(&mut connection, &mut buffer, &mut shown, &mut sending) {
            Ok(Next::Again) => {}
            Ok(Next::Send) => {
                send(io, &sending, &mut buffer, &mut received_bytes).await?;
                sending.clear();
            }
            Ok(Next::Receive) => loop {
                let unseen = buffer.received().get(shown..).unwrap_or_default();
                if let Some(header) = Header::whole(unseen)? {
                    shown += header.record_bytes;
                    break;
                }
                poll_fn(|cx| poll_receive(cx, io, &mut buffer, &mut received_bytes)).await?;
            },
            Ok(Next::Done) if shown == 0 => break,
            // A message has begun of which rustls has kept a part: the rest would be read as a new one.
            Ok(Next::Done) => {
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
    Ok(Done { schedule, secrets, buffer, certificate, protocol_selected })
}

/// A server says nothing before we do. T2.
async fn check_silence<S: AsyncRead + Unpin>(
    io: &mut S,
    buffer: &mut Buffer,
) -> Result<(), Failure> {
    poll_fn(|cx| {
        Poll::Ready(match buffer.poll_read(cx, io) {
            Poll::Ready(Ok(0)) => Err(Failure::Closed),
            Poll::Ready(Ok(_)) => Err(Failure::Stuffed),
            Poll::Ready(Err(error)) => Err(Failure::Io(error)),
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
) -> Poll<Result<(), Failure>> {
    if *received_bytes >= HANDSHAKE_BYTES_MAX {
        return Poll::Ready(Err(Fault::TooLong.into()));
    }
    match ready!(buffer.poll_read(cx, io))? {
        0 => Poll::Ready(Err(Failure::Closed)),
        count => {
            *received_bytes = received_bytes.saturating_add(count);
            Poll::Ready(Ok(()))
        }
    }
}

/// Sends all of it. Meanwhile it reads, for a server that first wants to be rid of what it has to say.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    mut bytes: &[u8],
    buffer: &mut Buffer,
    received_bytes: &mut usize,
) -> Result<(), Failure> {
    poll_fn(|cx| {
        while !bytes.is_empty() {
            match Pin::new(&mut *io).poll_write(cx, bytes)? {
                Poll::Ready(0) => return Poll::Ready(Err(Failure::Closed)),
                Poll::Ready(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Poll::Pending => ready!(poll_receive(cx, io, buffer, received_bytes))?,
            }
        }
        Pin::new(&mut *io).poll_flush(cx).map_err(Failure::Io)
    })
    .await
}

/// Lets rustls work on what it was shown, once.
fn step(
    connection: &mut UnbufferedClientConnection,
    buffer: &mut Buffer,
    shown: &mut usize,
    sending: &mut Vec<u8>,
) -> Result<Next, Failure> {
    let records = buffer.received_mut().get_mut(..*shown).unwrap_or_default();
    let UnbufferedStatus { discard, state } = connection.process_tls_records(records);
    let next = match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(&mut data, sending).map(|()| Next::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It is sent before the next call, which is what this promises.
            data.done();
            Ok(Next::Send)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Receive),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Done),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(Failure::Closed),
        // Data is not shown to rustls, and early data is for servers.
        Ok(_) => Err(Fault::Unexpected("data within the handshake").into()),
        Err(error) => Err(error.into()),
    };
    buffer.advance(discard);
    *shown = shown.saturating_sub(discard);
    next
}

/// Appends a record that rustls has ready.
fn encode(
    data: &mut EncodeTlsData<'_, ClientConnectionData>,
    sending: &mut Vec<u8>,
) -> Result<(), Failure> {
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

/// Tells the server why, if rustls has an alert for it and the socket takes it at once.
async fn send_alert<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    connection: &mut UnbufferedClientConnection,
    buffer: &mut Buffer,
    shown: &mut usize,
) {
    let mut sending = Vec::new();
    for _ in 0..LAST_RECORDS_MAX {
        match step(connection, buffer, shown, &mut sending) {
            Ok(Next::Again) => {}
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

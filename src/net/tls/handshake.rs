//! The handshake: rustls decides, and this module carries the bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite};

use super::received::Received;
use super::sending::poll_send;

/// The largest number of bytes that a server may send in the handshake. rustls limits its certificates to 64 KiB.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;

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
    /// The server sent [`HANDSHAKE_BYTES_MAX`], and the handshake was not complete.
    TooLong,
    /// An error of rustls.
    Tls(rustls::Error),
}

impl From<io::Error> for HandshakeFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustls::Error> for HandshakeFailure {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// Performs a handshake. Returns the bytes that were received after it, as far as rustls has not processed them.
pub(super) async fn perform<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    connection: &mut ClientConnection,
) -> Result<Received, HandshakeFailure> {
    let mut received = Received::new();
    check_silence(io, &mut received).await?;
    let mut received_bytes = 0;
    loop {
        send(io, connection, &mut received, &mut received_bytes).await?;
        if !connection.is_handshaking() {
            return Ok(received);
        }
        if received.is_empty() {
            poll_fn(|cx| poll_receive(cx, io, &mut received, &mut received_bytes)).await?;
        }
        if let Err(error) = received.process(connection) {
            send_alert(io, connection).await;
            return Err(error.into());
        }
    }
}

/// Checks that the server has sent nothing before the client's first message. T2.
async fn check_silence<S: AsyncRead + Unpin>(
    io: &mut S,
    received: &mut Received,
) -> Result<(), HandshakeFailure> {
    poll_fn(|cx| {
        Poll::Ready(match received.poll_read(cx, io) {
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
    received: &mut Received,
    received_bytes: &mut usize,
) -> Poll<Result<(), HandshakeFailure>> {
    if *received_bytes >= HANDSHAKE_BYTES_MAX {
        return Poll::Ready(Err(HandshakeFailure::TooLong));
    }
    match ready!(received.poll_read(cx, io))? {
        0 => Poll::Ready(Err(HandshakeFailure::Closed)),
        count => {
            *received_bytes = received_bytes.saturating_add(count);
            Poll::Ready(Ok(()))
        }
    }
}

/// Sends everything that rustls has queued. It reads meanwhile: a server may not read before its own bytes are sent.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    connection: &mut ClientConnection,
    received: &mut Received,
    received_bytes: &mut usize,
) -> Result<(), HandshakeFailure> {
    poll_fn(|cx| {
        while poll_send(cx, io, connection)?.is_pending() {
            ready!(poll_receive(cx, io, received, received_bytes))?;
        }
        Pin::new(&mut *io).poll_flush(cx).map_err(HandshakeFailure::Io)
    })
    .await
}

/// Sends the alert of rustls, if it has one and the socket accepts it at once.
async fn send_alert<S: AsyncWrite + Unpin>(io: &mut S, connection: &mut ClientConnection) {
    poll_fn(|cx| {
        let _ = poll_send(cx, io, connection);
        Poll::Ready(())
    })
    .await;
}

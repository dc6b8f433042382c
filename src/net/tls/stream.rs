//! An encrypted connection after its handshake.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustls::ClientConnection;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

use super::fault::Fault;
use super::handshake_info::HandshakeInfo;
use super::hint;
use super::key_limit::KeyLimit;
use super::received::Received;
use super::sending::poll_send;
use crate::error::Error;
use crate::net::tcp::TcpSocket;

/// The largest data of one record, in bytes: RFC 8446 §5.1.
pub(super) const PLAINTEXT_BYTES_MAX: usize = 16 * 1024;

/// A connection over TLS.
///
/// The connection of rustls has the records, the keys and the alerts, and limits what a server may send. This type moves
/// the bytes.
pub(crate) struct TlsStream<S = TcpSocket> {
    io: S,
    connection: ClientConnection,
    received: Received,
    key_limit: KeyLimit,
    /// It explains errors that have their cause in the handshake and arrive later.
    info: Arc<HandshakeInfo>,
    /// Why nothing more can be read. Every later call returns it.
    failed: Option<Error>,
    /// An error of the socket that occurred after data was accepted. The next call that writes returns it.
    unsent: Option<io::Error>,
    /// An alert was queued, after which nothing may follow.
    is_closed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Continues after the handshake, with the bytes that were received and not processed.
    pub(super) fn new(
        io: S,
        connection: ClientConnection,
        received: Received,
        key_limit: KeyLimit,
        info: Arc<HandshakeInfo>,
    ) -> Self {
        Self {
            io,
            connection,
            received,
            key_limit,
            info,
            failed: None,
            unsent: None,
            is_closed: false,
        }
    }

    /// Moves received data into the spare capacity of `out`; reads from the socket only if there is no such data. Ready
    /// with 0 after close_notify of the server.
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the connection ends without close_notify: otherwise an attacker
    /// could cut off a part of the data unnoticed. If TLS itself fails, the error
    /// [contains](super::cause) one of this crate. Every later call fails too.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        if out.capacity() == out.len() {
            out.reserve(PLAINTEXT_BYTES_MAX);
        }
        let before = out.len();
        loop {
            let is_ended = self.deliver(out);
            self.answer(cx);
            // Data before an error is returned first.
            let count = out.len() - before;
            if count > 0 || is_ended {
                return Poll::Ready(Ok(count));
            }
            if let Some(error) = &self.failed {
                return Poll::Ready(Err(io::Error::other(error.clone())));
            }
            if ready!(self.received.poll_read(cx, &mut self.io))? == 0 {
                return Poll::Ready(Err(unexpected_end()));
            }
        }
    }

    /// Decrypts what was received, as far as there is spare capacity in `out`. Returns whether the server has sent
    /// close_notify, and all data before it was delivered.
    fn deliver(&mut self, out: &mut BytesMut) -> bool {
        loop {
            // Fails if rustls needs more bytes.
            while let Ok(data) = self.connection.reader().fill_buf() {
                if data.is_empty() {
                    return true;
                }
                let fits = data.len().min(out.capacity() - out.len());
                let data = data.get(..fits).unwrap_or_default();
                if data.is_empty() {
                    return false;
                }
                out.extend_from_slice(data);
                self.connection.reader().consume(fits);
            }
            if self.failed.is_some() || self.received.is_empty() {
                return false;
            }
            if let Err(error) = self.received.process(&mut self.connection) {
                self.fail(hint::broken(error.into(), &self.info));
            }
        }
    }

    /// Accepts a part of `data`, encrypts it, and writes as much as the socket accepts. Pending if the socket
    /// accepts nothing and the queue of rustls is full: 64 KiB.
    ///
    /// # Errors
    /// Nothing of `data` was accepted. If an error occurs after a part of it was accepted, the next call returns the error:
    /// that part may have reached the server.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(error) = self.unsent.take() {
                return Poll::Ready(Err(error));
            }
            if self.is_closed {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let Some(part) = self.key_limit.allowed(data) else {
                let error = hint::broken(Fault::KeyExhausted, &self.info);
                self.fail(error.clone());
                self.send(cx);
                return Poll::Ready(Err(io::Error::other(error)));
            };
            let taken = self.connection.writer().write(part)?;
            self.key_limit.count(taken);
            if taken > 0 || data.is_empty() {
                // The rest is written by later calls.
                self.send(cx);
                return Poll::Ready(Ok(taken));
            }
            ready!(self.poll_send(cx))?;
        }
    }

    /// Writes everything that was accepted to the socket.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Sends close_notify, and ends the sending direction. The server can still send.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Writes until the socket has accepted everything.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.unsent.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => poll_send(cx, &mut self.io, &mut self.connection),
        }
    }

    /// Writes as much as the socket accepts. The next call that writes returns the error, if there is one.
    fn send(&mut self, cx: &mut Context<'_>) {
        if self.unsent.is_none()
            && let Poll::Ready(Err(error)) = poll_send(cx, &mut self.io, &mut self.connection)
        {
            self.unsent = Some(error);
        }
    }

    /// Sends what the received records require: an alert, or a key update. An error of the socket is returned by the next
    /// write: reading continues until everything is read that the server sent before.
    fn answer(&mut self, cx: &mut Context<'_>) {
        if !self.is_closed && !self.connection.wants_write() {
            // rustls queues a requested key update with the next write only. Several requests count as one until then.
            let _ = self.connection.writer().write(&[]);
        }
        self.send(cx);
    }

    /// Stores an error for later calls, and queues an alert if rustls has not.
    #[cold]
    fn fail(&mut self, error: Error) {
        self.failed = Some(error);
        self.close();
    }

    /// Queues close_notify if no alert was queued.
    fn close(&mut self) {
        self.is_closed = true;
        self.connection.send_close_notify();
    }

    /// Returns the socket.
    pub(crate) fn socket(&mut self) -> &mut S {
        &mut self.io
    }

    /// Returns the certificates that the server has sent, its own first.
    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }

    /// Returns the socket.
    pub(crate) fn socket_ref(&self) -> &S {
        &self.io
    }
}

#[cold]
fn unexpected_end() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended without close_notify of TLS")
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("version", &self.connection.protocol_version())
            .field("cipher", &self.connection.negotiated_cipher_suite().map(|suite| suite.suite()))
            .finish_non_exhaustive()
    }
}

//! An encrypted connection after its handshake.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::fault::Fault;
use super::handshake_info::HandshakeInfo;
use super::hint;
use super::incoming::{Incoming, Schedule};
use super::outgoing::Outgoing;
use crate::error::Error;

/// A connection over TLS.
///
/// rustls does the handshake, and has the key schedule and the ciphers; the records are moved
/// here. The connection types of rustls copy each received record into a new allocation. Here a byte is copied once in each
/// direction, and receiving does not allocate.
pub(crate) struct TlsStream<S = TcpStream> {
    io: S,
    schedule: Schedule,
    incoming: Incoming,
    outgoing: Outgoing,
    /// For errors that have their cause in the handshake and arrive later.
    info: Arc<HandshakeInfo>,
    /// Why nothing more can be read. Every later call returns it.
    failed: Option<Error>,
    /// An error of the socket that occurred after data was accepted. The next call that writes returns it.
    unsent: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    pub(super) fn new(
        io: S,
        schedule: Schedule,
        incoming: Incoming,
        outgoing: Outgoing,
        info: Arc<HandshakeInfo>,
    ) -> Self {
        Self { io, schedule, incoming, outgoing, info, failed: None, unsent: None }
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
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(io::Error::other(error.clone())));
        }
        let before = out.len();
        loop {
            let delivered = self.incoming.deliver(&mut self.schedule, out);
            // Data before the error is returned first.
            let count = out.len() - before;
            if let Err(fault) = delivered {
                let error = self.fail(cx, &fault);
                return Poll::Ready(if count > 0 { Ok(count) } else { Err(error) });
            }
            self.answer(cx);
            if count > 0 || self.incoming.is_closed() {
                return Poll::Ready(Ok(count));
            }
            if ready!(self.incoming.poll_read(cx, &mut self.io))? == 0 {
                return Poll::Ready(Err(self.unexpected_end()));
            }
        }
    }

    /// Accepts a part of `data`, encrypts it, and writes as much as the socket accepts. Pending if the socket
    /// accepts nothing and the queue is full.
    ///
    /// # Errors
    /// Nothing of `data` was accepted. If an error occurs after a part of it was accepted, the next call returns the error:
    /// that part may have reached the server.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.outgoing.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !self.outgoing.has_room() {
            ready!(self.poll_send(cx))?;
        }
        // A key update that the server requested comes before more data: RFC 8446 §4.6.3.
        self.answer(cx);
        if let Some(error) = self.unsent.take() {
            return Poll::Ready(Err(error));
        }
        // The key update may have used up the room. A write of 0 bytes would look like the end of the connection.
        if !self.outgoing.has_room() {
            ready!(self.poll_send(cx))?;
        }
        let taken = match self.outgoing.push(&mut self.schedule, data) {
            Ok(taken) => taken,
            Err(fault) => return Poll::Ready(Err(self.fail(cx, &fault))),
        };
        // The rest is written by later calls.
        self.send(cx);
        Poll::Ready(Ok(taken))
    }

    /// Writes everything that was accepted to the socket.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Sends close_notify, and ends the sending direction. The server can still send.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.push_close_notify();
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Writes until the socket has accepted everything.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.unsent.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => self.outgoing.poll_send(cx, &mut self.io),
        }
    }

    /// Writes as much as the socket accepts. The next call that writes returns the error, if there is one.
    fn send(&mut self, cx: &mut Context<'_>) {
        if self.unsent.is_none()
            && let Poll::Ready(Err(error)) = self.outgoing.poll_send(cx, &mut self.io)
        {
            self.unsent = Some(error);
        }
    }

    /// Sends a requested key update, as far as the socket accepts it. An error of the socket is returned by the next write:
    /// reading continues until everything is read that the server sent before.
    fn answer(&mut self, cx: &mut Context<'_>) {
        if self.outgoing.has_room() && self.incoming.take_key_update() {
            // If it fails, the connection continues with the old keys, and their limit.
            let _ = self.outgoing.push_key_update(&mut self.schedule);
        }
        self.send(cx);
    }

    /// Ends the connection: sends an alert, and stores the error for later calls.
    #[cold]
    fn fail(&mut self, cx: &mut Context<'_>, fault: &Fault) -> io::Error {
        if let Some(alert) = fault.alert() {
            self.outgoing.push_alert(alert);
        }
        self.send(cx);
        let error = hint::broken(fault, &self.info);
        self.failed = Some(error.clone());
        io::Error::other(error)
    }

    #[cold]
    fn unexpected_end(&mut self) -> io::Error {
        let position = if self.incoming.is_within_record() { "within" } else { "between" };
        let text = format!("the connection ended {position} TLS records, without close_notify");
        io::Error::new(io::ErrorKind::UnexpectedEof, text)
    }

    #[cfg(test)]
    pub(super) fn parts(&mut self) -> (&mut S, &mut Incoming, &mut Outgoing) {
        (&mut self.io, &mut self.incoming, &mut self.outgoing)
    }
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("version", &self.schedule.protocol_version())
            .field("cipher", &self.schedule.negotiated_cipher_suite().suite())
            .finish_non_exhaustive()
    }
}

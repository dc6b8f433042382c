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
use super::hint;
use super::incoming::{Incoming, Schedule};
use super::outgoing::Outgoing;
use super::told::Told;
use crate::Error;

/// A connection over TLS.
///
/// rustls shakes hands, keeps the schedule of keys and has the ciphers; the records between them are moved
/// here. Its own connection types copy each record of data into an allocation of its own on the way to the
/// caller: here a byte is copied once in each direction, and nothing is allocated to receive.
pub(crate) struct TlsStream<S = TcpStream> {
    io: S,
    schedule: Schedule,
    incoming: Incoming,
    outgoing: Outgoing,
    /// What happened in the handshake, for the words of an error that comes of it later.
    told: Arc<Told>,
    /// Why nothing more can be read, told again at every call.
    failed: Option<Error>,
    /// An error of the socket that was noticed after data was taken. The next call that writes returns it.
    unsent: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    pub(super) fn new(
        io: S,
        schedule: Schedule,
        incoming: Incoming,
        outgoing: Outgoing,
        told: Arc<Told>,
    ) -> Self {
        Self { io, schedule, incoming, outgoing, told, failed: None, unsent: None }
    }

    /// Moves data that is there into the spare capacity of `out`, of which there should be some; reads from
    /// the socket only when there is none. Ready with 0 when the server has said goodbye.
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when the connection ends without a goodbye: whoever can
    /// cut it could otherwise pass off a part for the whole. Where TLS itself fails, the error
    /// [holds](super::cause) one of this crate. Every later call fails too.
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
            // Before the error of what stands behind it.
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

    /// Takes some of `data`, encrypts it, and gives to the socket what that takes. Pending when the socket
    /// takes nothing and too much waits for it already.
    ///
    /// # Errors
    /// Nothing of `data` was taken. If an error occurs after some of it was taken, the next call returns the error: what
    /// was taken may have reached the server.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.outgoing.is_over() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !self.outgoing.has_room() {
            ready!(self.poll_send(cx))?;
        }
        // What the server asked for comes before more data: RFC 8446 §4.6.3.
        self.answer(cx);
        if let Some(error) = self.unsent.take() {
            return Poll::Ready(Err(error));
        }
        // The answer may have taken the room. To take nothing of the data would look like the end of the connection.
        if !self.outgoing.has_room() {
            ready!(self.poll_send(cx))?;
        }
        let taken = match self.outgoing.push(&mut self.schedule, data) {
            Ok(taken) => taken,
            Err(fault) => return Poll::Ready(Err(self.fail(cx, &fault))),
        };
        // What the socket does not take waits for a flush.
        self.send(cx);
        Poll::Ready(Ok(taken))
    }

    /// Gives everything that was taken to the socket.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Says goodbye, and ends our direction of the connection. The server's goes on.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.push_goodbye();
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Writes until the socket has all of it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.unsent.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => self.outgoing.poll_send(cx, &mut self.io),
        }
    }

    /// Writes as much as the socket takes. The next call that writes returns the error, if there is one.
    fn send(&mut self, cx: &mut Context<'_>) {
        if self.unsent.is_none()
            && let Poll::Ready(Err(error)) = self.outgoing.poll_send(cx, &mut self.io)
        {
            self.unsent = Some(error);
        }
    }

    /// Sends what the protocol asks for, as far as the socket takes it. The next write returns an error of the socket:
    /// reading goes on until everything is read that the server sent before.
    fn answer(&mut self, cx: &mut Context<'_>) {
        if self.outgoing.has_room() && self.incoming.take_key_update() {
            // Without new keys of ours the connection goes on: the limit of the old ones still holds.
            let _ = self.outgoing.push_key_update(&mut self.schedule);
        }
        self.send(cx);
    }

    /// The end, for this reason: the server is told, and so is every later call.
    #[cold]
    fn fail(&mut self, cx: &mut Context<'_>, fault: &Fault) -> io::Error {
        if let Some(alert) = fault.alert() {
            self.outgoing.push_alert(alert);
        }
        self.send(cx);
        let error = hint::broken(fault, &self.told);
        self.failed = Some(error.clone());
        io::Error::other(error)
    }

    #[cold]
    fn unexpected_end(&mut self) -> io::Error {
        let place = if self.incoming.is_within_record() { "within" } else { "between" };
        let text = format!("the connection ended {place} TLS records, without a goodbye");
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

//! A socket between two byte buffers.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::runtime::{EnterGuard, Handle};
use zeroize::Zeroize;

use super::stream::Stream;
use super::{ReadWait, Timer};
use crate::error::{Error, ErrorKind};

/// Moves bytes between a socket and the buffers of a session.
#[derive(Debug)]
pub(crate) struct Pipe {
    stream: Stream,
    /// The runtime of the socket.
    runtime: Handle,
    /// The error of a write. Returned by a read, after everything that the server sent before: its error message is
    /// better than "broken pipe".
    failed: Option<Error>,
    /// The number of bytes that the stream has accepted.
    written: u64,
    /// The last read did not fill its buffer.
    is_short: bool,
    /// The output may contain a password: it is overwritten after the write.
    is_login: bool,
}

impl Pipe {
    /// Wraps a socket of the current runtime.
    pub(crate) fn new(stream: Stream) -> Self {
        let runtime = Handle::current();
        Self { stream, runtime, failed: None, written: 0, is_short: false, is_login: true }
    }

    /// Records the end of the login: later output contains no password.
    pub(super) fn end_login(&mut self) {
        self.is_login = false;
    }

    /// Writes from the front of `out` and removes what was written. Ready when nothing is left to write, and when writing
    /// has failed: then `poll_read` returns the error, and the unwritten rest stays in `out`.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<()> {
        if self.failed.is_some() {
            return Poll::Ready(());
        }
        let result = ready!(self.poll_write_all(cx, out));
        if let Err(error) = result {
            self.failed.get_or_insert_with(|| broken("write", &error));
        }
        Poll::Ready(())
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            match ready!(self.stream.poll_write(cx, out))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    if self.is_login {
                        out.get_mut(..written).unwrap_or_default().zeroize();
                    }
                    out.advance(written);
                    self.written = self.written.saturating_add(written as u64);
                }
            }
        }
        self.stream.poll_flush(cx)
    }

    /// Returns the number of bytes that were written, with those that a TLS layer has accepted.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Returns the certificates of the server, its own first, as DER.
    pub(crate) fn peer_certificates(&self) -> Vec<&[u8]> {
        self.stream.peer_certificates()
    }

    /// Reads once into the spare capacity of `input`, which must not be empty.
    /// Ready with 0 at the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, Error>> {
        let read = ready!(self.stream.poll_read(cx, input));
        self.is_short = input.len() < input.capacity();
        Poll::Ready(match (read, &self.failed) {
            (Ok(bytes @ 1..), _) => Ok(bytes),
            (_, Some(failed)) => Err(failed.clone()),
            (Ok(_), None) => Ok(0),
            (Err(error), None) => Err(broken("read", &error)),
        })
    }

    /// Returns true if the last read has taken everything that had arrived, and the next one can be delayed.
    pub(crate) fn can_wait(&self) -> bool {
        self.is_short && self.failed.is_none() && self.stream.can_wait()
    }

    /// Waits before the next read, at most until `until`. Meanwhile the socket is not watched.
    ///
    /// Only in the runtime of the socket. A connection can be used in another one, which may have no timers, or in none. There
    /// no read waits.
    pub(crate) fn poll_delay(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        until: Instant,
    ) -> ReadWait {
        if Handle::try_current().map(|current| current.id()).ok() != Some(self.runtime.id()) {
            return ReadWait::None;
        }
        let wait = timer.poll_tick(cx, until);
        if wait == ReadWait::Pending {
            self.stream.suspend();
        }
        wait
    }

    /// Enters the runtime of the socket, which has timers. The current one may have none.
    pub(super) fn enter_runtime(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Ends the sending direction.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_shutdown(cx).map(drop)
    }
}

#[cold]
fn broken(operation: &'static str, error: &io::Error) -> Error {
    #[cfg(feature = "tls")]
    if let Some(cause) = super::tls::cause(error) {
        return cause.clone();
    }
    // A new error with the same kind and text: `io::Error` cannot be cloned.
    let error = io::Error::new(error.kind(), error.to_string());
    Error::caused(ErrorKind::Connect, format!("the connection broke during a {operation}"), error)
}

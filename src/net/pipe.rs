//! A socket between two byte buffers.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use zeroize::Zeroize;

use super::stream::Stream;
use crate::{Error, ErrorKind};

/// Moves bytes between a socket and the buffers of a session.
#[derive(Debug)]
pub(crate) struct Pipe {
    stream: Stream,
    /// Writing has failed. Told by reading, after all that the server had said before: its reason is
    /// better than "broken pipe".
    failed: Option<Error>,
    /// How many bytes the stream has taken.
    written: u64,
    /// What was written may be a password: it is overwritten.
    is_login: bool,
}

impl Pipe {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, failed: None, written: 0, is_login: true }
    }

    /// The login is over: what is written from now on holds no password.
    pub(super) fn end_login(&mut self) {
        self.is_login = false;
    }

    /// Writes from the front of `out` and removes what was written. Ready when nothing is left to do,
    /// which is also so when writing has failed: then reading returns the error, and what was not written stays in `out`.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<()> {
        if self.failed.is_some() {
            return Poll::Ready(());
        }
        let result = ready!(self.poll_write_all(cx, out));
        if let Err(error) = result {
            self.failed.get_or_insert_with(|| broken("wrote", &error));
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

    /// How many bytes were written. What a layer of encryption has taken counts.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Reads once into the spare capacity of `input`, of which there must be some.
    /// Ready with 0 at the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, Error>> {
        let read = ready!(self.stream.poll_read(cx, input));
        Poll::Ready(match (read, &self.failed) {
            (Ok(bytes @ 1..), _) => Ok(bytes),
            (_, Some(failed)) => Err(failed.clone()),
            (Ok(_), None) => Ok(0),
            (Err(error), None) => Err(broken("read", &error)),
        })
    }

    /// Ends the sending direction.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_shutdown(cx).map(drop)
    }
}

#[cold]
fn broken(during: &'static str, error: &io::Error) -> Error {
    #[cfg(feature = "tls")]
    if let Some(cause) = super::tls::cause(error) {
        return cause.clone();
    }
    // A fresh error of the same kind and text: `io::Error` itself cannot be shared.
    let error = io::Error::new(error.kind(), error.to_string());
    Error::caused(ErrorKind::Connect, format!("the connection broke while we {during}"), error)
}

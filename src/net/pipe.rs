//! A socket between two byte buffers.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::stream::Stream;
use crate::{Error, ErrorKind};

/// Moves bytes between a socket and the buffers of a session.
#[derive(Debug)]
pub(crate) struct Pipe {
    stream: Stream,
}

impl Pipe {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream }
    }

    /// Writes from the front of `out` and removes what was written. Ready when all of it is.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut BytesMut,
    ) -> Poll<Result<(), Error>> {
        while !out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, out) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(broken("write", &io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(written)) => out.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(broken("write", &error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx).map_err(|error| broken("write", &error))
    }

    /// Reads once into the spare capacity of `input`, of which there must be some.
    /// Ready with 0 at the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, Error>> {
        // The future holds no state: making it anew at every poll loses nothing.
        pin!(self.stream.read_buf(input)).poll(cx).map_err(|error| broken("read", &error))
    }

    /// Ends the sending direction.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.stream).poll_shutdown(cx).map(drop)
    }
}

#[cold]
fn broken(during: &'static str, error: &io::Error) -> Error {
    // A fresh error of the same kind and text: `io::Error` itself cannot be shared.
    let error = io::Error::new(error.kind(), error.to_string());
    Error::caused(ErrorKind::Connect, format!("the connection broke while we {during}"), error)
}

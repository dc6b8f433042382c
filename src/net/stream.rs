//! A socket of any kind, with or without TLS.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite};
#[cfg(unix)]
use tokio::net::UnixStream;

use super::tcp::TcpSocket;
#[cfg(feature = "tls")]
use super::tls::TlsStream;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpSocket),
    #[cfg(unix)]
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Reads once into the spare capacity of `input`. Ready with 0 at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        // The futures have no state: new ones at every poll lose nothing.
        match self {
            Self::Tcp(stream) => pin!(stream.read_buf(input)).poll(cx),
            #[cfg(unix)]
            Self::Unix(stream) => pin!(stream.read_buf(input)).poll(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_read(cx, input),
        }
    }

    /// Returns true if the last read has taken everything that had arrived, and the next one can be delayed. On a Unix socket it
    /// cannot: its buffer holds less than a server sends during a delay, so the server would have to wait.
    pub(super) fn can_wait(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.can_wait(),
            #[cfg(unix)]
            Self::Unix(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.socket_ref().can_wait(),
        }
    }

    /// Returns the certificates of the server, its own first, as DER. None without TLS.
    pub(super) fn peer_certificates(&self) -> Vec<&[u8]> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.peer_certificates().iter().map(AsRef::as_ref).collect(),
            _ => Vec::new(),
        }
    }

    /// See [`TcpSocket::suspend`].
    pub(super) fn suspend(&mut self) {
        match self {
            Self::Tcp(stream) => stream.suspend(),
            #[cfg(unix)]
            Self::Unix(_) => {}
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.socket().suspend(),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_write(cx, bytes),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_flush(cx),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_shutdown(cx),
        }
    }
}

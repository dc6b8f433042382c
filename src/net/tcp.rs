//! [`TcpSocket`]: a TCP socket that the runtime does not watch while nothing is to be read.
//!
//! The runtime watches its sockets with edge-triggered events. So every arrival of data wakes a thread of the runtime, also if
//! no task waits for it. A read that is delayed saves these wake-ups only if the socket is taken out of the runtime until then.
//!
//! ```text
//! Registered ── suspend ─▶ Suspended
//!     ▲                        │
//!     └── any read or write ───┘
//! ```

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// Measured on Linux only. On other systems no read is delayed.
const CAN_SUSPEND: bool = cfg!(target_os = "linux");

/// A TCP socket, which belongs to the runtime in which it was opened.
#[derive(Debug)]
pub(crate) struct TcpSocket {
    registration: Registration,
    runtime: Handle,
    /// The last read has taken everything that had arrived.
    is_drained: bool,
}

#[derive(Debug)]
enum Registration {
    Registered(TcpStream),
    Suspended(std::net::TcpStream),
    /// The socket could not be suspended or registered again. It is closed.
    Failed(io::ErrorKind),
}

impl TcpSocket {
    /// Wraps a socket of the current runtime.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            registration: Registration::Registered(stream),
            runtime: Handle::current(),
            is_drained: false,
        }
    }

    /// Returns true if the last read has taken everything that had arrived, and the socket can be suspended until the next one.
    pub(super) fn can_wait(&self) -> bool {
        CAN_SUSPEND && self.is_drained
    }

    /// Takes the socket out of the runtime until it is read or written. The wakers of earlier calls are forgotten, so the caller
    /// must call again.
    pub(super) fn suspend(&mut self) {
        if let Registration::Registered(_) = &self.registration {
            let suspended = match self.take() {
                Ok(stream) => stream.into_std(),
                Err(error) => Err(error),
            };
            self.registration = match suspended {
                Ok(socket) => Registration::Suspended(socket),
                Err(error) => Registration::Failed(error.kind()),
            };
        }
    }

    /// Returns the registered socket.
    ///
    /// # Errors
    /// The socket could not be registered again, for example because its runtime has ended.
    pub(super) fn stream(&mut self) -> io::Result<&mut TcpStream> {
        if let Registration::Suspended(_) = &self.registration {
            self.registration = match self.take() {
                Ok(stream) => Registration::Registered(stream),
                Err(error) => Registration::Failed(error.kind()),
            };
        }
        match &mut self.registration {
            Registration::Registered(stream) => Ok(stream),
            Registration::Failed(kind) => Err((*kind).into()),
            Registration::Suspended(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Takes the socket out of this value, registered.
    fn take(&mut self) -> io::Result<TcpStream> {
        let nothing = Registration::Failed(io::ErrorKind::NotConnected);
        match mem::replace(&mut self.registration, nothing) {
            Registration::Registered(stream) => Ok(stream),
            Registration::Suspended(socket) => {
                let _entered = self.runtime.enter();
                TcpStream::from_std(socket)
            }
            Registration::Failed(kind) => Err(kind.into()),
        }
    }
}

impl AsyncRead for TcpSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        ready!(Pin::new(socket.stream()?).poll_read(cx, buffer))?;
        socket.is_drained = buffer.remaining() > 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().stream()?).poll_write(cx, bytes)
    }

    /// Does nothing: the kernel has what was written.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream()?).poll_shutdown(cx)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let opened = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (TcpSocket::new(opened), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_suspended_socket_continues_with_the_next_read_or_write() {
        let (mut socket, mut other) = pair().await;
        let mut buffer = [0; 8];
        for round in 0..100_u8 {
            other.write_all(&[round; 8]).await.unwrap();
            socket.suspend();
            socket.read_exact(&mut buffer).await.unwrap();
            assert_eq!(buffer, [round; 8]);
            socket.suspend();
            socket.suspend();
            socket.write_all(&buffer).await.unwrap();
            other.read_exact(&mut buffer).await.unwrap();
            assert_eq!(buffer, [round; 8]);
        }
    }

    #[tokio::test]
    async fn the_end_and_a_reset_are_noticed_by_the_next_read() {
        let (mut socket, other) = pair().await;
        socket.suspend();
        drop(other);
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 0);

        let (mut socket, other) = pair().await;
        socket.suspend();
        socket2::SockRef::from(&other).set_linger(Some(Duration::ZERO)).unwrap();
        drop(other);
        let error = socket.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn only_a_read_that_takes_everything_can_be_followed_by_a_wait() {
        let (mut socket, mut other) = pair().await;
        assert!(!socket.can_wait());
        other.write_all(&[7; 12]).await.unwrap();
        socket.read_exact(&mut [0; 8]).await.unwrap();
        assert!(!socket.can_wait());
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 4);
        assert!(socket.can_wait());
    }

    #[test]
    fn a_socket_whose_runtime_has_ended_fails() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut socket, _other) = runtime.block_on(pair());
        socket.suspend();
        drop(runtime);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for _ in 0..2 {
            runtime.block_on(socket.read(&mut [0; 8])).unwrap_err();
        }
    }
}

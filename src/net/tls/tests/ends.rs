//! Writes that fail after some data was accepted: that data counts as written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

use super::super::TlsStream;
use super::super::stream::PLAINTEXT_BYTES_MAX;
use super::server::*;

/// Writes once.
async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut TlsStream<S>,
    data: &[u8],
) -> io::Result<usize> {
    std::future::poll_fn(|cx| stream.poll_write(cx, data)).await
}

async fn flush<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut TlsStream<S>) -> io::Result<()> {
    std::future::poll_fn(|cx| stream.poll_flush(cx)).await
}

#[tokio::test]
async fn data_that_was_encrypted_before_the_limit_of_tls_1_2_is_written() {
    // Two records of data, and those of the protocol.
    let (setup, config) = (Setup::good().tls12(), config_with_key_limit(10));
    let (mut stream, mut server) = pair_with(&setup, &config, 1024 * 1024).await;
    let data = pattern(4 * PLAINTEXT_BYTES_MAX);
    let written = write(&mut stream, &data[..3 * PLAINTEXT_BYTES_MAX]).await.unwrap();
    assert_eq!(written, 2 * PLAINTEXT_BYTES_MAX);
    let error = write(&mut stream, &data[written..]).await.unwrap_err();
    assert!(error.to_string().contains("one key may protect"), "{error}");
    assert!(write(&mut stream, b"x").await.is_err());
    drop(stream);
    let received = server.data(usize::MAX).await;
    assert!(received.len() == written && data.starts_with(&received), "{}", received.len());
    assert!(server.failed.is_none(), "{:?}", server.failed);
}

/// A socket that is reset after it has accepted `left` bytes. Like a kernel, it reports the reset once.
struct Reset {
    io: DuplexStream,
    left: usize,
    is_reported: bool,
}

impl AsyncRead for Reset {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl AsyncWrite for Reset {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            let kind = match std::mem::replace(&mut self.is_reported, true) {
                false => io::ErrorKind::ConnectionReset,
                true => io::ErrorKind::BrokenPipe,
            };
            return Poll::Ready(Err(kind.into()));
        }
        let part = self.left.min(data.len());
        let taken = Pin::new(&mut self.io).poll_write(cx, &data[..part]);
        if let Poll::Ready(Ok(taken)) = taken {
            self.left -= taken;
        }
        taken
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

async fn resettable() -> (TlsStream<Reset>, Server<DuplexStream>) {
    let (ours, theirs) = duplex(64 * 1024);
    let ours = Reset { io: ours, left: usize::MAX, is_reported: false };
    let mut server = Setup::good().over(theirs);
    let config = config("sslmode=require");
    let (secured, _) = tokio::join!(connect(&config, ours), server.handshake());
    (secured.unwrap().stream, server)
}

/// A record that has reached the server counts as written, although the socket was reset after it. The reset is reported.
#[tokio::test]
async fn data_that_was_sent_before_a_reset_is_written() {
    let first = 1_000;
    for is_flushed in [false, true] {
        let (mut stream, mut server) = resettable().await;
        assert_eq!(write(&mut stream, &pattern(first)).await.unwrap(), first);
        let whole = PLAINTEXT_BYTES_MAX;
        stream.socket().left = whole + 100;
        let written = write(&mut stream, &pattern(2 * whole)).await.unwrap();
        let error = match is_flushed {
            false => write(&mut stream, b"behind it").await.unwrap_err(),
            true => flush(&mut stream).await.unwrap_err(),
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        drop(stream);
        let received = server.data(usize::MAX).await.len() - first;
        assert!(received > 0 && written >= received, "{written} of {received}");
    }
}

/// Sending the requested key update fails, because the socket is reset. The next write returns that error, and accepts
/// nothing.
#[tokio::test]
async fn nothing_is_written_to_a_socket_that_is_known_to_be_reset() {
    let (mut stream, mut server) = resettable().await;
    stream.socket().left = 0;
    server.connection.refresh_traffic_keys().unwrap();
    server.send(b"x").await;
    assert_eq!(read_data(&mut stream, 1).await, b"x");
    let error = write(&mut stream, b"y").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

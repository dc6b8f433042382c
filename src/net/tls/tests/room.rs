//! Records of the protocol itself take room in the queue of records to send.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

use super::super::TlsStream;
use super::server::*;

/// The bytes of a record of TLS 1.3 in addition to its data: header, content type and tag.
const RECORD_BYTES: usize = 5 + 1 + 16;

/// The size of queued records above which rustls accepts no more data.
const QUEUE_BYTES_MAX: usize = 64 * 1024;

/// The records that so much data takes.
const QUEUE_RECORDS: usize = 4;

/// A socket that accepts `left` more bytes.
struct LimitedSocket {
    io: DuplexStream,
    left: usize,
}

impl AsyncRead for LimitedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl AsyncWrite for LimitedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = data.len().min(self.left);
        if count == 0 {
            return Poll::Pending;
        }
        let result = Pin::new(&mut self.io).poll_write(cx, &data[..count]);
        if let Poll::Ready(Ok(written)) = result {
            self.left -= written;
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Writes once. `None` if the write is pending.
async fn try_write(stream: &mut TlsStream<LimitedSocket>, data: &[u8]) -> Option<usize> {
    std::future::poll_fn(|cx| match stream.poll_write(cx, data) {
        Poll::Ready(result) => Poll::Ready(Some(result.unwrap())),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The server has requested a key update while the queue was full. Then the socket accepts the first record, and there is
/// room for the key update, but not for data. A write of 0 bytes would end the connection.
#[tokio::test]
async fn a_write_waits_if_a_key_update_takes_the_last_room() {
    for spare in [1, 10, 27] {
        let (ours, theirs) = duplex(1024 * 1024);
        let mut server = Setup::good().over(theirs);
        let config = config("sslmode=require");
        let limited = LimitedSocket { io: ours, left: usize::MAX };
        let (secured, _) = tokio::join!(connect(&config, limited), server.handshake());
        let mut stream = secured.unwrap().stream;
        stream.socket().left = 0;

        // The second write fills the queue. Without the first record, it leaves as many bytes as `spare`.
        let first = (QUEUE_RECORDS - 1) * RECORD_BYTES + spare;
        let second = QUEUE_BYTES_MAX - first - RECORD_BYTES;
        let data = pattern(first + second + 1_000);
        assert_eq!(try_write(&mut stream, &data[..first]).await, Some(first));
        assert_eq!(try_write(&mut stream, &data[first..]).await, Some(second));
        let taken = first + second;
        assert_eq!(try_write(&mut stream, &data[taken..]).await, None);
        server.connection.refresh_traffic_keys().unwrap();
        server.send(b"x").await;
        assert_eq!(read_data(&mut stream, 1).await, b"x");

        stream.socket().left = first + RECORD_BYTES;
        let flushed = std::future::poll_fn(|cx| Poll::Ready(stream.poll_flush(cx))).await;
        assert!(flushed.is_pending());
        assert_eq!(try_write(&mut stream, &data[taken..]).await, None, "{spare} bytes");

        stream.socket().left = usize::MAX;
        let (sent, received) =
            tokio::join!(write_all(&mut stream, &data[taken..]), server.data(data.len()));
        sent.unwrap();
        assert!(received == data && server.failed.is_none(), "{:?}", server.failed);
    }
}

//! Data in both directions, in parts of every size, with changing keys.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use rustls::{CipherSuite, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::super::stream::PLAINTEXT_BYTES_MAX;
use super::server::*;

/// The cipher suites that PostgreSQL's servers support too.
const SUITES: [CipherSuite; 8] = [
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

#[tokio::test]
async fn data_goes_both_ways_with_every_cipher() {
    for suite in SUITES {
        let of_rsa = format!("{suite:?}").contains("_RSA_");
        let key = if of_rsa { pgbell_testkit::Key::Rsa2048 } else { pgbell_testkit::Key::P256 };
        let leaf = pgbell_testkit::Leaf::server("localhost").key(key);
        let setup = Setup { suite: Some(suite), ..Setup::new(&super::zoo::issue(&leaf)) };
        let setup = Setup {
            versions: vec![if format!("{suite:?}").starts_with("TLS13") {
                &rustls::version::TLS13
            } else {
                &rustls::version::TLS12
            }],
            ..setup
        };
        let (mut stream, mut server) = pair(&setup, "sslmode=require", 64 * 1024).await;
        assert!(format!("{stream:?}").contains(&format!("{suite:?}")), "{stream:?}");
        let data = pattern(100_000);
        let (sent, received) = tokio::join!(write_all(&mut stream, &data), server.data(data.len()));
        sent.unwrap();
        assert!(received == data, "{suite:?}");
        let (_, received) = tokio::join!(server.send(&data), read_data(&mut stream, data.len()));
        assert!(received == data, "{suite:?}");
    }
}

#[tokio::test]
async fn data_is_transferred_one_byte_at_a_time() {
    for tls13 in [true, false] {
        let setup = Setup::good().version(tls13);
        let (mut stream, mut server) = pair(&setup, "sslmode=require", 1).await;
        let data = pattern(20_000);
        let (_, received) = tokio::join!(server.send(&data), read_data(&mut stream, data.len()));
        assert!(received == data);
        let (sent, received) = tokio::join!(write_all(&mut stream, &data), server.data(data.len()));
        sent.unwrap();
        assert!(received == data);
        let (_, bye) = tokio::join!(shutdown(&mut stream), server.data(usize::MAX));
        assert!(bye.is_empty());
    }
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_whole_in_both_directions() {
    const MEGABYTES: usize = 100;
    let (mut stream, mut server) = pair(&Setup::good(), "sslmode=require", 256 * 1024).await;
    let data = pattern(1024 * 1024);
    let sum = |data: &[u8]| data.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    let expected = sum(&data) * MEGABYTES as u64;

    let send = async {
        for _ in 0..MEGABYTES {
            server.send(&data).await;
        }
        server.close_notify().await;
    };
    let receive = async {
        let (mut bytes, mut total) = (0, 0);
        let mut out = BytesMut::with_capacity(256 * 1024);
        loop {
            out.clear();
            match read(&mut stream, &mut out).await.unwrap() {
                0 => return (bytes, total),
                count => (bytes, total) = (bytes + count, total + sum(&out)),
            }
            assert_eq!(out.capacity(), 256 * 1024, "the caller's buffer does not grow");
        }
    };
    let ((), received) = tokio::join!(send, receive);
    assert_eq!(received, (MEGABYTES * data.len(), expected));

    let send = async {
        for _ in 0..MEGABYTES {
            write_all(&mut stream, &data).await.unwrap();
        }
        shutdown(&mut stream).await;
    };
    let receive = async {
        let (mut bytes, mut total) = (0, 0);
        loop {
            let part = server.data(1).await;
            if part.is_empty() {
                return (bytes, total);
            }
            (bytes, total) = (bytes + part.len(), total + sum(&part));
        }
    };
    let ((), received) = tokio::join!(send, receive);
    assert_eq!(received, (MEGABYTES * data.len(), expected));
}

/// A socket that reads and writes random numbers of bytes, and often none.
struct RandomSocket {
    io: DuplexStream,
    sizes: Vec<u8>,
    state: u64,
}

impl RandomSocket {
    /// Returns the number of bytes for a call: none in about every third call.
    fn size(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let number = (self.state >> 33) as usize;
        if number.is_multiple_of(3) {
            cx.waker().wake_by_ref();
            return None;
        }
        let size = usize::from(self.sizes[number % self.sizes.len()]);
        Some(size * size)
    }
}

impl AsyncRead for RandomSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(size) = self.size(cx) else { return Poll::Pending };
        let mut part = vec![0; size.min(out.remaining())];
        let mut part = ReadBuf::new(&mut part);
        let result = Pin::new(&mut self.io).poll_read(cx, &mut part);
        out.put_slice(part.filled());
        result
    }
}

impl AsyncWrite for RandomSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(size) = self.size(cx) else { return Poll::Pending };
        Pin::new(&mut self.io).poll_write(cx, &data[..size.min(data.len())])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Records, reads, writes and buffers of random sizes.
    #[test]
    fn any_split_gives_the_same_data(
        sizes in proptest::collection::vec(1u8.., 1..20),
        parts in proptest::collection::vec(1usize..20_000, 1..8),
        rooms in proptest::collection::vec(1usize..40_000, 1..6),
        tls13 in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = duplex(10_000);
            let ours = RandomSocket { io: ours, sizes, state: 1 };
            let mut server = Setup::good().version(tls13).over(theirs);
            let config = config("sslmode=require");
            let (secured, _) = tokio::join!(connect(&config, ours), server.handshake());
            let mut stream = secured.unwrap().stream;
            let all = pattern(parts.iter().sum());
            let send = async {
                let mut rest = &all[..];
                for part in &parts {
                    let (now, later) = rest.split_at(*part);
                    server.send(now).await;
                    rest = later;
                }
                server.close_notify().await;
                server.data(all.len()).await
            };
            let receive = async {
                let mut received = Vec::new();
                for room in rooms.iter().cycle() {
                    let mut out = BytesMut::with_capacity(*room);
                    let room = out.capacity();
                    let count = read(&mut stream, &mut out).await.unwrap();
                    assert!(count <= room && count == out.len());
                    if count == 0 {
                        break;
                    }
                    received.extend_from_slice(&out);
                }
                // After close_notify of the server the client may still send.
                write_all(&mut stream, &received).await.unwrap();
                shutdown(&mut stream).await;
                received
            };
            let (echoed, received) = tokio::join!(send, receive);
            assert!(received == all && echoed == all);
        });
    }
}

#[tokio::test]
async fn a_key_update_of_the_server_is_answered() {
    let (mut stream, mut server) = pair(&Setup::good(), "sslmode=require", 64 * 1024).await;
    for round in 0..40u8 {
        server.connection.refresh_traffic_keys().unwrap();
        server.send(&[round; 100]).await;
        assert_eq!(read_data(&mut stream, 100).await, [round; 100]);
        // With the keys that the server had requested.
        write_all(&mut stream, &[round; 100]).await.unwrap();
        assert_eq!(server.data(100).await, [round; 100]);
    }
    assert!(server.failed.is_none());
}

#[tokio::test]
async fn a_requested_key_update_is_sent_without_a_write() {
    let (mut stream, mut server) = pair(&Setup::good(), "sslmode=require", 64 * 1024).await;
    server.connection.refresh_traffic_keys().unwrap();
    server.send(b"x").await;
    read_data(&mut stream, 1).await;
    // The record arrives without a write or a flush.
    assert!(tokio::time::timeout(Duration::from_secs(5), server.receive()).await.unwrap());
    assert!(server.failed.is_none());
}

#[tokio::test]
async fn keys_are_updated_before_they_reach_their_limit() {
    let config = config_with_key_limit(8);
    let (mut stream, mut server) = pair_with(&Setup::good(), &config, 64 * 1024).await;
    for round in 0..200u8 {
        write_all(&mut stream, &[round; 10]).await.unwrap();
        assert_eq!(server.data(10).await, [round; 10]);
    }
    // A write of more records than one key may protect.
    let data = pattern(40 * PLAINTEXT_BYTES_MAX);
    let (sent, received) = tokio::join!(write_all(&mut stream, &data), server.data(data.len()));
    sent.unwrap();
    assert!(received == data && server.failed.is_none(), "{:?}", server.failed);
}

#[tokio::test]
async fn in_tls_1_2_the_connection_ends_with_close_notify_at_the_limit_of_the_keys() {
    let (setup, config) = (Setup::good().tls12(), config_with_key_limit(20));
    let (mut stream, mut server) = pair_with(&setup, &config, 64 * 1024).await;
    let mut written = 0;
    let error = loop {
        match write_all(&mut stream, b"x").await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 20);
    };
    assert!(error.to_string().contains("one key may protect"), "{error}");
    assert_eq!(super::super::cause(&error).unwrap().kind(), crate::ErrorKind::Connect);
    assert!(write_all(&mut stream, b"x").await.is_err());
    drop(stream);
    // The last record is close_notify.
    assert!(written > 0);
    assert_eq!(server.data(usize::MAX).await.len(), written);
    assert!(server.failed.is_none(), "{:?}", server.failed);
}

#[tokio::test]
async fn session_tickets_are_ignored() {
    let setup = Setup { tickets: 4, ..Setup::good() };
    let (mut stream, mut server) = pair(&setup, "sslmode=require", 64 * 1024).await;
    assert_eq!(server.connection.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    server.send(b"hello").await;
    assert_eq!(read_data(&mut stream, 5).await, b"hello");
}

#[tokio::test]
async fn the_stream_ends_at_close_notify_and_later_bytes_are_ignored() {
    let (mut stream, mut server) = pair(&Setup::good(), "sslmode=require", 64 * 1024).await;
    server.send(b"last").await;
    server.close_notify().await;
    server.io.write_all(b"garbage").await.unwrap();
    assert_eq!(read_data(&mut stream, 4).await, b"last");
    let mut out = BytesMut::with_capacity(100);
    for _ in 0..3 {
        assert_eq!(read(&mut stream, &mut out).await.unwrap(), 0);
    }
    assert!(out.is_empty());
}

/// T11.
#[tokio::test]
async fn an_end_without_close_notify_is_an_error() {
    for tls13 in [true, false] {
        let setup = Setup::good().version(tls13);
        for cut in [0, 1, 5, 20] {
            let (mut stream, mut server) = pair(&setup, "sslmode=require", 64 * 1024).await;
            server.send(b"whole").await;
            server.connection.writer().write_all_sync(b"half of it does not come");
            let mut record = Vec::new();
            server.connection.write_tls(&mut record).unwrap();
            server.io.write_all(&record[..cut]).await.unwrap();
            drop(server);
            assert_eq!(read_data(&mut stream, 5).await, b"whole");
            let mut out = BytesMut::with_capacity(100);
            for _ in 0..3 {
                let error = read(&mut stream, &mut out).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                assert!(error.to_string().contains("without close_notify"), "{error}");
            }
        }
    }
}

trait WriteSync {
    fn write_all_sync(self, bytes: &[u8]);
}

impl<W: io::Write> WriteSync for W {
    fn write_all_sync(mut self, bytes: &[u8]) {
        self.write_all(bytes).unwrap();
    }
}

#[tokio::test]
async fn a_write_to_a_socket_that_accepts_nothing_waits_with_bounded_memory() {
    let (mut stream, mut server) = pair(&Setup::good(), "sslmode=require", 1024).await;
    let data = pattern(16 * 1024);
    let mut taken = 0;
    loop {
        let written = std::future::poll_fn(|cx| match stream.poll_write(cx, &data) {
            Poll::Ready(result) => Poll::Ready(Some(result.unwrap())),
            Poll::Pending => Poll::Ready(None),
        });
        match written.await {
            Some(count) => taken += count,
            None => break,
        }
        assert!(taken <= 128 * 1024, "the queue has no limit");
    }
    assert!(taken >= 64 * 1024);
    let (flushed, received) =
        tokio::join!(std::future::poll_fn(|cx| stream.poll_flush(cx)), server.data(taken));
    flushed.unwrap();
    assert_eq!(received.len(), taken);
}

/// The socket is empty, because everything was received. Data that is not decrypted yet must not wait.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_read_waits_only_if_all_received_data_was_returned() {
    use tokio::net::{TcpListener, TcpStream};

    use crate::net::Pipe;
    use crate::net::stream::Stream;
    use crate::net::tcp::TcpSocket;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let opened = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut server = Setup::good().over(listener.accept().await.unwrap().0);
    let config = config("sslmode=require");
    let connecting = connect(&config, TcpSocket::new(opened));
    let (secured, _) = tokio::join!(connecting, server.handshake());
    let mut pipe = Pipe::new(Stream::Tls(Box::new(secured.unwrap().stream)));
    // One record: it arrives whole, and does not fit into the buffer at once.
    server.send(&pattern(3_000)).await;
    let mut input = BytesMut::with_capacity(2_000);
    for (bytes, can_wait) in [(2_000, false), (1_000, true)] {
        assert_eq!(std::future::poll_fn(|cx| pipe.poll_read(cx, &mut input)).await.unwrap(), bytes);
        assert_eq!(pipe.can_wait(), can_wait);
        input = BytesMut::with_capacity(2_000);
    }
}

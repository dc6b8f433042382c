//! The longest notification that is accepted, and one that is a byte longer, split in every way.

use std::time::{Duration, Instant};

use pgbell::proto::wire::limits::NOTIFICATION_FRAME_BYTES_MAX;
use pgbell::{Connection, Error, ErrorKind, Event, Listener, Overflow};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{let_listen, listener, soon};

/// A notification with this length word, and its number in the first bytes of its payload.
fn notification(length: u32, number: usize) -> Vec<u8> {
    let mut frame = [b"A", &length.to_be_bytes()[..], b"\0\0\0\x01a\0"].concat();
    frame.extend(format!("{number:04}").bytes());
    frame.resize(usize::try_from(length).unwrap(), b'p');
    frame.push(0);
    frame
}

fn longest(number: usize) -> Vec<u8> {
    notification(NOTIFICATION_FRAME_BYTES_MAX, number)
}

/// A way to receive, one notification at a time.
enum Client {
    Connection(Box<Connection>),
    Listener(Box<Listener>),
}

impl Client {
    /// Returns every client, each with its server's end.
    async fn all() -> [(Self, TcpStream); 2] {
        let (server, url) = listener().await;
        let (connection, first) = tokio::join!(Connection::connect(&url), let_listen(&server));
        // The smallest queue: exactly one of the longest notifications fits.
        let longest = usize::try_from(NOTIFICATION_FRAME_BYTES_MAX).unwrap() + 1;
        let builder = Listener::builder(&url).queue_bytes(longest).reconnect(false);
        let overflow = Overflow::Block { max_stall: Duration::from_secs(600) };
        let (listener, second) =
            tokio::join!(builder.overflow(overflow).connect(), let_listen(&server));
        [
            (Self::Connection(Box::new(connection.unwrap())), first),
            (Self::Listener(Box::new(listener.unwrap())), second),
        ]
    }

    /// The payloads of the next batch or event.
    async fn next(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        match self {
            Self::Connection(connection) => {
                let batch = soon(connection.recv_batch()).await?;
                assert!(batch.loss().is_none());
                Ok(batch.iter().map(|n| n.payload_bytes().to_vec()).collect())
            }
            Self::Listener(listener) => match soon(listener.recv()).await? {
                Event::Notification(n) => Ok(vec![n.payload_bytes().to_vec()]),
                loss => panic!("{loss:?}"),
            },
        }
    }

    async fn expect(&mut self, frame: &[u8]) {
        let found = self.next().await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0] == frame[11..frame.len() - 1], "another payload");
    }

    async fn expect_too_long(&mut self) {
        let error = self.next().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert_eq!(
            format!("{error:#}"),
            "protocol violation: \
             length word 262145 is above 262144 in NotificationResponse"
        );
        let again = self.next().await.unwrap_err();
        assert!(matches!(again.kind(), ErrorKind::Protocol | ErrorKind::Closed), "{again}");
    }
}

/// Lets the other side read the written bytes.
async fn pause() {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_frame_at_the_limit_is_delivered() {
    for (mut client, mut socket) in Client::all().await {
        for number in 0..5 {
            let frame = longest(number);
            let (written, ()) = tokio::join!(socket.write_all(&frame), client.expect(&frame));
            written.unwrap();
        }
    }
}

/// Its header arrives byte by byte, and the rest with the first byte of the next message.
#[tokio::test]
async fn a_frame_at_the_limit_whose_head_comes_byte_by_byte_is_delivered() {
    for (mut client, mut socket) in Client::all().await {
        let frame = longest(0);
        let write = async {
            for byte in &frame[..16] {
                socket.write_all(&[*byte]).await.unwrap();
                pause().await;
            }
            socket.write_all(&[&frame[16..], b"A"].concat()).await.unwrap();
        };
        tokio::join!(write, client.expect(&frame));
        let write = socket.write_all(&frame[1..]);
        tokio::join!(async { write.await.unwrap() }, client.expect(&frame));
    }
}

/// Split at every byte of its header and of its end, and at the ends of receive buffers.
#[tokio::test]
async fn a_frame_at_the_limit_is_delivered_wherever_it_is_split() {
    for (mut client, mut socket) in Client::all().await {
        let length = longest(0).len();
        let buffer = 256 * 1024;
        let edges = (1..=12)
            .chain(length - 12..length)
            .chain(buffer - 16 * 1024 - 2..buffer - 16 * 1024 + 2)
            .chain([length / 2, buffer / 2 - 1, buffer / 2 + 1]);
        for (number, at) in edges.enumerate() {
            let frame = longest(number);
            let write = async {
                socket.write_all(&frame[..at]).await.unwrap();
                pause().await;
                socket.write_all(&frame[at..]).await.unwrap();
            };
            tokio::join!(write, client.expect(&frame));
        }
    }
}

/// Short frames are before and after each long one, in one write.
#[tokio::test]
async fn frames_at_the_limit_and_short_ones_keep_their_order() {
    for (mut client, mut socket) in Client::all().await {
        let frames: Vec<_> =
            (0..12).map(|n| if n % 3 == 1 { longest(n) } else { notification(20, n) }).collect();
        let stream = frames.concat();
        let receive = async {
            let mut found = Vec::new();
            while found.len() < frames.len() {
                found.extend(client.next().await.unwrap());
            }
            found
        };
        let (written, found) = tokio::join!(socket.write_all(&stream), receive);
        written.unwrap();
        let payloads = frames.iter().map(|frame| &frame[11..frame.len() - 1]);
        assert!(found.iter().map(Vec::as_slice).eq(payloads));
    }
}

#[tokio::test]
async fn a_frame_one_byte_over_the_limit_is_an_error_that_names_the_limit() {
    for (mut client, mut socket) in Client::all().await {
        let frame = notification(NOTIFICATION_FRAME_BYTES_MAX + 1, 0);
        // The client may have closed before the write.
        let (_, ()) = tokio::join!(socket.write_all(&frame), client.expect_too_long());
    }
}

/// Earlier notifications are delivered first. The client never waits for the body.
#[tokio::test]
async fn a_frame_one_byte_over_the_limit_is_refused_with_the_last_byte_of_its_length() {
    for (mut client, mut socket) in Client::all().await {
        let before = notification(20, 7);
        socket.write_all(&before).await.unwrap();
        client.expect(&before).await;
        let frame = notification(NOTIFICATION_FRAME_BYTES_MAX + 1, 0);
        for byte in &frame[..5] {
            pause().await;
            socket.write_all(&[*byte]).await.unwrap();
        }
        client.expect_too_long().await;
    }
    for (mut client, mut socket) in Client::all().await {
        let before = notification(20, 7);
        let frame = notification(NOTIFICATION_FRAME_BYTES_MAX + 1, 0);
        socket.write_all(&[&before[..], &frame[..5]].concat()).await.unwrap();
        client.expect(&before).await;
        client.expect_too_long().await;
    }
}

/// A consumer that does not read stalls the server no longer than `max_stall`. (Most of the measured time is margin;
/// `supervisor::tests` checks the exact time with a paused clock.)
#[tokio::test]
async fn a_consumer_that_never_reads_stalls_the_server_for_max_stall_and_no_longer() {
    let (server, url) = listener().await;
    let max_stall = Duration::from_millis(300);
    let builder =
        Listener::builder(&url).queue_capacity(100).overflow(Overflow::Block { max_stall });
    let (listener, mut socket) = tokio::join!(builder.connect(), let_listen(&server));
    let listener = listener.unwrap();
    // More than the buffers of a socket hold.
    let chunk = notification(1_000, 1).repeat(1_000);
    let begin = Instant::now();
    for _ in 0..64 {
        soon(socket.write_all(&chunk)).await.unwrap();
    }
    let took = begin.elapsed();
    assert!(took >= max_stall, "the server was never stalled: {took:?}");
    assert!(took < max_stall + Duration::from_secs(15), "{took:?}");
    soon(async {
        while listener.stats().received < 64_000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stats = listener.stats();
    assert_eq!((stats.stalls, stats.queued, stats.delivered), (1, 100, 0));
}

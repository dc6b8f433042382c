//! The memory that a hostile server can make a listener use.

use std::time::Duration;

use pgbell::{Connection, ErrorKind, Listener, Overflow};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::alone;
use crate::bound::{OVERHEAD_BYTES, formula};
use crate::meter::Meter;
use crate::peer::{Pair, bind, diagnostic, let_in, notifications, read_query};

/// The longest messages that are accepted, in bytes with the type byte.
const NOTIFICATION_BYTES: usize = 256 * 1024 + 1;
const DIAGNOSTIC_BYTES: usize = 1024 * 1024 + 1;

/// The memory for messages that are longer than a buffer: one of them while it arrives, and a copy of the bytes behind each.
fn long(bytes: usize) -> usize {
    bytes + 4 * 1024 * 1024
}

#[test]
fn messages_of_the_greatest_length_take_a_bounded_amount_of_memory() {
    let short = notifications(4_000, 1);
    let single = notifications(1, 1);
    let longest = notifications(1, NOTIFICATION_BYTES - single.len() + 1);
    let notice = diagnostic(b'N', DIAGNOSTIC_BYTES);
    let error = diagnostic(b'E', DIAGNOSTIC_BYTES);
    assert_eq!((longest.len(), notice.len()), (NOTIFICATION_BYTES, DIAGNOSTIC_BYTES));
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        for (capacity, bytes) in [(100_000, 8 * 1024 * 1024), (64, 300 * 1024)] {
            let (peak, gaps) = alone(async {
                let mut pair = Pair::connect(|url| {
                    let builder = Listener::builder(url).queue_capacity(capacity);
                    builder.queue_bytes(bytes).overflow(overflow).pin_limit_bytes(0)
                })
                .await;
                // A gap at every position: each contains the text of an error.
                for _ in 0..66 {
                    pair.write(&error, 0).await;
                    pair.write(&single, 1).await;
                }
                for _ in 0..20 {
                    let together = [&notice[..], &short].concat();
                    pair.write(&together, 4_000).await;
                    pair.write(&single, 1).await;
                }
                for _ in 0..20 {
                    pair.write(&longest, 1).await;
                    pair.write(&single, 1).await;
                }
                pair.drain().await;
                (pair.meter.peak(), pair.gaps)
            });
            let most = formula(capacity, bytes) + OVERHEAD_BYTES + long(bytes);
            assert!(
                peak <= most,
                "{overflow:?}, {capacity}, {bytes}: {peak} bytes, more than {most}"
            );
            assert_eq!(gaps, 64);
        }
    }
}

/// The memory for the text of an error that is kept after its call.
const KEPT_BYTES: usize = 5 * 1024;

/// Writes all bytes; the meter measures after every poll of the reader.
async fn write(socket: &mut TcpStream, mut bytes: &[u8], meter: &mut Meter) {
    while !bytes.is_empty() {
        if let Ok(count) = socket.try_write(bytes) {
            bytes = &bytes[count..];
        }
        tokio::task::yield_now().await;
        meter.look();
    }
}

#[test]
fn refusals_of_every_channel_with_long_texts_take_a_bounded_amount_of_memory() {
    const CHANNELS: usize = 256;
    let refusal = [&diagnostic(b'E', DIAGNOSTIC_BYTES)[..], b"Z\0\0\0\x05I"].concat();
    let (peak, error) = alone(async {
        let (server, url) = bind().await;
        let mut meter = Meter::start();
        let names = (0..CHANNELS).map(|index| format!("c{index}"));
        let connect = Listener::builder(&url).channels(names).connect();
        let serve = async {
            let mut socket = let_in(&server).await;
            // In four groups, then one by one.
            for _ in 0..4 + CHANNELS {
                read_query(&mut socket).await;
                write(&mut socket, &refusal, &mut meter).await;
            }
        };
        let (listener, ()) = tokio::join!(connect, serve);
        let error = listener.map(drop).expect_err("every channel is refused");
        (meter.peak(), error)
    });
    assert_eq!(error.sqlstate(), Some("42501"), "{error}");
    let most = OVERHEAD_BYTES + long(DIAGNOSTIC_BYTES) + CHANNELS * KEPT_BYTES;
    assert!(peak <= most, "{peak} bytes, more than {most}");
}

#[test]
fn fatal_errors_with_long_texts_take_a_bounded_amount_of_memory_while_the_consumer_sleeps() {
    let mut end = diagnostic(b'E', DIAGNOSTIC_BYTES);
    let severity = end.windows(6).position(|word| word == b"SERROR").unwrap();
    end[severity..severity + 6].copy_from_slice(b"SFATAL");
    let single = notifications(1, 1);
    let (peak, gaps) = alone(async {
        let (server, url) = bind().await;
        let mut meter = Meter::start();
        let soon = Duration::from_millis(1);
        let builder = Listener::builder(&url).channels(["a"]).queue_bytes(300 * 1024);
        let connect =
            builder.queue_capacity(1_000).pin_limit_bytes(0).backoff(soon, soon).connect();
        let serve = async {
            let mut sessions = Vec::new();
            for _ in 0..66 {
                let mut socket = let_in(&server).await;
                read_query(&mut socket).await;
                socket.write_all(b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I").await.unwrap();
                write(&mut socket, &single, &mut meter).await;
                write(&mut socket, &end, &mut meter).await;
                sessions.push(socket);
            }
            let mut socket = let_in(&server).await;
            read_query(&mut socket).await;
            socket.write_all(b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I").await.unwrap();
            sessions.push(socket);
            sessions
        };
        let (listener, _sessions) = tokio::join!(connect, serve);
        let listener = listener.unwrap();
        while listener.stats().gaps < 66 {
            tokio::task::yield_now().await;
            meter.look();
        }
        (meter.peak(), listener.stats().gaps)
    });
    let most = formula(1_000, 300 * 1024) + OVERHEAD_BYTES + long(300 * 1024) + 2 * 64 * KEPT_BYTES;
    assert!(peak <= most, "{peak} bytes, more than {most}");
    assert_eq!(gaps, 66);
}

/// Messages above a limit are skipped while they arrive.
#[test]
fn messages_that_are_skipped_take_no_memory_however_long_they_are() {
    const LONG: usize = 100 * 1024 * 1024;
    let length = u32::try_from(LONG + 10).unwrap().to_be_bytes();
    let value = u32::try_from(LONG).unwrap().to_be_bytes();
    let head = [&length[..], &[0, 1], &value].concat();
    let column = b"T\0\0\0\x1a\0\x01c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
    let end = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
    let notice = [&b"N"[..], &length, b"SNOTICE\0M"].concat();
    let cases: [(&str, Vec<u8>); 3] = [
        ("row", [&column[..], b"D", &head].concat()),
        ("copied", [&b"H\0\0\0\x07\0\0\0d"[..], &length].concat()),
        ("notice", notice),
    ];
    for (what, begin) in cases {
        let peak = alone(async {
            let (server, url) = bind().await;
            let connect = Connection::connect(&url);
            let mut meter = Meter::start();
            let (connection, mut socket) = tokio::join!(connect, let_in(&server));
            let mut connection = connection.unwrap();
            let serve = async {
                read_query(&mut socket).await;
                write(&mut socket, &begin, &mut meter).await;
                let chunk = [b'x'; 64 * 1024];
                // The bytes of the message behind its length word, and how many of them are in `begin`.
                let sent = begin.len() - begin.windows(4).position(|w| w == length).unwrap() - 4;
                let mut left = LONG + 6 - sent;
                while left > 0 {
                    let most = left.min(chunk.len());
                    write(&mut socket, &chunk[..most], &mut meter).await;
                    left -= most;
                }
                let rest: &[u8] = if what == "notice" { column } else { b"" };
                write(&mut socket, &[rest, end].concat(), &mut meter).await;
                meter.peak()
            };
            let (answer, peak) = tokio::join!(connection.simple_query("SELECT"), serve);
            match what {
                "notice" => assert_eq!(answer.unwrap().len(), 1),
                _ => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unsupported, "{what}"),
            }
            peak
        });
        assert!(peak <= 5 * 1024 * 1024, "{what}: {peak} bytes");
    }
}

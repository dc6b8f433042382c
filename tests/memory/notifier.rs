//! The memory of a notifier while its server does not read, and afterwards.

use std::time::Duration;

use pgbell::{ErrorKind, Notifier};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::alone;
use crate::meter::Meter;
use crate::peer::{bind, let_in};

/// The documented limits of `NotifierBuilder` for accepted calls and their encoded commands.
const QUEUE_BYTES: usize = 1024 * 1024;
const MOST_BYTES: usize = 3 * QUEUE_BYTES;

/// The task, its socket, and the buffers of both directions.
const OVERHEAD_BYTES: usize = 256 * 1024;

/// The memory of one future of a waiting call: the caller owns its payload.
const CALL_BYTES: usize = 4 * 1024;

/// ParseComplete to ReadyForQuery.
const ANSWER: &[u8] = b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x1e\0\x01count\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0\
    D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

#[test]
fn endless_calls_to_a_server_that_does_not_read_take_a_bounded_amount_of_memory() {
    const CALLS: usize = 3_000;
    let payload: &'static str = Box::leak("x".repeat(7_999).into_boxed_str());
    let (peak, in_doubt) = alone(async {
        let (server, url) = bind().await;
        let builder = Notifier::builder(&*url).queue_bytes(QUEUE_BYTES);
        let builder = builder.answer_timeout(Duration::from_millis(500));
        let (notifier, _socket) = tokio::join!(builder.connect(), let_in(&server));
        let notifier = notifier.unwrap();
        let mut meter = Meter::start();
        let calls: Vec<_> = (0..CALLS)
            .map(|_| {
                let notifier = notifier.clone();
                tokio::spawn(async move { notifier.notify("a", payload).await })
            })
            .collect();
        meter.look();
        let mut in_doubt = 0;
        for call in calls {
            while !call.is_finished() {
                tokio::task::yield_now().await;
                meter.look();
            }
            let kind = call.await.unwrap().unwrap_err().kind();
            in_doubt += usize::from(kind == ErrorKind::InDoubt);
        }
        (meter.peak(), in_doubt)
    });
    let most = MOST_BYTES + OVERHEAD_BYTES + CALLS * CALL_BYTES;
    assert!(peak <= most, "{peak} bytes, more than {most}");
    assert!((1..=QUEUE_BYTES / 8_000).contains(&in_doubt), "{in_doubt}");
}

#[test]
fn the_memory_of_a_million_notifications_in_one_call_is_freed() {
    let held = alone(async {
        let (server, url) = bind().await;
        let (notifier, socket) = tokio::join!(Notifier::connect(&*url), let_in(&server));
        let (notifier, mut socket) = (notifier.unwrap(), socket);
        let mut meter = Meter::start();
        let payload = "x".repeat(40);
        let sending = notifier.clone();
        let sent = tokio::spawn(async move {
            let sent = sending.notify_many((0..1_000_000).map(|n| ("a", format!("{payload}{n}"))));
            let sent = sent.await;
            drop(payload);
            sent
        });
        // Up to the Sync at the end.
        let mut buffer = vec![0; 64 * 1024];
        let mut tail = Vec::new();
        while !tail.ends_with(b"S\0\0\0\x04") {
            let count = socket.read(&mut buffer).await.unwrap();
            assert!(count > 0);
            tail = buffer[count.saturating_sub(5)..count].to_vec();
        }
        drop((buffer, tail));
        socket.write_all(ANSWER).await.unwrap();
        assert_eq!(sent.await.unwrap().unwrap(), 1_000_000);
        let held = meter.held();
        notifier.close().await;
        held
    });
    assert!(held <= OVERHEAD_BYTES, "{held} bytes are left");
}

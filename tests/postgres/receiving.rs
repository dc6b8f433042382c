//! Receiving: cancelled, limited, as a stream, and with several listeners.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pgbell::{Batch, Event, Listener};

use crate::support::{
    Server, expect_numbers, next_batch, next_item, number, poll_once, receive, run, send_numbers,
};

/// The numbers of dropped pending futures: polled once, and dropped after a moment.
const CANCELLED: u64 = 1_000;
const TIMED_OUT: u64 = 200;

fn numbers(batch: Batch<'_>) -> Vec<u64> {
    assert!(batch.loss().is_none());
    batch.iter().map(|notification| number(notification.payload_bytes())).collect()
}

fn one(event: &Event) -> Vec<u64> {
    let Event::Notification(notification) = event else { panic!("a loss: {event:?}") };
    vec![number(notification.payload_bytes())]
}

/// Waits in one of five ways, and stops at once or after a moment: then it returns `None`.
async fn attempt(listener: &mut Listener, way: u64) -> Option<Vec<u64>> {
    match way {
        0 => poll_once(pin!(listener.recv())).await.map(|event| one(&event.unwrap())),
        1 => poll_once(pin!(listener.recv_batch())).await.map(|batch| numbers(batch.unwrap())),
        2 => poll_once(pin!(listener.recv_batch_max(2))).await.map(|batch| numbers(batch.unwrap())),
        3 => tokio::select! {
            event = next_item(listener) => {
                Some(one(&event.unwrap().unwrap()))
            }
            () = tokio::time::sleep(Duration::from_micros(100)) => None,
        },
        _ => tokio::time::timeout(Duration::from_micros(100), listener.recv())
            .await
            .ok()
            .map(|event| one(&event.unwrap())),
    }
}

/// S5: a stream in `select!` with a timeout, and every other way to receive: a dropped future loses nothing.
#[test]
fn dropped_futures_lose_nothing() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let notifier = server.notifier().await;
        let done = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let done = done.clone();
            async move {
                let mut sent = 0_u64;
                // Sends as long as futures are being dropped.
                while !done.load(Ordering::SeqCst) {
                    for _ in 0..3 {
                        sent += 1;
                        notifier.notify("ch", sent.to_string()).await.unwrap();
                    }
                }
                sent
            }
        });
        let mut expect = 1;
        let mut left = [CANCELLED, CANCELLED, CANCELLED, TIMED_OUT, TIMED_OUT];
        while left != [0; 5] {
            for (way, left) in left.iter_mut().enumerate().filter(|(_, left)| **left > 0) {
                match attempt(&mut listener, u64::try_from(way).unwrap()).await {
                    None => *left -= 1,
                    Some(found) => {
                        for found in found {
                            assert_eq!(found, expect);
                            expect += 1;
                        }
                    }
                }
            }
            tokio::task::yield_now().await;
        }
        done.store(true, Ordering::SeqCst);
        let sent = writer.await.unwrap();
        expect_numbers(&mut listener, expect, sent).await;
        assert!(matches!(listener.try_recv(), Ok(None)));
        assert_eq!(listener.stats().delivered, sent);
    });
}

/// S5: the same for a connection, whose socket is read by the dropped future.
#[test]
fn dropped_futures_of_a_connection_lose_nothing() {
    let server = Server::start();
    run(async {
        let mut inline = server.connection().await;
        inline.listen("ch").await.unwrap();
        let notifier = server.notifier().await;
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = tokio::spawn({
            let dropped = dropped.clone();
            async move {
                let mut sent = 0_u64;
                while dropped.load(Ordering::SeqCst) < CANCELLED {
                    sent += 1;
                    notifier.notify("ch", sent.to_string()).await.unwrap();
                }
                sent
            }
        });
        let mut expect = 1;
        let mut check = |found: Vec<u64>| {
            for found in found {
                assert_eq!(found, expect);
                expect += 1;
            }
            expect
        };
        while dropped.load(Ordering::SeqCst) < CANCELLED {
            match poll_once(pin!(inline.recv_batch())).await {
                None => {
                    dropped.fetch_add(1, Ordering::SeqCst);
                }
                Some(batch) => drop(check(numbers(batch.unwrap()))),
            }
            tokio::task::yield_now().await;
        }
        let sent = writer.await.unwrap();
        while check(Vec::new()) <= sent {
            check(numbers(next_batch(&mut inline).await));
        }
        assert_eq!(check(Vec::new()), sent + 1);
    });
}

/// R6, S12: a batch has at most the requested number of notifications, at least one, and the rest comes with the next.
#[test]
fn batches_have_at_most_the_requested_length() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let mut sender = server.connection().await;
        let limits = [1, 7, 0, 100, 3, usize::MAX];
        let mut expect = 0;
        for round in 0..3 {
            send_numbers(&mut sender, "ch", 2_000 * round + 1, 2_000 * (round + 1)).await;
            for limit in limits.into_iter().cycle() {
                let batch = listener.recv_batch_max(limit).await.unwrap();
                assert!((1..=limit.max(1)).contains(&batch.len()), "{} of {limit}", batch.len());
                assert_eq!(batch.iter().len(), batch.len());
                for found in numbers(batch) {
                    expect += 1;
                    assert_eq!(found, expect);
                }
                if expect == 2_000 * (round + 1) {
                    break;
                }
            }
        }
        assert!(matches!(listener.try_recv(), Ok(None)));
    });
}

/// The ways to receive can be mixed: they read one stream in one order.
#[test]
fn the_ways_to_receive_share_one_stream() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let mut sender = server.connection().await;
        send_numbers(&mut sender, "ch", 1, 5_000).await;
        let (mut expect, mut way) = (1, 0);
        while expect <= 5_000 {
            for found in attempt(&mut listener, way).await.unwrap_or_default() {
                assert_eq!(found, expect);
                expect += 1;
            }
            if let Some(event) = listener.try_recv().unwrap() {
                assert_eq!(one(&event), [expect]);
                expect += 1;
            }
            way = (way + 1) % 5;
            if way == 1 && expect < 4_000 {
                // A batch without a limit would take everything at once.
                way = 2;
            }
        }
        assert_eq!(listener.stats().delivered, 5_000);
    });
}

/// S10: every listener of a channel gets every message.
#[test]
fn every_listener_gets_every_message() {
    let server = Server::start();
    run(async {
        let mut listeners = Vec::new();
        for _ in 0..4 {
            listeners.push(server.listener(&["ch"]).await);
        }
        let mut inline = server.connection().await;
        inline.listen("ch").await.unwrap();
        let mut sender = server.connection().await;
        for i in 0..10 {
            send_numbers(&mut sender, "ch", 100 * i + 1, 100 * (i + 1)).await;
        }
        for listener in &mut listeners {
            expect_numbers(listener, 1, 1_000).await;
        }
        let found = receive(&mut inline, 1_000).await;
        assert!(found.iter().map(|n| number(n.payload_bytes())).eq(1..=1_000));
    });
}

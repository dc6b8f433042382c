//! `Overflow::Block`: the stall and its limit. With the other policies the socket is always read.

use std::time::{Duration, Instant};

use pgbell::{Connection, ErrorKind, Event, Listener, Overflow, State};

use crate::support::{
    Server, expect_numbers, next_lagged, run, send_numbers, until, until_received, until_sql, value,
};

const CAPACITY: u64 = 100;

async fn blocking(server: &Server, max_stall: Duration) -> Listener {
    Listener::builder(server.url())
        .channels(["ch"])
        .queue_capacity(usize::try_from(CAPACITY).unwrap())
        .overflow(Overflow::Block { max_stall })
        .connect()
        .await
        .unwrap()
}

/// Sends numbers until the listener stops reading its socket.
async fn stall(sender: &mut Connection, listener: &Listener, first: u64, last: u64) {
    let before = listener.stats().stalls;
    send_numbers(sender, "ch", first, last).await;
    until("the listener stalls", || listener.stats().stalls > before).await;
}

/// P6: commands complete while the listener stalls, and nothing is dropped because of them.
#[test]
fn commands_complete_while_blocked_and_nothing_is_dropped() {
    let server = Server::start();
    run(async {
        let mut listener = blocking(&server, Duration::from_secs(100)).await;
        let mut sender = server.connection().await;
        let handle = listener.handle();
        for round in 0..5 {
            stall(&mut sender, &listener, 1_000 * round + 1, 1_000 * (round + 1)).await;
            let begin = Instant::now();
            match round {
                0 => drop(handle.listen("other").await.unwrap()),
                1 => drop(handle.listen_all(["a", "b"]).await.unwrap()),
                2 => handle.unlisten("other").await.unwrap(),
                3 => drop(handle.simple_query("SELECT 1").await.unwrap()),
                _ => handle.unlisten_all().await.unwrap(),
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
        }
        expect_numbers(&mut listener, 1, 5_000).await;
        assert!(matches!(listener.try_recv(), Ok(None)));
        until_received(&listener, 5_000).await;
        assert_eq!(listener.stats().lagged, 0);
    });
}

/// P6: a slow consumer receives everything, in order, however often the queue is full.
#[test]
fn a_slow_consumer_of_a_blocking_queue_loses_nothing() {
    let server = Server::start();
    run(async {
        let mut listener = blocking(&server, Duration::from_secs(100)).await;
        let mut sender = server.connection().await;
        stall(&mut sender, &listener, 1, 20_000).await;
        assert_eq!(listener.stats().queued, CAPACITY);
        expect_numbers(&mut listener, 1, 20_000).await;
        assert!(listener.stats().stalls > 100, "{:?}", listener.stats());
        assert_eq!(listener.stats().lagged, 0);
    });
}

/// P6: `close` completes during a stall. What was committed before is still delivered, then the stream ends.
#[test]
fn close_completes_while_blocked() {
    let server = Server::start();
    run(async {
        let mut sender = server.connection().await;
        let mut first = blocking(&server, Duration::from_secs(100)).await;
        stall(&mut sender, &first, 1, 1_000).await;
        let begin = Instant::now();
        first.handle().close().await;
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert_eq!(first.state(), State::Closed);
        expect_numbers(&mut first, 1, 1_000).await;
        assert_eq!(first.recv().await.unwrap_err().kind(), ErrorKind::Closed);

        let second = blocking(&server, Duration::from_secs(100)).await;
        let process_id = second.process_id();
        stall(&mut sender, &second, 1, 1_000).await;
        second.close().await;
        crate::support::until_gone(&mut sender, process_id).await;
    });
}

/// P6: with every policy of a full queue: what was committed before `close` is delivered or reported as lost. With
/// `Block` the consumer once received only the 10 notifications of the queue, and `Closed`.
#[test]
fn notifications_committed_before_a_close_are_delivered_or_reported_as_lost() {
    let max_stall = Duration::from_secs(100);
    let server = Server::start();
    run(async {
        let mut sender = server.connection().await;
        // With `drain`, and with `close`.
        for drains in [false, true] {
            for overflow in
                [Overflow::Block { max_stall }, Overflow::DropNewest, Overflow::DropOldest]
            {
                let builder = Listener::builder(server.url()).channels(["ch"]).queue_capacity(10);
                let mut listener = builder.overflow(overflow).connect().await.unwrap();
                send_numbers(&mut sender, "ch", 1, 1_000).await;
                let blocks = matches!(overflow, Overflow::Block { .. });
                until("it has read as much as it will", || {
                    let stats = listener.stats();
                    if blocks { stats.stalls > 0 } else { stats.received == 1_000 }
                })
                .await;
                let handle = listener.handle();
                match drains {
                    true => handle.drain(Duration::from_secs(60)).await.unwrap(),
                    false => handle.close().await,
                }
                let (mut delivered, mut lost) = (0, 0);
                loop {
                    match listener.recv().await {
                        Ok(Event::Notification(one)) => {
                            assert_eq!(one.sequence(), delivered + lost);
                            assert_eq!(one.payload(), (delivered + lost + 1).to_string());
                            delivered += 1;
                        }
                        Ok(Event::Lagged(lagged)) => lost += lagged.count(),
                        Ok(event) => panic!("{event:?}"),
                        Err(error) => break assert_eq!(error.kind(), ErrorKind::Closed),
                    }
                }
                assert_eq!(delivered + lost, 1_000, "{overflow:?}");
                assert_eq!(delivered, if blocks { 1_000 } else { 10 }, "{overflow:?}");
            }
        }
    });
}

/// P6: a stall has a time limit, after which the rest is dropped and reported. Only after the queue was empty
/// may it stall again.
#[test]
fn after_the_longest_stall_notifications_are_dropped_and_reported() {
    let server = Server::start();
    run(async {
        let max_stall = Duration::from_millis(300);
        let mut listener = blocking(&server, max_stall).await;
        let mut sender = server.connection().await;
        for round in 1..=2 {
            let begin = Instant::now();
            stall(&mut sender, &listener, 1, 1_000).await;
            until_received(&listener, 1_000 * round).await;
            assert!(begin.elapsed() >= max_stall, "{:?}", begin.elapsed());
            assert_eq!(listener.stats().stalls, round);
            expect_numbers(&mut listener, 1, CAPACITY).await;
            let lagged = next_lagged(&mut listener).await;
            assert_eq!(lagged, (1_000 * (round - 1) + CAPACITY, 1_000 - CAPACITY));
            assert!(matches!(listener.try_recv(), Ok(None)));
        }
    });
}

/// S12: if a consumer never reads, its queue becomes full, and the socket is still read: memory stays within the
/// configured bytes, and the server's notification queue is empty.
#[test]
fn a_listener_that_is_never_read_does_not_block_the_server() {
    const QUEUE_BYTES: u64 = 1024 * 1024;
    let server = Server::start();
    run(async {
        let listener = Listener::builder(server.url())
            .channels(["ch"])
            .queue_bytes(usize::try_from(QUEUE_BYTES).unwrap())
            .overflow(Overflow::DropNewest)
            .connect()
            .await
            .unwrap();
        let mut sender = server.connection().await;
        let sql = "SELECT count(pg_notify('ch', lpad(i::text, 7999, 'x'))) FROM generate_series(1, 2000) i";
        for round in 1..=50 {
            assert_eq!(value(&mut sender, sql).await, "2000");
            let queued = listener.stats().queued_bytes;
            assert!(queued <= QUEUE_BYTES, "{queued} after {round}");
        }
        until_received(&listener, 100_000).await;
        let stats = listener.stats();
        assert!(stats.bytes_read > 100_000 * 7_999);
        assert!((QUEUE_BYTES / 2..=QUEUE_BYTES).contains(&stats.queued_bytes), "{stats:?}");
        assert_eq!(stats.stalls, 0);
        until_sql(&mut sender, "SELECT pg_notification_queue_usage() = 0").await;
    });
}

//! The policies of a full queue, with small and large transactions.

use pgbell::{Connection, Event, Listener, Overflow};

use crate::support::{
    Server, expect_numbers, next_item, next_lagged, number, run, send_numbers, until_gone,
    until_received, until_sql,
};

/// The capacity of the queue in notifications, and the number that exceeds it.
const CAPACITY: u64 = 640;
const MORE: u64 = 320;

async fn bounded(server: &Server, overflow: Overflow) -> Listener {
    Listener::builder(server.url())
        .channels(["ch"])
        .queue_capacity(usize::try_from(CAPACITY).unwrap())
        .overflow(overflow)
        .connect()
        .await
        .unwrap()
}

/// Sends the numbers from `first` to `last` in transactions of `each`. Waits for each to arrive before the next
/// begins, so that each arrives in its own read.
async fn fill(sender: &mut Connection, listener: &Listener, first: u64, last: u64, each: u64) {
    let before = listener.stats();
    let mut next = first;
    while next <= last {
        let end = last.min(next + each - 1);
        send_numbers(sender, "ch", next, end).await;
        until_received(listener, before.received + end + 1 - first).await;
        next = end + 1;
    }
    let commits = (last + 1 - first).div_ceil(each);
    assert!(listener.stats().reads >= before.reads + commits, "one read brought several commits");
}

/// P5: the first N in order, then a `Lagged` of exactly k, and nothing after it. The listener continues.
async fn drop_newest(each: u64) {
    let server = Server::start();
    let mut listener = bounded(&server, Overflow::DropNewest).await;
    let mut sender = server.connection().await;
    fill(&mut sender, &listener, 1, CAPACITY + MORE, each).await;
    assert_eq!(listener.stats().queued, CAPACITY);
    expect_numbers(&mut listener, 1, CAPACITY).await;
    assert_eq!(next_lagged(&mut listener).await, (CAPACITY, MORE));
    assert!(matches!(listener.try_recv(), Ok(None)));
    let stats = listener.stats();
    assert_eq!((stats.delivered, stats.lagged, stats.queued_bytes), (CAPACITY, MORE, 0));

    // A second overflow, at positions that are not round numbers.
    fill(&mut sender, &listener, 1, CAPACITY + 1, each).await;
    listener.listen("other").await.unwrap();
    listener.unlisten("ch").await.unwrap();
    send_numbers(&mut sender, "ch", 1, 10).await;
    expect_numbers(&mut listener, 1, CAPACITY).await;
    assert_eq!(next_lagged(&mut listener).await, (2 * CAPACITY + MORE, 1));
    send_numbers(&mut sender, "other", 3, 3).await;
    expect_numbers(&mut listener, 3, 3).await;
    let process_id = listener.process_id();
    listener.close().await;
    until_gone(&mut sender, process_id).await;
}

/// P5, one notification in a write.
#[test]
fn drop_newest_keeps_the_first_at_1_per_write() {
    run(drop_newest(1));
}

/// P5, 16 notifications in a write.
#[test]
fn drop_newest_keeps_the_first_at_16_per_write() {
    run(drop_newest(16));
}

/// P5, 160 notifications in a write.
#[test]
fn drop_newest_keeps_the_first_at_160_per_write() {
    run(drop_newest(160));
}

/// P5: batches report the same.
#[test]
fn batches_report_the_same_as_single_events_with_drop_newest() {
    run(async {
        let server = Server::start();
        let mut listener = bounded(&server, Overflow::DropNewest).await;
        let mut sender = server.connection().await;
        fill(&mut sender, &listener, 1, CAPACITY + MORE, 17).await;
        let mut expect = 0;
        while expect < CAPACITY {
            let batch = listener.recv_batch().await.unwrap();
            assert!(batch.loss().is_none());
            for notification in batch {
                assert_eq!(notification.sequence(), expect);
                expect += 1;
            }
        }
        let batch = listener.recv_batch().await.unwrap();
        assert!(batch.is_empty());
        assert_eq!(crate::support::lagged(&batch), MORE);
        // The queue accepts notifications again.
        send_numbers(&mut sender, "ch", 1, CAPACITY).await;
        expect_numbers(&mut listener, 1, CAPACITY).await;
    });
}

/// S12: so does a stream.
#[test]
fn a_stream_that_is_read_too_slowly_gets_what_the_queue_kept_and_then_the_loss() {
    run(async {
        let server = Server::start();
        let mut listener = bounded(&server, Overflow::DropNewest).await;
        let mut sender = server.connection().await;
        fill(&mut sender, &listener, 1, CAPACITY + MORE, 16).await;
        for expect in 1..=CAPACITY {
            let item = next_item(&mut listener).await.unwrap().unwrap();
            let Event::Notification(notification) = item else { panic!("{item:?}") };
            assert_eq!(number(notification.payload_bytes()), expect);
        }
        let item = next_item(&mut listener).await.unwrap().unwrap();
        let Event::Lagged(lagged) = item else { panic!("{item:?}") };
        assert_eq!((lagged.first_sequence(), lagged.count()), (CAPACITY, MORE));
        // The socket was read all the time: the server keeps nothing for this session.
        until_sql(&mut sender, "SELECT pg_notification_queue_usage() = 0").await;
    });
}

async fn drop_oldest(each: u64) {
    let server = Server::start();
    let mut listener = bounded(&server, Overflow::DropOldest).await;
    let mut sender = server.connection().await;
    fill(&mut sender, &listener, 1, CAPACITY + MORE, each).await;
    assert_eq!(next_lagged(&mut listener).await, (0, MORE));
    expect_numbers(&mut listener, MORE + 1, CAPACITY + MORE).await;
    assert!(matches!(listener.try_recv(), Ok(None)));

    // The consumer reads in between: it takes one notification, and the next overflow evicts the oldest again.
    fill(&mut sender, &listener, 1, CAPACITY, each).await;
    expect_numbers(&mut listener, 1, 5).await;
    fill(&mut sender, &listener, CAPACITY + 1, 2 * CAPACITY, each).await;
    let (mut lost, mut got) = (0, Vec::new());
    while let Some(event) = listener.try_recv().unwrap() {
        match event {
            Event::Notification(n) => got.push(number(n.payload_bytes())),
            Event::Lagged(lagged) => lost += lagged.count(),
            gap => panic!("{gap:?}"),
        }
    }
    // The run that the consumer is reading is not evicted. The newest N are all there.
    assert_eq!(u64::try_from(got.len()).unwrap() + lost, 2 * CAPACITY - 5);
    assert!(got.is_sorted());
    let newest: Vec<u64> = (CAPACITY + 1..=2 * CAPACITY).collect();
    assert!(got.ends_with(&newest), "{got:?}");
    listener.close().await;
}

/// P2: `DropOldest` keeps exactly the newest N, one notification in a write.
#[test]
fn drop_oldest_keeps_the_last_at_1_per_write() {
    run(drop_oldest(1));
}

/// P2, 16 notifications in a write.
#[test]
fn drop_oldest_keeps_the_last_at_16_per_write() {
    run(drop_oldest(16));
}

/// P2, 160 notifications in a write.
#[test]
fn drop_oldest_keeps_the_last_at_160_per_write() {
    run(drop_oldest(160));
}

/// P2: one transaction that is longer than the queue.
#[test]
fn drop_oldest_keeps_the_last_of_a_burst() {
    run(drop_oldest(10_000));
}

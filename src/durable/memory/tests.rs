//! Tests of a log in memory.

#[cfg(feature = "testing")]
mod simulation;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};
use std::{pin::pin, thread};

use futures_util::FutureExt;

use super::*;
use crate::durable::position::Position;
use crate::durable::start::Start;

const LEASE: Duration = Duration::from_secs(30);

/// A reader as a cursor has one: its place, its token and what the last read has returned.
struct Reader {
    cursor: MemoryCursor,
    token: i64,
    place: Position,
    seq: i64,
}

impl Reader {
    async fn take(log: &MemoryOutbox, start: Start, steal: bool) -> Option<Self> {
        let (cursor, token) = log.take("mail", start, LEASE, steal).await?;
        Some(Self { cursor, token, place: Position::beginning(), seq: 0 })
    }

    async fn open(log: &MemoryOutbox) -> Self {
        Self::take(log, Start::Beginning, false).await.unwrap()
    }

    /// Reads after the acknowledged position. Returns the payloads and what acknowledges them.
    fn read(&mut self, limit: usize) -> (Vec<String>, StoredPosition) {
        loop {
            let page = self.cursor.read(&self.place, limit).unwrap();
            if page.newest.seq != self.seq {
                self.seq = page.newest.seq;
                self.place = page.newest.position;
                continue;
            }
            let last = page.records.last().map(|record| record.id);
            let position = match &page.upper {
                Some(upper) => self.place.after_page(upper, last, page.records.len() == limit),
                None => self.place.clone(),
            };
            if page.records.is_empty() && position != self.place {
                // The end of a window.
                self.place = position;
                continue;
            }
            let payloads = page.records.iter().map(|record| record.payload.clone()).collect();
            return (payloads, StoredPosition { seq: self.seq, token: self.token, position });
        }
    }

    async fn read_and_ack(&mut self, limit: usize) -> Vec<String> {
        let (payloads, after) = self.read(limit);
        self.cursor.ack(&after).await.unwrap();
        payloads
    }
}

#[tokio::test]
async fn records_are_read_in_the_order_of_commits_and_not_if_they_are_rolled_back() {
    let log = MemoryOutbox::new();
    let mut reader = Reader::open(&log).await;
    let (mut slow, mut failed, mut fast) = (log.begin(), log.begin(), log.begin());
    assert_eq!(slow.add("a", "slow"), 1);
    assert_eq!(failed.add("b", "failed"), 2);
    assert_eq!(fast.add_with_headers("c", "fast", "{\"n\": 1}"), 3);
    assert!(reader.read(10).0.is_empty());
    fast.commit();
    let page = reader.cursor.read(&Position::beginning(), 10).unwrap();
    assert_eq!((page.records[0].id, page.records[0].key.as_str()), (3, "c"));
    assert_eq!(page.records[0].headers.as_deref(), Some("{\"n\": 1}"));
    assert_eq!(reader.read_and_ack(10).await, ["fast"]);
    drop(failed);
    assert!(reader.read(10).0.is_empty());
    slow.commit();
    assert_eq!(reader.read_and_ack(10).await, ["slow"]);
    assert_eq!(log.add("d", "next"), 4);
    assert_eq!(reader.read_and_ack(10).await, ["next"]);
}

#[tokio::test]
async fn a_batch_that_is_not_acknowledged_is_read_again() {
    let log = MemoryOutbox::new();
    for payload in ["1", "2", "3", "4", "5"] {
        log.add("a", payload);
    }
    let mut reader = Reader::open(&log).await;
    assert_eq!(reader.read_and_ack(2).await, ["1", "2"]);
    assert_eq!(reader.read(2).0, ["3", "4"]);
    assert_eq!(reader.read(2).0, ["3", "4"]);
    let mut other = Reader::take(&log, Start::Beginning, true).await.unwrap();
    assert_eq!(other.read_and_ack(1).await, ["3"]);
    log.add("a", "6");
    assert_eq!(other.read_and_ack(10).await, ["4", "5"]);
    assert_eq!(other.read_and_ack(10).await, ["6"]);
}

#[tokio::test]
async fn an_acknowledgement_of_a_reader_that_was_replaced_fails() {
    let log = MemoryOutbox::new();
    log.add("a", "1");
    let mut zombie = Reader::open(&log).await;
    let (payloads, after) = zombie.read(10);
    assert_eq!(payloads, ["1"]);
    let mut reader = Reader::take(&log, Start::Beginning, true).await.unwrap();
    assert_eq!(zombie.cursor.ack(&after).await, Err(AckRefusal::Fenced));
    let mut transaction = log.begin();
    let cursor = zombie.cursor.id;
    assert_eq!(transaction.store_ack(cursor, &after).await, Err(AckRefusal::Fenced));
    assert!(!zombie.cursor.renew(zombie.token));
    assert_eq!(reader.read_and_ack(10).await, ["1"]);
    assert_eq!(zombie.cursor.ack(&after).await, Err(AckRefusal::Fenced));
    // A late release of the zombie does not end the lease of the reader.
    zombie.cursor.release(zombie.token);
    assert!(Reader::take(&log, Start::Beginning, false).await.is_none());
}

#[tokio::test]
async fn a_batch_is_acknowledged_once() {
    let log = MemoryOutbox::new();
    log.add("a", "1");
    let mut reader = Reader::open(&log).await;
    let (_, after) = reader.read(10);
    assert_eq!(reader.cursor.ack(&after).await, Ok(()));
    assert_eq!(reader.cursor.ack(&after).await, Err(AckRefusal::Stale));
    let mut transaction = log.begin();
    assert_eq!(transaction.store_ack(reader.cursor.id, &after).await, Err(AckRefusal::Stale));
}

#[tokio::test]
async fn an_acknowledgement_in_a_transaction_that_is_rolled_back_rewinds_the_reader() {
    let log = MemoryOutbox::new();
    log.add("a", "1");
    let mut reader = Reader::open(&log).await;
    let (_, after) = reader.read(10);
    let cursor = reader.cursor.id;

    let mut transaction = log.begin();
    transaction.add("effects", "of 1");
    assert_eq!(transaction.store_ack(cursor, &after).await, Ok(()));
    assert_eq!(transaction.store_ack(cursor, &after).await, Err(AckRefusal::Stale));
    transaction.rollback();
    assert_eq!(reader.read(10).0, ["1"]);

    let mut transaction = log.begin();
    transaction.add("effects", "of 1");
    assert_eq!(transaction.store_ack(cursor, &after).await, Ok(()));
    assert_eq!(reader.read(10).0, ["1"]);
    transaction.commit();
    assert_eq!(reader.read_and_ack(10).await, ["of 1"]);
}

#[tokio::test]
async fn while_a_transaction_that_has_acknowledged_is_open_others_wait_for_it() {
    let log = MemoryOutbox::new();
    log.add("a", "1");
    let mut reader = Reader::open(&log).await;
    let (_, after) = reader.read(10);
    let mut transaction = log.begin();
    transaction.store_ack(reader.cursor.id, &after).await.unwrap();
    {
        let mut second = pin!(reader.cursor.ack(&after));
        assert_eq!(second.as_mut().now_or_never(), None);
        let mut takes = pin!(Reader::take(&log, Start::Beginning, true));
        assert!(takes.as_mut().now_or_never().is_none());
        transaction.commit();
        assert_eq!(second.await, Err(AckRefusal::Stale));
        assert!(takes.await.unwrap().read(10).0.is_empty());
    }

    let log = MemoryOutbox::new();
    log.add("a", "1");
    let mut reader = Reader::open(&log).await;
    let (_, after) = reader.read(10);
    let mut transaction = log.begin();
    transaction.store_ack(reader.cursor.id, &after).await.unwrap();
    let mut second = pin!(reader.cursor.ack(&after));
    assert_eq!(second.as_mut().now_or_never(), None);
    transaction.rollback();
    assert_eq!(second.await, Ok(()));
}

#[tokio::test]
async fn a_commit_wakes_a_reader_that_waits_and_an_empty_transaction_does_not() {
    let log = MemoryOutbox::new();
    let mut reader = Reader::open(&log).await;
    assert!(reader.read(10).0.is_empty());
    log.begin().commit();
    let mut transaction = log.begin();
    transaction.add("a", "1");
    assert!(reader.cursor.wait().now_or_never().is_none());
    let waiting = tokio::spawn(async move {
        reader.cursor.wait().await;
        reader.read(10).0
    });
    tokio::task::yield_now().await;
    transaction.commit();
    assert_eq!(waiting.await.unwrap(), ["1"]);
}

/// A waker is code of the user.
#[test]
fn a_waker_that_panics_neither_fails_a_commit_nor_leaves_others_asleep() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("of a test");
        }
    }
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let log = MemoryOutbox::new();
    let mut first = Reader::open(&log).now_or_never().unwrap();
    let mut second = log.take("other", Start::Now, LEASE, false).now_or_never().unwrap().unwrap().0;
    let mut transaction = log.begin();
    transaction.add("a", "1");
    first.read(1);
    second.read(&Position::beginning(), 1);
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let wakers = [Waker::from(Arc::new(Panics)), Waker::from(flag.clone())];
    let (mut waits, mut also_waits) = (pin!(first.cursor.wait()), pin!(second.wait()));
    assert_eq!(waits.as_mut().poll(&mut Context::from_waker(&wakers[0])), Poll::Pending);
    assert_eq!(also_waits.as_mut().poll(&mut Context::from_waker(&wakers[1])), Poll::Pending);
    transaction.commit();
    assert!(flag.0.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_is_taken_when_its_lease_has_passed_or_was_ended() {
    let log = MemoryOutbox::new();
    let first = Reader::open(&log).await;
    assert!(Reader::take(&log, Start::Beginning, false).await.is_none());
    tokio::time::advance(LEASE / 2).await;
    assert!(first.cursor.renew(first.token));
    tokio::time::advance(LEASE - Duration::from_secs(1)).await;
    assert!(Reader::take(&log, Start::Beginning, false).await.is_none());
    tokio::time::advance(Duration::from_secs(1)).await;
    let second = Reader::take(&log, Start::Beginning, false).await.unwrap();
    assert_eq!(second.token, first.token + 1);
    second.cursor.release(second.token);
    assert!(Reader::take(&log, Start::Beginning, false).await.is_some());
}

#[tokio::test]
async fn a_cursor_begins_now_with_what_commits_later_also_if_it_was_written_before() {
    let log = MemoryOutbox::new();
    let mut open = log.begin();
    open.add("a", "open");
    log.add("b", "before");
    let mut reader = Reader::take(&log, Start::Now, false).await.unwrap();
    log.add("b", "after");
    assert_eq!(reader.read_and_ack(10).await, ["after"]);
    open.commit();
    assert_eq!(reader.read_and_ack(10).await, ["open"]);
}

#[tokio::test]
async fn a_cursor_begins_at_a_time_with_the_first_record_since() {
    let log = MemoryOutbox::new();
    log.add("a", "1");
    log.add("a", "2");
    let second = {
        let log = log.shared.lock();
        let row = log.store.iter().nth(1).unwrap();
        row.2.written_at
    };
    log.add("a", "3");
    let at = Start::At(second);
    let mut reader = Reader::take(&log, at, false).await.unwrap();
    let read = reader.read_and_ack(10).await;
    // A coarse clock may give the first record the same time.
    assert!(read.ends_with(&["2".to_owned(), "3".to_owned()]), "{read:?}");
    log.add("a", "4");
    assert_eq!(reader.read_and_ack(10).await, ["4"]);

    // An existing cursor continues where it is.
    let beginning = Start::Beginning;
    let mut again = Reader::take(&log, beginning, true).await.unwrap();
    assert!(again.read(10).0.is_empty());
    // After the last record, it begins now.
    let later = Start::At(SystemTime::now() + Duration::from_secs(3_600));
    let (mut cursor, _) = log.take("later", later, LEASE, false).await.unwrap();
    let position = cursor.read(&Position::beginning(), 1).unwrap().newest.position;
    assert!(cursor.read(&position, 1).unwrap().records.is_empty());
}

#[tokio::test]
async fn a_cursor_that_is_deleted_while_it_is_read_is_reported() {
    let log = MemoryOutbox::new();
    log.add("a", "1");
    let mut reader = Reader::open(&log).await;
    let (_, after) = reader.read(10);
    assert!(log.drop_cursor("mail") && !log.drop_cursor("mail"));
    reader.cursor.wait().now_or_never().expect("it wakes the reader");
    assert!(reader.cursor.read(&after.position, 10).is_none());
    assert_eq!(reader.cursor.ack(&after).await, Err(AckRefusal::NoCursor));
    assert!(!reader.cursor.renew(reader.token));
    // The number of a deleted cursor is not used again, so its receipts are not those of a new one.
    let mut new = Reader::open(&log).await;
    assert_eq!(reader.cursor.ack(&after).await, Err(AckRefusal::NoCursor));
    assert_eq!(new.read(10).0, ["1"]);
}

#[tokio::test]
async fn the_records_of_many_threads_arrive_once_and_in_the_order_of_each() {
    const THREADS: usize = 4;
    const RECORDS: usize = 200;
    let log = MemoryOutbox::new();
    let mut reader = Reader::open(&log).await;
    let writers: Vec<_> = (0..THREADS)
        .map(|number| {
            let log = log.clone();
            thread::spawn(move || {
                for record in 0..RECORDS {
                    let mut transaction = log.begin();
                    transaction.add(number.to_string(), format!("{number} {record}"));
                    if record % 7 == 0 {
                        log.begin().add("rolled back", "x");
                    }
                    transaction.commit();
                }
            })
        })
        .collect();
    let mut next = [0; THREADS];
    while next.iter().sum::<usize>() < THREADS * RECORDS {
        let read = reader.read_and_ack(17).await;
        for payload in &read {
            let (thread, record) = payload.split_once(' ').unwrap();
            let next = &mut next[thread.parse::<usize>().unwrap()];
            assert_eq!(record, next.to_string());
            *next += 1;
        }
        if read.is_empty() {
            reader.cursor.wait().await;
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
    assert!(reader.read(17).0.is_empty());
    assert_eq!(format!("{log:?}"), "MemoryOutbox { records: 800, cursors: 1 }");
}

//! A cursor over a log in memory: what it does with acknowledgements, rewinds and other readers.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::{Batch, Cursor, CursorWait, MemoryOutbox, Start};
use crate::error::ErrorKind;

fn payloads(batch: &Batch<'_>) -> Vec<String> {
    batch.iter().map(|record| record.payload().to_owned()).collect()
}

async fn open(log: &MemoryOutbox) -> Cursor {
    log.cursor("reader").page_size(2).open().await.unwrap()
}

/// What can be received at once.
async fn now(cursor: &mut Cursor) -> Vec<String> {
    cursor.try_next().await.unwrap().map(|batch| payloads(&batch)).unwrap_or_default()
}

#[tokio::test]
async fn a_batch_is_received_again_until_it_is_acknowledged() {
    let log = MemoryOutbox::new();
    for payload in ["1", "2", "3"] {
        log.add("", payload);
    }
    let mut cursor = open(&log).await;
    assert_eq!(now(&mut cursor).await, ["1", "2"]);
    assert_eq!(now(&mut cursor).await, ["1", "2"]);
    cursor.next().await.unwrap().ack().await.unwrap();
    assert_eq!(now(&mut cursor).await, ["3"]);
    let batch = cursor.next().await.unwrap();
    assert_eq!(payloads(&batch), ["3"]);
    batch.ack().await.unwrap();
    assert!(cursor.next().now_or_never().is_none());
    let stats = cursor.stats();
    assert_eq!((stats.batches, stats.records, stats.acknowledged, stats.rewinds), (5, 8, 2, 3));
}

/// A handler that always fails used a processor and the server without a pause.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_never_acknowledged_is_received_again_with_growing_delays() {
    let log = MemoryOutbox::new();
    log.add("", "1");
    log.add("", "2");
    let interval = Duration::from_secs(2);
    let backoff = (Duration::from_millis(100), Duration::from_secs(30));
    let cursor = log.cursor("reader").page_size(1).interval(interval).backoff(backoff.0, backoff.1);
    let mut cursor = cursor.open().await.unwrap();
    let mut delays = Vec::new();
    for _ in 0..40 {
        let begin = Instant::now();
        assert_eq!(payloads(&cursor.next().await.unwrap()), ["1"]);
        delays.push(begin.elapsed());
    }
    let (first, later) = delays.split_at(2);
    assert_eq!(first, [Duration::ZERO; 2], "the first repetition is at once");
    // The clock of tokio has milliseconds.
    let limit = interval + Duration::from_millis(1);
    assert!(later.iter().all(|delay| (backoff.0..=limit).contains(delay)), "{delays:?}");
    assert!(later[20..].iter().any(|delay| *delay > interval / 2), "{delays:?}");
    // Only `next` waits.
    assert_eq!(now(&mut cursor).await, ["1"]);
    // A call that is dropped does not begin the delay anew.
    for _ in 0..10 {
        let _ = timeout(interval / 4, cursor.next()).await;
    }
    assert!(cursor.stats().rewinds > 42, "{:?}", cursor.stats());
    // An acknowledgement ends it.
    cursor.next().await.unwrap().ack().await.unwrap();
    let begin = Instant::now();
    for _ in 0..2 {
        assert_eq!(payloads(&cursor.next().await.unwrap()), ["2"]);
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_is_reported_once() {
    let log = MemoryOutbox::new();
    let (first, waits) = (open(&log).await, Arc::new(Mutex::new(Vec::new())));
    let seen = waits.clone();
    let second = log.cursor("reader").on_wait(move |wait| seen.lock().unwrap().push(wait)).open();
    let second = timeout(Duration::from_secs(3_600), second).await.unwrap().unwrap();
    assert_eq!(*waits.lock().unwrap(), [CursorWait::OtherReader]);
    assert_eq!(CursorWait::OtherReader.to_string(), "another reader has it");
    drop((first, second));
}

#[tokio::test]
async fn a_lease_that_is_too_short_is_refused_with_the_numbers() {
    let log = MemoryOutbox::new();
    let cursor =
        log.cursor("reader").interval(Duration::from_secs(5)).lease(Duration::from_secs(6));
    let error = cursor.open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let expected = "the lease of a cursor is 6s, shorter than three times its interval of 5s \
                    (hint: set a lease of at least 15s, or an interval of at most 2s)";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[tokio::test]
async fn an_acknowledgement_in_a_transaction_counts_when_it_commits() {
    let log = MemoryOutbox::new();
    log.add("", "1");
    let mut cursor = open(&log).await;
    for is_commit in [false, true] {
        let receipt = cursor.next().await.unwrap().receipt();
        let mut transaction = log.begin();
        transaction.ack(&receipt).await.unwrap();
        if is_commit {
            transaction.commit();
        } else {
            transaction.rollback();
        }
    }
    assert!(now(&mut cursor).await.is_empty());
    assert_eq!(cursor.stats().acknowledged, 1);
}

#[tokio::test]
async fn a_batch_that_was_acknowledged_elsewhere_is_refused_and_the_cursor_goes_on() {
    let log = MemoryOutbox::new();
    log.add("", "1");
    let mut cursor = open(&log).await;
    let batch = cursor.next().await.unwrap();
    let mut transaction = log.begin();
    transaction.ack(&batch.receipt()).await.unwrap();
    transaction.commit();
    let error = batch.ack().await.unwrap_err();
    let hint = "receive the next batch: it begins at the current position";
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Fenced, Some(hint)));
    log.add("", "2");
    assert_eq!(now(&mut cursor).await, ["2"]);
}

#[tokio::test]
async fn a_reader_whose_cursor_was_taken_receives_and_acknowledges_nothing() {
    let log = MemoryOutbox::new();
    log.add("", "1");
    let mut first = open(&log).await;
    let batch = first.next().await.unwrap();
    let mut second = log.cursor("reader").take_over().open().await.unwrap();
    assert_eq!(batch.ack().await.unwrap_err().kind(), ErrorKind::Fenced);
    for _ in 0..2 {
        let error = first.next().await.unwrap_err();
        let hint = "open the cursor again to wait for it";
        assert_eq!((error.kind(), error.hint()), (ErrorKind::Fenced, Some(hint)));
        assert_eq!(first.try_next().await.unwrap_err().kind(), ErrorKind::Fenced);
    }
    assert_eq!(now(&mut second).await, ["1"]);
    // Its close does not end the lease of the other one.
    first.close().await;
    assert!(log.cursor("reader").open().now_or_never().is_none());
    second.close().await;
    assert!(log.cursor("reader").open().now_or_never().is_some());
}

#[tokio::test]
async fn a_reader_that_waits_for_a_record_learns_that_its_cursor_was_taken_or_deleted() {
    let log = MemoryOutbox::new();
    let mut cursor = open(&log).await;
    {
        let mut next = pin!(cursor.next());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(log.drop_cursor("reader") && !log.drop_cursor("reader"));
        let error = next.await.unwrap_err();
        let hint = "open the cursor again to create it anew";
        assert_eq!((error.kind(), error.hint()), (ErrorKind::Schema, Some(hint)));
    }
    let mut cursor = log.cursor("reader").start(Start::Now).open().await.unwrap();
    let mut next = pin!(cursor.next());
    assert!(next.as_mut().now_or_never().is_none());
    let _other = log.cursor("reader").take_over().open().await.unwrap();
    assert_eq!(next.await.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn a_future_that_is_dropped_loses_nothing() {
    let log = MemoryOutbox::new();
    let mut cursor = open(&log).await;
    assert!(cursor.next().now_or_never().is_none());
    log.add("", "1");
    let mut slow = log.begin();
    slow.add("", "2");
    log.add("", "3");
    assert_eq!(now(&mut cursor).await, ["1", "3"]);
    cursor.next().await.unwrap().ack().await.unwrap();
    assert!(cursor.next().now_or_never().is_none());
    slow.commit();
    assert_eq!(now(&mut cursor).await, ["2"]);
    cursor.next().await.unwrap().renew().await.unwrap();
}

/// They may have been there when it was read, so nothing wakes the cursor for them.
#[tokio::test]
async fn records_behind_a_full_batch_are_received_without_a_wake_up() {
    let log = MemoryOutbox::new();
    for payload in ["1", "2", "3"] {
        log.add("", payload);
    }
    let mut cursor = open(&log).await;
    // What the records have woken is read now.
    for expected in [&["1", "2"][..], &["3"]] {
        let batch = cursor.next().now_or_never().expect("records that wait").unwrap();
        assert_eq!(payloads(&batch), expected);
        batch.ack().await.unwrap();
    }
    assert!(cursor.next().now_or_never().is_none());
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let log = MemoryOutbox::new();
    let second = Duration::from_secs(1);
    for (settings, expected) in [
        (log.cursor(""), "name"),
        (log.cursor("a\0b"), "name"),
        (log.cursor("a").page_size(0), "page size"),
        (log.cursor("a").interval(Duration::ZERO), "interval"),
        (log.cursor("a").statement_timeout(Duration::ZERO), "statement timeout"),
        (log.cursor("a").interval(second).lease(2 * second), "three times"),
        (log.cursor("a").backoff(second, Duration::ZERO), "longest delay"),
    ] {
        let error = settings.open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

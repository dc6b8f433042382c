//! A writer that commits the numbers 1, 2, 3, …, and a check that a listener delivers or reports each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pgbell::{Connection, Event, Listener};
use tokio::task::JoinHandle;

use crate::support::{TEST_TIMEOUT, number};

/// The channel of the sequence.
pub(super) const CHANNEL: &str = "sequence";

/// Commits one number after the other until it is stopped. A number whose commit is in doubt is not sent
/// again, because it may have been received.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    last: Arc<AtomicU64>,
    task: JoinHandle<u64>,
}

impl Writer {
    /// Starts a writer on `url`. It connects again after a failure.
    pub(super) fn start(url: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let last = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(write(url, Arc::clone(&stop), Arc::clone(&last)));
        Self { stop, last, task }
    }

    /// The last number that was committed.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Waits until this number of further commits.
    pub(super) async fn wait_for_commits(&self, more: u64) {
        let target = self.last() + more;
        let reached = async {
            while self.last() < target {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, reached).await.expect("the writer does not continue");
    }

    /// Stops the writer, and returns the last number. It is committed, and all numbers before it.
    pub(super) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        tokio::time::timeout(TEST_TIMEOUT, self.task)
            .await
            .expect("the writer does not end")
            .unwrap()
    }
}

async fn write(url: String, stop: Arc<AtomicBool>, last: Arc<AtomicU64>) -> u64 {
    let mut next = 1;
    loop {
        let Ok(mut connection) = Connection::connect(&url).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        loop {
            let is_last = stop.load(Ordering::Acquire);
            let sent = next;
            next += 1;
            if connection.notify(CHANNEL, &sent.to_string()).await.is_err() {
                break;
            }
            last.store(sent, Ordering::Release);
            if is_last {
                return sent;
            }
        }
    }
}

/// The events of a listener, compared with the sequence.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// The last number that was delivered.
    pub(super) last: u64,
    pub(super) delivered: u64,
    /// Numbers inside a reported gap.
    pub(super) missing: u64,
    pub(super) gaps: u64,
    /// The number of lost sessions, as reported by the gaps.
    pub(super) sessions: u64,
    pub(super) lagged: u64,
    /// A loss was reported since the last number.
    loss_reported: bool,
}

impl Account {
    /// Handles one event: numbers rise one by one, unless a loss was reported between them.
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Notification(notification) => {
                assert_eq!(notification.channel(), CHANNEL);
                let number = number(notification.payload_bytes());
                assert!(number > self.last, "{number} after {}: twice or out of order", self.last);
                let skipped = number - self.last - 1;
                // Numbers before the first one were committed before the listener connected.
                assert!(
                    skipped == 0 || self.loss_reported || self.delivered == 0,
                    "lost without a report: {} to {}",
                    self.last + 1,
                    number - 1
                );
                if self.delivered > 0 {
                    self.missing += skipped;
                }
                self.last = number;
                self.delivered += 1;
                self.loss_reported = false;
            }
            Event::Gap(gap) => {
                self.gaps += 1;
                self.sessions += u64::from(gap.sessions());
                assert!(gap.restored_at() >= gap.lost_at(), "{gap:?}");
                assert!(gap.sessions() == 0 || gap.attempts() >= 1, "{gap:?}");
                assert!(gap.refused().is_empty(), "{gap:?}");
                self.loss_reported = true;
            }
            Event::Lagged(lagged) => {
                self.lagged += lagged.count();
                self.loss_reported = true;
            }
            other => panic!("{other:?}"),
        }
    }

    /// Receives up to the number `last`, or to the gap that contains it.
    pub(super) async fn receive_up_to(&mut self, listener: &mut Listener, last: u64) {
        while self.last < last {
            let event = tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await;
            self.take(&event.expect("nothing arrives").unwrap());
        }
    }
}

/// Receives in the background until `finish` is called.
pub(super) struct Receiver {
    goal: Arc<AtomicU64>,
    task: JoinHandle<(Account, Listener)>,
}

impl Receiver {
    pub(super) fn start(mut listener: Listener) -> Self {
        let goal = Arc::new(AtomicU64::new(u64::MAX));
        let shared_goal = Arc::clone(&goal);
        let task = tokio::spawn(async move {
            let mut account = Account::default();
            while account.last < shared_goal.load(Ordering::Acquire) {
                let event = tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await;
                account.take(&event.expect("nothing arrives").unwrap());
            }
            (account, listener)
        });
        Self { goal, task }
    }

    /// Returns the account when everything up to the number `last` is delivered or reported. It must be committed after this
    /// call, so that there is an event to end with.
    pub(super) async fn finish(self, writer: Writer) -> (Account, Listener) {
        writer.wait_for_commits(1).await;
        self.goal.store(writer.last(), Ordering::Release);
        writer.wait_for_commits(2).await;
        let ended = tokio::time::timeout(TEST_TIMEOUT, self.task).await;
        let (mut account, mut listener) = ended.expect("the receiver does not end").unwrap();
        let last = writer.stop().await;
        account.receive_up_to(&mut listener, last).await;
        (account, listener)
    }
}

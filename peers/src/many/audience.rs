//! [`Audience`]: what the subscribers of a process have received.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::ManyJob;
use crate::digest::Digest;
use crate::outcome::Outcome;
use crate::tally::{nanos, print_line, print_ready};
use crate::usage::Usage;

/// What a process knows when every subscriber is ready.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Subscribed {
    /// The server process of the hub.
    pub(super) process_id: Option<i32>,
    /// The time of all subscribes.
    pub(super) took_ns: u64,
}

/// What a process has received.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Received {
    pub(super) deliveries: u64,
    /// Of one subscriber, if all of them receive the same. Otherwise of all together.
    pub(super) digest: Digest,
    /// All subscribers have received the same, or, if each has a topic or channel of its own, the same number.
    pub(super) is_even: bool,
    /// Processor time from the last subscribe to the last delivery.
    pub(super) cpu_ns: u64,
}

/// Counts what all subscribers receive.
#[derive(Debug)]
pub(super) struct Audience {
    digests: Box<[Mutex<Digest>]>,
    received: AtomicU64,
    wanted: AtomicU64,
    failure: Mutex<Option<String>>,
    changed: Notify,
}

impl Audience {
    pub(super) fn new(job: &ManyJob) -> Arc<Self> {
        Arc::new(Self {
            digests: (0..job.subscribers).map(|_| Mutex::default()).collect(),
            received: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            failure: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Adds what a subscriber has received at once.
    pub(super) fn add(&self, subscriber: usize, batch: &Digest) {
        if let Some(own) = self.digests.get(subscriber) {
            let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
            *own = own.and(batch);
        }
        let received = self.received.fetch_add(batch.count, Ordering::Relaxed) + batch.count;
        if received >= self.wanted.load(Ordering::Relaxed) {
            self.changed.notify_one();
        }
    }

    /// Ends the run with an error.
    pub(super) fn fail(&self, why: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.changed.notify_one();
    }

    /// Reports that all subscribers are ready, learns how many deliveries there will be, waits for them, and reports them.
    pub(super) async fn measure(
        &self,
        job: &ManyJob,
        process_id: Option<i32>,
        took: Duration,
    ) -> Outcome<()> {
        print_line(&self.receive(job, process_id, took).await?)
    }

    /// The same without the last report, which it returns.
    pub(super) async fn receive(
        &self,
        job: &ManyJob,
        process_id: Option<i32>,
        took: Duration,
    ) -> Outcome<Received> {
        // The tasks of the subscribers run for the first time.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let usage = Usage::of_process()?;
        print_ready()?;
        let subscribed = Subscribed { process_id, took_ns: nanos(took) };
        println!("{}", serde_json::to_string(&subscribed)?);
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        });
        // It may come while notifications arrive.
        let wanted: u64 = line.await??.trim().parse()?;
        self.wanted.store(wanted, Ordering::Relaxed);
        while self.received.load(Ordering::Relaxed) < wanted {
            if let Some(why) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(why.into());
            }
            self.changed.notified().await;
        }
        let used = Usage::of_process()?.since(&usage);
        Ok(self.received(job, nanos(used.total())))
    }

    fn received(&self, job: &ManyJob, cpu_ns: u64) -> Received {
        let lock = |one: &Mutex<Digest>| *one.lock().unwrap_or_else(PoisonError::into_inner);
        let digests: Vec<Digest> = self.digests.iter().map(lock).collect();
        let first = digests.first().copied().unwrap_or_default();
        let all_receive_the_same = job.job.shape.topics == 0 && job.job.shape.channels == 1;
        let (digest, is_even) = match all_receive_the_same {
            true => (first, digests.iter().all(|one| *one == first)),
            false => (
                digests.iter().fold(Digest::default(), |all, one| all.and(one)),
                digests.iter().all(|one| one.count == first.count),
            ),
        };
        let deliveries = digests.iter().map(|one| one.count).sum();
        Received { deliveries, digest, is_even, cpu_ns }
    }
}

//! [`Shared`]: what a mirror, what watches it, and its task share.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Notify, oneshot, watch};

use super::machine::KEYS_MAX;
use super::refusal::closed;
use super::stats::MirrorStats;
use super::status::MirrorStatus;
use super::store::Store;
use super::waiter::Waiter;
use crate::error::{Error, contain};
use crate::wakeups::Wakeups;

/// Whether the task of a mirror runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    Closing,
    Ended,
}

/// What calls of the user ask for.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) keys: BTreeSet<String>,
    pub(super) is_all: bool,
    pub(super) waiters: Vec<Waiter>,
}

/// What is known of the reads.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) loaded_at: SystemTime,
    pub(super) read_at: SystemTime,
    pub(super) stale_since: Option<SystemTime>,
    pub(super) last_error: Option<Error>,
    pub(super) stats: MirrorStats,
}

#[derive(Debug)]
pub(super) struct Shared<V> {
    pub(super) name: String,
    pub(super) store: Store<V>,
    pub(super) phase: watch::Sender<Phase>,
    /// Wakes the task for requests.
    pub(super) requested: Notify,
    requests: Mutex<Requests>,
    facts: Mutex<Facts>,
    /// `None` if the user has given the worker, and after the end.
    wakeups: Mutex<Option<Arc<Wakeups>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V> Shared<V> {
    pub(super) fn new(name: String, wakeups: Option<Wakeups>) -> Self {
        let now = SystemTime::now();
        let facts = Facts {
            loaded_at: now,
            read_at: now,
            stale_since: None,
            last_error: None,
            stats: MirrorStats::default(),
        };
        Self {
            name,
            store: Store::new(),
            phase: watch::Sender::new(Phase::Running),
            requested: Notify::new(),
            requests: Mutex::default(),
            facts: Mutex::new(facts),
            wakeups: Mutex::new(wakeups.map(Arc::new)),
        }
    }

    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.facts)
    }

    /// Stores an error for `last_error`. An error can contain one of the user, whose drop is code of the user.
    pub(super) fn set_last_error(&self, error: &Error) {
        let old = self.facts().last_error.replace(error.clone().brief());
        let _ = contain(|| drop(old));
    }

    pub(super) fn status(&self) -> MirrorStatus {
        let wakeups = self.wakeups().map(|wakeups| wakeups.status());
        let (_, left_out, version) = self.store.counts();
        let facts = self.facts();
        MirrorStatus {
            version,
            loaded_at: facts.loaded_at,
            read_at: facts.read_at,
            stale_since: facts.stale_since,
            left_out,
            wakeups,
            is_closed: *self.phase.borrow() != Phase::Running,
        }
    }

    pub(super) fn wakeups(&self) -> Option<Arc<Wakeups>> {
        lock(&self.wakeups).clone()
    }

    /// Takes the wake-ups for the end. If a call uses them at the moment, they end with it.
    pub(super) fn take_wakeups(&self) -> Option<Wakeups> {
        let wakeups = lock(&self.wakeups).take();
        wakeups.and_then(Arc::into_inner)
    }

    /// Asks for the rows of some keys, or for all rows, and waits for the read that follows.
    pub(super) async fn read(&self, keys: Option<BTreeSet<String>>) -> Result<(), Error> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut requests = lock(&self.requests);
            // The task would read all rows too.
            let keys = keys.filter(|keys| keys.len() <= KEYS_MAX);
            match &keys {
                Some(keys) => requests.keys.extend(keys.iter().cloned()),
                None => requests.is_all = true,
            }
            if requests.is_all || requests.keys.len() > KEYS_MAX {
                requests.keys.clear();
                requests.is_all = true;
            }
            let waiters = &mut requests.waiters;
            if waiters.len() == waiters.capacity() {
                // Those of dropped futures.
                waiters.retain(|waiter| !waiter.is_closed());
            }
            waiters.push(Waiter::new(keys, sender));
        }
        // After the end nothing takes the request.
        if *self.phase.borrow() == Phase::Ended {
            drop(self.take_requests());
        }
        self.requested.notify_one();
        receiver.await.unwrap_or_else(|_| Err(closed()))
    }

    pub(super) fn take_requests(&self) -> Requests {
        mem::take(&mut *lock(&self.requests))
    }

    /// Asks the task to end.
    pub(super) fn close(&self) {
        let _ = contain(|| {
            self.phase.send_if_modified(|phase| {
                let is_running = *phase == Phase::Running;
                if is_running {
                    *phase = Phase::Closing;
                }
                is_running
            })
        });
    }

    /// Waits until the task is to end.
    pub(super) async fn closing(&self) {
        let mut phase = self.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase != Phase::Running).await.map(drop);
    }

    /// Waits until the task has ended.
    pub(super) async fn ended(&self) {
        let mut phase = self.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase == Phase::Ended).await.map(drop);
    }
}

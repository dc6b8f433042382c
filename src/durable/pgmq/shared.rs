//! [`ConsumerShared`]: what a running consumer and its task share.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::stats::ConsumerStats;
use super::stopped::Stopped;
use crate::dispatcher::{Demand, Phase, deadline_in};
use crate::error::Error;
use crate::wakeups::{Wakeups, WakeupsStatus};

pub(super) struct ConsumerShared {
    demand: watch::Sender<Demand>,
    /// Those of the consumer itself.
    wakeups: Mutex<Option<Wakeups>>,
    /// pgmq sends notifications for the queue.
    is_notified: AtomicBool,
    stats: Mutex<ConsumerStats>,
    last_error: Mutex<Option<Error>>,
    /// The report of the end, once there is one.
    stopped: watch::Receiver<Option<Stopped>>,
}

impl ConsumerShared {
    pub(super) fn new(
        wakeups: Option<Wakeups>,
        is_notified: bool,
        stopped: watch::Receiver<Option<Stopped>>,
    ) -> Self {
        Self {
            demand: watch::Sender::new(Demand::RUNNING),
            wakeups: Mutex::new(wakeups),
            is_notified: AtomicBool::new(is_notified),
            stats: Mutex::default(),
            last_error: Mutex::default(),
            stopped,
        }
    }

    /// Moves on to `phase`, and sets the time at which handlers are cancelled, unless an earlier one is set.
    pub(super) fn advance(&self, phase: Phase, timeout: Option<std::time::Duration>) {
        let deadline = timeout.and_then(deadline_in);
        self.demand.send_if_modified(|demand| demand.advance(phase, deadline));
    }

    pub(super) fn demands(&self) -> watch::Receiver<Demand> {
        self.demand.subscribe()
    }

    pub(super) fn set_stats(&self, stats: ConsumerStats) {
        *lock(&self.stats) = stats;
    }

    pub(super) fn stats(&self) -> ConsumerStats {
        *lock(&self.stats)
    }

    pub(super) fn set_notified(&self, is_notified: bool) {
        self.is_notified.store(is_notified, Ordering::Relaxed);
    }

    pub(super) fn is_notified(&self) -> bool {
        self.is_notified.load(Ordering::Relaxed)
    }

    pub(super) fn set_error(&self, error: Error) {
        *lock(&self.last_error) = Some(error.brief());
    }

    pub(super) fn last_error(&self) -> Option<Error> {
        lock(&self.last_error).clone()
    }

    pub(super) fn status(&self) -> Option<WakeupsStatus> {
        lock(&self.wakeups).as_ref().map(Wakeups::status)
    }

    pub(super) fn take_wakeups(&self) -> Option<Wakeups> {
        lock(&self.wakeups).take()
    }

    pub(super) fn stopped(&self) -> watch::Receiver<Option<Stopped>> {
        self.stopped.clone()
    }
}

impl fmt::Debug for ConsumerShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerShared").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

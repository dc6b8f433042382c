//! [`DispatcherStats`]: the statistics of a dispatcher, and the [`Counters`] that they are read from.

use std::sync::atomic::{AtomicU64, Ordering};

/// The statistics of a dispatcher at one moment.
///
/// ```no_run
/// # fn example(running: &pgbell::RunningDispatcher) {
/// let stats = running.stats();
/// println!("{} handled, {} failures, {} waiting", stats.handled, stats.failures, stats.waiting);
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DispatcherStats {
    /// Lanes: channels and topics with handlers.
    pub lanes: u64,
    /// Notifications that were put into a lane, or taken out of the queue of its subscription. One that belongs to a channel and to a topic
    /// counts for each.
    pub received: u64,
    /// Notifications that all handlers of their lane have handled, or have failed to handle.
    pub handled: u64,
    /// Notifications that wait in a lane, or are being handled: `received` without `handled`. Over a [`Hub`](crate::Hub) those in the queues of
    /// the subscriptions are not counted.
    pub waiting: u64,
    /// Handler runs in progress.
    pub running: u64,
    /// Handler runs that have begun, each attempt counted.
    pub runs: u64,
    /// Runs after the first attempt.
    pub retries: u64,
    /// Failures for good: an error in the last attempt, or a panic.
    pub failures: u64,
    /// Panics of handlers, also of those for losses and failures, and of a function that finds topics. The drop of what they have captured, at
    /// the end of their lane, counts too.
    pub panics: u64,
    /// Losses that were received. Over a [`Hub`](crate::Hub) a loss counts once for each lane that it concerns.
    pub losses: u64,
    /// Notifications of channels or topics without a handler. Only over a [`Listener`](crate::Listener).
    pub unclaimed: u64,
}

/// The counters of a dispatcher.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: Counter,
    pub(super) handled: Counter,
    pub(super) running: Counter,
    pub(super) runs: Counter,
    pub(super) retries: Counter,
    pub(super) failures: Counter,
    pub(super) panics: Counter,
    pub(super) losses: Counter,
    pub(super) unclaimed: Counter,
    /// Runs that were cancelled.
    pub(super) cancelled: Counter,
    /// Notifications that were unread in a queue at the end.
    pub(super) unread: Counter,
}

/// A number that several tasks change.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::AcqRel);
    }

    pub(super) fn subtract(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::AcqRel);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Counters {
    pub(super) fn stats(&self, lanes: u64) -> DispatcherStats {
        // In this order, so that `handled` is not more than `received`.
        let handled = self.handled.get();
        let received = self.received.get();
        DispatcherStats {
            lanes,
            received,
            handled,
            waiting: received.saturating_sub(handled),
            running: self.running.get(),
            runs: self.runs.get(),
            retries: self.retries.get(),
            failures: self.failures.get(),
            panics: self.panics.get(),
            losses: self.losses.get(),
            unclaimed: self.unclaimed.get(),
        }
    }

    /// Returns the number of notifications that were received and not handled.
    pub(super) fn unhandled(&self) -> u64 {
        self.stats(0).waiting.saturating_add(self.unread.get())
    }

    /// Counts a run until the returned value is dropped.
    pub(super) fn begin(&self) -> CountedRun<'_> {
        self.runs.add(1);
        self.running.add(1);
        CountedRun(self)
    }
}

/// A run that is counted as one in progress.
pub(super) struct CountedRun<'a>(&'a Counters);

impl Drop for CountedRun<'_> {
    fn drop(&mut self) {
        self.0.running.subtract(1);
    }
}

//! [`QueueCounters`]: what went into a queue, and what the consumer has taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of a queue. Each has one writer. Stores are relaxed, loads are acquiring.
#[derive(Debug, Default)]
pub(crate) struct QueueCounters {
    /// Notifications received, with those that were dropped.
    pub(super) received: AtomicU64,
    /// Notifications put into the queue, and their bytes.
    pub(super) kept: AtomicU64,
    pub(super) kept_bytes: AtomicU64,
    /// Gaps without a lost session.
    pub(super) dropped_by_server: AtomicU64,
    pub(crate) consumer: Arc<ConsumerCounters>,
}

/// The counters that the consumer writes, on cache lines of their own: it writes one of them for every notification.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ConsumerCounters {
    /// Notifications taken from the queue, and their bytes.
    pub(super) taken: AtomicU64,
    pub(super) taken_bytes: AtomicU64,
    /// Notifications delivered.
    pub(super) delivered: AtomicU64,
    /// Notifications that were dropped, and reported to the consumer.
    pub(super) lagged: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueStats {
    pub(crate) received: u64,
    pub(crate) dropped_by_server: u64,
    pub(crate) delivered: u64,
    pub(crate) lagged: u64,
    pub(crate) dropped: u64,
    pub(crate) queued: u64,
    pub(crate) queued_bytes: u64,
}

impl QueueCounters {
    /// Sets the counters of a hub, which has no queue of its own. `delivered` and `dropped` are sums over its subscriptions: they can exceed
    /// `received`.
    pub(crate) fn set_passed_on(&self, received: u64, delivered: u64, dropped: u64) {
        set(&self.kept, received);
        set(&self.consumer.taken, received);
        set(&self.consumer.delivered, delivered);
        set(&self.consumer.lagged, dropped);
        self.received.store(received, Ordering::Release);
    }

    /// Reads all counters.
    pub(crate) fn stats(&self) -> QueueStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let delivered = get(&self.consumer.delivered);
        let lagged = get(&self.consumer.lagged);
        let received = get(&self.received);
        let dropped_by_server = get(&self.dropped_by_server);
        // `taken` is loaded after `kept`, so it can be newer, and the greater one.
        let difference = |kept, taken| get(kept).saturating_sub(get(taken));
        // With `DropOldest` the consumer may have skipped a part of an item, which counts as kept.
        let dropped = received.saturating_sub(get(&self.kept)).max(lagged);
        QueueStats {
            received,
            dropped_by_server,
            delivered,
            lagged,
            dropped,
            queued: difference(&self.kept, &self.consumer.taken),
            queued_bytes: difference(&self.kept_bytes, &self.consumer.taken_bytes),
        }
    }
}

/// Sets a counter.
#[inline]
pub(crate) fn set(counter: &AtomicU64, value: u64) {
    counter.store(value, Ordering::Relaxed);
}

/// Adds to a counter. It has one writer: a load and a store are enough.
#[inline]
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

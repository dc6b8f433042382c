//! [`Stats`]: the statistics of a listener, and the [`Counters`] that they are read from.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::supervisor::SupervisorCounters;

/// The counters of a listener. Each has one writer. Loads and stores are relaxed, except that of a counter of errors.
#[derive(Debug, Default)]
pub(super) struct Counters {
    // Written by the task.
    pub(super) reads: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) kept_bytes: AtomicU64,
    gaps: AtomicU64,
    stalls: AtomicU64,
    sessions: AtomicU64,
    sessions_lost: AtomicU64,
    attempts: AtomicU64,
    pub(super) attempts_failed: AtomicU64,
    proofs: AtomicU64,
    handovers: AtomicU64,
    pub(super) handover_failures: AtomicU64,
    pub(super) proofs_refused: AtomicU64,
    pub(super) dropped_by_server: AtomicU64,
    hooks: AtomicU64,
    hook_failures: AtomicU64,
    pub(super) consumer: ConsumerCounters,
}

/// The counters that the consumer writes, on cache lines of their own: it writes one of them for every notification.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ConsumerCounters {
    pub(super) taken: AtomicU64,
    pub(super) taken_bytes: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) lagged: AtomicU64,
}

impl Counters {
    /// Copies the counters of the supervisor. Release: a user that loads a count also finds the error that was stored
    /// before.
    pub(super) fn set_from_supervisor(&self, from: &SupervisorCounters) {
        let set = |counter: &AtomicU64, value| counter.store(value, Ordering::Release);
        set(&self.gaps, from.gaps);
        set(&self.stalls, from.stalls);
        set(&self.sessions, from.sessions);
        set(&self.sessions_lost, from.sessions_lost);
        set(&self.attempts, from.attempts);
        set(&self.proofs, from.proofs);
        set(&self.handovers, from.handovers);
        set(&self.hooks, from.hooks);
        set(&self.hook_failures, from.hook_failures);
    }

    #[inline]
    pub(super) fn set(counter: &AtomicU64, value: u64) {
        counter.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn add(counter: &AtomicU64, more: u64) {
        // There is one writer: a load and a store are enough.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Reads all counters. `pinned_bytes` are counted elsewhere.
    pub(super) fn stats(&self, pinned_bytes: u64) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        // The consumer may have counted a notification as taken that the task has not counted as kept yet.
        let queued = |kept, taken| get(kept).saturating_sub(get(taken));
        // The fields are read in this order, those of the consumer first: see `RingSink::publish`.
        Stats {
            delivered: get(&self.consumer.delivered),
            lagged: get(&self.consumer.lagged),
            received: get(&self.received),
            gaps: get(&self.gaps),
            queued: queued(&self.kept, &self.consumer.taken),
            queued_bytes: queued(&self.kept_bytes, &self.consumer.taken_bytes),
            pinned_bytes,
            reads: get(&self.reads),
            bytes_read: get(&self.bytes_read),
            stalls: get(&self.stalls),
            sessions: get(&self.sessions),
            sessions_lost: get(&self.sessions_lost),
            attempts: get(&self.attempts),
            attempts_failed: get(&self.attempts_failed),
            proofs: get(&self.proofs),
            proofs_refused: get(&self.proofs_refused),
            handovers: get(&self.handovers),
            handover_failures: get(&self.handover_failures),
            dropped_by_server: get(&self.dropped_by_server),
            hooks: get(&self.hooks),
            hook_failures: get(&self.hook_failures),
        }
    }
}

/// The statistics of a listener at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Notifications received from the server.
    pub received: u64,
    /// Notifications delivered to the consumer. The rest of `received` is queued, or lagged.
    pub delivered: u64,
    /// Notifications that were dropped because the queue was full, and were reported to the consumer.
    pub lagged: u64,
    /// Gaps put into the stream, when the next session listens to every channel, or at the end of the listener. Losses
    /// until then at one position of the stream are one gap. A consumer may receive fewer gaps: two unread gaps become one
    /// if no notification is between them, or if 64 gaps are unread.
    pub gaps: u64,
    /// Notifications in the queue.
    pub queued: u64,
    /// Bytes of the notifications in the queue.
    pub queued_bytes: u64,
    /// Bytes of the receive buffers that are pinned by [shared batches](crate::SharedBatch) and
    /// [retained](crate::NotificationRef::retain) notifications: 256 KiB for each buffer, which counts once. At most
    /// [`pin_limit_bytes`](crate::ListenerBuilder::pin_limit_bytes).
    pub pinned_bytes: u64,
    /// Reads of the socket that returned data.
    pub reads: u64,
    /// Bytes read from the socket.
    pub bytes_read: u64,
    /// Times at which reading stopped because the queue was full.
    pub stalls: u64,
    /// Sessions begun, the current one included.
    pub sessions: u64,
    /// Sessions lost. Sessions that were closed or [handed over](crate::ListenerHandle::rotate) do not count.
    pub sessions_lost: u64,
    /// Attempts to open a session, those for a [handover](crate::ListenerHandle::rotate) included.
    pub attempts: u64,
    /// Attempts to reconnect that failed.
    pub attempts_failed: u64,
    /// Heartbeats sent: see [`heartbeat`](crate::ListenerBuilder::heartbeat).
    pub proofs: u64,
    /// Heartbeats that the server answered with an error: the session is alive, but it is unknown whether it listens to
    /// every channel. [`last_error`](crate::ListenerHandle::last_error) returns the error.
    pub proofs_refused: u64,
    /// Handovers that succeeded: a new session replaced the old one without a gap.
    pub handovers: u64,
    /// Handovers that failed, each of which is tried again. [`last_error`](crate::ListenerHandle::last_error) returns the
    /// reason.
    pub handover_failures: u64,
    /// Gaps without a lost session: the server reported a dropped notification, or a channel that it had refused is active
    /// since a [handover](crate::ListenerHandle::rotate), or the listener was closed during a handover before the old session
    /// had received the notifications that the new one had.
    pub dropped_by_server: u64,
    /// Runs of the [hook](crate::ListenerBuilder::on_live).
    pub hooks: u64,
    /// Runs of the hook that failed.
    pub hook_failures: u64,
}

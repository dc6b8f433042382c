//! What a listener, its handles and its task share: state, counters, the reason of the end.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::ring::Pins;
use crate::supervisor::{LogEvent, State, SupervisorCounters};
use crate::{Error, ErrorKind};

#[derive(Debug)]
pub(super) struct Shared {
    /// Written by the task alone.
    state: watch::Sender<Entered>,
    /// Why the listener ended, if nobody asked for it.
    cause: OnceLock<Error>,
    /// `i64::MIN` while it is not known.
    process_id: AtomicI64,
    /// The last trouble there was. Written by the task alone, seldom.
    last_error: Mutex<Option<(SystemTime, Error)>>,
    pub(super) counters: Counters,
    pub(super) pins: Pins,
}

/// A state, and how often each was entered: who waits for one misses none, however short it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entered {
    pub(super) state: State,
    times: [u64; 5],
}

impl Entered {
    pub(super) fn times(&self, state: State) -> u64 {
        self.times.get(state as usize).copied().unwrap_or(0)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        if let Some(times) = self.times.get_mut(state as usize) {
            *times = times.wrapping_add(1);
        }
    }
}

/// Counters, each with one writer. They signal nothing, so accesses are relaxed, except where a count belongs to an error.
#[derive(Debug, Default)]
pub(super) struct Counters {
    // The task.
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
    attempts_failed: AtomicU64,
    proofs: AtomicU64,
    handovers: AtomicU64,
    handover_failures: AtomicU64,
    proofs_refused: AtomicU64,
    pub(super) dropped_by_server: AtomicU64,
    hooks: AtomicU64,
    hook_failures: AtomicU64,
    pub(super) consumer: ConsumerCounters,
}

/// The consumer's, on cache lines of their own: it writes one of them for every notification.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ConsumerCounters {
    pub(super) taken: AtomicU64,
    pub(super) taken_bytes: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) lagged: AtomicU64,
}

impl Counters {
    /// What the supervisor has counted. A user that sees a count finds the error that was kept before.
    pub(super) fn set_figures(&self, figures: &SupervisorCounters) {
        let set = |counter: &AtomicU64, value| counter.store(value, Ordering::Release);
        set(&self.gaps, figures.gaps);
        set(&self.stalls, figures.stalls);
        set(&self.sessions, figures.sessions);
        set(&self.sessions_lost, figures.sessions_lost);
        set(&self.attempts, figures.attempts);
        set(&self.proofs, figures.proofs);
        set(&self.handovers, figures.handovers);
        set(&self.hooks, figures.hooks);
        set(&self.hook_failures, figures.hook_failures);
    }

    #[inline]
    pub(super) fn set(counter: &AtomicU64, value: u64) {
        counter.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn add(counter: &AtomicU64, more: u64) {
        // One writer: a load and a store are enough.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}

/// Figures of a listener, as of one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Notifications taken from the server's sessions.
    pub received: u64,
    /// Notifications handed out. What is missing to `received` is queued or lagged.
    pub delivered: u64,
    /// Notifications that the full queue dropped and the consumer was told of.
    pub lagged: u64,
    /// Gaps put into the stream. A gap is put there when the next session is live, or at the end of the listener; all losses
    /// until then that lie at one place of the stream are one gap. A consumer may receive fewer: two gaps that it has not
    /// taken yet become one if no notification lies between them, or if 64 of them wait.
    pub gaps: u64,
    /// Notifications in the queue.
    pub queued: u64,
    /// Bytes of the notifications in the queue.
    pub queued_bytes: u64,
    /// Bytes of the receive buffers that [shared batches](crate::SharedBatch) and
    /// [retained](crate::NotificationRef::retain) notifications hold: 256 KiB for each buffer, however
    /// many hold it. Never above [`pin_limit_bytes`](crate::ListenerBuilder::pin_limit_bytes).
    pub pinned_bytes: u64,
    /// Reads of the socket that brought something.
    pub reads: u64,
    /// Bytes read from the socket.
    pub bytes_read: u64,
    /// How often the socket was left unread because the queue was full.
    pub stalls: u64,
    /// Sessions begun, the current one included.
    pub sessions: u64,
    /// Sessions lost. Those that were closed or [handed over](crate::ListenerHandle::rotate) are none.
    pub sessions_lost: u64,
    /// Attempts to open a session, those for a [handover](crate::ListenerHandle::rotate) included.
    pub attempts: u64,
    /// Attempts to come back that failed.
    pub attempts_failed: u64,
    /// Proofs of the subscription asked for: see [`heartbeat`](crate::ListenerBuilder::heartbeat).
    pub proofs: u64,
    /// Proofs that the server refused to give: it is there, and what it listens to is not known.
    /// [`last_error`](crate::ListenerHandle::last_error) says why.
    pub proofs_refused: u64,
    /// Sessions that took the place of another one without a gap.
    pub handovers: u64,
    /// Handovers that failed, each of which is tried again: [`last_error`](crate::ListenerHandle::last_error) says why.
    pub handover_failures: u64,
    /// Gaps at which no session was lost: the server said that it dropped a notification, a channel that it had
    /// refused is heard again since a [handover](crate::ListenerHandle::rotate), or the listener was closed during a handover
    /// and the old session did not bring what was read of the new one.
    pub dropped_by_server: u64,
    /// How often the [hook](crate::ListenerBuilder::on_live) was run.
    pub hooks: u64,
    /// How often it failed.
    pub hook_failures: u64,
}

impl Shared {
    pub(super) fn new(pins: Pins) -> Self {
        Self {
            pins,
            state: watch::Sender::new(Entered { state: State::Connecting, times: [0; 5] }),
            cause: OnceLock::new(),
            process_id: AtomicI64::new(i64::MIN),
            last_error: Mutex::new(None),
            counters: Counters::default(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().state
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.send_modify(|entered| entered.enter(state));
    }

    pub(super) fn watch(&self) -> watch::Receiver<Entered> {
        self.state.subscribe()
    }

    pub(super) fn end(&self, cause: Error) {
        let _ = self.cause.set(cause);
    }

    pub(super) fn cause(&self) -> Option<&Error> {
        self.cause.get()
    }

    /// Keeps the error of what happened, and counts it: a user that sees the count finds the error.
    pub(super) fn tell(&self, incident: &LogEvent) {
        let (error, counter) = match incident {
            // Counted by the supervisor.
            LogEvent::Lost { error } | LogEvent::HookFailed { error, .. } => (error, None),
            LogEvent::AttemptFailed { error } => (error, Some(&self.counters.attempts_failed)),
            LogEvent::HeartbeatRefused { error } => (error, Some(&self.counters.proofs_refused)),
            LogEvent::HandoverFailed { error, .. } => {
                (error, Some(&self.counters.handover_failures))
            }
            _ => return,
        };
        self.note_trouble(error.clone());
        if let Some(counter) = counter {
            // The task is its only writer.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        }
    }

    /// Keeps the last trouble there was.
    pub(super) fn note_trouble(&self, error: Error) {
        let trouble = (SystemTime::now(), error.brief());
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    pub(super) fn last_error(&self) -> Option<(SystemTime, Error)> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a call gets that comes too late.
    pub(super) fn closed(&self) -> Error {
        match self.cause() {
            Some(cause) => {
                Error::caused(ErrorKind::Closed, "the listener has ended", cause.clone())
            }
            None => Error::new(ErrorKind::Closed, "the listener is closed"),
        }
    }

    pub(super) fn process_id(&self) -> Option<i32> {
        i32::try_from(self.process_id.load(Ordering::Relaxed)).ok()
    }

    pub(super) fn set_process_id(&self, process_id: Option<i32>) {
        self.process_id.store(process_id.map_or(i64::MIN, i64::from), Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        // The consumer may have counted already what the task has yet to count.
        let queued = |kept, taken| get(kept).saturating_sub(get(taken));
        let counters = &self.counters;
        // Fields are read in this order, the consumer's first: see `RingSink::publish`.
        Stats {
            delivered: get(&counters.consumer.delivered),
            lagged: get(&counters.consumer.lagged),
            received: get(&counters.received),
            gaps: get(&counters.gaps),
            queued: queued(&counters.kept, &counters.consumer.taken),
            queued_bytes: queued(&counters.kept_bytes, &counters.consumer.taken_bytes),
            pinned_bytes: self.pins.bytes(),
            reads: get(&counters.reads),
            bytes_read: get(&counters.bytes_read),
            stalls: get(&counters.stalls),
            sessions: get(&counters.sessions),
            sessions_lost: get(&counters.sessions_lost),
            attempts: get(&counters.attempts),
            attempts_failed: get(&counters.attempts_failed),
            proofs: get(&counters.proofs),
            proofs_refused: get(&counters.proofs_refused),
            handovers: get(&counters.handovers),
            handover_failures: get(&counters.handover_failures),
            dropped_by_server: get(&counters.dropped_by_server),
            hooks: get(&counters.hooks),
            hook_failures: get(&counters.hook_failures),
        }
    }
}

//! The state that the sessions and the owner of a server share.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::super::{Backend, SessionId};
use super::client_task::Signals;

/// The state that the sessions and the owner of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    backend: Mutex<Backend>,
    signals: Mutex<HashMap<SessionId, Arc<Signals>>>,
    /// Notified when a condition that a test waits for may have become true.
    pub(super) changed: Notify,
    /// The same, for blocked threads.
    pub(super) changed_blocking: Condvar,
}

impl Shared {
    pub(super) fn new(backend: Backend) -> Self {
        Self {
            backend: Mutex::new(backend),
            signals: Mutex::default(),
            changed: Notify::new(),
            changed_blocking: Condvar::new(),
        }
    }

    pub(super) fn backend(&self) -> MutexGuard<'_, Backend> {
        self.backend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn signals(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Signals>>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the tasks of the sessions that have something to write, or were ended.
    pub(super) fn wake(&self, backend: &mut Backend) {
        let signals = self.signals();
        while let Some(id) = backend.poll_wake() {
            if let Some(signals) = signals.get(&id) {
                signals.raise(backend.is_closed(id));
            }
        }
        self.wake_waiting();
    }

    /// Wakes the callers that wait for a condition, to evaluate it again.
    pub(super) fn wake_waiting(&self) {
        self.changed.notify_waiters();
        self.changed_blocking.notify_all();
    }
}

//! [`ListenerShared`]: the state, the counters and the last error, which a listener or a hub, its handles and its task share.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::command_queue::CommandRoom;
use super::stats::{Counters, Stats};
use crate::error::{Error, ErrorKind, contain};
use crate::net::SessionProcessId;
use crate::proto::ring::Pins;
use crate::proto::supervisor::{LogEvent, Owner, State};
use crate::queue::{End, QueueCounters, StateWatch};

#[derive(Debug)]
pub(crate) struct ListenerShared {
    pub(super) state: StateWatch,
    pub(crate) end: Arc<End>,
    process_id: SessionProcessId,
    /// The last error and its time. Written only by the task, rarely.
    last_error: Mutex<Option<(SystemTime, Error)>>,
    pub(super) counters: Counters,
    pub(super) pins: Pins,
    /// The room of the queue of commands.
    pub(super) room: Arc<CommandRoom>,
}

impl ListenerShared {
    pub(crate) fn new(owner: Owner, pins: Pins) -> Self {
        Self {
            pins,
            state: StateWatch::new(State::Connecting),
            end: Arc::new(End::new(owner)),
            process_id: SessionProcessId::new(None),
            last_error: Mutex::new(None),
            counters: Counters::default(),
            room: Arc::default(),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state.get()
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.set(state);
    }

    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn times(&self, state: State) -> u64 {
        self.state.times(state)
    }

    pub(super) fn end(&self, cause: Error) {
        self.end.set(cause);
    }

    pub(crate) fn cause(&self) -> Option<&Error> {
        self.end.cause()
    }

    /// Stores the error of an event, and then counts it, so that a user that finds the count also finds the error.
    pub(super) fn record(&self, event: &LogEvent) {
        let (error, counter) = match event {
            // The supervisor counts these.
            LogEvent::Lost { error } | LogEvent::HookFailed { error, .. } => (error, None),
            LogEvent::AttemptFailed { error } => (error, Some(&self.counters.attempts_failed)),
            LogEvent::HeartbeatRefused { error } => {
                (error, Some(&self.counters.heartbeats_refused))
            }
            LogEvent::HandoverFailed { error, .. } => {
                (error, Some(&self.counters.handover_failures))
            }
            _ => return,
        };
        self.set_last_error(error.clone());
        if let Some(counter) = counter {
            // The task is its only writer.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        }
    }

    pub(crate) fn set_last_error(&self, error: Error) {
        let error = (SystemTime::now(), error.brief());
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).replace(error);
        // An error can contain one of the user, whose drop may call this listener, or panic.
        let _ = contain(|| drop(last));
    }

    pub(super) fn last_error(&self) -> Option<(SystemTime, Error)> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what the task belongs to, for the texts of errors.
    pub(crate) fn owner(&self) -> Owner {
        self.end.owner()
    }

    /// Returns the error of a call during a drain.
    #[cold]
    pub(crate) fn draining(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the {} is draining", self.owner()))
    }

    /// Returns the error of a call after the end.
    pub(crate) fn closed(&self) -> Error {
        self.end.closed()
    }

    pub(crate) fn process_id(&self) -> Option<i32> {
        self.process_id.get()
    }

    pub(super) fn set_process_id(&self, process_id: Option<i32>) {
        self.process_id.set(process_id);
    }

    /// Returns the counters of the queue.
    pub(crate) fn queue(&self) -> Arc<QueueCounters> {
        self.counters.queue.clone()
    }

    /// Sets the counters of a hub: notifications received; notifications for subscriptions, and those of them that a full queue has
    /// dropped, each counted once for every subscription.
    pub(crate) fn set_passed_on(&self, received: u64, delivered: u64, dropped: u64) {
        self.counters.queue.set_passed_on(received, delivered, dropped);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.stats(self.pins.bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Weak;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// An error of the user, whose drop looks at the listener, and then panics.
    #[derive(Debug)]
    struct LooksInDrop(Weak<ListenerShared>, Arc<AtomicBool>);

    impl fmt::Display for LooksInDrop {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("of the user")
        }
    }

    impl std::error::Error for LooksInDrop {}

    impl Drop for LooksInDrop {
        fn drop(&mut self) {
            let is_unlocked = self.0.upgrade().is_some_and(|it| it.last_error.try_lock().is_ok());
            self.1.store(is_unlocked, Ordering::Relaxed);
            panic!("in the drop of an error");
        }
    }

    /// An earlier version dropped it while the last error was locked: the task waited for itself.
    #[test]
    fn the_drop_of_an_error_that_is_replaced_can_use_the_listener_and_may_panic() {
        let shared = Arc::new(ListenerShared::new(Owner::Listener, Pins::new(0)));
        let was_unlocked = Arc::new(AtomicBool::new(false));
        let error = LooksInDrop(Arc::downgrade(&shared), was_unlocked.clone());
        shared.set_last_error(Error::other(error));
        shared.set_last_error(Error::other("another one"));
        assert!(was_unlocked.load(Ordering::Relaxed));
    }
}

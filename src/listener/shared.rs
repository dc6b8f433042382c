//! [`ListenerShared`]: the state, the counters and the last error, which a listener, its handles and its task share.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::command_queue::CommandRoom;
use super::stats::{Counters, Stats};
use crate::error::Error;
use crate::net::SessionProcessId;
use crate::proto::ring::Pins;
use crate::proto::supervisor::{LogEvent, State};
#[cfg(all(test, feature = "testing"))]
use crate::queue::CountedState;
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
    /// Creates it for a `listener` or a `hub`.
    pub(crate) fn new(what: &'static str, pins: Pins) -> Self {
        Self {
            pins,
            state: StateWatch::new(State::Connecting),
            end: Arc::new(End::new(what)),
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
    pub(crate) fn watch(&self) -> tokio::sync::watch::Receiver<CountedState> {
        self.state.subscribe()
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
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(super) fn last_error(&self) -> Option<(SystemTime, Error)> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the error of a call after the end of the listener.
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

    /// Sets the counters of a hub, which has no queue of its own: notifications received, and put into the queues of subscriptions
    /// or dropped.
    pub(crate) fn set_passed_on(&self, received: u64, delivered: u64, dropped: u64) {
        self.counters.queue.set_passed_on(received, delivered, dropped);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.stats(self.pins.bytes())
    }
}

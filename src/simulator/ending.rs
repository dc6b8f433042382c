//! The end of connections, of the listener and of the run.

use std::sync::Arc;

use super::clock::{MILLI, Micros, SECOND, SimulatorEvent};
use super::connection::{SimulatedConnection, Stage};
use super::recording_sink::SharedSink;
use super::{Simulation, log_line};
use crate::error::Error;
use crate::proto::ring::{self, Pins};
use crate::proto::supervisor::{State, Supervisor};
use crate::queue::{QueueCounters, RingSink};

impl Simulation {
    /// Returns the server of a new connection.
    pub(super) fn choose_server(&mut self) -> usize {
        self.primary
    }

    /// Returns whether there is a live session that is not about to end.
    pub(super) fn has_live_session(&self) -> bool {
        self.delivering.is_some_and(|index| {
            let connection = &self.connections[index];
            matches!(connection.stage, Stage::Open) && !connection.is_lost
        })
    }

    /// Records that a connection is lost, when the supervisor gets its end or gives it up.
    pub(super) fn lost(&mut self, index: usize) {
        let now = self.clock.now();
        let connection = &mut self.connections[index];
        if !matches!(connection.stage, Stage::Open) || connection.is_lost {
            return;
        }
        connection.is_lost = true;
        if connection.was_delivered && !connection.is_closing {
            self.lost_sessions += 1;
            self.hook.has_succeeded = false;
            if let Some(live_at) = connection.live_at {
                let is_certain = !connection.is_new_session;
                self.backoff.was_live(now - live_at, is_certain, self.plan.delays);
            }
        }
    }

    /// Checks that the supervisor has a reason to abort a connection.
    pub(super) fn aborted(&mut self, index: usize, supervisor: &Supervisor<SharedSink>) {
        let connection = &self.connections[index];
        let is_open = matches!(connection.stage, Stage::Open);
        let has_reason = connection.is_faulty
            || connection.is_lost
            || connection.is_closing
            || connection.is_new_session && !connection.was_delivered
            || self.is_closing
            // A wanted channel of the first session is refused.
            || self.state == State::Connecting && supervisor.state() == State::Closed
            || self.is_dropped;
        if is_open && !has_reason {
            return self.fail(format!("connection {index} was aborted, and has no fault"));
        }
        self.lost(index);
    }

    pub(super) fn finished(&mut self, result: Result<(), Error>) {
        log_line!(self, "done: {result:?}");
        if self.done.is_some() {
            return self.fail("the supervisor ends twice");
        }
        if result.is_ok() && !self.is_closing && self.consumer.listener.is_some() {
            return self.fail("the listener has ended without an error, and was not closed");
        }
        if result.is_ok() && self.hook.was_last {
            return self
                .fail("the hook has failed too often, and the listener ends without its error");
        }
        if result.is_ok() && self.is_drain_interrupted {
            return self.fail("a drain was interrupted, and the listener ends without an error");
        }
        if let Err(error) = &result
            && !self.may_end_with(error)
        {
            return self.fail(format!(
                "the listener has ended, although the next attempt may succeed: {error}"
            ));
        }
        self.done = Some(result);
        self.done_at = self.clock.now();
    }

    /// Returns whether the listener may end with this error.
    fn may_end_with(&self, error: &Error) -> bool {
        let has_begun = self.entered[State::Connected as usize] > 0;
        let is_refusal = error.sqlstate() == Some("28P01") && !self.plan.retry_refusals;
        let is_requested = self.is_closing || self.is_dropped;
        !has_begun || self.plan.delays.is_none() || is_refusal || is_requested
    }

    /// The task has ended.
    pub(super) fn task_ended(&mut self) {
        log_line!(self, "the task has ended");
        self.has_task_ended = true;
        self.close_dropped();
        let shown = (self.shared.state(), self.shared.times(State::Closed));
        if shown != (State::Closed, 1) {
            return self.fail(format!("the task has ended, and a handle shows {shown:?}"));
        }
        let cause = self.shared.cause();
        let is_known = match &self.done {
            Some(Ok(())) => cause.is_none(),
            Some(Err(_)) => cause.is_some(),
            None => false,
        };
        if !is_known {
            let done = &self.done;
            return self
                .fail(format!("the task has ended with {done:?}, and its cause is {cause:?}"));
        }
        self.end_calls();
        // The sink is dropped with the task too.
        let hub = self.sink.get_mut().hub.take();
        drop(hub);
        // The producer is dropped with the task, so that the stream ends.
        let (pins, counters) = (Pins::new(0), Arc::new(QueueCounters::default()));
        let (producer, _) = ring::channel(1);
        self.sink.get_mut().ring =
            RingSink::new(producer, 1, self.plan.bytes, self.plan.overflow, pins, counters);
        let mut sink = self.sink.get_mut();
        sink.shown = (sink.taken.len(), sink.gaps.len());
        drop(sink);
    }

    /// Commits the last notifications if the listener has recovered, or its time to recover is over.
    pub(super) fn check_recovery(&mut self) {
        let now = self.clock.now();
        let is_well = self.state == State::Connected
            && self.calls.are_answered()
            && !self.sink.get().is_held
            && self.hub_is_quiet()
            && self
                .current()
                .is_some_and(|index| self.connections[index].to_client.last <= now)
            // A handover to a dead session may be in progress.
            && self.connections.iter().all(|connection| {
                !matches!(connection.stage, Stage::Open)
                    || connection.is_closing
                    || !connection.is_dead() && connection.server == self.primary
            });
        if is_well || now >= self.recovery_deadline() || self.done.is_some() || self.is_closing {
            self.commit_everywhere();
            return self.clock.after(2 * SECOND, SimulatorEvent::FinalCheck, &mut self.random);
        }
        self.clock.after(SECOND / 2, SimulatorEvent::CheckRecovery, &mut self.random);
    }

    /// Returns the latest time at which the listener must have recovered. A dead session may be replaced by another dead one.
    fn recovery_deadline(&self) -> Micros {
        let dead = self.connections.iter().filter(|connection| !connection.is_closed());
        let noticed = dead.filter_map(SimulatedConnection::overdue_at).max();
        noticed.map_or(self.recovery_at, |at| self.recovery_at.max(at + self.plan.back()))
    }

    /// Ends the run after the time limit of a close.
    pub(super) fn end(&mut self) {
        let now = self.clock.now();
        if self.done.is_none() && now < self.asleep_until + self.plan.close_timeout {
            let at = self.asleep_until + 2 * self.plan.close_timeout;
            return self.clock.at(at, SimulatorEvent::End, &mut self.random);
        }
        if self.done.is_none() {
            let since = self.close_at.unwrap_or_default();
            let passed = (self.clock.now() - since) / MILLI;
            return self.fail(format!("close has not ended after {passed} ms"));
        }
        // A cancelled hook may run for one more second.
        let latest = self.done_at.max(self.asleep_until) + SECOND + 100 * MILLI;
        if !self.has_task_ended && now < latest {
            return self.clock.at(latest, SimulatorEvent::End, &mut self.random);
        }
        if !self.has_task_ended {
            return self.fail("all is done, and the task has not ended");
        }
        if self.state != State::Closed {
            let state = self.state;
            return self.fail(format!("it is over, and {state:?}"));
        }
        if let Some(id) = self.calls.first() {
            return self.fail(format!("command {id} was never answered"));
        }
        // Queued notifications are still delivered before the end.
        self.is_calm = true;
        for _ in 0..1_000 {
            if self.consumer.has_ended || self.consumer.listener.is_none() || self.failure.is_some()
            {
                break;
            }
            self.consumer.is_asleep = false;
            self.schedule_consumer();
            self.consume_now();
        }
        if !self.consumer.has_ended && self.consumer.listener.is_some() {
            self.fail("the consumer did not receive the end");
        }
        if self.failure.is_none() {
            self.end_hub();
        }
        if self.failure.is_none() {
            self.check_coverage(true);
            self.check_left();
        }
        self.is_over = true;
    }
}

//! Begin and end of connections, of the listener and of the run.

use std::sync::Arc;

use super::clock::{Event, MILLI, Micros, SECOND};
use super::connection::{Connection, Stage};
use super::{World, say};
use crate::Error;
use crate::listener::shared::Shared;
use crate::listener::sink::RingSink;
use crate::ring::{self, Pins};
use crate::supervisor::{State, Supervisor};

impl World {
    /// Where a new connection goes.
    pub(super) fn choose_server(&mut self) -> usize {
        self.primary
    }

    /// Whether a session is up, and not about to end.
    pub(super) fn is_beside_another(&self) -> bool {
        self.delivering.is_some_and(|index| {
            let connection = &self.connections[index];
            matches!(connection.stage, Stage::Open) && !connection.is_lost
        })
    }

    /// The supervisor is about to learn that a connection is over, or says so.
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
                let is_certain = !connection.is_successor;
                self.backoff.was_live(now - live_at, is_certain, self.plan.delays);
            }
        }
    }

    /// The supervisor ends a connection at once.
    pub(super) fn given_up(&mut self, index: usize, supervisor: &Supervisor) {
        let connection = &self.connections[index];
        let is_open = matches!(connection.stage, Stage::Open);
        let has_reason = connection.is_faulty
            || connection.is_lost
            || connection.is_closing
            || connection.is_successor && !connection.was_delivered
            || self.is_closing
            // A channel that was asked for before anything was there is refused.
            || self.state == State::Connecting && supervisor.state() == State::Closed
            || self.is_dropped;
        if is_open && !has_reason {
            return self
                .fail(format!("connection {index} was given up, and nothing is wrong with it"));
        }
        self.lost(index);
    }

    pub(super) fn finished(&mut self, result: Result<(), Error>) {
        say!(self, "done: {result:?}");
        if self.done.is_some() {
            return self.fail("the supervisor was done already");
        }
        if result.is_ok() && !self.is_closing && self.consumer.listener.is_some() {
            return self.fail("the listener has ended, and nobody asked for it");
        }
        if result.is_ok() && self.hook.was_last {
            return self.fail(
                "the hook has failed for the last time, and that is not the cause of the end",
            );
        }
        if result.is_ok() && self.is_drain_cut {
            return self.fail("a drain was not done, and the end has no cause");
        }
        if let Err(error) = &result
            && !self.may_end_with(error)
        {
            return self.fail(format!(
                "the listener has ended, and the next attempt may go well: {error}"
            ));
        }
        self.done = Some(result);
        self.done_at = self.clock.now();
    }

    /// Whether the listener may give up because of this, though it was not told to end.
    fn may_end_with(&self, error: &Error) -> bool {
        let has_begun = self.entered[State::Connected as usize] > 0;
        let is_refusal = error.sqlstate() == Some("28P01") && !self.plan.retry_refusals;
        let is_told = self.is_closing || self.is_dropped;
        !has_begun || self.plan.delays.is_none() || is_refusal || is_told
    }

    /// The task has ended.
    pub(super) fn gone(&mut self) {
        say!(self, "the task has ended");
        self.is_gone = true;
        self.settle();
        let watch = self.shared.watch();
        let told = (self.shared.state(), watch.borrow().times(State::Closed));
        if told != (State::Closed, 1) {
            return self.fail(format!("the task has ended, and told is {told:?}"));
        }
        let cause = self.shared.cause();
        let is_known = match &self.done {
            Some(Ok(())) => cause.is_none(),
            Some(Err(_)) => cause.is_some(),
            None => false,
        };
        if !is_known {
            let done = &self.done;
            return self.fail(format!("the task has ended with {done:?}, and told is {cause:?}"));
        }
        // What it did not look at any more is answered by its end.
        while let Some((id, asked)) = self.commands.pop_first() {
            if id < self.accepted {
                return self.fail(format!("command {id} was never answered"));
            }
            self.answers.remove(&id);
            self.replied_at_the_end(id, &asked);
        }
        // The producing end goes with the task, and so the stream ends.
        let shared = Arc::new(Shared::new(Pins::new(0)));
        let (producer, _) = ring::channel(1);
        self.sink.ring = RingSink::new(producer, 1, self.plan.bytes, self.plan.overflow, shared);
        self.sink.shown = (self.sink.taken.len(), self.sink.gaps.len());
    }

    /// When the listener is well again, or should be, the last notifications are sent.
    pub(super) fn look(&mut self) {
        let now = self.clock.now();
        let is_well = self.state == State::Connected
            && self.commands.is_empty()
            && !self.sink.is_held
            && self
                .current()
                .is_some_and(|index| self.connections[index].to_client.last <= now)
            // A dead session may be about to take the place of one that lives.
            && self.connections.iter().all(|connection| {
                !matches!(connection.stage, Stage::Open)
                    || connection.is_closing
                    || !connection.is_dead() && connection.server == self.primary
            });
        if is_well || now >= self.judgement() || self.done.is_some() || self.is_closing {
            self.commit_everywhere();
            return self.clock.after(2 * SECOND, Event::Judge, &mut self.random);
        }
        self.clock.after(SECOND / 2, Event::Look, &mut self.random);
    }

    /// When the listener must be well again, at the latest. One dead session may take the place of another.
    fn judgement(&self) -> Micros {
        let dead = self.connections.iter().filter(|connection| !connection.is_closed());
        let noticed = dead.filter_map(Connection::overdue_at).max();
        noticed.map_or(self.judgement, |at| self.judgement.max(at + self.plan.back()))
    }

    /// The bound of a close has passed.
    pub(super) fn end(&mut self) {
        let now = self.clock.now();
        if self.done.is_none() && now < self.asleep_until + self.plan.close_timeout {
            let at = self.asleep_until + 2 * self.plan.close_timeout;
            return self.clock.at(at, Event::End, &mut self.random);
        }
        if self.done.is_none() {
            let since = self.close_at.unwrap_or_default();
            let passed = (self.clock.now() - since) / MILLI;
            return self.fail(format!("close has not ended after {passed} ms"));
        }
        // A hook that was cancelled may run on for a second.
        let latest = self.done_at.max(self.asleep_until) + SECOND + 100 * MILLI;
        if !self.is_gone && now < latest {
            return self.clock.at(latest, Event::End, &mut self.random);
        }
        if !self.is_gone {
            return self.fail("all is done, and the task has not ended");
        }
        if self.state != State::Closed {
            let state = self.state;
            return self.fail(format!("it is over, and {state:?}"));
        }
        if let Some((id, _)) = self.commands.first_key_value() {
            return self.fail(format!("command {id} was never answered"));
        }
        // What is queued is still delivered, then the end is told.
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
            self.fail("the consumer was not told of the end");
        }
        if self.failure.is_none() {
            self.check_coverage(true);
            self.check_left();
        }
        self.is_over = true;
    }
}

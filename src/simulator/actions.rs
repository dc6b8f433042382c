//! Records the actions of the supervisor, and checks that the task performs them and never sleeps without a waker.

use std::time::Duration;

use super::recording_sink::SharedSink;
use super::{Simulation, log_line};
use crate::proto::supervisor::{Action, Close, State, Supervisor};

impl Simulation {
    /// Records an action before the task performs it.
    pub(super) fn record_action(&mut self, action: &Action, supervisor: &Supervisor<SharedSink>) {
        match action {
            Action::Open { .. } => {}
            Action::Read { link, on } => {
                let Some(&index) = self.links.get(link) else { return };
                log_line!(self, "connection {index}: read {on}");
                let now = self.clock.now();
                let connection = &mut self.connections[index];
                connection.is_reading = *on;
                let waits = !*on && !connection.was_delivered;
                if !on {
                    connection.unread_since = Some(now);
                } else if let Some(since) = connection.unread_since.take()
                    && self.delivering == Some(index)
                {
                    let stalled =
                        self.sink.get().stalled.get() + Duration::from_micros(now - since);
                    self.sink.get().stalled.set(stalled);
                }
                if waits {
                    self.new_session_waits();
                }
            }
            Action::Close { link, how: Close::Graceful } => {
                let Some(&index) = self.links.get(link) else { return };
                log_line!(self, "connection {index}: close");
                let connection = &mut self.connections[index];
                (connection.is_closing, connection.is_reading) = (true, true);
            }
            Action::Close { link, how: Close::Abort } => {
                let Some(&index) = self.links.get(link) else { return };
                log_line!(self, "connection {index}: abort");
                let connection = &mut self.connections[index];
                connection.is_undelivered = supervisor.is_ending()
                    && connection.is_new_session
                    && !connection.was_delivered;
                self.aborted(index, supervisor);
            }
            Action::Deliver { link } => {
                let Some(&index) = self.links.get(link) else { return };
                log_line!(self, "connection {index}: is delivered");
                self.delivering = Some(index);
                self.connections[index].was_delivered = true;
            }
            Action::Release { .. } => {}
            Action::RefuseCommands(_) => self.commands_are_refused(),
            Action::RunHook(live) => self.hook_begins(live, supervisor),
            Action::CancelHook => self.hook_is_cancelled(supervisor.state()),
            Action::Log(event) => self.record_log_event(event),
            Action::Reply { id, result } => self.is_answered(*id, result.clone(), supervisor),
            Action::State(state) => self.entered(*state, supervisor),
            Action::Done(result) => self.finished(result.clone()),
        }
    }

    /// Checks after a poll of the task that every answer was sent, and that a handle shows the state of the supervisor.
    pub(super) fn check_published(&mut self, supervisor: &Supervisor<SharedSink>) {
        self.check_answers();
        for state in [State::CatchingUp, State::Connected, State::Reconnecting] {
            let (entered, shown) = (self.entered[state as usize], self.shared.times(state));
            if entered != shown {
                self.fail(format!(
                    "{state:?} was entered {entered} times, and a handle shows {shown}"
                ));
            }
        }
        if self.entered[State::Connected as usize] > 0
            && let Some(mut connected) = self.connected.take()
            && connected.try_recv().is_err()
        {
            self.fail("it is connected for the first time, and connect() was not woken");
        }
        let (known, shown) = (supervisor.process_id(), self.shared.process_id());
        if known != shown {
            self.fail(format!("the process id is {known:?}, and a handle shows {shown:?}"));
        }
    }

    /// Checks that a sleeping task has stored a waker for everything that it waits for.
    pub(super) fn check_sleep(&mut self, supervisor: &mut Supervisor<SharedSink>, requests: usize) {
        if self.is_scheduled || self.done.is_some() || self.failure.is_some() {
            return;
        }
        let mut wrong = (requests > 0).then(|| format!("{requests} requests wait"));
        for (&link, &index) in &self.links {
            let connection = &self.connections[index];
            if connection.is_readable()
                && connection.reader.is_none()
                && connection.waits_until.is_none()
            {
                wrong = Some(format!("connection {index} has something to read"));
            }
            if supervisor.transmit(link).is_some_and(|out| !out.is_empty())
                && (!connection.is_blocked || connection.writer.is_none())
            {
                wrong = Some(format!("connection {index} has something to write"));
            }
        }
        if let Some(why) = self.wrong_delay() {
            wrong = Some(why);
        }
        let due = supervisor.poll_timeout().map(|due| self.clock.micros(due));
        let set = self.alarms.first().and_then(|set| set.at);
        if due != set {
            wrong = Some(format!("a deadline is {due:?}, and the timer is set to {set:?}"));
        }
        if self.hook.has_unseen_end() {
            wrong = Some("a hook has ended".to_owned());
        }
        if self.stalled().is_some() && self.sink.get().ring.outlet.producer.unread() == 0 {
            wrong = Some("the queue is empty, the socket is left unread".to_owned());
        }
        if let Some(wrong) = wrong {
            self.fail(format!("{wrong}, and the task sleeps and was not woken"));
        }
    }

    /// Returns the connection that is not read because the queue is full.
    pub(super) fn stalled(&self) -> Option<usize> {
        self.current().filter(|&index| !self.connections[index].is_reading)
    }
}

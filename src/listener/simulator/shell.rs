//! Stands where the task stands: everything that is said to the supervisor, and all that it says.

use std::task::{Context, Waker};
use std::time::Instant;

use super::clock::{Clock, Event, MILLI, SECOND};
use super::connection::{Connection, Stage};
use super::random::Random;
use super::{World, say};
use crate::supervisor::{
    Action, Close, Command, CommandId, LinkEvent, LinkId, Live, Policy, Supervisor,
};
use crate::{Error, ErrorKind};

/// More calls at one moment are no progress.
const CALLS_MAX: u32 = 3_000;

pub(super) fn supervisor(clock: &Clock, random: &mut Random, policy: Policy) -> Supervisor {
    Supervisor::new(clock.instant(), clock.wall(), random.number(), policy)
}

impl World {
    // ---- to the supervisor ----

    /// What time it is, for the supervisor too.
    fn look_at_the_clock(&mut self) -> Instant {
        let now = self.clock.instant();
        self.supervisor.set_time(now, self.clock.wall());
        now
    }

    pub(super) fn command(&mut self, id: u64, command: Command) {
        say!(self, "command {id}: {command:?}");
        let now = self.look_at_the_clock();
        self.supervisor.handle_command(now, CommandId(id), command, &mut self.sink);
        self.act();
    }

    pub(super) fn link_event(&mut self, index: usize, event: LinkEvent) {
        say!(self, "connection {index}: {event:?}");
        let link = self.connections[index].link;
        let now = self.look_at_the_clock();
        self.supervisor.handle_link(now, link, event, &mut self.sink);
        self.act();
    }

    pub(super) fn handle_bytes(&mut self, index: usize) {
        let (now, wall) = (self.look_at_the_clock(), self.clock.wall());
        let connection = &mut self.connections[index];
        if !matches!(connection.stage, Stage::Open) {
            return;
        }
        self.sink.connection = index;
        let is_delivered = self.delivering == Some(index);
        let input = if is_delivered { &mut self.buffer } else { &mut connection.input };
        self.supervisor.handle_bytes(now, wall, connection.link, input, &mut self.sink);
    }

    pub(super) fn timer(&mut self, number: u64) {
        if number != self.timer {
            return;
        }
        self.timer_at = None;
        // After reading: an answer that is there was in time, however late we come for it.
        for index in 0..self.connections.len() {
            if self.connections[index].is_readable() {
                self.read(index);
            }
        }
        let now = self.look_at_the_clock();
        self.supervisor.handle_timeout(now, &mut self.sink);
        self.act();
        if self.done.is_none() && self.supervisor.poll_timeout().is_some_and(|due| due <= now) {
            self.late_calls += 1;
            if self.late_calls > 3 {
                self.fail("the supervisor has looked at its deadlines again and again, and one is still due");
            }
        } else {
            self.late_calls = 0;
        }
    }

    /// Nothing is due, nothing has room, no hook runs, nothing was read.
    pub(super) fn call_too_early(&mut self) {
        let now = self.look_at_the_clock();
        if self.supervisor.poll_timeout().is_none_or(|due| due > now) {
            self.supervisor.handle_timeout(now, &mut self.sink);
        }
        if self.stalled().is_none() {
            self.supervisor.handle_room(now);
        }
        if self.hook.running.is_none() {
            self.supervisor.handle_hook(now, Ok(()), &mut self.sink);
        }
        if let Some(index) = self.delivering {
            self.handle_bytes(index);
        }
        self.act();
    }

    pub(super) fn hook_returns(&mut self, number: u64) {
        if self.hook.running != Some(number) {
            return;
        }
        self.hook.running = None;
        let result = if self.random.chance(if self.is_calm { 0 } else { 30 }) {
            Err(Error::new(ErrorKind::Connect, "the hook fails (simulated)"))
        } else {
            Ok(())
        };
        say!(self, "hook: {result:?}");
        self.hook.has_succeeded |= result.is_ok();
        let now = self.look_at_the_clock();
        self.supervisor.handle_hook(now, result, &mut self.sink);
        self.act();
    }

    /// The consumer has made room, or so the waker says.
    pub(super) fn room(&mut self) {
        if std::mem::replace(&mut self.is_in_room, true) {
            return;
        }
        let waker = Waker::from(self.reader.clone());
        let mut context = Context::from_waker(&waker);
        while let Some(index) = self.stalled()
            && self.failure.is_none()
        {
            if self.sink.ring.poll_room(&mut context, &mut self.buffer).is_pending() {
                break;
            }
            say!(self, "connection {index}: there is room");
            let now = self.look_at_the_clock();
            self.supervisor.handle_room(now);
            self.act();
        }
        self.is_in_room = false;
    }

    /// The connection that is left unread because the queue is full.
    pub(super) fn stalled(&self) -> Option<usize> {
        let index = self.delivering?;
        let connection = &self.connections[index];
        (matches!(connection.stage, Stage::Open) && !connection.is_reading).then_some(index)
    }

    // ---- from the supervisor ----

    /// Carries out what the supervisor wants, as `Task::act` does.
    pub(super) fn act(&mut self) {
        self.count_call();
        while let Some(action) = self.supervisor.poll_action() {
            self.count_call();
            match action {
                Action::Open { link } => self.open(link),
                Action::Read { link, on } => {
                    let Some(&index) = self.links.get(&link) else { continue };
                    say!(self, "connection {index}: read {on}");
                    self.connections[index].is_reading = on;
                    if on {
                        self.handle_bytes(index);
                        self.wake_reader(index);
                    }
                }
                Action::Close { link, how: Close::Graceful } => {
                    let Some(&index) = self.links.get(&link) else { continue };
                    say!(self, "connection {index}: close");
                    let connection = &mut self.connections[index];
                    (connection.is_closing, connection.is_reading) = (true, true);
                    self.wake_reader(index);
                }
                Action::Close { link, how: Close::Abort } => {
                    let Some(&index) = self.links.get(&link) else { continue };
                    say!(self, "connection {index}: abort");
                    self.given_up(index);
                    self.drop_connection(index);
                }
                Action::Deliver { link } => {
                    let Some(&index) = self.links.get(&link) else { continue };
                    self.deliver(index);
                }
                Action::RunHook(live) => self.run_hook(&live),
                Action::CancelHook => self.hook.running = None,
                Action::Tell(incident) => self.noted(&incident),
                Action::Reply { id, result } => self.replied(id.0, result),
                Action::State(state) => self.entered(state),
                Action::Done(result) => self.finished(result),
            }
        }
        self.write_all();
        self.schedule_timer();
        self.check_taken();
        self.room();
    }

    fn count_call(&mut self) {
        let now = self.clock.now();
        if self.calls.0 != now {
            self.calls = (now, 0);
        }
        self.calls.1 += 1;
        if self.calls.1 > CALLS_MAX {
            self.fail("the supervisor is called without end and time does not pass: it spins");
        }
    }

    fn open(&mut self, link: LinkId) {
        let server = self.choose_server();
        let index = self.connections.len();
        say!(self, "connection {index}: open {link:?} to server {server}");
        let mut connection = Connection::new(link, server, self.clock.now());
        connection.is_successor = self.is_beside_another();
        self.attempted(connection.is_successor);
        self.connections.push(connection);
        self.links.insert(link, index);
        if !self.is_calm && self.random.chance(5) {
            // Nobody answers: the supervisor's deadline must end it.
            self.is_hindered = true;
            return;
        }
        let delay = 2 * self.delay();
        self.clock.after(delay, Event::Connected(index), &mut self.random);
    }

    /// What was read of it moves to where the queue takes it from.
    fn deliver(&mut self, index: usize) {
        say!(self, "connection {index}: is delivered");
        self.buffer.clear();
        self.delivering = Some(index);
        let connection = &mut self.connections[index];
        connection.was_delivered = true;
        let rest = connection.input.split();
        self.sink.ring.make_room(&mut self.buffer, rest.len());
        self.buffer.extend_from_slice(&rest);
    }

    fn run_hook(&mut self, live: &Live) {
        say!(self, "hook: {live:?}");
        self.hook_begins(live);
        self.hook.number += 1;
        self.hook.running = Some(self.hook.number);
        let time = self.random.range(0, SECOND);
        self.clock.after(time, Event::Hook(self.hook.number), &mut self.random);
    }

    fn schedule_timer(&mut self) {
        let due = self.supervisor.poll_timeout().filter(|_| self.done.is_none());
        let due = due.map(|due| self.clock.micros(due));
        if due == self.timer_at {
            return;
        }
        self.timer_at = due;
        self.timer += 1;
        if let Some(due) = due {
            let late = if self.random.chance(2) { self.random.range(0, 50 * MILLI) } else { 0 };
            self.clock.at(due.saturating_add(late), Event::Timer(self.timer), &mut self.random);
        }
    }
}

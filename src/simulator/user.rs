//! The user: sends commands, and checks the answers.

use std::time::Duration;

use super::clock::{MILLI, SimulatorEvent};
use super::recording_sink::SharedSink;
use super::subscriptions::ChannelId;
use super::{Simulation, log_line};
use crate::error::{Error, ErrorKind};
use crate::proto::supervisor::{Command, Listening, Reply, State, Supervisor};

/// Queries of the user.
pub(super) const QUERIES: [&str; 4] =
    ["SELECT 1; SELECT 'two'", "SELECT nothing", "BEGIN", "SELECT pg_backend_pid()"];

/// What the user has asked for.
#[derive(Debug)]
pub(super) enum Request {
    Listen(Vec<ChannelId>),
    Unlisten(Vec<ChannelId>),
    Query,
    Rotate,
    Drain,
    /// The list of the channels, which is not a command for the supervisor.
    Channels,
}

impl Simulation {
    pub(super) fn user(&mut self) {
        if self.is_closing || self.done.is_some() || self.has_all {
            return;
        }
        self.schedule_user();
        // Sometimes more commands than the task handles in one poll.
        let count = if self.random.chance(1) { 40 } else { 1 };
        for _ in 0..count + self.crowd() {
            self.act_as_user();
        }
    }

    /// Sends a random command.
    pub(super) fn act_as_user(&mut self) {
        if !self.is_closing && self.done.is_none() && !self.has_all {
            self.call_something();
        }
    }

    /// Sends a random command, also while the listener ends.
    fn call_something(&mut self) {
        if self.hub.is_some() {
            return self.call_something_of_hub();
        }
        if self.asks_for_channels() {
            self.ask_for_channels();
        }
        // A LISTEN would repair a session that has lost its channels, before a heartbeat can detect it.
        if self.delivering.is_some_and(|index| self.connections[index].has_lost_channels) {
            return self.query();
        }
        let some = self.some_channels();
        match self.random.below(100) {
            0..45 => self.listen(&some),
            45..75 => self.unlisten(&some),
            75..80 => self.unlisten_all(),
            80..97 => self.query(),
            _ => self.rotate(),
        }
    }

    pub(super) fn schedule_user(&mut self) {
        if self.plan.commands > 0 && !self.is_calm {
            let delay = self.random.range(1, 2 * self.plan.commands);
            self.clock.after(delay, SimulatorEvent::User, &mut self.random);
        }
    }

    fn some_channels(&mut self) -> Vec<ChannelId> {
        let count = self.channels.0.len();
        let most = if self.random.chance(10) { count } else { count.min(3) };
        let some = self.random.range(1, most as u64);
        let mut channels: Vec<ChannelId> = (0..some).map(|_| self.random.index(count)).collect();
        channels.sort_unstable();
        channels.dedup();
        channels
    }

    pub(super) fn listen(&mut self, channels: &[ChannelId]) {
        let names = self.channels.names(channels);
        self.command(Request::Listen(channels.to_vec()), Command::Listen(names));
    }

    fn unlisten(&mut self, channels: &[ChannelId]) {
        let names = self.channels.names(channels);
        self.command(Request::Unlisten(channels.to_vec()), Command::Unlisten(names));
    }

    pub(super) fn unlisten_all(&mut self) {
        self.command(Request::Unlisten(self.channels.all()), Command::UnlistenAll);
    }

    fn query(&mut self) {
        let sql = self.random.pick(&QUERIES);
        self.ask(sql);
    }

    pub(super) fn ask(&mut self, sql: &str) {
        self.command(Request::Query, Command::SimpleQuery(sql.to_owned()));
    }

    pub(super) fn rotate(&mut self) {
        self.command(Request::Rotate, Command::Rotate);
    }

    pub(super) fn end_by_user(&mut self) {
        if !self.is_closing && self.done.is_none() && !self.has_all {
            self.end_by_choice();
        }
    }

    /// Ends the listener in a random way. The end overtakes the calls before it that wait for room.
    pub(super) fn end_by_choice(&mut self) {
        for _ in 0..self.crowd() {
            self.call_something();
        }
        match self.random.below(3) {
            0 => self.drain(),
            1 if self.hub.is_some() => {
                log_line!(self, "the hub is dropped");
                self.overtake(|simulation| {
                    simulation.calls.queue.close();
                });
                self.expect_end();
            }
            1 if self.consumer.listener.is_some() => {
                log_line!(self, "the consumer is dropped");
                self.overtake(|simulation| simulation.consumer.listener = None);
                self.expect_end();
            }
            _ => self.close(),
        }
        for _ in 0..self.crowd() {
            self.call_something();
        }
    }

    fn drain(&mut self) {
        let within = self.random.range(1, 3_000) * MILLI;
        log_line!(self, "the user drains within {} ms", within / MILLI);
        self.is_closing = true;
        self.close_at = Some(self.clock.now());
        let bound = within + self.plan.close_timeout + 100 * MILLI;
        self.clock.after(bound, SimulatorEvent::End, &mut self.random);
        if self.has_task_ended {
            return;
        }
        self.send_drain(Duration::from_micros(within));
        if self.random.chance(20) {
            let time = self.random.size(100) * MILLI;
            self.clock.after(time, SimulatorEvent::Drop, &mut self.random);
        }
        self.schedule_another_end(within);
    }

    /// Ends the listener again while it drains. The first drain decides, and a close ends it.
    pub(super) fn end_again(&mut self) {
        if self.done.is_some() {
            return;
        }
        self.send_drain(Duration::from_secs(1));
        self.close();
    }

    fn close(&mut self) {
        log_line!(self, "the user closes");
        self.overtake(|simulation| {
            if !simulation.close_hub() {
                simulation.calls.queue.close();
            }
        });
        self.expect_end();
    }

    /// Records that the listener must end within the time of a close.
    pub(super) fn expect_end(&mut self) {
        self.is_closing = true;
        self.close_at = Some(self.clock.now());
        let bound = self.plan.close_timeout + 100 * MILLI;
        self.clock.after(bound, SimulatorEvent::End, &mut self.random);
    }

    /// Checks that the answer to a command is true.
    pub(super) fn replied(
        &mut self,
        id: u64,
        asked: Request,
        result: Result<Reply, Error>,
        supervisor: &Supervisor<SharedSink>,
    ) {
        log_line!(self, "command {id}: {result:?}");
        if let Err(error) = &result
            && error.kind() == ErrorKind::Misuse
            && !matches!(asked, Request::Query)
        {
            return self.fail(format!("command {id} was answered with {error}"));
        }
        match (asked, result) {
            (Request::Listen(channels), Ok(Reply::Listening(listening))) => {
                let is_active = listening == Listening::Active;
                self.channels.listened(id, &channels, Some(is_active));
                // A drain after it ends all channels.
                if is_active && !self.is_closing {
                    self.check_active(&channels);
                }
            }
            (Request::Listen(channels), Err(_)) => self.channels.listened(id, &channels, None),
            (Request::Unlisten(channels), Ok(Reply::Unlistened)) => {
                self.channels.unlistened(id, &channels, true);
            }
            (Request::Unlisten(channels), Err(_)) => {
                self.channels.unlistened(id, &channels, false);
            }
            (Request::Rotate, Ok(Reply::Rotating)) => {
                self.rotations += u32::from(supervisor.state() == State::Connected);
            }
            (Request::Drain, Err(_)) if self.is_dropped => self.is_drain_interrupted = true,
            (Request::Query, Ok(Reply::Rows(_)) | Err(_))
            | (Request::Rotate, Err(_))
            | (Request::Drain, Ok(Reply::Drained) | Err(_)) => {}
            (asked, reply) => self.fail(format!("{asked:?} was answered with {reply:?}")),
        }
    }

    /// Records a command that was sent, and that the task did not receive before its end.
    pub(super) fn replied_at_the_end(&mut self, id: u64, asked: &Request) {
        log_line!(self, "command {id}: the listener has ended");
        match asked {
            Request::Listen(channels) => self.channels.listened(id, channels, None),
            Request::Unlisten(channels) => self.channels.unlistened(id, channels, false),
            Request::Query | Request::Rotate | Request::Drain | Request::Channels => {}
        }
    }

    /// Checks that the server listens to channels that were reported as active.
    fn check_active(&mut self, channels: &[ChannelId]) {
        let Some(index) = self.current() else { return };
        let connection = &self.connections[index];
        let Some(session) = connection.session.filter(|_| !connection.has_lost_channels) else {
            return;
        };
        let backend = &self.servers[connection.server].backend;
        let missing = channels.iter().find(|&&channel| {
            let channel = &self.channels.0[channel];
            channel.is_settled() && !backend.channels(session).any(|name| name == channel.name)
        });
        if let Some(&missing) = missing {
            let name = self.channels.0[missing].name.clone();
            self.fail(format!(
                "{name:?} is reported as active, and the server does not listen to it"
            ));
        }
    }
}

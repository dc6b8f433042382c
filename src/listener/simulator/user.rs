//! Who gives commands, and what he is answered.

use std::time::Duration;

use tokio::sync::oneshot;

use super::clock::{Event, MILLI};
use super::subscriptions::ChannelId;
use super::{World, say};
use crate::listener::handle::Request;
use crate::supervisor::{Command, Listening, Reply, State, Supervisor};
use crate::{Error, ErrorKind};

/// What a user asks of a server.
pub(super) const QUERIES: [&str; 4] =
    ["SELECT 1; SELECT 'two'", "SELECT nothing", "BEGIN", "SELECT pg_backend_pid()"];

/// A command without an answer yet.
#[derive(Debug)]
pub(super) enum Asked {
    Listen(Vec<ChannelId>),
    Unlisten(Vec<ChannelId>),
    Query,
    Rotate,
    Drain,
}

impl World {
    pub(super) fn user(&mut self) {
        if self.is_closing || self.done.is_some() || self.has_all {
            return;
        }
        self.schedule_user();
        // More at once than the task looks at in one go, now and then.
        let count = if self.random.chance(1) { 40 } else { 1 };
        for _ in 0..count {
            self.act_as_user();
        }
    }

    /// Something comes to the user's mind.
    pub(super) fn act_as_user(&mut self) {
        if self.is_closing || self.done.is_some() || self.has_all {
            return;
        }
        // Who changes what the server has forgotten makes up for it before a proof can tell.
        if self.delivering.is_some_and(|index| self.connections[index].is_deaf) {
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
            self.clock.after(delay, Event::User, &mut self.random);
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

    fn next_command(&mut self, asked: Asked) -> u64 {
        let id = self.next_command;
        self.commands.insert(id, asked);
        id
    }

    /// As a handle of the listener does it.
    fn command(&mut self, id: u64, command: Command) {
        say!(self, "command {id}: {command:?}");
        let (reply, answer) = oneshot::channel();
        self.answers.insert(id, answer);
        self.send(Request::Command(command, Some(reply)));
    }

    /// The task numbers what it is asked for as it comes.
    fn send(&mut self, request: Request) {
        self.next_command += 1;
        if self.requests.send(request).is_err() && !self.is_gone {
            self.fail("the task takes no commands, and has not ended");
        }
    }

    pub(super) fn listen(&mut self, channels: &[ChannelId]) {
        let names = self.channels.names(channels);
        let id = self.next_command(Asked::Listen(channels.to_vec()));
        self.channels.listens(id, channels);
        self.command(id, Command::Listen(names));
    }

    fn unlisten(&mut self, channels: &[ChannelId]) {
        let names = self.channels.names(channels);
        let id = self.next_command(Asked::Unlisten(channels.to_vec()));
        self.channels.unlistens(id, channels);
        self.command(id, Command::Unlisten(names));
    }

    pub(super) fn unlisten_all(&mut self) {
        let all = self.channels.all();
        let id = self.next_command(Asked::Unlisten(all.clone()));
        self.channels.unlistens(id, &all);
        self.command(id, Command::UnlistenAll);
    }

    fn query(&mut self) {
        let sql = self.random.pick(&QUERIES);
        self.ask(sql);
    }

    pub(super) fn ask(&mut self, sql: &str) {
        let id = self.next_command(Asked::Query);
        self.command(id, Command::SimpleQuery(sql.to_owned()));
    }

    pub(super) fn rotate(&mut self) {
        let id = self.next_command(Asked::Rotate);
        self.command(id, Command::Rotate);
    }

    pub(super) fn leave(&mut self) {
        if !self.is_closing && self.done.is_none() && !self.has_all {
            self.end_by_choice();
        }
    }

    /// In one of the ways that a listener can end.
    pub(super) fn end_by_choice(&mut self) {
        match self.random.below(3) {
            0 => self.drain(),
            1 if self.consumer.listener.is_some() => {
                say!(self, "the consumer is dropped");
                self.consumer.listener = None;
                self.next_command += 1;
                self.closes();
            }
            _ => self.close(),
        }
    }

    fn drain(&mut self) {
        let within = self.random.range(1, 3_000) * MILLI;
        say!(self, "the user drains within {} ms", within / MILLI);
        self.is_closing = true;
        self.close_at = Some(self.clock.now());
        let bound = within + self.plan.close_timeout + 100 * MILLI;
        self.clock.after(bound, Event::End, &mut self.random);
        if self.is_gone {
            return;
        }
        let id = self.next_command(Asked::Drain);
        self.command(id, Command::Drain { within: Duration::from_micros(within) });
        if self.random.chance(20) {
            let time = self.random.size(100) * MILLI;
            self.clock.after(time, Event::Drop, &mut self.random);
        }
    }

    fn close(&mut self) {
        say!(self, "the user closes");
        self.send(Request::Command(Command::Close, None));
        self.closes();
    }

    /// The listener is to end, within the time of a close.
    pub(super) fn closes(&mut self) {
        self.is_closing = true;
        self.close_at = Some(self.clock.now());
        let bound = self.plan.close_timeout + 100 * MILLI;
        self.clock.after(bound, Event::End, &mut self.random);
    }

    /// Each command is answered once, and truly.
    pub(super) fn replied(
        &mut self,
        id: u64,
        result: Result<Reply, Error>,
        supervisor: &Supervisor,
    ) {
        say!(self, "command {id}: {result:?}");
        let Some(asked) = self.commands.remove(&id) else {
            return self.fail(format!("command {id} was answered, and is not open: {result:?}"));
        };
        if let Err(error) = &result
            && error.kind() == ErrorKind::Misuse
            && !matches!(asked, Asked::Query)
        {
            return self.fail(format!("command {id} was answered with {error}"));
        }
        match (asked, result) {
            (Asked::Listen(channels), Ok(Reply::Listening(listening))) => {
                let is_active = listening == Listening::Active;
                self.channels.listened(id, &channels, Some(is_active));
                // A drain ends all of them behind it.
                if is_active && !self.is_closing {
                    self.check_active(&channels);
                }
            }
            (Asked::Listen(channels), Err(_)) => self.channels.listened(id, &channels, None),
            (Asked::Unlisten(channels), Ok(Reply::Unlistened)) => {
                self.channels.unlistened(id, &channels, true);
            }
            (Asked::Unlisten(channels), Err(_)) => self.channels.unlistened(id, &channels, false),
            (Asked::Rotate, Ok(Reply::Rotating)) => {
                self.rotations += u32::from(supervisor.state() == State::Connected);
            }
            (Asked::Drain, Err(_)) if self.is_dropped => self.is_drain_cut = true,
            (Asked::Query, Ok(Reply::Rows(_)) | Err(_))
            | (Asked::Rotate, Err(_))
            | (Asked::Drain, Ok(Reply::Drained) | Err(_)) => {}
            (asked, reply) => self.fail(format!("{asked:?} was answered with {reply:?}")),
        }
    }

    /// The listener was over before it looked at the command.
    pub(super) fn replied_at_the_end(&mut self, id: u64, asked: &Asked) {
        say!(self, "command {id}: the listener is over");
        match asked {
            Asked::Listen(channels) => self.channels.listened(id, channels, None),
            Asked::Unlisten(channels) => self.channels.unlistened(id, channels, false),
            Asked::Query | Asked::Rotate | Asked::Drain => {}
        }
    }

    /// "Active" is true.
    fn check_active(&mut self, channels: &[ChannelId]) {
        let Some(index) = self.current() else { return };
        let connection = &self.connections[index];
        let Some(session) = connection.session.filter(|_| !connection.is_deaf) else { return };
        let backend = &self.servers[connection.server].backend;
        let missing = channels.iter().find(|&&channel| {
            let channel = &self.channels.0[channel];
            channel.is_settled() && !backend.channels(session).any(|name| name == channel.name)
        });
        if let Some(&missing) = missing {
            let name = self.channels.0[missing].name.clone();
            self.fail(format!("{name:?} is said to be active, and the server does not know of it"));
        }
    }
}

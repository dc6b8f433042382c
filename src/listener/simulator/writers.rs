//! Who commits what the listener is to hear of.

use bytes::{Bytes, BytesMut};

use super::clock::Event;
use super::server::{Commit, Server, Status, payload};
use super::{World, say};
use crate::wire::{DbError, Severity};

impl World {
    pub(super) fn commit_something(&mut self) {
        if self.has_all {
            return;
        }
        // While all gets well there is less to see.
        let mean = if self.is_calm { 4 * self.plan.commits } else { self.plan.commits };
        let delay = self.random.range(1, 2 * mean);
        self.clock.after(delay, Event::Commit, &mut self.random);
        let count = if self.random.chance(10) { self.random.size(40) } else { self.random.size(3) };
        let channel = self.random.index(self.channels.0.len());
        self.commit(channel, count);
    }

    /// Much is committed while a session takes the place of another one.
    pub(super) fn be_busy(&mut self) {
        self.busy_until = self.clock.now() + 10 * self.plan.delay;
        self.clock.after(self.plan.delay, Event::Burst, &mut self.random);
        // And things break just then.
        if self.plan.chaos > 0 && !self.is_calm && self.random.chance(30) {
            let delay = self.random.range(1, 12 * self.plan.delay);
            self.clock.after(delay, Event::Trouble, &mut self.random);
        }
    }

    pub(super) fn burst(&mut self) {
        if self.has_all {
            return;
        }
        let channel = self.random.index(self.channels.0.len());
        self.commit(channel, 1);
        if self.clock.now() < self.busy_until {
            let delay = self.random.range(1, self.plan.delay);
            self.clock.after(delay, Event::Burst, &mut self.random);
        }
    }

    pub(super) fn flood(&mut self) {
        let channel = self.random.index(self.channels.0.len());
        let count = self.random.range(100, 500);
        self.commit(channel, count);
    }

    /// A burst on one channel and its neighbours, in transactions of several notifications.
    fn commit(&mut self, first: usize, count: u64) {
        let server = self.primary;
        if self.servers[server].status != Status::Up {
            return;
        }
        let now = self.clock.now();
        for n in 0..count {
            let id = (first + usize::try_from(n / 3).unwrap()) % self.channels.0.len();
            let channel = &self.channels.0[id];
            let process_id = self.servers[server].next_process_id();
            let is_expected = channel.is_confirmed && self.done.is_none() && !self.is_closing;
            let is_forbidden = channel.is_off;
            let is_unheard = self.delivering.is_some_and(|index| self.connections[index].is_deaf);
            let text = payload(server, self.servers[server].log.len());
            say!(
                self,
                "commit {} of server {server} on {:?}{}{}",
                self.servers[server].log.len(),
                channel.name,
                if is_expected { ", expected" } else { "" },
                if is_forbidden { ", forbidden" } else { "" }
            );
            let server = &mut self.servers[server];
            server.log.push(Commit {
                channel: id,
                at: now,
                is_expected,
                is_forbidden,
                is_unheard,
                position: None,
            });
            server.backend.commit(process_id, [(self.channels.0[id].name.as_str(), text.as_str())]);
            self.commits += 1;
        }
        self.emit_woken(server);
    }

    /// The last of a run: one on every channel.
    pub(super) fn commit_everywhere(&mut self) {
        self.has_all = true;
        for channel in 0..self.channels.0.len() {
            self.commit(channel, 1);
        }
    }

    /// The same of the next notification that this session would get, whatever it is: that of a handover too, and while
    /// something is asked.
    pub(super) fn drop_next(&mut self, index: usize) {
        say!(self, "connection {index}: the server drops the next notification");
        self.connections[index].is_faulty = true;
        self.connections[index].drops_next = true;
    }

    /// What a backend has written, without the notification that it lost. An error that comes with an answer has its
    /// ReadyForQuery, any other one brings one.
    pub(super) fn drop_from(&mut self, index: usize, output: Bytes) -> Bytes {
        let connection = &mut self.connections[index];
        let messages = messages(&output);
        let found = messages.iter().position(|message| message[0] == b'A');
        let Some(at) = found.filter(|_| connection.drops_next) else { return output };
        (connection.drops_next, connection.has_dropped) = (false, true);
        self.drops += 1;
        let (before, rest) = (&messages[..at], &messages[at + 1..]);
        let others = rest.iter().take_while(|message| message[0] == b'A').count();
        let (others, rest) = rest.split_at(others);
        let server = connection.server;
        let lost = messages[at];
        let process_id = i32::from_be_bytes([lost[5], lost[6], lost[7], lost[8]]);
        say!(self, "connection {index}: dropped what process {process_id} sent");
        if let Some(number) = Server::number(process_id) {
            // What is asked meanwhile takes the error for its answer. That ends the session, and the gap may come after
            // later notifications.
            self.servers[server].log[number].is_unheard = true;
        }
        let mut bytes = BytesMut::from(&before.concat()[..]);
        let text = "could not access status of transaction 1234";
        DbError::new(Severity::Error, "58P01", text).encode_error(&mut bytes).unwrap();
        match rest.split_first() {
            Some((ready, rest)) if ready[0] == b'Z' => {
                bytes.extend_from_slice(&[ready, &others.concat()[..], &rest.concat()].concat());
            }
            _ => {
                bytes.extend_from_slice(b"Z\0\0\0\x05I");
                bytes.extend_from_slice(&[others.concat(), rest.concat()].concat());
            }
        }
        bytes.freeze()
    }

    /// The server drops the fence of a handover on its way to this session, and reports no error.
    pub(super) fn swallow_fence(&mut self, index: usize) {
        say!(self, "connection {index}: the fence of a handover will be swallowed");
        let connection = &mut self.connections[index];
        (connection.is_faulty, connection.is_deaf, connection.swallows_fence) = (true, true, true);
    }

    pub(super) fn swallow_from(&self, index: usize, output: Bytes) -> Bytes {
        if !self.connections[index].swallows_fence {
            return output;
        }
        let is_fence = |message: &&[u8]| {
            message[0] == b'A'
                && Server::number(i32::from_be_bytes([
                    message[5], message[6], message[7], message[8],
                ]))
                .is_none()
        };
        let kept = messages(&output).into_iter().filter(|message| !is_fence(message));
        Bytes::from(kept.collect::<Vec<_>>().concat())
    }

    /// A server before 18.2 cannot absorb a notification: it says so, and goes on without it. N38.
    pub(super) fn drop_notification(&mut self, index: usize) {
        let connection = &self.connections[index];
        let is_idle = self.commands.is_empty()
            && connection.live_at.is_some()
            && !connection.is_dead()
            && connection.to_server.packets.is_empty()
            && connection.to_client.packets.is_empty();
        // A successor would have to hear what only this session does not.
        let is_alone = self.connections.iter().filter(|one| one.session.is_some()).count() == 1;
        if !is_idle
            || !is_alone
            || connection.server != self.primary
            || self.delivering != Some(index)
        {
            return;
        }
        say!(self, "connection {index}: the server drops a notification");
        self.connections[index].has_dropped = true;
        self.drops += 1;
        let channel = self.random.index(self.channels.0.len());
        let commit = Commit {
            channel,
            at: self.clock.now(),
            is_expected: self.channels.0[channel].is_confirmed && !self.is_closing,
            is_forbidden: true,
            // A command that is sent before the error arrives takes it for its answer. That ends the session,
            // and the gap may come after later notifications.
            is_unheard: true,
            position: None,
        };
        self.servers[self.primary].log.push(commit);
        // The error crosses what is asked meanwhile.
        for _ in 0..self.random.below(6) {
            let delay = self.random.range(1, 2 * self.plan.delay);
            self.clock.after(delay, Event::Whim, &mut self.random);
        }
        let mut bytes = BytesMut::new();
        let text = "could not access status of transaction 1234";
        DbError::new(Severity::Error, "58P01", text).encode_error(&mut bytes).unwrap();
        bytes.extend_from_slice(b"Z\0\0\0\x05I");
        self.carry(index, false, bytes.freeze());
    }
}

/// Whole messages of a backend, one by one.
pub(super) fn messages(mut output: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let [_, a, b, c, d, ..] = output {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
        let (message, rest) = output.split_at(1 + length);
        messages.push(message);
        output = rest;
    }
    messages
}

//! Commits of notifications, and notifications that a server drops.

use bytes::{Bytes, BytesMut};

use super::clock::SimulatorEvent;
use super::server::{Commit, SimulatedServer, Status};
use super::{Simulation, log_line};
use crate::proto::wire::{DbError, Severity};

impl Simulation {
    pub(super) fn commit_something(&mut self) {
        if self.has_all {
            return;
        }
        // While the listener recovers, commits are less frequent.
        let mean = if self.is_calm { 4 * self.plan.commits } else { self.plan.commits };
        let delay = self.random.range(1, 2 * mean);
        self.clock.after(delay, SimulatorEvent::Commit, &mut self.random);
        let count = if self.random.chance(10) { self.random.size(40) } else { self.random.size(3) };
        let channel = self.random.index(self.channels.0.len());
        self.commit(channel, count);
    }

    /// Makes commits frequent during a handover.
    pub(super) fn begin_burst(&mut self) {
        self.busy_until = self.clock.now() + 10 * self.plan.delay;
        self.clock.after(self.plan.delay, SimulatorEvent::Burst, &mut self.random);
        // Failures are more frequent too.
        if self.plan.chaos > 0 && !self.is_calm && self.random.chance(30) {
            let delay = self.random.range(1, 12 * self.plan.delay);
            self.clock.after(delay, SimulatorEvent::FailDuringHandover, &mut self.random);
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
            self.clock.after(delay, SimulatorEvent::Burst, &mut self.random);
        }
    }

    pub(super) fn flood(&mut self) {
        let channel = self.random.index(self.channels.0.len());
        let count = self.random.range(100, 500);
        self.commit(channel, count);
    }

    /// Commits `count` notifications on a channel and its neighbours.
    fn commit(&mut self, first: usize, count: u64) {
        let channels = self.channels.0.len();
        self.commit_on((0..count).map(|n| (first + usize::try_from(n / 3).unwrap()) % channels));
    }

    /// Commits a notification on each of these channels, in one transaction.
    pub(super) fn commit_on(&mut self, channels: impl IntoIterator<Item = usize>) {
        let server = self.primary;
        if self.servers[server].status != Status::Up {
            return;
        }
        let now = self.clock.now();
        for id in channels {
            let channel = &self.channels.0[id];
            let process_id = self.servers[server].next_process_id();
            let is_expected = channel.is_confirmed && self.done.is_none() && !self.is_closing;
            let is_forbidden = channel.is_off;
            let may_be_missed =
                self.delivering.is_some_and(|index| self.connections[index].has_lost_channels);
            let text = self.payload(server, self.servers[server].log.len());
            let subscribers = self.subscribers_of(id);
            let is_expected = is_expected || !subscribers.is_empty();
            log_line!(
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
                may_be_missed,
                subscribers,
                position: None,
            });
            server.backend.commit(process_id, [(self.channels.0[id].name.as_str(), text.as_str())]);
            self.commits += 1;
        }
        self.emit_woken(server);
    }

    /// Commits the last notifications of a run: one on every channel.
    pub(super) fn commit_everywhere(&mut self) {
        self.has_all = true;
        for channel in 0..self.channels.0.len() {
            self.commit(channel, 1);
        }
    }

    /// Makes the server drop the next notification of this session, which may be the fence of a handover, or come while a
    /// command is unanswered.
    pub(super) fn drop_next(&mut self, index: usize) {
        log_line!(self, "connection {index}: the server drops the next notification");
        self.connections[index].is_faulty = true;
        self.connections[index].drops_next = true;
    }

    /// Returns the output of a backend, in which an error replaces the dropped notification. If the error comes with an answer,
    /// it has the ReadyForQuery of that answer, otherwise one of its own.
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
        log_line!(self, "connection {index}: dropped what process {process_id} sent");
        if let Some(number) = SimulatedServer::number(process_id) {
            // An unanswered command takes the error as its answer. That ends the session, and the gap may come after later
            // notifications.
            self.servers[server].log[number].may_be_missed = true;
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

    /// Makes the fence of a handover get lost on its way to this session, without an error.
    pub(super) fn lose_fence(&mut self, index: usize) {
        log_line!(self, "connection {index}: the fence of a handover will be lost");
        let connection = &mut self.connections[index];
        (connection.is_faulty, connection.has_lost_channels, connection.loses_fence) =
            (true, true, true);
    }

    pub(super) fn without_fence(&self, index: usize, output: Bytes) -> Bytes {
        if !self.connections[index].loses_fence {
            return output;
        }
        let is_fence = |message: &&[u8]| {
            message[0] == b'A'
                && SimulatedServer::number(i32::from_be_bytes([
                    message[5], message[6], message[7], message[8],
                ]))
                .is_none()
        };
        let kept = messages(&output).into_iter().filter(|message| !is_fence(message));
        Bytes::from(kept.collect::<Vec<_>>().concat())
    }

    /// Makes the server drop a notification, as servers before 18.2 do if they cannot process one: it reports an error, and
    /// the session continues.
    pub(super) fn drop_notification(&mut self, index: usize) {
        // N38.
        let connection = &self.connections[index];
        let is_idle = self.calls.are_answered()
            && connection.live_at.is_some()
            && !connection.is_dead()
            && connection.to_server.packets.is_empty()
            && connection.to_client.packets.is_empty();
        // The other session of a handover would receive the notification that this one does not.
        let is_alone = self.connections.iter().filter(|one| one.session.is_some()).count() == 1;
        if !is_idle
            || !is_alone
            || connection.server != self.primary
            || self.delivering != Some(index)
        {
            return;
        }
        log_line!(self, "connection {index}: the server drops a notification");
        self.connections[index].has_dropped = true;
        self.drops += 1;
        let channel = self.random.index(self.channels.0.len());
        let subscribers = self.subscribers_of(channel);
        let commit = Commit {
            channel,
            at: self.clock.now(),
            is_expected: self.channels.0[channel].is_confirmed && !self.is_closing
                || !subscribers.is_empty(),
            is_forbidden: true,
            // A command that is sent before the error arrives takes it as its answer. That ends the session, and the gap may
            // come after later notifications.
            may_be_missed: true,
            position: None,
            subscribers,
        };
        self.servers[self.primary].log.push(commit);
        // Commands are sent while the error is on its way.
        for _ in 0..self.random.below(6) {
            let delay = self.random.range(1, 2 * self.plan.delay);
            self.clock.after(delay, SimulatorEvent::ExtraCommand, &mut self.random);
        }
        let mut bytes = BytesMut::new();
        let text = "could not access status of transaction 1234";
        DbError::new(Severity::Error, "58P01", text).encode_error(&mut bytes).unwrap();
        bytes.extend_from_slice(b"Z\0\0\0\x05I");
        self.carry(index, false, bytes.freeze());
    }
}

/// Splits the output of a backend into its messages.
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

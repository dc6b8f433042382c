//! What breaks.

use bytes::BytesMut;

use super::clock::{Event, MILLI, Micros, SECOND};
use super::connection::{Packet, Stage};
use super::user::Asked;
use super::{World, say};
use crate::wire::{BackendMessage, DbError, Severity};

/// When the kernel gives up a dead peer, at the latest: only a query that is under way excuses that the
/// listener has not noticed before.
pub(super) const PATIENCE: Micros = 75 * SECOND;

/// The same where the server goes on sending though nothing of ours arrives, as a proxy lets it: the listener's own
/// patience is all there is.
pub(super) const UP_ALONE: Micros = 330 * SECOND;

impl World {
    pub(super) fn chaos(&mut self) {
        if self.is_calm {
            return;
        }
        let delay = self.random.range(1, 2 * self.plan.chaos);
        self.clock.after(delay, Event::Chaos, &mut self.random);
        match self.random.below(100) {
            0..8 => self.restart(self.primary),
            8..14 => self.fail_over(),
            14..20 => self.suspend(),
            20..26 => self.refuse(),
            26..29 => self.flood(),
            29..34 => self.chatter(),
            34..39 if self.clock.now() >= self.asleep_until => self.is_called_for_nothing = true,
            39..44 => self.break_files(),
            _ => {
                if let Some(victim) = self.victim() {
                    self.hurt(victim);
                }
            }
        }
    }

    /// A file that every attempt reads is wrong for a while, and a session has a reason to be followed by another.
    fn break_files(&mut self) {
        let time = self.random.range(10 * MILLI, 10 * SECOND);
        let until = (self.clock.now() + time).min(self.plan.calm);
        say!(self, "a file is wrong until {} ms", until / MILLI);
        self.files_wrong_until = self.files_wrong_until.max(until);
        if let Some(victim) = self.victim().filter(|_| self.random.chance(80)) {
            self.hurt(victim);
        }
    }

    pub(super) fn trouble(&mut self) {
        if self.is_calm {
            return;
        }
        if self.random.chance(30) {
            return self.refuse();
        }
        if let Some(victim) = self.victim() {
            self.connections[victim].is_faulty = true;
            match self.random.below(10) {
                0..4 => return self.cut(victim),
                4..6 => return self.drop_next(victim),
                _ => {}
            }
            let rst = self.random.chance(50);
            say!(self, "connection {victim}: ended in the middle (reset {rst})");
            self.kill(victim, None, rst);
        }
    }

    /// A connection that both ends believe in.
    fn victim(&mut self) -> Option<usize> {
        let is_alive = |&index: &usize| {
            let connection = &self.connections[index];
            connection.session.is_some() && !connection.is_closed()
        };
        let alive: Vec<usize> = (0..self.connections.len()).filter(is_alive).collect();
        if alive.is_empty() { None } else { Some(self.random.pick(&alive)) }
    }

    fn hurt(&mut self, index: usize) {
        self.connections[index].is_faulty = true;
        match self.random.below(12) {
            0 => {
                say!(self, "connection {index}: reset");
                self.kill(index, None, true);
            }
            1 => {
                say!(self, "connection {index}: ended by the server without a word");
                self.kill(index, None, false);
            }
            2 => self.terminate(index),
            3 => {
                say!(self, "connection {index}: another backend crashes");
                let text = "terminating connection because of crash of another server process";
                self.kill(index, Some((Severity::Warning, "57P02", text)), false);
            }
            4..6 => self.cut(index),
            6 => {
                self.stop_backend(index);
                if self.random.chance(70) {
                    let delay = self.random.range(100 * MILLI, 10 * SECOND);
                    self.clock.after(delay, Event::Mend(index), &mut self.random);
                }
            }
            7 => {
                let late = self.random.range(100 * MILLI, 4 * SECOND);
                self.slow_down(index, late);
            }
            8..10 => self.drop_notification(index),
            10 => self.drop_next(index),
            // Of a successor nobody could tell before it is proven for the first time.
            _ if self.delivering == Some(index) => {
                say!(self, "connection {index}: the server forgets what it listens to");
                self.deafen(index);
            }
            _ => {}
        }
    }

    pub(super) fn terminate(&mut self, index: usize) {
        say!(self, "connection {index}: terminated");
        let text = "terminating connection due to administrator command";
        self.connections[index].is_faulty = true;
        self.kill(index, Some((Severity::Fatal, "57P01", text)), false);
    }

    pub(super) fn slow_down(&mut self, index: usize, late: Micros) {
        say!(self, "connection {index}: slow");
        let now = self.clock.now();
        let lane = &mut self.connections[index].to_client;
        lane.last = lane.last.max(now + late);
    }

    pub(super) fn stop_backend(&mut self, index: usize) {
        say!(self, "connection {index}: the backend is stopped");
        self.connections[index].stop(self.clock.now());
        self.clock.after(PATIENCE, Event::Overdue(index), &mut self.random);
    }

    /// Nothing arrives any more in one direction or both, and nobody says so.
    /// The new session of a handover has come to the fence. What seldom comes together: the old one is dead, and the
    /// listener ends.
    pub(super) fn successor_waits(&mut self) {
        let Some(old) = self.delivering else { return };
        if self.is_calm || self.plan.ends_at.is_none() || !self.random.chance(10) {
            return;
        }
        self.connections[old].is_faulty = true;
        self.cut_ways(old, false, true);
        let time = self.random.size(100) * MILLI;
        self.clock.after(time, Event::Leave, &mut self.random);
    }

    fn cut(&mut self, index: usize) {
        let (up, down) = self.random.pick(&[(true, false), (false, true), (true, true)]);
        self.cut_ways(index, up, down);
    }

    pub(super) fn cut_ways(&mut self, index: usize, up: bool, down: bool) {
        say!(self, "connection {index}: half-open (up {up}, down {down})");
        let patience = if down { PATIENCE } else { UP_ALONE };
        self.clock.after(patience, Event::Overdue(index), &mut self.random);
        let now = self.clock.now();
        let connection = &mut self.connections[index];
        for (lane, is_cut) in [(&mut connection.to_server, up), (&mut connection.to_client, down)] {
            if is_cut {
                lane.cut(now);
            }
        }
        if self.random.chance(50) {
            connection.to_server.packets.retain(|_| !up);
            connection.to_client.packets.retain(|_| !down);
        }
    }

    /// As a pooler does that sends DISCARD ALL.
    fn deafen(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let (Some(session), Stage::Open) = (connection.session, &connection.stage) else { return };
        let server = connection.server;
        let hears = self.servers[server].backend.channels(session).next().is_some();
        if !hears || !self.commands.is_empty() {
            return;
        }
        let connection = &mut self.connections[index];
        connection.is_deaf = true;
        self.servers[connection.server].backend.forget_channels(session);
    }

    /// A connection has been dead for so long that the kernel says so.
    pub(super) fn is_overdue(&mut self, index: usize) {
        let connection = &self.connections[index];
        let Some(overdue_at) = connection.overdue_at().filter(|_| !connection.is_closed()) else {
            return;
        };
        let now = self.clock.now();
        if now < overdue_at {
            // What this was said of is over, and something else is broken.
            return self.clock.at(overdue_at, Event::Overdue(index), &mut self.random);
        }
        let was_live = connection.live_at.is_some();
        let was_awake = self.asleep_until + PATIENCE / 2 < now;
        let has_query = self.commands.values().any(|asked| matches!(asked, Asked::Query));
        if was_live && was_awake && !has_query {
            return self.fail(format!("connection {index} is dead and was not noticed in time"));
        }
        say!(self, "connection {index}: given up by the kernel");
        // What has waited behind a query of the user's begins only now.
        self.judgement = self.judgement.max(now + self.plan.back());
        self.forget(index);
        self.connections[index].to_client.cut_at = None;
        self.put(index, false, Packet::Rst);
    }

    /// A session is ended soon after it was live.
    pub(super) fn flap(&mut self, index: usize) {
        if !self.is_calm && !self.connections[index].is_closed() {
            say!(self, "connection {index}: flaps");
            let rst = self.random.chance(50);
            self.kill(index, None, rst);
        }
    }

    pub(super) fn mend(&mut self, index: usize) {
        say!(self, "connection {index}: the backend goes on");
        self.connections[index].stopped_at = None;
        self.serve(index);
        self.emit(index);
    }

    /// A server says what nobody asked for and nothing follows from.
    fn chatter(&mut self) {
        let Some(index) = self.victim().filter(|&index| !self.connections[index].is_stopped())
        else {
            return;
        };
        // Some of it is longer than what a session takes whole: it is cut, and the rest is skipped.
        let (text, value) = match self.clock.now() % 8 {
            0 => (1024 * 1024, 3),
            1..4 => (10, 40_000),
            _ => (10, 3),
        };
        let mut bytes = BytesMut::new();
        let notice = DbError::new(Severity::Notice, "00000", &"n".repeat(text));
        notice.encode_notice(&mut bytes).unwrap();
        let value = vec![b'p'; value];
        let status = BackendMessage::ParameterStatus { name: b"search_path", value: &value };
        status.encode(&mut bytes).unwrap();
        say!(self, "connection {index}: chatter of {} bytes", bytes.len());
        self.carry(index, false, bytes.freeze());
    }

    /// Our process does not run for a while.
    fn suspend(&mut self) {
        let time = if self.random.chance(70) {
            self.random.range(10 * MILLI, SECOND)
        } else {
            self.random.range(SECOND, 30 * SECOND)
        };
        let until = (self.clock.now() + time).min(self.plan.calm);
        say!(self, "our process is suspended until {} ms", until / MILLI);
        self.asleep_until = self.asleep_until.max(until);
        for connection in &mut self.connections {
            connection.is_faulty = true;
        }
    }

    /// The servers refuse other channels than before.
    fn refuse(&mut self) {
        let refused: Vec<String> = if self.random.chance(50) {
            Vec::new()
        } else {
            let refusable = self.channels.0.iter().filter(|channel| channel.is_refusable);
            refusable.map(|channel| channel.name.clone()).collect()
        };
        say!(self, "the servers refuse {refused:?}");
        for server in &mut self.servers {
            server.backend.refuse_channels(refused.iter().cloned());
        }
    }
}

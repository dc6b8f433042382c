//! SimulatorRandom failures of connections, servers, files and of the process.

use bytes::BytesMut;

use super::clock::{MILLI, Micros, SECOND, SimulatorEvent};
use super::connection::{Packet, Stage};
use super::{Simulation, log_line};
use crate::proto::wire::{BackendMessage, DbError, Severity};

/// The time after which the kernel gives up a dead peer. The listener must have detected it before, unless a query of the
/// user runs.
pub(super) const KERNEL_TIMEOUT: Micros = 75 * SECOND;

/// The same if the server continues to send although it receives nothing, as behind a proxy. Then only the listener can
/// detect it.
pub(super) const ONE_WAY_TIMEOUT: Micros = 330 * SECOND;

impl Simulation {
    pub(super) fn chaos(&mut self) {
        if self.is_calm {
            return;
        }
        let delay = self.random.range(1, 2 * self.plan.chaos);
        self.clock.after(delay, SimulatorEvent::Chaos, &mut self.random);
        match self.random.below(100) {
            0..8 => self.restart(self.primary),
            8..14 => self.fail_over(),
            14..20 => self.suspend(),
            20..26 => self.refuse(),
            26..29 => self.flood(),
            29..34 => self.send_noise(),
            34..39 if self.clock.now() >= self.asleep_until => self.has_useless_calls = true,
            39..44 => self.break_files(),
            _ => {
                if let Some(victim) = self.random_connection() {
                    self.break_connection(victim);
                }
            }
        }
    }

    /// Makes a file wrong for a while that every attempt reads, and ends a session, so that there is an attempt.
    fn break_files(&mut self) {
        let time = self.random.range(10 * MILLI, 10 * SECOND);
        let until = (self.clock.now() + time).min(self.plan.calm);
        log_line!(self, "a file is wrong until {} ms", until / MILLI);
        self.files_wrong_until = self.files_wrong_until.max(until);
        if let Some(victim) = self.random_connection().filter(|_| self.random.chance(80)) {
            self.break_connection(victim);
        }
    }

    pub(super) fn fail_during_handover(&mut self) {
        if self.is_calm {
            return;
        }
        if self.random.chance(30) {
            return self.refuse();
        }
        if let Some(victim) = self.random_connection() {
            self.connections[victim].is_faulty = true;
            match self.random.below(10) {
                0..4 => return self.cut(victim),
                4..6 => return self.drop_next(victim),
                _ => {}
            }
            let rst = self.random.chance(50);
            log_line!(self, "connection {victim}: ended in the middle (reset {rst})");
            self.kill(victim, None, rst);
        }
    }

    /// Returns a random connection that is open at both ends.
    fn random_connection(&mut self) -> Option<usize> {
        let is_alive = |&index: &usize| {
            let connection = &self.connections[index];
            connection.session.is_some() && !connection.is_closed()
        };
        let alive: Vec<usize> = (0..self.connections.len()).filter(is_alive).collect();
        if alive.is_empty() { None } else { Some(self.random.pick(&alive)) }
    }

    fn break_connection(&mut self, index: usize) {
        self.connections[index].is_faulty = true;
        match self.random.below(12) {
            0 => {
                log_line!(self, "connection {index}: reset");
                self.kill(index, None, true);
            }
            1 => {
                log_line!(self, "connection {index}: ended by the server without a message");
                self.kill(index, None, false);
            }
            2 => self.terminate(index),
            3 => {
                log_line!(self, "connection {index}: another backend crashes");
                let text = "terminating connection because of crash of another server process";
                self.kill(index, Some((Severity::Warning, "57P02", text)), false);
            }
            4..6 => self.cut(index),
            6 => {
                self.stop_backend(index);
                if self.random.chance(70) {
                    let delay = self.random.range(100 * MILLI, 10 * SECOND);
                    self.clock.after(delay, SimulatorEvent::Resume(index), &mut self.random);
                }
            }
            7 => {
                let late = self.random.range(100 * MILLI, 4 * SECOND);
                self.slow_down(index, late);
            }
            8..10 => self.drop_notification(index),
            10 => self.drop_next(index),
            // In the new session of a handover this could not be detected before its first heartbeat.
            _ if self.delivering == Some(index) => {
                log_line!(self, "connection {index}: the server forgets what it listens to");
                self.forget_channels(index);
            }
            _ => {}
        }
    }

    pub(super) fn terminate(&mut self, index: usize) {
        log_line!(self, "connection {index}: terminated");
        let text = "terminating connection due to administrator command";
        self.connections[index].is_faulty = true;
        self.kill(index, Some((Severity::Fatal, "57P01", text)), false);
    }

    pub(super) fn slow_down(&mut self, index: usize, late: Micros) {
        log_line!(self, "connection {index}: slow");
        let now = self.clock.now();
        let lane = &mut self.connections[index].to_client;
        lane.last = lane.last.max(now + late);
    }

    pub(super) fn stop_backend(&mut self, index: usize) {
        log_line!(self, "connection {index}: the backend is stopped");
        self.connections[index].stop(self.clock.now());
        self.clock.after(KERNEL_TIMEOUT, SimulatorEvent::Overdue(index), &mut self.random);
    }

    /// The new session of a handover has received the fence. Sometimes this makes the old session half-open and ends the
    /// listener, which would rarely happen together.
    pub(super) fn new_session_waits(&mut self) {
        let Some(old) = self.delivering else { return };
        if self.is_calm || self.plan.ends_at.is_none() || !self.random.chance(10) {
            return;
        }
        self.connections[old].is_faulty = true;
        self.cut_ways(old, false, true);
        let time = self.random.size(100) * MILLI;
        self.clock.after(time, SimulatorEvent::UserEnds, &mut self.random);
    }

    fn cut(&mut self, index: usize) {
        let (up, down) = self.random.pick(&[(true, false), (false, true), (true, true)]);
        self.cut_ways(index, up, down);
    }

    /// Makes a connection half-open: in one direction or both, nothing arrives any more.
    pub(super) fn cut_ways(&mut self, index: usize, up: bool, down: bool) {
        log_line!(self, "connection {index}: half-open (up {up}, down {down})");
        let timeout = if down { KERNEL_TIMEOUT } else { ONE_WAY_TIMEOUT };
        self.clock.after(timeout, SimulatorEvent::Overdue(index), &mut self.random);
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

    /// Makes the server forget the channels of a session, as a pooler does with DISCARD ALL.
    fn forget_channels(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let (Some(session), Stage::Open) = (connection.session, &connection.stage) else { return };
        let server = connection.server;
        let is_listening = self.servers[server].backend.channels(session).next().is_some();
        if !is_listening || !self.calls.are_answered() {
            return;
        }
        let connection = &mut self.connections[index];
        connection.has_lost_channels = true;
        self.servers[connection.server].backend.forget_channels(session);
    }

    /// Lets the kernel give up a connection that has been dead for a long time. The listener should have detected it.
    pub(super) fn is_overdue(&mut self, index: usize) {
        let connection = &self.connections[index];
        let Some(overdue_at) = connection.overdue_at().filter(|_| !connection.is_closed()) else {
            return;
        };
        let now = self.clock.now();
        if now < overdue_at {
            // The first fault was repaired, and there is another one.
            return self.clock.at(overdue_at, SimulatorEvent::Overdue(index), &mut self.random);
        }
        let was_live = connection.live_at.is_some();
        let was_awake = self.asleep_until + KERNEL_TIMEOUT / 2 < now;
        if was_live && was_awake && !self.calls.has_sent_query() {
            return self.fail(format!("connection {index} is dead and was not detected in time"));
        }
        log_line!(self, "connection {index}: given up by the kernel");
        // Commands that waited for a query of the user begin only now.
        self.recovery_at = self.recovery_at.max(now + self.plan.back());
        self.forget(index);
        self.connections[index].to_client.cut_at = None;
        self.put(index, false, Packet::Rst);
    }

    /// Ends a session soon after it was live.
    pub(super) fn flap(&mut self, index: usize) {
        if !self.is_calm && !self.connections[index].is_closed() {
            log_line!(self, "connection {index}: flaps");
            let rst = self.random.chance(50);
            self.kill(index, None, rst);
        }
    }

    pub(super) fn resume_backend(&mut self, index: usize) {
        log_line!(self, "connection {index}: the backend continues");
        self.connections[index].stopped_at = None;
        self.serve(index);
        self.emit(index);
    }

    /// Makes a server send messages without an effect.
    fn send_noise(&mut self) {
        let Some(index) =
            self.random_connection().filter(|&index| !self.connections[index].is_stopped())
        else {
            return;
        };
        // Some of them are longer than the limit of a session, which skips the rest.
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
        log_line!(self, "connection {index}: noise of {} bytes", bytes.len());
        self.carry(index, false, bytes.freeze());
    }

    /// Suspends the client's process for a while.
    fn suspend(&mut self) {
        let time = if self.random.chance(70) {
            self.random.range(10 * MILLI, SECOND)
        } else {
            self.random.range(SECOND, 30 * SECOND)
        };
        let until = (self.clock.now() + time).min(self.plan.calm);
        log_line!(self, "the process is suspended until {} ms", until / MILLI);
        self.asleep_until = self.asleep_until.max(until);
        for connection in &mut self.connections {
            connection.is_faulty = true;
        }
    }

    /// Changes the channels that the servers refuse.
    pub(super) fn refuse(&mut self) {
        let refused: Vec<String> = if self.random.chance(50) {
            Vec::new()
        } else {
            let refusable = self.channels.0.iter().filter(|channel| channel.is_refusable);
            refusable.map(|channel| channel.name.clone()).collect()
        };
        log_line!(self, "the servers refuse {refused:?}");
        for server in &mut self.servers {
            server.backend.refuse_channels(refused.iter().cloned());
        }
    }
}

//! The network: it carries bytes between the client's end and the server's end of a connection.

use std::mem;

use bytes::{Buf, Bytes, BytesMut};

use super::Simulation;
use super::clock::{MILLI, Micros, SimulatorEvent};
use super::connection::{NetworkLane, Packet, Stage};
use super::proxy::count_readies;
use super::server::Status;
use crate::proto::wire::{DbError, Severity};

impl Simulation {
    /// Sends `bytes` over a connection in one direction, in pieces.
    pub(super) fn carry(&mut self, index: usize, up: bool, mut bytes: Bytes) {
        if !up {
            self.connections[index].readies += count_readies(&bytes);
        }
        while bytes.has_remaining() {
            let length = if self.random.chance(self.plan.splits) {
                1 + self.random.index(bytes.len())
            } else {
                bytes.len()
            };
            self.put(index, up, Packet::Bytes(bytes.split_to(length)));
        }
    }

    pub(super) fn put(&mut self, index: usize, up: bool, packet: Packet) {
        let delay = self.delay();
        let at = self.clock.now() + delay;
        let lane = self.lane(index, up);
        if lane.is_cut() {
            return;
        }
        // A reset overtakes everything before it.
        if matches!(packet, Packet::Rst) {
            lane.packets.clear();
        }
        lane.packets.push_back(packet);
        lane.last = lane.last.max(at);
        let at = lane.last;
        let event =
            if up { SimulatorEvent::ToServer(index) } else { SimulatorEvent::ToClient(index) };
        self.clock.at(at, event, &mut self.random);
    }

    fn lane(&mut self, index: usize, up: bool) -> &mut NetworkLane {
        let connection = &mut self.connections[index];
        if up { &mut connection.to_server } else { &mut connection.to_client }
    }

    pub(super) fn delay(&mut self) -> Micros {
        let most = self.plan.delay;
        if self.random.chance(2) {
            return self.random.range(0, 300 * MILLI);
        }
        self.random.range(10, most)
    }

    // ---- arrivals ----

    pub(super) fn arrive_at_server(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        match connection.to_server.packets.pop_front() {
            Some(Packet::Bytes(bytes)) => {
                connection.arrived.extend_from_slice(&bytes);
                self.serve(index);
            }
            Some(Packet::Fin) => {
                // The server ends the session too if the client has closed without Terminate.
                self.serve(index);
                if self.connections[index].session.is_some()
                    && !self.connections[index].is_stopped()
                {
                    self.forget(index);
                    self.put(index, false, Packet::Fin);
                }
            }
            Some(Packet::Rst) => self.forget(index),
            // The packet was lost.
            None => {}
        }
    }

    pub(super) fn arrive_at_client(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        match connection.to_client.packets.pop_front() {
            _ if connection.is_closed() => {}
            Some(Packet::Bytes(bytes)) => {
                if connection.socket.is_empty() {
                    connection.unread_at = self.clock.now();
                }
                connection.socket.extend_from_slice(&bytes);
            }
            Some(Packet::Fin) => connection.end = Some(Packet::Fin),
            Some(Packet::Rst) => {
                connection.socket.clear();
                connection.end = Some(Packet::Rst);
            }
            None => {}
        }
        let connection = &mut self.connections[index];
        if !connection.socket.is_empty() || connection.end.is_some() {
            connection.wake_reader();
        }
    }

    // ---- the server's end ----

    /// Lets the backend handle the bytes that have arrived.
    pub(super) fn serve(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(session) = connection.session.filter(|_| !connection.is_stopped()) else { return };
        let mut arrived = mem::take(&mut connection.arrived);
        let server = connection.server;
        if self.serve_one_by_one(index, &mut arrived) {
            self.servers[server].backend.handle_input(session, &mut arrived);
        }
        self.connections[index].arrived = arrived;
        self.emit(index);
        self.emit_woken(server);
    }

    /// Sends what the backends of other sessions have written.
    pub(super) fn emit_woken(&mut self, server: usize) {
        while let Some(session) = self.servers[server].backend.poll_wake() {
            if let Some(&index) = self.sessions.get(&(server, session)) {
                self.emit(index);
            }
        }
    }

    /// Sends the output of a backend.
    pub(super) fn emit(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(session) = connection.session.filter(|_| !connection.is_stopped()) else { return };
        let backend = &mut self.servers[connection.server].backend;
        let output = backend.transmit(session).split().freeze();
        let is_closed = backend.is_closed(session);
        let output = self.drop_from(index, output);
        let output = self.without_fence(index, output);
        let connection = &mut self.connections[index];
        note_sent(&output, &mut connection.sent);
        self.carry(index, false, output);
        if is_closed {
            self.forget(index);
            self.put(index, false, Packet::Fin);
        }
    }

    /// Removes the session from the server.
    pub(super) fn forget(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if let Some(session) = connection.session.take() {
            let server = connection.server;
            self.servers[server].backend.disconnect(session);
            self.sessions.remove(&(server, session));
        }
    }

    /// Ends the server's end at once. `last` is a message that it sends before.
    pub(super) fn kill(&mut self, index: usize, last: Option<(Severity, &str, &str)>, rst: bool) {
        let connection = &mut self.connections[index];
        connection.is_faulty = true;
        if connection.session.is_none() {
            return;
        }
        self.emit(index);
        self.forget(index);
        if rst {
            self.put(index, true, Packet::Rst);
            self.put(index, false, Packet::Rst);
            return;
        }
        if let Some((severity, code, text)) = last {
            let mut bytes = BytesMut::new();
            let error = DbError::new(severity, code, text);
            match severity {
                Severity::Warning => error.encode_notice(&mut bytes).unwrap(),
                _ => error.encode_error(&mut bytes).unwrap(),
            }
            self.carry(index, false, bytes.freeze());
        }
        self.put(index, false, Packet::Fin);
    }

    // ---- the client's end ----

    /// Handles the end of a TCP connect.
    pub(super) fn connected(&mut self, index: usize) {
        let connection = &self.connections[index];
        if !matches!(connection.stage, Stage::Connecting) {
            return;
        }
        let server = connection.server;
        if self.clock.now() < self.files_wrong_until {
            return self.opening_finds_wrong_files(index);
        }
        if server != self.primary {
            return self.opening_failed(index, "the server is a standby (simulated)");
        }
        match self.servers[server].status {
            Status::Up => {}
            Status::Down => return self.opening_failed(index, "connection refused (simulated)"),
            Status::Starting => {
                let error =
                    DbError::new(Severity::Fatal, "57P03", "the database system is starting up");
                return self.opening_refused(index, error);
            }
        }
        if self.random.chance(self.login_trouble()) {
            // A refusal such as 28P01 ends a listener that does not retry refusals.
            let (code, text) = match self.random.below(10) {
                0 => ("28P01", "password authentication failed for user \"bob\""),
                1..4 => return self.opening_panics(index),
                _ => ("53300", "sorry, too many clients already"),
            };
            return self.opening_refused(index, DbError::new(Severity::Fatal, code, text));
        }
        let session = self.servers[server].backend.connect();
        self.sessions.insert((server, session), index);
        self.connections[index].session = Some(session);
        self.log_in(index);
    }

    fn login_trouble(&self) -> u64 {
        if self.is_calm { 0 } else { 3 }
    }

    /// Writes `out`, or a part of it, unless the socket is blocked.
    pub(super) fn write(&mut self, index: usize, out: &mut BytesMut) {
        if out.is_empty() || self.connections[index].is_blocked {
            return;
        }
        let length = if self.random.chance(self.plan.splits / 5) {
            let length = 1 + self.random.index(out.len());
            if length < out.len() {
                self.connections[index].is_blocked = true;
                let delay = self.delay();
                self.clock.after(delay, SimulatorEvent::Write(index), &mut self.random);
            }
            length
        } else {
            out.len()
        };
        let bytes = out.split_to(length).freeze();
        self.check_rollbacks(index, &bytes);
        self.carry(index, true, bytes);
    }

    /// Closes the client's end at once.
    pub(super) fn drop_connection(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.is_closed() {
            return;
        }
        connection.stage = Stage::Closed;
        connection.socket.clear();
        self.links.remove(&connection.link);
        if self.delivering == Some(index) {
            self.unchecked = Some(index);
        }
        self.put(index, true, Packet::Rst);
    }
}

/// Appends the process ids of the notifications in `output`, which contains only whole messages.
fn note_sent(mut output: &[u8], sent: &mut Vec<i32>) {
    while let [kind, a, b, c, d, body @ ..] = output {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
        if *kind == b'A' {
            sent.push(i32::from_be_bytes([body[0], body[1], body[2], body[3]]));
        }
        output = &body[length - 4..];
    }
    assert!(output.is_empty(), "an incomplete message of the backend");
}

//! Our ends of connections, as the task has them: they are opened, log in, are read, written and closed.

use std::time::Duration;

use bytes::BytesMut;

use super::clock::Event;
use super::connection::{Packet, Stage};
use super::{World, say};
use crate::auth::{AuthPolicy, Credentials, ScramNonce};
use crate::session::{Login, Session};
use crate::supervisor::LinkEvent;
use crate::wire::{DbError, ProtocolVersion};
use crate::{Error, ErrorKind};

/// Least room to read into on a connection that is not delivered.
const READ_BYTES: usize = 512;

impl World {
    pub(super) fn opening_failed(&mut self, index: usize, why: &str) {
        self.is_hindered = true;
        self.connections[index].stage = Stage::Closed;
        let error = Error::new(ErrorKind::Connect, why.to_owned());
        self.link_event(index, LinkEvent::Failed(error));
    }

    pub(super) fn opening_refused(&mut self, index: usize, error: DbError) {
        self.is_hindered = true;
        self.connections[index].stage = Stage::Closed;
        let error = Error::server("the server refuses the connection", error);
        self.link_event(index, LinkEvent::Failed(error));
    }

    /// The socket is open: the session begins.
    pub(super) fn log_in(&mut self, index: usize) {
        let login = Login {
            credentials: Credentials::new("bob").unwrap(),
            policy: AuthPolicy::default(),
            nonce: ScramNonce::new([0; 18]),
            parameters: Vec::new(),
            protocol: ProtocolVersion::V3_0,
            min_protocol: ProtocolVersion::V3_0,
            deadline: self.clock.instant() + Duration::from_secs(60),
            command_timeout: Duration::from_secs(10),
        };
        let mut session = Box::new(Session::new(login).unwrap());
        let mut out = session.transmit().split();
        self.connections[index].stage = Stage::LoggingIn(session);
        let bytes = out.split().freeze();
        self.put(index, true, Packet::Bytes(bytes));
    }

    /// A whole attempt is the shell's: the supervisor gets a session that is ready.
    fn go_on_logging_in(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Stage::LoggingIn(session) = &mut connection.stage else { return };
        let read = connection.socket.split();
        connection.input.extend_from_slice(&read);
        let failed = session.handle_input(self.clock.instant(), &mut connection.input).err();
        if let Some(error) = failed {
            connection.stage = Stage::Closed;
            return self.link_event(index, LinkEvent::Failed(error));
        }
        if !session.is_ready() {
            return;
        }
        while session.poll_event().is_some() {}
        let stage = std::mem::replace(&mut connection.stage, Stage::Open);
        let Stage::LoggingIn(session) = stage else { return };
        self.epochs += 1;
        connection.epoch = self.epochs;
        say!(self, "connection {index}: logged in, session {}", self.epochs);
        self.link_event(index, LinkEvent::Opened(session));
        self.handle_bytes(index);
        self.act();
    }

    pub(super) fn wake_reader(&mut self, index: usize) {
        if self.connections[index].is_readable() {
            self.clock.after(1, Event::Read(index), &mut self.random);
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, index: usize) {
        if !self.connections[index].is_readable() {
            return;
        }
        if let Stage::LoggingIn(_) = self.connections[index].stage {
            self.go_on_logging_in(index);
        } else if !self.connections[index].socket.is_empty() {
            let connection = &mut self.connections[index];
            let input = if self.delivering == Some(index) {
                self.sink.ring.prepare(&mut self.buffer);
                &mut self.buffer
            } else {
                connection.input.reserve(READ_BYTES);
                &mut connection.input
            };
            let room = input.capacity() - input.len();
            let bytes = connection.socket.split_to(room.min(connection.socket.len()));
            input.extend_from_slice(&bytes);
            say!(self, "connection {index}: {} bytes read", bytes.len());
            self.handle_bytes(index);
            self.act();
        }
        let connection = &mut self.connections[index];
        if !connection.is_closed() && connection.is_reading && connection.socket.is_empty() {
            if let Some(end) = connection.end.take() {
                self.ended(index, &end);
            }
        } else {
            self.wake_reader(index);
        }
    }

    fn ended(&mut self, index: usize, end: &Packet) {
        let connection = &mut self.connections[index];
        let event = match (&mut connection.stage, end) {
            (Stage::LoggingIn(session), Packet::Fin) => {
                LinkEvent::Failed(session.handle_eof(&connection.input))
            }
            (_, Packet::Fin) => LinkEvent::Eof,
            _ => LinkEvent::Failed(Error::new(ErrorKind::Connect, "connection reset by peer")),
        };
        self.lost(index);
        self.link_event(index, event);
        self.drop_connection(index);
    }

    pub(super) fn write_all(&mut self) {
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            if !matches!(connection.stage, Stage::Open) {
                continue;
            }
            let Some(out) = self.supervisor.transmit(connection.link) else { continue };
            let mut out: BytesMut = out.split();
            self.write(index, &mut out);
            if !out.is_empty() {
                let link = self.connections[index].link;
                if let Some(rest) = self.supervisor.transmit(link) {
                    *rest = out;
                }
            } else if self.connections[index].is_closing && !self.connections[index].is_shut {
                self.connections[index].is_shut = true;
                self.put(index, true, Packet::Fin);
            }
        }
    }
}

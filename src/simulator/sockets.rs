//! The client's ends of connections: connect, login and read.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;

use super::clock::SimulatorEvent;
use super::connection::{Packet, SimulatedConnection, Stage};
use super::{Simulation, log_line};
use crate::error::{Error, ErrorKind, Panic};
use crate::proto::auth::{AuthPolicy, Credentials, ScramNonce};
use crate::proto::session::{Evidence, Login, Session};
use crate::proto::supervisor::LinkId;
use crate::proto::wire::{DbError, ProtocolVersion};

impl Simulation {
    /// Begins an attempt to connect.
    pub(super) fn begin(&mut self, link: LinkId) -> usize {
        let server = self.choose_server();
        let index = self.connections.len();
        log_line!(self, "connection {index}: open {link:?} to server {server}");
        let mut connection = SimulatedConnection::new(link, server, self.clock.now());
        connection.is_new_session = self.has_live_session();
        self.attempted(connection.is_new_session);
        self.connections.push(connection);
        self.links.insert(link, index);
        if !self.is_calm && self.random.chance(5) {
            // The server does not answer: the supervisor's deadline must end the attempt.
            self.had_failures = true;
            return index;
        }
        let delay = 2 * self.delay();
        self.clock.after(delay, SimulatorEvent::Connected(index), &mut self.random);
        index
    }

    pub(super) fn opening_failed(&mut self, index: usize, why: &str) {
        self.opening_ends(index, Error::new(ErrorKind::Connect, why.to_owned()));
    }

    pub(super) fn opening_refused(&mut self, index: usize, error: DbError) {
        self.opening_ends(index, Error::server("the server refuses the connection", error));
    }

    /// Fails an attempt because of a wrong file, with the same kind of error as for wrong parameters.
    pub(super) fn opening_finds_wrong_files(&mut self, index: usize) {
        let error = Error::new(ErrorKind::Config, "a file is empty (simulated)").passing();
        self.opening_ends(index, error);
    }

    /// Fails an attempt because code of the user panics in it.
    pub(super) fn opening_panics(&mut self, index: usize) {
        self.opening_ends(
            index,
            Error::panicked("the attempt to connect", &Panic::new(Box::new("(simulated)"))),
        );
    }

    fn opening_ends(&mut self, index: usize, error: Error) {
        self.had_failures = true;
        self.connections[index].stage = Stage::Failed(error);
        self.connections[index].wake_reader();
    }

    /// Begins the login.
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

    /// Continues the login. When it has ended, the supervisor gets a session that is ready.
    pub(super) fn continue_login(&mut self, index: usize) -> Poll<Result<Box<Session>, Error>> {
        let connection = &mut self.connections[index];
        let (error, session) = match std::mem::replace(&mut connection.stage, Stage::Closed) {
            Stage::Failed(error) => (Some(error), None),
            Stage::LoggingIn(mut session) => {
                let read = connection.socket.split();
                connection.read.add(&read);
                connection.input.extend_from_slice(&read);
                let handled = session.handle_input(self.clock.instant(), &mut connection.input);
                let ended = match (&connection.end, session.is_ready()) {
                    (Some(Packet::Fin), false) => {
                        Some(session.handle_eof(!connection.input.is_empty()))
                    }
                    (Some(_), false) => Some(reset()),
                    _ => None,
                };
                (handled.err().or(ended), Some(session))
            }
            stage => {
                connection.stage = stage;
                return Poll::Pending;
            }
        };
        if let Some(error) = error {
            log_line!(self, "connection {index}: {error}");
            self.put(index, true, Packet::Rst);
            return Poll::Ready(Err(error));
        }
        let Some(mut session) = session else { return Poll::Pending };
        if !session.is_ready() {
            connection.stage = Stage::LoggingIn(session);
            return Poll::Pending;
        }
        while session.poll_event().is_some() {}
        if self.plan.is_proxied {
            // As an attempt does if it detects such a proxy. The answer comes after the supervisor has the session.
            let private = format!("private_{index}");
            let listen = session.listen(self.clock.instant(), &[&private]);
            listen.expect("the session is ready");
            session.set_evidence(Evidence::SelfNotification(private));
            connection.before_early = Some(connection.readies);
        }
        connection.stage = Stage::Open;
        self.epochs += 1;
        connection.epoch = self.epochs;
        log_line!(self, "connection {index}: logged in, session {}", self.epochs);
        Poll::Ready(Ok(session))
    }

    /// Reads once.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        index: usize,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, Error>> {
        let connection = &mut self.connections[index];
        if !connection.is_reading {
            self.fail(format!("connection {index} is read during a stall"));
            return Poll::Pending;
        }
        connection.waits_until = None;
        if !connection.socket.is_empty() {
            let room = input.capacity() - input.len();
            let bytes = connection.socket.split_to(room.min(connection.socket.len()));
            connection.read.add(&bytes);
            input.extend_from_slice(&bytes);
            log_line!(self, "connection {index}: {} bytes read", bytes.len());
            self.check_inside(index);
            return Poll::Ready(Ok(bytes.len()));
        }
        let read = match &connection.end {
            Some(Packet::Fin) => Ok(0),
            Some(_) => Err(reset()),
            None => {
                connection.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        };
        connection.read.is_ended = true;
        log_line!(self, "connection {index}: {read:?}");
        self.lost(index);
        Poll::Ready(read)
    }

    /// Lets the socket accept bytes again.
    pub(super) fn unblock(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.is_blocked = false;
        if let Some(waker) = connection.writer.take() {
            waker.wake();
        }
    }
}

fn reset() -> Error {
    Error::new(ErrorKind::Connect, "connection reset by peer")
}

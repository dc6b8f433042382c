//! A proxy that begins transactions of its own, and ends sessions with an ERROR instead of a FATAL.
//!
//! It has a random generator of its own, and only some of the seeds use it, so that the runs of the others stay the same.

use bytes::{Bytes, BytesMut};

use super::chaos::KERNEL_TIMEOUT;
use super::clock::{MILLI, SECOND, SimulatorEvent};
use super::connection::{Packet, Stage};
use super::recording_sink::RecordedGap;
use super::user::QUERIES;
use super::writers::messages;
use super::{Simulation, log_line};
use crate::proto::wire::{DbError, FrontendMessage, Severity};

/// The text of all errors that a proxy sends right before it ends a connection.
const PROXY_ERROR: &str = "the proxy ends this connection (simulated)";

/// The SQLSTATE with which a server reports a dropped notification. If it is taken as the answer to a query, the true answer
/// is taken as another such report, with another SQLSTATE.
const DROPPED_SQLSTATE: &str = "58P01";

/// A transaction that a proxy is about to begin on a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProxyTransaction {
    /// It begins at a command that starts with this.
    pub(super) command: &'static str,
    /// It begins before the command, whose effect is then rolled back. Otherwise after it, before its ReadyForQuery.
    pub(super) is_before: bool,
    /// The transaction has failed.
    pub(super) is_failed: bool,
    /// The number of consecutive commands at which one begins.
    pub(super) times: u32,
}

impl Simulation {
    /// Performs a random action of the proxy, and schedules the next one.
    pub(super) fn act_as_proxy(&mut self) {
        if self.is_calm {
            return;
        }
        let delay = self.proxy.range(1, 6 * SECOND);
        self.clock.after(delay, SimulatorEvent::Proxy, &mut self.random);
        let is_open = |&index: &usize| {
            let connection = &self.connections[index];
            connection.session.is_some() && matches!(connection.stage, Stage::Open)
        };
        let open: Vec<usize> = (0..self.connections.len()).filter(is_open).collect();
        if open.is_empty() {
            return;
        }
        let index = self.proxy.pick(&open);
        if self.plan.begins && self.proxy.chance(70) {
            let begin = ProxyTransaction {
                command: self.proxy.pick(&["", "", "LISTEN", "ROLLBACK"]),
                is_before: self.proxy.chance(60),
                is_failed: self.proxy.chance(30),
                times: self.proxy.pick(&[1, 1, 1, 2, 3]),
            };
            self.begin_transaction(index, begin);
        } else if self.plan.ends_with_error {
            let late = if self.proxy.chance(50) { 0 } else { self.proxy.range(0, 2 * SECOND) };
            let code = self.proxy.pick(&["57P01", "57000", "58P01", "XX000", "25P03"]);
            self.end_with_error(index, code, late);
        }
    }

    // ---- transactions ----

    pub(super) fn begin_transaction(&mut self, index: usize, begin: ProxyTransaction) {
        log_line!(self, "connection {index}: the proxy will begin a transaction: {begin:?}");
        self.had_failures = true;
        let connection = &mut self.connections[index];
        connection.is_faulty = true;
        connection.begin = Some(begin);
    }

    /// Passes commands to the backend one by one while the proxy is about to begin a transaction. Returns whether the rest of
    /// the input can be passed unchanged.
    pub(super) fn serve_one_by_one(&mut self, index: usize, arrived: &mut BytesMut) -> bool {
        while let Some(begin) = self.connections[index].begin {
            let Some((mut command, sql)) = take_command(arrived) else { return false };
            let connection = &self.connections[index];
            let is_early = connection.before_early == Some(connection.readies);
            if sql.starts_with(begin.command) && !is_early {
                self.serve_inside(index, begin, &sql, &mut command);
            } else if let Some(session) = connection.session {
                self.servers[connection.server].backend.handle_input(session, &mut command);
                self.emit(index);
            }
        }
        true
    }

    fn serve_inside(
        &mut self,
        index: usize,
        begin: ProxyTransaction,
        sql: &str,
        command: &mut BytesMut,
    ) {
        log_line!(self, "connection {index}: the proxy begins a transaction at {sql:?}");
        let connection = &mut self.connections[index];
        let Some(session) = connection.session else { return };
        let server = connection.server;
        let times = begin.times - 1;
        connection.begin = (times > 0).then_some(ProxyTransaction { times, ..begin });
        // A ROLLBACK would end the transaction.
        let is_before = begin.is_before && sql != "ROLLBACK";
        if is_before {
            self.begin_now(index, begin.is_failed);
        }
        self.servers[server].backend.handle_input(session, command);
        if !is_before {
            self.begin_now(index, begin.is_failed);
            let status = if begin.is_failed { b'E' } else { b'T' };
            if let [.., b'Z', 0, 0, 0, 5, ready] =
                &mut self.servers[server].backend.transmit(session)[..]
            {
                *ready = status;
            }
        }
        self.emit(index);
        // After a query of the user, a transaction is rolled back, and the session continues.
        if !QUERIES.contains(&sql) {
            let connection = &mut self.connections[index];
            connection.inside.push_back(connection.readies);
        }
        let delay = self.proxy.range(MILLI, 5 * SECOND);
        self.clock.after(delay, SimulatorEvent::ProxyRollback(index), &mut self.random);
    }

    fn begin_now(&mut self, index: usize, is_failed: bool) {
        self.proxy_asks(index, "BEGIN");
        if is_failed {
            self.proxy_asks(index, "SELECT nothing");
        }
    }

    /// Rolls back the transaction of the proxy.
    pub(super) fn undo(&mut self, index: usize) {
        let connection = &self.connections[index];
        if connection.session.is_some() && !connection.is_stopped() {
            log_line!(self, "connection {index}: the proxy rolls back");
            self.proxy_asks(index, "ROLLBACK");
            self.emit(index);
        }
    }

    /// Sends a command of the proxy to the backend. The client receives only the notifications in its answer.
    fn proxy_asks(&mut self, index: usize, sql: &str) {
        let connection = &self.connections[index];
        let Some(session) = connection.session else { return };
        let backend = &mut self.servers[connection.server].backend;
        let before = backend.transmit(session).split();
        let mut query = BytesMut::new();
        FrontendMessage::Query(sql).encode(&mut query).unwrap();
        backend.handle_input(session, &mut query);
        let output = backend.transmit(session);
        let answer = output.split();
        output.extend_from_slice(&before);
        for message in messages(&answer).into_iter().filter(|message| message[0] == b'A') {
            output.extend_from_slice(message);
        }
    }

    /// Checks after a read whether it was an answer from inside a transaction of the proxy: then the session must end.
    pub(super) fn check_inside(&mut self, index: usize) {
        let now = self.clock.now();
        let connection = &mut self.connections[index];
        let readies = connection.read.readies;
        let is_read = connection.inside.front().is_some_and(|&ready| ready <= readies);
        if is_read && connection.inside_at.is_none() {
            connection.inside_at = Some(now);
            log_line!(self, "connection {index}: inside a transaction of the proxy");
            self.clock.after(KERNEL_TIMEOUT, SimulatorEvent::Overdue(index), &mut self.random);
        }
    }

    /// Checks that a session inside a transaction of the proxy is rolled back only once.
    pub(super) fn check_rollbacks(&mut self, index: usize, written: &[u8]) {
        let connection = &mut self.connections[index];
        if connection.inside_at.is_none() {
            return;
        }
        let is_rollback = |words: &&[u8]| *words == b"ROLLBACK\0";
        connection.rollbacks += written.windows(9).filter(is_rollback).count();
        if connection.rollbacks > 1 {
            self.fail(format!("connection {index} is rolled back again"));
        }
    }

    // ---- the end of a session ----

    /// Sends an ERROR of the proxy, and ends the connection, `late` microseconds later.
    pub(super) fn end_with_error(&mut self, index: usize, code: &'static str, late: u64) {
        log_line!(self, "connection {index}: ended by the proxy with an ERROR {code}");
        self.had_failures = true;
        self.connections[index].is_faulty = true;
        self.emit(index);
        self.forget(index);
        let mut bytes = BytesMut::new();
        DbError::new(Severity::Error, code, PROXY_ERROR).encode_error(&mut bytes).unwrap();
        self.carry(index, false, bytes.freeze());
        if late > 0 {
            self.slow_down(index, late);
        }
        self.put(index, false, Packet::Fin);
    }

    /// Checks that an ERROR right before the end is reported as the cause of the end, and not as a dropped notification.
    pub(super) fn check_cause(&mut self, recorded: &RecordedGap) {
        let cause = recorded.gap.cause();
        let text = cause.to_string();
        let sessions = recorded.gap.sessions();
        if text.contains(PROXY_ERROR) && (sessions == 0 || text.contains("dropped")) {
            return self.fail(format!("a gap of {sessions} sessions, because {text}"));
        }
        self.reported_drops +=
            u32::from(sessions == 0 && cause.sqlstate() == Some(DROPPED_SQLSTATE));
        let (reported, drops) = (self.reported_drops, self.drops);
        if reported > drops {
            self.fail(format!(
                "gaps report {reported} dropped notifications, {drops} were: {text}"
            ));
        }
    }
}

/// Splits off the next command, if it is complete, and returns it with its SQL.
fn take_command(arrived: &mut BytesMut) -> Option<(BytesMut, String)> {
    let mut rest = &arrived[..];
    let mut sql = String::new();
    while let [kind, a, b, c, d, body @ ..] = rest {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap() - 4;
        let (body, behind) = (body.get(..length)?, body.get(length..)?);
        rest = behind;
        match kind {
            b'Q' => sql = String::from_utf8_lossy(body.strip_suffix(b"\0")?).into_owned(),
            // The name of the statement, which is empty, and its SQL.
            b'P' => {
                let text = body.split(|&byte| byte == 0).nth(1)?;
                sql = String::from_utf8_lossy(text).into_owned();
            }
            _ => {}
        }
        if matches!(kind, b'Q' | b'S' | b'X') {
            let bytes = arrived.len() - rest.len();
            return Some((arrived.split_to(bytes), sql));
        }
    }
    None
}

/// Counts the ReadyForQuery messages in the output of a backend.
pub(super) fn count_readies(output: &Bytes) -> usize {
    messages(output).into_iter().filter(|message| message[0] == b'Z').count()
}

//! What a proxy does to the sessions behind it: it begins transactions that no client has asked for, and ends a session
//! with an ERROR instead of a FATAL.
//!
//! Its choices come from a generator of its own, and only some of the seeds have it: the others mean what they meant.

use bytes::{Bytes, BytesMut};

use super::chaos::PATIENCE;
use super::clock::{Event, MILLI, SECOND};
use super::connection::{Packet, Stage};
use super::user::QUERIES;
use super::witness::Told;
use super::writers::messages;
use super::{World, say};
use crate::wire::{DbError, FrontendMessage, Severity};

/// What all errors say that a proxy sends right before it ends a connection.
const LAST_WORDS: &str = "the proxy ends this connection (simulated)";

/// The SQLSTATE with which a server reports a dropped notification. It may be taken for the answer to a query, and the true
/// answer then for another such report, with an SQLSTATE of its own.
const DROPPED: &str = "58P01";

/// A transaction that a proxy is about to begin on a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    /// Only at a command that starts with this.
    pub(super) command: &'static str,
    /// Before the command, which is then not done. Else behind it, ahead of its ReadyForQuery.
    pub(super) is_before: bool,
    /// Something has failed in it.
    pub(super) is_failed: bool,
    /// At how many commands in a row.
    pub(super) times: u32,
}

impl World {
    /// The proxy does something, and will do so again.
    pub(super) fn meddle(&mut self) {
        if self.is_calm {
            return;
        }
        let delay = self.proxy.range(1, 6 * SECOND);
        self.clock.after(delay, Event::Meddle, &mut self.random);
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
            let begin = Begin {
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

    pub(super) fn begin_transaction(&mut self, index: usize, begin: Begin) {
        say!(self, "connection {index}: the proxy will begin a transaction: {begin:?}");
        self.is_hindered = true;
        let connection = &mut self.connections[index];
        connection.is_faulty = true;
        connection.begin = Some(begin);
    }

    /// While a proxy is about to begin a transaction, the backend gets the commands one by one. Returns whether the rest of
    /// what has arrived is for the backend as it is.
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

    fn serve_inside(&mut self, index: usize, begin: Begin, sql: &str, command: &mut BytesMut) {
        say!(self, "connection {index}: the proxy begins a transaction at {sql:?}");
        let connection = &mut self.connections[index];
        let Some(session) = connection.session else { return };
        let server = connection.server;
        let times = begin.times - 1;
        connection.begin = (times > 0).then_some(Begin { times, ..begin });
        // A ROLLBACK would end it.
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
        // What the user asks may be answered inside any transaction: that is rolled back, and the session goes on.
        if !QUERIES.contains(&sql) {
            let connection = &mut self.connections[index];
            connection.inside.push_back(connection.readies);
        }
        let delay = self.proxy.range(MILLI, 5 * SECOND);
        self.clock.after(delay, Event::Undo(index), &mut self.random);
    }

    fn begin_now(&mut self, index: usize, is_failed: bool) {
        self.proxy_asks(index, "BEGIN");
        if is_failed {
            self.proxy_asks(index, "SELECT nothing");
        }
    }

    /// The proxy rolls back what it has begun.
    pub(super) fn undo(&mut self, index: usize) {
        let connection = &self.connections[index];
        if connection.session.is_some() && !connection.is_stopped() {
            say!(self, "connection {index}: the proxy rolls back");
            self.proxy_asks(index, "ROLLBACK");
            self.emit(index);
        }
    }

    /// The answer is for the proxy; notifications that come with it are for its client.
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

    /// Our end has read something: if it was an answer from inside a transaction of the proxy, the session must not go on.
    pub(super) fn check_inside(&mut self, index: usize) {
        let now = self.clock.now();
        let connection = &mut self.connections[index];
        let readies = connection.read.readies;
        let is_read = connection.inside.front().is_some_and(|&ready| ready <= readies);
        if is_read && connection.inside_at.is_none() {
            connection.inside_at = Some(now);
            say!(self, "connection {index}: inside a transaction of the proxy");
            self.clock.after(PATIENCE, Event::Overdue(index), &mut self.random);
        }
    }

    /// A session that was answered inside a transaction of the proxy is rolled back once.
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

    /// The proxy says why with an ERROR, and ends the connection at once or so much later.
    pub(super) fn end_with_error(&mut self, index: usize, code: &'static str, late: u64) {
        say!(self, "connection {index}: ended by the proxy with an ERROR {code}");
        self.is_hindered = true;
        self.connections[index].is_faulty = true;
        self.emit(index);
        self.forget(index);
        let mut bytes = BytesMut::new();
        DbError::new(Severity::Error, code, LAST_WORDS).encode_error(&mut bytes).unwrap();
        self.carry(index, false, bytes.freeze());
        if late > 0 {
            self.slow_down(index, late);
        }
        self.put(index, false, Packet::Fin);
    }

    /// An ERROR right before the end is the reason for that end. It is not the report of a dropped notification.
    pub(super) fn check_cause(&mut self, told: &Told) {
        let cause = told.gap.cause();
        let text = cause.to_string();
        let sessions = told.gap.sessions();
        if text.contains(LAST_WORDS) && (sessions == 0 || text.contains("dropped")) {
            return self.fail(format!("a gap of {sessions} sessions, because {text}"));
        }
        self.told_drops += u32::from(sessions == 0 && cause.sqlstate() == Some(DROPPED));
        let (told, drops) = (self.told_drops, self.drops);
        if told > drops {
            self.fail(format!("gaps tell of {told} dropped notifications, {drops} were: {text}"));
        }
    }
}

/// The next command at the head of what has arrived, if all of it is there, and its words.
fn take_command(arrived: &mut BytesMut) -> Option<(BytesMut, String)> {
    let mut rest = &arrived[..];
    let mut sql = String::new();
    while let [kind, a, b, c, d, body @ ..] = rest {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap() - 4;
        let (body, behind) = (body.get(..length)?, body.get(length..)?);
        rest = behind;
        match kind {
            b'Q' => sql = String::from_utf8_lossy(body.strip_suffix(b"\0")?).into_owned(),
            // A statement with a name, which is empty, and its words.
            b'P' => {
                let words = body.split(|&byte| byte == 0).nth(1)?;
                sql = String::from_utf8_lossy(words).into_owned();
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

/// How many answers are complete in what a backend has written.
pub(super) fn count_readies(output: &Bytes) -> usize {
    messages(output).into_iter().filter(|message| message[0] == b'Z').count()
}

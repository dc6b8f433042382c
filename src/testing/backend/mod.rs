//! A server that speaks PostgreSQL's protocol and knows LISTEN and NOTIFY, without any I/O.

mod answer;
mod answers;
mod array;
mod catalogue;
mod codec;
mod config;
mod connection;
mod counts;
mod executor;
mod extended;
mod field;
mod formats;
mod kept;
mod keywords;
mod login;
mod parser;
mod proof;
mod proxy;
mod query;
mod random;
mod refusal;
mod select;
mod settings;
mod startup;
mod statement;
mod token;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;

use self::answers::Answers;
use self::connection::Connection;
use self::counts::Counts;
use self::executor::{Executor, Note};
use self::login::Roles;
use self::random::Random;
use crate::proto::wire::{DbError, ProtocolVersion, Severity};

pub use answer::Answer;
pub use config::{Auth, BackendConfig, OUTPUT_BYTES_MAX, SCRAM_ITERATIONS};
pub use counts::Count;
pub use proxy::Proxy;
pub use query::Query;

/// Names a session of one backend. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// A server that speaks PostgreSQL's protocol and knows LISTEN and NOTIFY, without any I/O.
///
/// ```text
/// bytes of a client ─handle_input─▶ session ─┬─▶ transmit: bytes for this client
///                                            └─▶ other sessions that listen ─poll_wake─▶ transmit
/// ```
/// One backend is one database. All its sessions live in one thread; a notification is in the
/// output of every idle listener when the call that committed it returns.
///
/// What it does not do: tables, SQL beyond the few statements of listeners, notifiers and the drivers below them (anything
/// else is answered by the test, see [`answer`](Self::answer), or is ERROR 0A000, never a wrong answer), savepoints, TLS, GSSAPI, COPY,
/// several databases (each name is this one), privileges. SET takes any name, has no effect but on what SHOW and ParameterStatus
/// tell, and is not undone by ROLLBACK. The binary format is that of the common types, see [`Answer::types`].
///
/// It has limits, so that no client takes more memory than a test has: 16 MiB for a message, 64 MiB for a result, 1,000,000 channels
/// for a session, 128 MiB for what a transaction does, and others below what clients need.
///
/// Methods that take the id of a session that is gone do nothing.
#[derive(Debug)]
pub struct Backend {
    shared: Shared,
    parameters: BTreeMap<String, String>,
    connections: BTreeMap<SessionId, Connection>,
    /// Channels to which nobody may listen.
    refused: Arc<BTreeSet<String>>,
    sessions_max: usize,
    next_session: u64,
    next_process_id: i32,
    /// Sessions that got output from somebody else's command.
    woken: BTreeSet<SessionId>,
    /// What [`transmit`](Self::transmit) gives for a session that is gone.
    nothing: BytesMut,
}

/// What the sessions share.
#[derive(Debug)]
struct Shared {
    roles: Roles,
    random: Random,
    counts: Counts,
    protocol_max: ProtocolVersion,
    output_bytes_max: usize,
    proxy: Proxy,
    answers: Answers,
    /// Notifications that one message committed, for the other sessions.
    outbox: Vec<Arc<Note>>,
}

impl Default for Backend {
    fn default() -> Self {
        Self::new(BackendConfig::default())
    }
}

impl Backend {
    /// A backend without sessions. With SCRAM this derives the keys of every role: milliseconds each.
    #[must_use]
    pub fn new(config: BackendConfig) -> Self {
        let mut random = Random::new(config.seed);
        let roles = Roles::new(&config, &mut random);
        Self {
            shared: Shared {
                roles,
                random,
                counts: Counts::default(),
                protocol_max: config.protocol_max,
                output_bytes_max: config.output_bytes_max,
                proxy: config.proxy,
                answers: Answers::default(),
                outbox: Vec::new(),
            },
            parameters: config.parameters,
            connections: BTreeMap::new(),
            refused: Arc::default(),
            sessions_max: config.sessions_max,
            next_session: 0,
            next_process_id: config.first_process_id,
            woken: BTreeSet::new(),
            nothing: BytesMut::new(),
        }
    }

    /// A client has connected: its first packet is due.
    pub fn connect(&mut self) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session = self.next_session.wrapping_add(1);
        let proxy = self.shared.proxy;
        let mut executor = Executor::new(self.next_process_id, self.parameters.clone(), proxy);
        executor.refuse(Arc::clone(&self.refused));
        if proxy != Proxy::OneSession {
            self.next_process_id = self.next_process_id.wrapping_add(1);
        }
        let mut connection = Connection::new(executor, self.shared.random.bytes());
        connection.is_surplus = self.connections.len() >= self.sessions_max;
        self.connections.insert(id, connection);
        id
    }

    /// Handles every whole message at the head of `input`, and removes them.
    pub fn handle_input(&mut self, session: SessionId, input: &mut BytesMut) {
        let Some(connection) = self.connections.get_mut(&session) else {
            input.clear();
            return;
        };
        let process_id = connection.executor.process_id();
        while let Some(connection) = self.connections.get_mut(&session) {
            let handled = connection.handle_message(&mut self.shared, input);
            self.hand_out(Some(session), process_id);
            if !handled {
                return;
            }
        }
    }

    /// Commits a transaction of somebody who is not connected here: notifications of a channel and a
    /// payload each, which every session that listens receives from the server process `process_id`.
    /// Equal ones arrive once. N62.
    ///
    /// For tests that want another sender than a session of their own, and many of them at no cost.
    pub fn commit<'a>(
        &mut self,
        process_id: i32,
        notifications: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        for (channel, payload) in notifications {
            let note = Note { channel: channel.to_owned(), payload: payload.to_owned() };
            if !self.shared.outbox.iter().any(|other| **other == note) {
                self.shared.counts.committed(channel);
                self.shared.outbox.push(Arc::new(note));
            }
        }
        self.hand_out(None, process_id);
    }

    /// Answers every statement with exactly this text with `answer`, which replaces an earlier one.
    /// Blanks and comments around the text and semicolons at its end do not count.
    ///
    /// It also replaces an answer that the backend itself would give: a LISTEN can be refused too.
    pub fn answer(&mut self, sql: &str, answer: Answer) {
        self.shared.answers.set(sql, answer);
    }

    /// Asks `function` about every statement that has no answer by its text, also about those that this crate sends by
    /// itself. After `None` the next function is asked, older ones last, and then the backend answers by itself.
    ///
    /// It is asked about a statement twice or more: when that is prepared, where only the columns of the answer matter,
    /// and whenever it is carried out ([`Query::is_executed`]). An answer that is an error counts when it is carried out.
    /// With the extended protocol the columns must stay what they were.
    ///
    /// If it panics, so does [`handle_input`](Self::handle_input); a [`Server`](crate::testing::Server) closes the
    /// connection.
    pub fn answer_with(
        &mut self,
        function: impl FnMut(&Query<'_>) -> Option<Answer> + Send + 'static,
    ) {
        self.shared.answers.add(Box::new(function));
    }

    /// Forgets all answers and functions.
    pub fn forget_answers(&mut self) {
        self.shared.answers.clear();
    }

    /// A session listens to nothing any more and is not told so, as behind a pooler that sends `DISCARD ALL`.
    pub fn forget_channels(&mut self, session: SessionId) {
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.executor.forget_channels();
        }
    }

    /// From now on LISTEN to one of these channels is refused: ERROR 42501, as by an extension that guards
    /// channels. Sessions that listen to one already go on doing so. Takes the place of what was given
    /// before.
    pub fn refuse_channels(&mut self, channels: impl IntoIterator<Item = impl Into<String>>) {
        self.refused = Arc::new(channels.into_iter().map(Into::into).collect());
        for connection in self.connections.values_mut() {
            connection.executor.refuse(Arc::clone(&self.refused));
        }
    }

    /// Gives what a message committed to every other session that listens.
    fn hand_out(&mut self, from: Option<SessionId>, process_id: i32) {
        if self.shared.outbox.is_empty() {
            return;
        }
        let notes = std::mem::take(&mut self.shared.outbox);
        if self.shared.proxy == Proxy::OneSession {
            return;
        }
        for (&id, connection) in self.connections.iter_mut().filter(|(id, _)| Some(**id) != from) {
            for note in &notes {
                connection.receive(process_id, note);
            }
            let sent = connection.flush_inbox(&mut self.shared);
            if connection.check_bound(&mut self.shared) || sent {
                self.woken.insert(id);
            }
        }
    }

    /// What is to be written to the client. The caller removes from its front what it has written.
    pub fn transmit(&mut self, session: SessionId) -> &mut BytesMut {
        match self.connections.get_mut(&session) {
            Some(connection) => &mut connection.output,
            None => {
                self.nothing.clear();
                &mut self.nothing
            }
        }
    }

    /// A session that got something to write, or was ended, by other means than its own input.
    /// Each is named once, then again when more comes.
    pub fn poll_wake(&mut self) -> Option<SessionId> {
        self.woken.pop_first()
    }

    /// Whether the session is over: the socket is to be closed once
    /// [`transmit`](Self::transmit) is empty. True for a session that is gone.
    #[must_use]
    pub fn is_closed(&self, session: SessionId) -> bool {
        self.connections.get(&session).is_none_or(Connection::is_closed)
    }

    /// The client is gone: its session is forgotten, an open transaction with it.
    pub fn disconnect(&mut self, session: SessionId) {
        self.connections.remove(&session);
        self.woken.remove(&session);
    }

    /// Ends a session as `pg_terminate_backend` does: FATAL 57P01. E1.
    pub fn terminate(&mut self, session: SessionId) {
        if let Some(connection) = self.connections.get_mut(&session) {
            let text = "terminating connection due to administrator command";
            connection.fatal(&DbError::new(Severity::Fatal, "57P01", text));
            self.woken.insert(session);
        }
    }

    /// Ends a session without a message to its client, as when the server process is killed.
    pub fn kill(&mut self, session: SessionId) {
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.cut();
            self.woken.insert(session);
        }
    }

    /// The sessions that have not been [disconnected](Self::disconnect), oldest first.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.connections.keys().copied()
    }

    /// Process id of a session, as BackendKeyData names it.
    #[must_use]
    pub fn process_id(&self, session: SessionId) -> Option<i32> {
        self.connections.get(&session).map(|connection| connection.executor.process_id())
    }

    /// The channels that a session listens to, sorted. A session that is over listens to none.
    pub fn channels(&self, session: SessionId) -> impl Iterator<Item = &str> {
        let connection = self.connections.get(&session);
        connection
            .filter(|connection| !connection.is_closed())
            .into_iter()
            .flat_map(|connection| connection.executor.listening())
            .map(String::as_str)
    }

    /// How many notifications went through a channel since the backend was made.
    #[must_use]
    pub fn count(&self, channel: &str) -> Count {
        self.shared.counts.get(channel)
    }
}

//! A server that speaks PostgreSQL's protocol with LISTEN and NOTIFY, without any I/O.

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
mod heartbeat_query;
mod keywords;
mod login;
mod named_objects;
mod parser;
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
use self::executor::{Executor, QueuedNotification};
use self::login::Roles;
use self::random::Random;
use crate::proto::wire::{DbError, ProtocolVersion, Severity};

pub use answer::Answer;
pub use config::{Auth, BackendConfig, OUTPUT_BYTES_MAX, SCRAM_ITERATIONS};
pub use counts::Count;
pub use proxy::Proxy;
pub use query::Query;

/// The id of a session of one backend. Never used twice.
///
/// ```
/// use pgbell::testing::{Backend, BackendConfig};
///
/// let mut backend = Backend::new(BackendConfig::new());
/// let (first, second) = (backend.connect(), backend.connect());
/// assert!(first != second);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// A server that speaks PostgreSQL's protocol with LISTEN and NOTIFY, without any I/O.
///
/// ```text
/// bytes of a client ─handle_input─▶ session ─┬─▶ transmit: bytes for this client
///                                            └─▶ other sessions that listen ─poll_wake─▶ transmit
/// ```
/// One backend is one database. All its sessions run in one thread. When the call that committed a notification
/// returns, the notification is in the output of every idle listener.
///
/// It has no tables, no savepoints, no TLS, no GSSAPI, no COPY, no privileges, and one database, whose name may be any. It
/// supports only the few statements that listeners, notifiers and drivers send. For other statements a test sets an answer, see
/// [`answer`](Self::answer); without one they are ERROR 0A000, never a wrong answer. SET accepts any name, changes only what SHOW
/// and ParameterStatus report, and is not undone by ROLLBACK. The binary format is that of the common types, see
/// [`Answer::types`].
///
/// Limits bound the memory that a client can use: 16 MiB for a message, 64 MiB for a result, 1,000,000 channels
/// for a session, 128 MiB for the changes of a transaction, and others. They are above the needs of real clients.
///
/// Methods do nothing for the id of a session that is gone.
#[derive(Debug)]
pub struct Backend {
    shared: Shared,
    parameters: BTreeMap<String, String>,
    connections: BTreeMap<SessionId, Connection>,
    /// Channels for which LISTEN is refused.
    refused: Arc<BTreeSet<String>>,
    sessions_max: usize,
    next_session: u64,
    next_process_id: i32,
    /// Sessions that got output from a command of another session.
    woken: BTreeSet<SessionId>,
    /// The output that [`transmit`](Self::transmit) returns for a session that is gone.
    nothing: BytesMut,
}

/// The state that the sessions share.
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
    outbox: Vec<Arc<QueuedNotification>>,
}

impl Default for Backend {
    fn default() -> Self {
        Self::new(BackendConfig::default())
    }
}

impl Backend {
    /// Returns a backend without sessions. With SCRAM this derives the keys of every role, some milliseconds each.
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

    /// Adds a session for a client that has connected. Its first packet is expected.
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

    /// Handles every complete message at the front of `input`, and removes it.
    pub fn handle_input(&mut self, session: SessionId, input: &mut BytesMut) {
        let Some(connection) = self.connections.get_mut(&session) else {
            input.clear();
            return;
        };
        let process_id = connection.executor.process_id();
        while let Some(connection) = self.connections.get_mut(&session) {
            let handled = connection.handle_message(&mut self.shared, input);
            self.distribute(Some(session), process_id);
            if !handled {
                return;
            }
        }
    }

    /// Commits a transaction of a sender that has no session in this backend. It has notifications, each of a channel and a
    /// payload. Every session that listens receives them, with `process_id` as the sender. Of equal notifications one arrives.
    ///
    /// Use it in tests that need another sender than one of the sessions, or many notifications at low cost.
    pub fn commit<'a>(
        &mut self,
        process_id: i32,
        notifications: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        for (channel, payload) in notifications {
            let notification =
                QueuedNotification { channel: channel.to_owned(), payload: payload.to_owned() };
            if !self.shared.outbox.iter().any(|other| **other == notification) {
                self.shared.counts.committed(channel);
                self.shared.outbox.push(Arc::new(notification));
            }
        }
        self.distribute(None, process_id);
    }

    /// Answers every statement with exactly this text with `answer`. Replaces an earlier answer.
    /// Blanks and comments around the text, and semicolons at its end, are ignored.
    ///
    /// It also replaces the backend's own answer: a LISTEN can be refused too.
    pub fn answer(&mut self, sql: &str, answer: Answer) {
        self.shared.answers.set(sql, answer);
    }

    /// Calls `function` for every statement that has no answer by its text, including those that this crate itself
    /// sends. If it returns `None`, the earlier functions are called, the newest first, and then the backend answers itself.
    ///
    /// It is called at least twice for a statement: when it is prepared, where only the columns of the answer matter, and
    /// whenever it is executed ([`Query::is_executed`]). An error as the answer is used when the statement is executed.
    /// With the extended protocol the columns must be the same each time.
    ///
    /// If it panics, so does [`handle_input`](Self::handle_input); a [`Server`](crate::testing::Server) closes the
    /// connection.
    pub fn answer_with(
        &mut self,
        function: impl FnMut(&Query<'_>) -> Option<Answer> + Send + 'static,
    ) {
        self.shared.answers.add(Box::new(function));
    }

    /// Removes all answers and functions.
    pub fn forget_answers(&mut self) {
        self.shared.answers.clear();
    }

    /// Removes all channels of a session without a message to the client, like a pooler that sends `DISCARD ALL`.
    pub fn forget_channels(&mut self, session: SessionId) {
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.executor.forget_channels();
        }
    }

    /// Refuses LISTEN for these channels from now on: ERROR 42501, as an extension that protects channels does.
    /// Sessions that already listen to one keep listening. Replaces the channels of an earlier call.
    pub fn refuse_channels(&mut self, channels: impl IntoIterator<Item = impl Into<String>>) {
        self.refused = Arc::new(channels.into_iter().map(Into::into).collect());
        for connection in self.connections.values_mut() {
            connection.executor.refuse(Arc::clone(&self.refused));
        }
    }

    /// Passes the notifications that a message committed to every other session that listens.
    fn distribute(&mut self, from: Option<SessionId>, process_id: i32) {
        if self.shared.outbox.is_empty() {
            return;
        }
        let notifications = std::mem::take(&mut self.shared.outbox);
        if self.shared.proxy == Proxy::OneSession {
            return;
        }
        for (&id, connection) in self.connections.iter_mut().filter(|(id, _)| Some(**id) != from) {
            for notification in &notifications {
                connection.receive(process_id, notification);
            }
            let sent = connection.flush_inbox(&mut self.shared);
            if connection.check_bound(&mut self.shared) || sent {
                self.woken.insert(id);
            }
        }
    }

    /// Returns the bytes for the client. The caller removes written bytes from the front.
    pub fn transmit(&mut self, session: SessionId) -> &mut BytesMut {
        match self.connections.get_mut(&session) {
            Some(connection) => &mut connection.output,
            None => {
                self.nothing.clear();
                &mut self.nothing
            }
        }
    }

    /// Returns a session that got output or was ended by anything else than its own input. A session is returned
    /// once, and again when it gets more.
    pub fn poll_wake(&mut self) -> Option<SessionId> {
        self.woken.pop_first()
    }

    /// Returns whether the session has ended: the socket is to be closed once
    /// [`transmit`](Self::transmit) is empty. True for a session that is gone.
    #[must_use]
    pub fn is_closed(&self, session: SessionId) -> bool {
        self.connections.get(&session).is_none_or(Connection::is_closed)
    }

    /// Removes the session of a client that is gone. An open transaction is rolled back.
    pub fn disconnect(&mut self, session: SessionId) {
        self.connections.remove(&session);
        self.woken.remove(&session);
    }

    /// Ends a session as `pg_terminate_backend` does: FATAL 57P01.
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

    /// Returns the sessions that have not been [disconnected](Self::disconnect), oldest first.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.connections.keys().copied()
    }

    /// Returns the process id of a session, as in BackendKeyData.
    #[must_use]
    pub fn process_id(&self, session: SessionId) -> Option<i32> {
        self.connections.get(&session).map(|connection| connection.executor.process_id())
    }

    /// Returns the channels that a session listens to, sorted. A session that has ended listens to none.
    pub fn channels(&self, session: SessionId) -> impl Iterator<Item = &str> {
        let connection = self.connections.get(&session);
        connection
            .filter(|connection| !connection.is_closed())
            .into_iter()
            .flat_map(|connection| connection.executor.listening())
            .map(String::as_str)
    }

    /// Returns the number of notifications that went through a channel since the backend was made.
    #[must_use]
    pub fn count(&self, channel: &str) -> Count {
        self.shared.counts.get(channel)
    }
}

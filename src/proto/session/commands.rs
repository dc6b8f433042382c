//! The commands of a session. All of them are pipelined.

use std::time::Instant;

use bytes::BytesMut;

use super::after_terminate::AfterTerminate;
use super::channel_names::check_channel_names;
use super::command::{CommandId, CommandKind, Pending};
use super::{Session, SessionPhase};
use crate::error::{Error, ErrorKind};
use crate::proto::wire::{self, Formats, FrontendMessage, Oids, Target, Values};

/// The object id of the type `text` in `pg_type`.
const TEXT_OID: u32 = 25;

/// The schema is named, so that no function of this name in the user's `search_path` is called instead.
const NOTIFY: &str = "SELECT pg_catalog.pg_notify($1, $2)";

/// Makes the server send notices even if the role hides them. The server reports with a notice that it has cut a name.
const SHOW_NOTICES: &str = "SET client_min_messages = notice";

/// The largest answer to a statement without rows, in bytes: a command tag.
const TAG_BYTES_MAX: usize = 1_024;

impl Session {
    /// Runs one or more statements, separated by semicolons, in one transaction unless they say
    /// otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if `sql` contains a NUL; [`ErrorKind::Closed`] if the session is not
    /// ready. Nothing is sent then.
    pub fn simple_query(&mut self, now: Instant, sql: &str) -> Result<CommandId, Error> {
        self.command(now, CommandKind::Simple, &[FrontendMessage::Query(sql)])
    }

    /// Runs one statement with parameters in text format, each with the object id of its type;
    /// 0 lets the server infer it.
    ///
    /// # Errors
    /// As [`simple_query`](Self::simple_query). More than 65,535 parameters are
    /// [`ErrorKind::Misuse`].
    pub fn query(
        &mut self,
        now: Instant,
        sql: &str,
        parameters: &[(u32, Option<&str>)],
    ) -> Result<CommandId, Error> {
        let types: Vec<u32> = parameters.iter().map(|(oid, _)| *oid).collect();
        let values: Vec<Option<&[u8]>> =
            parameters.iter().map(|(_, value)| value.map(str::as_bytes)).collect();
        let parameter_types = Oids::new(&types);
        let parse = FrontendMessage::Parse { statement: "", query: sql, parameter_types };
        let [bind, describe, execute, sync] = bound("", &values);
        self.command(now, CommandKind::Bound, &[parse, bind, describe, execute, sync])
    }

    /// Runs a statement that the server keeps under `name`, with parameters in text format whose types the server infers.
    /// With `sql`, a statement of this name is replaced before, if there is one.
    ///
    /// A statement outlives the command, also if the command fails. Behind a pooler, the next command may run in another
    /// session of the server, which does not have the statement, or has that of another client.
    ///
    /// # Errors
    /// As [`query`](Self::query). [`ErrorKind::Misuse`] also if `name` contains a NUL.
    pub fn query_prepared(
        &mut self,
        now: Instant,
        name: &str,
        sql: Option<&str>,
        parameters: &[Option<&str>],
    ) -> Result<CommandId, Error> {
        let values: Vec<Option<&[u8]>> =
            parameters.iter().map(|value| value.map(str::as_bytes)).collect();
        let mut messages = Vec::with_capacity(6);
        if let Some(query) = sql {
            let parameter_types = Oids::new(&[]);
            messages.push(FrontendMessage::Close { target: Target::Statement, name });
            messages.push(FrontendMessage::Parse { statement: name, query, parameter_types });
        }
        messages.extend(bound(name, &values));
        self.command(now, CommandKind::Bound, &messages)
    }

    /// Sends a notification with `pg_notify`, both values bound.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for a channel that is empty, is longer than 63 bytes or contains a NUL, and for a
    /// payload longer than 7,999 bytes; [`ErrorKind::Closed`] if the session is not ready.
    pub fn notify(
        &mut self,
        now: Instant,
        channel: &str,
        payload: &str,
    ) -> Result<CommandId, Error> {
        wire::check_channel(channel)?;
        wire::check_payload(payload)?;
        let parameters = [(TEXT_OID, Some(channel)), (TEXT_OID, Some(payload))];
        let id = self.query(now, NOTIFY, &parameters)?;
        self.limit_rows(id, 1);
        Ok(id)
    }

    /// Listens to channels. If the server refuses one, none of them is listened to.
    ///
    /// If a name is too long in the encoding of the database, the server only sends a notice, which a role can hide.
    /// So `SET client_min_messages = notice` is sent before a name that may be too long. The answer to it is ignored.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if there is no channel, or if a name is empty, is longer than 63 bytes or contains a
    /// NUL; [`ErrorKind::Closed`] if the session is not ready.
    pub fn listen(
        &mut self,
        now: Instant,
        channels: &[impl AsRef<str>],
    ) -> Result<CommandId, Error> {
        self.listen_owned(now, owned(channels))
    }

    /// As [`listen`](Self::listen). The names are moved, and returned with the answer.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn listen_owned(
        &mut self,
        now: Instant,
        channels: Vec<String>,
    ) -> Result<CommandId, Error> {
        let sql = statements("LISTEN ", &channels)?;
        if channels.iter().any(|name| self.may_be_cut(name)) {
            // In a query of its own, because the server parses a whole query before it carries out the first statement.
            self.utility(now, SHOW_NOTICES)?;
        }
        self.command(now, CommandKind::Listen(channels), &[FrontendMessage::Query(&sql)])
    }

    /// Rolls back a transaction. If the session ends first, the result is the error that ended it.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the session is not ready.
    pub fn roll_back(&mut self, now: Instant) -> Result<CommandId, Error> {
        self.utility(now, "ROLLBACK")
    }

    /// Runs a statement of our own that returns no rows. It has a deadline, as LISTEN has.
    fn utility(&mut self, now: Instant, sql: &'static str) -> Result<CommandId, Error> {
        let id = self.command(now, CommandKind::Utility(sql), &[FrontendMessage::Query(sql)])?;
        self.limit_answer(id, TAG_BYTES_MAX);
        self.limit_rows(id, 0);
        Ok(id)
    }

    /// Stops listening to channels.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn unlisten(
        &mut self,
        now: Instant,
        channels: &[impl AsRef<str>],
    ) -> Result<CommandId, Error> {
        self.unlisten_owned(now, owned(channels))
    }

    /// As [`unlisten`](Self::unlisten). The names are moved, and returned with the answer.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn unlisten_owned(
        &mut self,
        now: Instant,
        channels: Vec<String>,
    ) -> Result<CommandId, Error> {
        let kept = self.also_ended_by(&channels);
        self.unlisten_and_keep(now, channels, kept)
    }

    /// Stops listening to every channel.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the session is not ready.
    pub fn unlisten_all(&mut self, now: Instant) -> Result<CommandId, Error> {
        self.command(now, CommandKind::UnlistenAll, &[FrontendMessage::Query("UNLISTEN *")])
    }

    /// Ends the session cleanly with Terminate, or without a message before the server was ready.
    /// Commands in flight get an error.
    ///
    /// Notifications that still arrive are [reported](super::Progress::Notifications) as before, until the server has read
    /// Terminate and closes the connection. All other messages are skipped.
    pub fn terminate(&mut self) {
        if matches!(self.phase, SessionPhase::Failed(_) | SessionPhase::Terminated(_)) {
            return;
        }
        let closed = Error::new(ErrorKind::Closed, "the connection was closed");
        let (mut unsent, mut rest) = (BytesMut::new(), AfterTerminate::Nothing);
        // N67: during the startup the server would log Terminate as a protocol violation.
        if self.is_ready() && self.send(&FrontendMessage::Terminate).is_ok() {
            (unsent, rest) = (std::mem::take(&mut self.transmit), AfterTerminate::Messages);
        }
        self.fail(closed);
        self.transmit = unsent;
        self.phase = SessionPhase::Terminated(rest);
    }

    pub(super) fn command(
        &mut self,
        now: Instant,
        kind: CommandKind,
        messages: &[FrontendMessage<'_>],
    ) -> Result<CommandId, Error> {
        match &self.phase {
            SessionPhase::Ready => {}
            SessionPhase::Failed(error) => {
                return Err(Error::caused(
                    ErrorKind::Closed,
                    "the connection is over",
                    error.clone(),
                ));
            }
            SessionPhase::Startup { .. } | SessionPhase::Terminated(_) => {
                return Err(Error::new(ErrorKind::Closed, "the session is not ready"));
            }
        }
        let before = (self.transmit.len(), self.queued);
        let mut end = self.queued;
        for message in messages {
            if let Err(error) = self.send(message) {
                // A command is sent as a whole or not at all.
                self.transmit.truncate(before.0);
                self.queued = before.1;
                return Err(error);
            }
            if !matches!(message, FrontendMessage::Sync) {
                end = self.queued;
            }
        }
        let id = CommandId(self.next_command);
        self.next_command = self.next_command.wrapping_add(1);
        self.pending.push_back(Pending::new(id, kind, end, self.result_bytes_max));
        self.start_timeout(now);
        Ok(id)
    }

    /// Requires that no transaction is open after the answer to a command. If one is, another
    /// client of the same backend has begun it, and the session fails. It has no effect after the
    /// command is answered.
    pub fn require_commit(&mut self, id: CommandId) {
        if let Some(pending) = self.find(id) {
            pending.require_commit();
        }
    }

    /// Limits an answer to `bytes`. A larger one is refused with [`ErrorKind::Unsupported`].
    pub fn limit_answer(&mut self, id: CommandId, bytes: usize) {
        if let Some(pending) = self.find(id) {
            pending.limit(bytes);
        }
    }

    /// Limits an answer to `rows` rows. With more rows the session fails. This is for statements whose answer is known,
    /// so that a server cannot keep the session busy with rows until the deadline of the command.
    pub fn limit_rows(&mut self, id: CommandId, rows: usize) {
        if let Some(pending) = self.find(id) {
            pending.limit_rows(rows);
        }
    }

    fn find(&mut self, id: CommandId) -> Option<&mut Pending> {
        self.pending.iter_mut().rev().find(|pending| pending.id == id)
    }
}

/// Returns the messages that run a statement which the server has parsed. Parameters and results have text format.
fn bound<'a>(statement: &'a str, values: &'a [Option<&'a [u8]>]) -> [FrontendMessage<'a>; 4] {
    let parameter_formats = Formats::new(&[]);
    let (parameters, result_formats) = (Values::new(values), Formats::new(&[]));
    [
        FrontendMessage::Bind {
            portal: "",
            statement,
            parameter_formats,
            parameters,
            result_formats,
        },
        FrontendMessage::Describe { target: Target::Portal, name: "" },
        FrontendMessage::Execute { portal: "", max_rows: 0 },
        FrontendMessage::Sync,
    ]
}

/// Returns `LISTEN "a";LISTEN "b"`: one Query, so one transaction and one round trip. Names are always quoted.
pub(super) fn statements(verb: &str, channels: &[impl AsRef<str>]) -> Result<String, Error> {
    check_channel_names(channels)?;
    let mut sql = String::new();
    for channel in channels.iter().map(AsRef::as_ref) {
        if !sql.is_empty() {
            sql.push(';');
        }
        sql.push_str(verb);
        wire::quote_identifier(channel, &mut sql);
    }
    Ok(sql)
}

fn owned(channels: &[impl AsRef<str>]) -> Vec<String> {
    channels.iter().map(|name| name.as_ref().to_owned()).collect()
}

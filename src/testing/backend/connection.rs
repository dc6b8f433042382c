//! One client of the backend: its phase, its buffers, its waiting notifications.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::Shared;
use super::codec;
use super::executor::{Executor, Outcome, QueuedNotification};
use super::extended::Pipeline;
use super::field::Field;
use super::formats::Formats;
use super::login::{Exchange, malformed};
use super::query::Query;
use super::refusal::Refusal;
use super::select::Value;
use super::statement::{self, ParsedSql, Statement};
use super::types::Type;
use crate::proto::wire::{
    BackendMessage, ColumnDescription, Columns, DbError, DecodeError, Diagnostic, Frame, Framer,
    FrontendMessage, ProtocolVersion, RawNotification, Severity, TransactionStatus, Values,
};

/// The longest message of a client, as a length word. A limit of this backend: a server accepts a gigabyte.
const MESSAGE_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// The connection of one client.
pub(super) struct Connection {
    pub(super) phase: Phase,
    pub(super) secret_key: [u8; 32],
    pub(super) output: BytesMut,
    pub(super) executor: Executor,
    pub(super) pipeline: Pipeline,
    /// The session exceeds `sessions_max`: the client is refused after its startup packet.
    pub(super) is_surplus: bool,
    /// Notifications that wait for the end of a transaction.
    inbox: VecDeque<(i32, Arc<QueuedNotification>)>,
    inbox_bytes: usize,
}

pub(super) enum Phase {
    /// The startup packet is expected. Each request for encryption is answered once.
    Startup {
        tls_refused: bool,
        gss_refused: bool,
    },
    Login {
        user: String,
        version: ProtocolVersion,
        exchange: Exchange,
    },
    /// A placeholder while an answer is checked.
    CheckingAnswer,
    Ready,
    Closed,
}

impl Connection {
    pub(super) fn new(executor: Executor, secret_key: [u8; 32]) -> Self {
        Self {
            phase: Phase::Startup { tls_refused: false, gss_refused: false },
            secret_key,
            output: BytesMut::new(),
            executor,
            pipeline: Pipeline::default(),
            is_surplus: false,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    /// Returns the number of bytes that wait for the client.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.output.len().saturating_add(self.inbox_bytes)
    }

    /// Handles the message at the front of `input`, if it is complete. Returns whether one was handled.
    pub(super) fn handle_message(&mut self, shared: &mut Shared, input: &mut BytesMut) -> bool {
        let handled = match self.phase {
            Phase::Closed => {
                input.clear();
                return false;
            }
            Phase::Startup { .. } => self.handle_first_packet(shared, input),
            Phase::Login { .. } | Phase::CheckingAnswer | Phase::Ready => {
                self.handle_frame(shared, input)
            }
        };
        match handled {
            Ok(0) => false,
            Ok(bytes) => {
                input.advance(bytes.min(input.len()));
                self.check_bound(shared);
                true
            }
            Err(error) => {
                self.fatal(&error);
                false
            }
        }
    }

    // ---- messages ----

    fn handle_frame(&mut self, shared: &mut Shared, input: &BytesMut) -> Result<usize, DbError> {
        refuse_long(input)?;
        let frame = Framer::frontend().next(input).map_err(|error| malformed(&error))?;
        let Some(frame) = frame else { return Ok(0) };
        let message = match FrontendMessage::decode(frame) {
            Ok(message) => message,
            // The next message begins where it would begin without the error.
            Err(error) if self.is_ready() => {
                self.refuse_malformed(shared, frame, &error);
                return Ok(frame.wire_len());
            }
            Err(error) => return Err(malformed(&error)),
        };
        match (&self.phase, &message) {
            (Phase::Login { .. }, FrontendMessage::Password(body)) => {
                self.handle_answer(shared, body)?;
            }
            (_, FrontendMessage::Terminate) => self.phase = Phase::Closed,
            (Phase::Ready, FrontendMessage::Password(_)) | (Phase::Login { .. }, _) => {
                let text = format!("unexpected {} message", message.name());
                return Err(DbError::new(Severity::Fatal, "08P01", &text));
            }
            // After an error in a pipeline all messages up to Sync are skipped.
            (_, FrontendMessage::Sync) => {
                self.pipeline.sync();
                self.ready(shared);
            }
            _ if self.pipeline.is_skipping() => {}
            (_, FrontendMessage::Query(sql)) => self.handle_query(shared, sql),
            (_, FrontendMessage::FunctionCall(_)) => {
                self.refuse(&Refusal::unsupported("FunctionCall"));
                self.ready(shared);
            }
            // Outside COPY these messages are ignored. The backend has no COPY.
            (
                _,
                FrontendMessage::CopyData(_)
                | FrontendMessage::CopyDone
                | FrontendMessage::CopyFail(_)
                | FrontendMessage::Flush,
            ) => {}
            _ => {
                if let Err(refusal) = self.handle_extended(shared, &message) {
                    self.refuse(&refusal);
                    self.pipeline.fail();
                }
            }
        }
        Ok(frame.wire_len())
    }

    /// Refuses a message whose body is malformed.
    fn refuse_malformed(&mut self, shared: &mut Shared, frame: Frame<'_>, error: &DecodeError) {
        if self.pipeline.is_skipping() {
            return;
        }
        let is_text = matches!(frame.tag, b'Q' | b'P');
        self.refuse(&match std::str::from_utf8(frame.body) {
            Err(_) if is_text => Refusal::not_utf8(),
            _ => Refusal::new("08P01", error.to_string()),
        });
        match frame.tag {
            b'Q' | b'F' => self.ready(shared),
            _ => self.pipeline.fail(),
        }
    }

    fn handle_query(&mut self, shared: &mut Shared, sql: &str) {
        self.pipeline.forget_unnamed();
        if let Err(refusal) = self.run(shared, sql) {
            self.refuse(&refusal);
        }
        self.ready(shared);
    }

    fn run(&mut self, shared: &mut Shared, sql: &str) -> Result<(), Refusal> {
        let script = self.parse_sql(shared, sql)?;
        self.send_truncation_notices(&script.cuts);
        if script.statements.is_empty() {
            self.send(&BackendMessage::EmptyQueryResponse);
        }
        for statement in &script.statements {
            let outcome = self.execute(shared, statement, &[], &[])?;
            let (fields, formats) = (outcome.fields.as_deref(), Formats::default());
            if let Some(fields) = fields {
                self.describe(fields, &formats);
            }
            for row in &outcome.rows {
                self.row(row, fields.unwrap_or_default(), &formats)?;
            }
            self.complete(outcome.warning.as_ref(), &outcome.tag);
            if self.check_bound(shared) {
                break;
            }
        }
        Ok(())
    }

    /// Parses the statements of a text. Statements that the test answers are replaced by its answers.
    pub(super) fn parse_sql(&self, shared: &mut Shared, sql: &str) -> Result<ParsedSql, Refusal> {
        let process_id = self.executor.process_id();
        let answers = &mut shared.answers;
        statement::parse(sql, &mut |sql| answers.find(&Query { sql, parameters: None, process_id }))
    }

    /// Executes a statement.
    pub(super) fn execute(
        &mut self,
        shared: &mut Shared,
        statement: &Statement,
        parameters: &[Value],
        types: &[Type],
    ) -> Result<Outcome, Refusal> {
        let outcome = self.executor.execute(statement, parameters, types, &mut shared.answers)?;
        self.pipeline.apply(statement)?;
        Ok(outcome)
    }

    /// Sends a RowDescription.
    pub(super) fn describe(&mut self, fields: &[Field], formats: &Formats) {
        let fields = fields.iter().enumerate();
        let columns: Vec<ColumnDescription<'_>> =
            fields.map(|(index, field)| field.column(formats.code(index))).collect();
        self.send(&BackendMessage::RowDescription { columns: Columns::new(&columns) });
    }

    /// Sends a DataRow.
    pub(super) fn row(
        &mut self,
        row: &[Value],
        fields: &[Field],
        formats: &Formats,
    ) -> Result<(), Refusal> {
        let value = |(index, (value, field)): (usize, (&Value, &Field))| match value {
            None => Ok(None),
            Some(text) if formats.is_binary(index) => codec::encode(field.of, text).map(Some),
            Some(text) => Ok(Some(text.clone().into_bytes())),
        };
        let values = row.iter().zip(fields).enumerate().map(value);
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        self.send(&BackendMessage::DataRow { values: Values::new(&values) });
        Ok(())
    }

    pub(super) fn complete(&mut self, warning: Option<&DbError>, tag: &str) {
        if let Some(warning) = warning {
            self.notice(warning);
        }
        self.send(&BackendMessage::CommandComplete { tag: tag.as_bytes() });
    }

    pub(super) fn send_truncation_notices(&mut self, cuts: &[(String, String)]) {
        for (name, cut) in cuts {
            let text = format!("identifier \"{name}\" will be truncated to \"{cut}\"");
            self.notice(&DbError::new(Severity::Notice, "42622", &text));
        }
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.executor.abort();
        self.send(&BackendMessage::ErrorResponse(Diagnostic::from(&refusal.to_error())));
    }

    // ---- notifications ----

    /// Ends a command: its transaction is committed, and waiting notifications are sent before ReadyForQuery.
    fn ready(&mut self, shared: &mut Shared) {
        self.executor.finish();
        for notification in self.executor.take_committed() {
            shared.counts.committed(&notification.channel);
            self.receive(self.executor.process_id(), &notification);
            shared.outbox.push(notification);
        }
        self.flush_inbox(shared);
        for (name, value) in self.executor.settings.take_reports() {
            self.report(&name, &value);
        }
        if self.executor.status() == TransactionStatus::Idle {
            self.pipeline.end_transaction();
        }
        self.send(&BackendMessage::ReadyForQuery { status: self.executor.status() });
    }

    /// Queues a notification of a committed transaction, if the session listens.
    pub(super) fn receive(&mut self, process_id: i32, notification: &Arc<QueuedNotification>) {
        if self.is_ready() && self.executor.listens_to(&notification.channel) {
            let bytes = notification
                .channel
                .len()
                .saturating_add(notification.payload.len())
                .saturating_add(11);
            self.inbox_bytes = self.inbox_bytes.saturating_add(bytes);
            self.inbox.push_back((process_id, Arc::clone(notification)));
        }
    }

    /// Sends the waiting notifications, unless a transaction is open. Returns whether any was sent.
    pub(super) fn flush_inbox(&mut self, shared: &mut Shared) -> bool {
        let in_transaction = self.executor.status() != TransactionStatus::Idle;
        if self.inbox.is_empty() || in_transaction || self.pipeline.is_open() {
            return false;
        }
        self.inbox_bytes = 0;
        for (process_id, notification) in std::mem::take(&mut self.inbox) {
            // The session may have executed UNLISTEN since.
            if self.executor.listens_to(&notification.channel) {
                shared.counts.delivered(&notification.channel);
                self.send(&BackendMessage::NotificationResponse(RawNotification {
                    process_id,
                    channel: notification.channel.as_bytes(),
                    payload: notification.payload.as_bytes(),
                }));
            }
        }
        true
    }

    // ---- output ----

    /// Sends a message, unless the session has ended.
    pub(super) fn send(&mut self, message: &BackendMessage<'_>) {
        if self.is_closed() {
            return;
        }
        if let Err(error) = message.encode(&mut self.output) {
            self.fatal(&DbError::new(Severity::Fatal, "XX000", &error.to_string()));
        }
    }

    pub(super) fn report(&mut self, name: &str, value: &str) {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        self.send(&BackendMessage::ParameterStatus { name, value });
    }

    fn notice(&mut self, notice: &DbError) {
        self.send(&BackendMessage::NoticeResponse(Diagnostic::from(notice)));
    }

    /// Sends the last message of the session.
    pub(super) fn fatal(&mut self, error: &DbError) {
        if self.is_closed() {
            return;
        }
        self.phase = Phase::Closed;
        self.executor.abort();
        self.inbox.clear();
        self.inbox_bytes = 0;
        // It fails only if the message quotes a very long text. Then the client sees only the end of the stream.
        let _ = error.encode_error(&mut self.output);
    }

    /// Ends the session without a last message. Waiting bytes are lost.
    pub(super) fn cut(&mut self) {
        self.phase = Phase::Closed;
        self.executor.abort();
        self.inbox.clear();
        self.inbox_bytes = 0;
        self.output.clear();
    }

    /// Ends the session of a client that does not read. The waiting bytes stay, and the error follows them.
    pub(super) fn check_bound(&mut self, shared: &mut Shared) -> bool {
        let (waiting, limit) = (self.waiting_bytes(), shared.output_bytes_max);
        if self.is_closed() || waiting <= limit {
            return false;
        }
        let text = format!(
            "connection to client lost: {waiting} bytes wait for it, {limit} bytes are the limit"
        );
        self.fatal(&DbError::new(Severity::Fatal, "08006", &text));
        true
    }
}

/// Refuses a message that is too long before the rest of it arrives.
fn refuse_long(input: &[u8]) -> Result<(), DbError> {
    let length = input.get(1..5).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    match length {
        Some(length @ MESSAGE_BYTES_MAX..) => {
            let text = format!(
                "a message of {length} bytes; the testing backend takes {MESSAGE_BYTES_MAX} bytes"
            );
            Err(DbError::new(Severity::Fatal, "54000", &text))
        }
        _ => Ok(()),
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Startup { .. } => "startup",
            Phase::Login { .. } | Phase::CheckingAnswer => "login",
            Phase::Ready => "ready",
            Phase::Closed => "closed",
        };
        f.debug_struct("Connection")
            .field("process_id", &self.executor.process_id())
            .field("phase", &phase)
            .field("listening", &self.executor.listening())
            .field("waiting_bytes", &self.waiting_bytes())
            .finish_non_exhaustive()
    }
}

//! One session with a PostgreSQL server, without I/O.
//!
//! A [`Session`] is a state machine: its inputs are bytes and time, its outputs bytes and events. It opens no
//! socket, reads no clock and generates no random number. It does not deal with hosts, reconnecting or queues.
//!
//! ```text
//! Login ─▶ startup packet ─▶ authentication ─▶ parameters, key ─▶ ReadyForQuery
//!                                                                      │
//!                ┌───────── commands, pipelined; notifications at any moment ◀┐
//!                └─────────────────────────────────────────────────────┴──────┘
//! any error, FATAL from the server, end of the stream ─▶ failed: every command in flight gets its error
//! ```
//!
//! The methods are of four kinds, and the caller calls them in this order, again and again:
//!
//! 1. **Input**: [`handle_input`](Session::handle_input) until it needs more bytes,
//!    [`handle_timeout`](Session::handle_timeout), [`handle_eof`](Session::handle_eof),
//!    [`compute`](Session::compute) while [`is_computing`](Session::is_computing).
//! 2. **Commands**: [`listen`](Session::listen), [`simple_query`](Session::simple_query) and the
//!    like. They are pipelined: no command waits for the answer to another one.
//! 3. **Output**: write [`transmit`](Session::transmit) and remove what was written, take events with
//!    [`poll_event`](Session::poll_event) until there is none, sleep until
//!    [`poll_timeout`](Session::poll_timeout).
//! 4. **Getters**.
//!
//! The caller must read while it writes: a server that cannot send its notifications does not read commands.

mod after_terminate;
mod cancel;
mod channel_names;
mod command;
mod commands;
mod cut_names;
mod evidence;
mod facts;
mod getters;
mod long;
mod negotiate;
mod parameters;
mod read_delay;
mod rows;
mod startup;
mod stray;
#[cfg(test)]
mod tests;
mod violation;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use zeroize::Zeroize;

use self::after_terminate::AfterTerminate;
use self::command::{AnswerAction, CommandKind, Pending};
use self::parameters::Parameters;
use self::startup::Startup;
use self::violation::Violation;
use crate::error::{Error, ErrorKind};
use crate::proto::auth::AuthMethod;
use crate::proto::wire::{
    self, BackendMessage, DbError, Diagnostic, Framer, FrontendMessage, ProtocolVersion, Run,
    StartupPacket, Stop, TransactionStatus, buffer,
};

pub use cancel::CancelKey;
pub(crate) use channel_names::check_channel_names;
#[allow(unused_imports, reason = "only a listener uses them")]
pub(crate) use channel_names::{channel_name, channel_names};
pub use command::{Answer, CommandId, RESULT_BYTES_MAX};
pub use evidence::Evidence;
pub use facts::SessionFacts;
#[allow(unused_imports, reason = "only connections use it")]
pub(crate) use facts::{FACTS_SQL, FACTS_WITHOUT_PORT_SQL};
pub use read_delay::{READ_DELAY_MAX, ReadDelay};
pub use rows::{Column, Row, Rows};
pub use startup::{Login, STARTUP_BYTES_MAX, STARTUP_MESSAGES_MAX};
pub(crate) use stray::in_doubt;

/// The largest allocation that an empty send buffer keeps, in bytes.
const TRANSMIT_BYTES_KEPT: usize = 64 * 1024;

/// The largest allocation that an empty queue of commands or events keeps, in elements.
const QUEUE_ELEMENTS_KEPT: usize = 64;

/// The type byte of NotificationResponse.
const NOTIFICATION_RESPONSE: u8 = b'A';

/// The result of [`Session::handle_input`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All complete messages were handled. More bytes are needed.
    NeedMore,
    /// This run of notifications is at the front of the input. The caller removes it, and calls again.
    Notifications(Run),
}

/// An event of a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The server is ready for the first command.
    Ready,
    /// A command is complete.
    Done {
        /// The command.
        id: CommandId,
        /// The channels of a LISTEN or UNLISTEN.
        channels: Vec<String>,
        /// The result of the command.
        result: Answer,
        /// The transaction status after the answer. Inside a transaction the command takes effect only after COMMIT.
        /// If the command was not answered, this is the last known status.
        status: TransactionStatus,
    },
    /// The server reported with a stray error that it has dropped a notification.
    /// (Before 18.2, 17.8, 16.12, 15.16 and 14.21. Later versions end the session.)
    ///
    /// If the error arrives while a command is in flight, it cannot be distinguished from the answer. Then it is the result
    /// of that command, and the true answer is taken for the answer to the next one.
    NotificationDropped(Error),
}

/// The state machine of one session. See the [module](self).
pub struct Session {
    phase: SessionPhase,
    version: ProtocolVersion,
    command_timeout: Duration,
    transmit: BytesMut,
    /// The number of bytes that were put into `transmit` since the startup packet.
    queued: u64,
    events: VecDeque<SessionEvent>,
    pending: VecDeque<Pending>,
    next_command: u64,
    channels: BTreeSet<String>,
    evidence: Evidence,
    parameters: Parameters,
    process_id: Option<i32>,
    cancel_key: Option<CancelKey>,
    status: TransactionStatus,
    method: Option<AuthMethod>,
    /// True if the server has asked for authentication.
    was_asked: bool,
    last_notice: Option<DbError>,
    notices: u64,
    /// The largest result of a command, in bytes.
    result_bytes_max: usize,
    /// The number of bytes of a long message that are still to be skipped.
    skipping: usize,
    /// True after the server has completed a LISTEN.
    has_listened: bool,
    /// True after a stray error, which is followed by a ReadyForQuery of its own.
    stray_error: bool,
    /// The stray error, while no message has followed it: if the stream ends here, it is the cause.
    last_error: Option<DbError>,
}

#[derive(Debug)]
enum SessionPhase {
    Startup {
        startup: Box<Startup>,
        deadline: Instant,
    },
    Ready,
    /// Terminate was sent.
    Terminated(AfterTerminate),
    Failed(Error),
}

impl Session {
    /// Creates a session, whose startup packet is in [`transmit`](Self::transmit).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a startup parameter contains a NUL, if all of them are longer than 10,000
    /// bytes, if a protocol version is not supported, or if the policy contradicts itself;
    /// [`ErrorKind::Auth`] if the policy requires channel binding, and the channel does not support it.
    pub fn new(login: Login) -> Result<Self, Error> {
        let mut transmit = BytesMut::new();
        let mut parameters = vec![("user", login.credentials.user())];
        parameters.extend(login.parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        // N36: quoting is only safe in an encoding whose trailing bytes are never ASCII.
        parameters.push(("client_encoding", "UTF8"));
        StartupPacket::Startup {
            version: login.protocol,
            parameters: wire::StartupParameters::new(&parameters),
        }
        .encode(&mut transmit)
        .map_err(|error| Error::because(ErrorKind::Config, error))?;
        Ok(Self {
            version: login.protocol,
            command_timeout: login.command_timeout,
            phase: SessionPhase::Startup {
                deadline: login.deadline,
                startup: Box::new(Startup::new(login)?),
            },
            transmit,
            queued: 0,
            events: VecDeque::new(),
            pending: VecDeque::new(),
            next_command: 0,
            channels: BTreeSet::new(),
            evidence: Evidence::default(),
            parameters: Parameters::default(),
            process_id: None,
            cancel_key: None,
            status: TransactionStatus::Idle,
            method: None,
            was_asked: false,
            last_notice: None,
            notices: 0,
            result_bytes_max: RESULT_BYTES_MAX,
            skipping: 0,
            has_listened: false,
            stray_error: false,
            last_error: None,
        })
    }

    // ---- input ----

    /// Handles the messages at the front of `input`, and removes them.
    ///
    /// # Errors
    /// Bytes or messages that violate the protocol, a refused login, or a FATAL error of the server. Then the session
    /// has failed: every command in flight has got its error, and the socket should be closed.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) -> Result<Progress, Error> {
        if let SessionPhase::Failed(error) = &self.phase {
            return Err(error.clone());
        }
        match self.handle_messages(now, input) {
            Ok(progress) => Ok(progress),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn handle_messages(&mut self, now: Instant, input: &mut BytesMut) -> Result<Progress, Error> {
        loop {
            if !self.has_skipped(input) {
                return Ok(Progress::NeedMore);
            }
            if let SessionPhase::Terminated(rest) = &mut self.phase {
                match rest.handle(input) {
                    Ok(progress) => return Ok(progress),
                    Err(long) => self.skipping = long.wire_len(),
                }
                continue;
            }
            if self.is_authenticated() && input.first() == Some(&NOTIFICATION_RESPONSE) {
                let (run, stop) = wire::scan(input);
                if run.count > 0 {
                    self.report_dropped();
                    return Ok(Progress::Notifications(run));
                }
                match stop {
                    Stop::NeedMore => return Ok(Progress::NeedMore),
                    Stop::Invalid(error) => return Err(error.into()),
                    Stop::OtherMessage => {}
                }
            }
            let framer =
                if self.is_authenticated() { Framer::established() } else { Framer::startup() };
            match framer.next(input) {
                Ok(None) => return Ok(Progress::NeedMore),
                Ok(Some(frame)) => {
                    let bytes = frame.wire_len();
                    let message = BackendMessage::decode(frame)?;
                    self.handle_message(now, &message, bytes)?;
                    input.advance(bytes);
                }
                Err(error) => {
                    let long = framer.long(input).ok_or(error)?;
                    if !self.handle_long(now, long, input)? {
                        return Ok(Progress::NeedMore);
                    }
                    self.skipping = long.wire_len();
                }
            }
        }
    }

    fn handle_message(
        &mut self,
        now: Instant,
        message: &BackendMessage<'_>,
        bytes: usize,
    ) -> Result<(), Error> {
        // These messages are allowed in every state.
        match message {
            BackendMessage::LegacyError { text } => return Err(startup::legacy_error(text)),
            BackendMessage::NoticeResponse(notice) => {
                self.count_startup(bytes)?;
                self.notices = self.notices.saturating_add(1);
                let notice = DbError::brief(*notice);
                if let Some(pending) = self.pending.front_mut() {
                    pending.handle_notice(&notice);
                }
                self.last_notice = Some(notice);
                return Ok(());
            }
            BackendMessage::ErrorResponse(error) => {
                return self.handle_error(*error);
            }
            _ => {}
        }
        match &mut self.phase {
            SessionPhase::Startup { .. } => {
                self.count_startup(bytes)?;
                self.handle_startup(message)
            }
            SessionPhase::Ready => self.handle_ready(now, message),
            SessionPhase::Terminated(_) | SessionPhase::Failed(_) => Ok(()),
        }
    }

    fn handle_ready(&mut self, now: Instant, message: &BackendMessage<'_>) -> Result<(), Error> {
        match message {
            BackendMessage::ParameterStatus { name, value } => {
                self.parameters.set(name, value);
                Ok(self.parameters.check_encoding()?)
            }
            BackendMessage::ReadyForQuery { status } => {
                self.status = *status;
                self.report_dropped();
                if std::mem::take(&mut self.stray_error) {
                    return Ok(());
                }
                // Checked before it is removed, because after an error it must still get its answer.
                if let Some(pending) = self.pending.front() {
                    pending.check_complete(*status)?;
                }
                let Some(pending) = self.pending.pop_front() else {
                    return Err(Violation::unexpected(message, "an idle session").into());
                };
                let (id, is_cut) = (pending.id, pending.is_cut());
                let (kind, result) = pending.end();
                if let (CommandKind::Listen(channels), true) = (&kind, is_cut) {
                    self.undo(now, channels)?;
                }
                // Inside a transaction LISTEN and UNLISTEN have no effect yet.
                if result.is_ok() && *status == TransactionStatus::Idle {
                    self.confirm(&kind);
                }
                let (channels, status) = (kind.into_channels(), *status);
                self.events.push_back(SessionEvent::Done { id, channels, result, status });
                self.start_timeout(now);
                Ok(())
            }
            _ => {
                // The ReadyForQuery of a stray error comes before any answer, so this peer sends none.
                self.report_dropped();
                self.stray_error = false;
                self.has_listened |=
                    matches!(message, BackendMessage::CommandComplete { tag } if *tag == b"LISTEN");
                let Some(pending) = self.pending.front_mut() else {
                    return Err(Violation::unexpected(message, "an idle session").into());
                };
                match pending.handle(message)? {
                    AnswerAction::Wait => Ok(()),
                    AnswerAction::RefuseCopy { sync } => {
                        self.send(&FrontendMessage::CopyFail("COPY FROM STDIN is not supported"))?;
                        if sync { self.send(&FrontendMessage::Sync) } else { Ok(()) }
                    }
                }
            }
        }
    }

    fn handle_error(&mut self, error: Diagnostic<'_>) -> Result<(), Error> {
        let brief = DbError::brief(error);
        if let SessionPhase::Startup { startup, .. } = &self.phase {
            // During the login the server closes the connection after an error of any severity.
            return Err(startup.refused(brief));
        }
        if brief.is_fatal() {
            // N33: the session has ended, even if the socket stays open.
            return Err(Error::server("the server ended the session", brief));
        }
        match self.pending.front_mut() {
            Some(pending) => pending.handle_error(error),
            None => {
                self.stray_error = true;
                self.last_error.get_or_insert(brief);
            }
        }
        Ok(())
    }

    /// Reports a dropped notification, because the session goes on after a stray error.
    fn report_dropped(&mut self) {
        let Some(error) = self.last_error.take() else { return };
        // Reports without a notification between them are one gap, even if a server sends very many.
        if !matches!(self.events.back(), Some(SessionEvent::NotificationDropped(_))) {
            let error = Error::server("the server dropped a notification", error);
            self.events.push_back(SessionEvent::NotificationDropped(error));
        }
    }

    /// Handles the end of the stream. `is_inside_message` is true if a part of a message has been read and not handled.
    pub fn handle_eof(&mut self, is_inside_message: bool) -> Error {
        if let SessionPhase::Failed(error) = &self.phase {
            return error.clone();
        }
        let during = match is_inside_message || self.skipping > 0 {
            true => " in the middle of a message",
            false => "",
        };
        let error = match (self.last_error.take(), self.last_notice.take()) {
            // N159: for example a proxy that disconnects idle clients. A server that drops a notification goes on, and
            // sends its ReadyForQuery together with the error.
            (Some(error), _) => {
                Error::server(format!("the server closed the connection{during}"), error)
            }
            // N34: 57P01 and 57P02 are sent as a WARNING before an immediate shutdown.
            (None, Some(notice)) if notice.code().starts_with("57P") => {
                Error::server(format!("the server closed the connection{during}"), notice)
            }
            _ if matches!(self.phase, SessionPhase::Startup { .. }) => Error::new(
                ErrorKind::Connect,
                format!("the server closed the connection{during} before it was ready"),
            ),
            _ => {
                Error::new(ErrorKind::Connect, format!("the server closed the connection{during}"))
            }
        };
        self.fail(error)
    }

    /// Checks the deadlines.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if one has passed. Then the session has failed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let error = match (&self.phase, self.pending.front()) {
            (SessionPhase::Startup { startup, .. }, _) if startup.computing => {
                startup::computed_too_long()
            }
            (SessionPhase::Startup { startup, .. }, _) => {
                startup::timed_out(startup.is_authenticated())
            }
            (_, Some(pending)) => Error::new(
                ErrorKind::Timeout,
                format!(
                    "the server did not answer {} within {:?}",
                    pending.kind.name(),
                    self.command_timeout
                ),
            ),
            _ => return Ok(()),
        };
        Err(self.fail(error))
    }

    /// Returns true if the login waits for [`compute`](Self::compute).
    #[must_use]
    pub fn is_computing(&self) -> bool {
        matches!(&self.phase, SessionPhase::Startup { startup, .. } if startup.computing)
    }

    /// Derives the keys of SCRAM, at most 1,000 iterations in a call: about half a millisecond. Call it
    /// while [`is_computing`](Self::is_computing), yield to other tasks in between, and call
    /// [`handle_timeout`](Self::handle_timeout) too, because a server can ask for very many iterations.
    ///
    /// # Errors
    /// The exchange cannot go on. Then the session has failed.
    pub fn compute(&mut self) -> Result<(), Error> {
        let SessionPhase::Startup { startup, .. } = &mut self.phase else { return Ok(()) };
        let sent = startup.compute().and_then(|response| self.respond(response));
        sent.map_err(|error| self.fail(error))
    }

    /// Ends the session with an error of the caller, for example of the socket. Every command in
    /// flight gets it. What the caller has not removed from [`transmit`](Self::transmit) counts as not sent, and is
    /// discarded.
    pub fn fail(&mut self, error: Error) -> Error {
        if let SessionPhase::Failed(first) = &self.phase {
            return first.clone();
        }
        let written = self.queued.saturating_sub(self.transmit.len() as u64);
        for pending in self.pending.drain(..) {
            let result = Err(pending.outcome(written, &error));
            let (id, status) = (pending.id, self.status);
            let channels = pending.kind.into_channels();
            self.events.push_back(SessionEvent::Done { id, channels, result, status });
        }
        self.channels.clear();
        self.discard_output();
        self.cancel_key = None;
        self.phase = SessionPhase::Failed(error.clone());
        error
    }

    // ---- output ----

    /// Returns the bytes to be written. The caller removes from the front what it has written. During the login they may
    /// contain a password: overwrite them before they are removed, if it must not stay in memory.
    pub fn transmit(&mut self) -> &mut BytesMut {
        buffer::release(&mut self.transmit, TRANSMIT_BYTES_KEPT);
        &mut self.transmit
    }

    /// Returns the next event, oldest first.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // There may have been very many commands too.
            buffer::release_queue(&mut self.events, QUEUE_ELEMENTS_KEPT);
            buffer::release_queue(&mut self.pending, QUEUE_ELEMENTS_KEPT);
        }
        event
    }

    /// Returns the instant at which [`handle_timeout`](Self::handle_timeout) must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            SessionPhase::Startup { deadline, .. } => Some(*deadline),
            SessionPhase::Ready => self.pending.front().and_then(|pending| pending.deadline),
            SessionPhase::Terminated(_) | SessionPhase::Failed(_) => None,
        }
    }

    fn is_authenticated(&self) -> bool {
        match &self.phase {
            SessionPhase::Startup { startup, .. } => startup.is_authenticated(),
            SessionPhase::Ready | SessionPhase::Terminated(_) | SessionPhase::Failed(_) => true,
        }
    }

    /// Discards what is not written. During the login it is overwritten, because it may contain a password.
    fn discard_output(&mut self) {
        if matches!(self.phase, SessionPhase::Startup { .. }) {
            self.transmit.as_mut().zeroize();
        }
        self.transmit.clear();
    }

    fn respond(&mut self, response: Option<crate::proto::auth::Response>) -> Result<(), Error> {
        match response {
            Some(response) => self.send(&FrontendMessage::Password(response.body())),
            None => Ok(()),
        }
    }

    fn send(&mut self, message: &FrontendMessage<'_>) -> Result<(), Error> {
        let before = self.transmit.len();
        let encoded = message.encode(&mut self.transmit);
        let bytes = self.transmit.len().saturating_sub(before) as u64;
        self.queued = self.queued.saturating_add(bytes);
        Ok(encoded?)
    }

    /// Extends the deadline of the oldest command by a time in which the caller did not read.
    pub fn extend(&mut self, time: Duration) {
        if let Some(Pending { deadline: Some(deadline), .. }) = self.pending.front_mut() {
            *deadline = deadline.checked_add(time).unwrap_or(*deadline);
        }
    }

    /// Returns the time that is added to the usual timeout of the oldest command. To listen to many thousands of channels
    /// takes a server seconds or minutes, in which it sends nothing.
    #[must_use]
    pub fn quiet_time(&self) -> Duration {
        let oldest = self.pending.front();
        oldest.map_or(Duration::ZERO, |pending| pending.kind.quiet_time(self.channels.len()))
    }

    /// Starts the timeout of the oldest command.
    fn start_timeout(&mut self, now: Instant) {
        let quiet_time = self.quiet_time();
        if let Some(pending) = self.pending.front_mut()
            && pending.deadline.is_none()
            && pending.kind.is_repeatable()
        {
            pending.deadline = now.checked_add(self.command_timeout.saturating_add(quiet_time));
        }
    }

    fn confirm(&mut self, kind: &CommandKind) {
        match kind {
            CommandKind::Listen(channels) => self.channels.extend(channels.iter().cloned()),
            CommandKind::Unlisten(channels) => {
                for channel in channels {
                    self.channels.remove(channel);
                }
            }
            CommandKind::UnlistenAll => self.channels.clear(),
            CommandKind::Undo { names, kept } => {
                self.channels.retain(|channel| !names.contains(channel) || kept.contains(channel));
            }
            CommandKind::Simple | CommandKind::Bound | CommandKind::Utility(_) => {}
        }
    }
}

/// Overwrites a password in the send buffer.
impl Drop for Session {
    fn drop(&mut self) {
        self.discard_output();
    }
}

//! The commands of a notifier: those that wait, those that are unanswered, and their deadlines. Without I/O: the bytes go
//! through a session, and the time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::request::{Reply, Request, Room};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{CommandId, Session, SessionEvent};
use crate::proto::wire::buffer;

/// The largest number of unanswered commands. Enough to fill a round trip of 10 ms with commits of 100 µs.
pub(super) const PIPELINE_MAX: usize = 256;

/// The longest time of a call, as a multiple of the answer timeout, whatever the server does.
const CALL_TIMEOUTS: u32 = 2;

/// The commands of a notifier, in their order.
///
/// ```text
/// accept ─▶ waiting ─start─▶ in flight ─handle_event─▶ answered
///              │                 ├─ handle_timeout: its deadline has passed ─▶ in doubt
///              │                 └─ end ─▶ in doubt, or not sent while a byte of it is unwritten
///              └─ handle_timeout, end ─▶ not sent
/// ```
#[derive(Debug)]
pub(super) struct NotifierPipeline {
    answer_timeout: Duration,
    waiting: VecDeque<Request>,
    in_flight: VecDeque<InFlight>,
    /// The number of bytes that the socket has accepted.
    written: u64,
    /// The latest of: the first unanswered command was sent, an answer arrived, a byte of the oldest command was written.
    /// `None` without an unanswered command.
    silent_since: Option<Instant>,
    /// When the notifier was closed.
    closing_since: Option<Instant>,
}

/// A command that was given to the session.
#[derive(Debug)]
struct InFlight {
    id: CommandId,
    /// The value of `written` when the last byte of this command was written.
    end: u64,
    called_at: Instant,
    /// `None` when the call has returned before the answer.
    reply: Option<Reply>,
    _room: Room,
}

impl NotifierPipeline {
    /// Creates a pipeline for a session of which the socket has accepted `written` bytes.
    pub(super) fn new(answer_timeout: Duration, written: u64) -> Self {
        Self {
            answer_timeout,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            written,
            silent_since: None,
            closing_since: None,
        }
    }

    /// Accepts a call.
    pub(super) fn accept(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    /// Sets the deadline of all accepted calls to one answer timeout from `now`.
    pub(super) fn close(&mut self, now: Instant) {
        self.closing_since.get_or_insert(now);
    }

    /// Returns whether every call has its answer.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Gives commands to the session, up to [`PIPELINE_MAX`] unanswered ones.
    pub(super) fn start(&mut self, now: Instant, session: &mut Session) {
        while self.in_flight.len() < PIPELINE_MAX
            && let Some(request) = self.waiting.pop_front()
        {
            let Request { message, called_at, room, reply } = request;
            match message.send(now, session) {
                Ok(id) => {
                    if self.in_flight.is_empty() {
                        self.silent_since = Some(now);
                    }
                    let unwritten = session.transmit().len() as u64;
                    let end = self.written.saturating_add(unwritten);
                    let reply = Some(reply);
                    self.in_flight.push_back(InFlight { id, end, called_at, reply, _room: room });
                }
                Err(error) => reply.send(Err(error)),
            }
        }
        buffer::release_queue(&mut self.waiting, PIPELINE_MAX);
    }

    /// Records the number of bytes that the socket has accepted.
    pub(super) fn wrote(&mut self, now: Instant, written: u64) {
        let is_partly_written = self.in_flight.front().is_some_and(|one| one.end > self.written);
        if written > self.written && is_partly_written {
            self.silent_since = Some(now);
        }
        self.written = written;
    }

    /// Handles an event of the session.
    pub(super) fn handle_event(&mut self, now: Instant, event: SessionEvent) {
        let SessionEvent::Done { id, result, .. } = event else { return };
        let result = match result {
            // The session has ended. `end` decides about each command by the bytes that were written.
            Err(error) if matches!(error.kind(), ErrorKind::InDoubt | ErrorKind::Connect) => return,
            // This is no refusal by the server: the answer is too large, or is not the answer to a notification. The
            // server may have committed it.
            Err(error) if error.kind() == ErrorKind::Unsupported => Err(in_doubt(&error)),
            result => result.map(drop),
        };
        // The answers come in the order of the commands.
        if self.in_flight.front().is_none_or(|oldest| oldest.id != id) {
            return;
        }
        if let Some(InFlight { reply: Some(reply), .. }) = self.in_flight.pop_front() {
            reply.send(result);
        }
        self.silent_since = (!self.in_flight.is_empty()).then_some(now);
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called. `None`: never.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let unsent = self.waiting.front().and_then(|request| self.send_deadline(request));
        let unanswered = self.in_flight.iter().find(|command| command.reply.is_some());
        let unanswered = unanswered.and_then(|command| self.call_deadline(command));
        [unsent, unanswered, self.silence_deadline(), self.close_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Answers the calls whose deadline has passed. Returns an error if the connection must end.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Error> {
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let limit = self.answer_timeout;
        if is_over(self.silence_deadline()) {
            let message = format!("the server did not answer within {limit:?}");
            return Some(Error::new(ErrorKind::Timeout, message));
        }
        if is_over(self.close_deadline()) {
            let message = format!(
                "the server did not answer every notification within {limit:?} after the close"
            );
            return Some(Error::new(ErrorKind::Timeout, message));
        }
        while let Some(request) = self.waiting.front()
            && is_over(self.send_deadline(request))
            && let Some(request) = self.waiting.pop_front()
        {
            request.reply.send(Err(late(limit)));
        }
        for index in 0..self.in_flight.len() {
            let Some(command) = self.in_flight.get(index) else { break };
            if command.reply.is_none() {
                continue;
            }
            if !is_over(self.call_deadline(command)) {
                break;
            }
            let reply = self.in_flight.get_mut(index).and_then(|command| command.reply.take());
            if let Some(reply) = reply {
                reply.send(Err(unanswered(limit.saturating_mul(CALL_TIMEOUTS))));
            }
        }
        None
    }

    /// Answers every call when the connection has ended. A command whose last byte was written may have been committed.
    /// One that was not written completely was not committed, because the Sync at its end commits it.
    // N171.
    pub(super) fn end(&mut self, cause: &Error) {
        let written = self.written;
        for command in self.in_flight.drain(..) {
            let Some(reply) = command.reply else { continue };
            let answer = if command.end <= written { in_doubt(cause) } else { unsent(cause) };
            reply.send(Err(answer));
        }
        for request in self.waiting.drain(..) {
            request.reply.send(Err(unsent(cause)));
        }
    }

    /// `None` after a close: the deadline of the close applies instead.
    fn send_deadline(&self, request: &Request) -> Option<Instant> {
        if self.closing_since.is_some() {
            return None;
        }
        request.called_at.checked_add(self.answer_timeout)
    }

    fn call_deadline(&self, command: &InFlight) -> Option<Instant> {
        command.called_at.checked_add(self.answer_timeout.checked_mul(CALL_TIMEOUTS)?)
    }

    fn silence_deadline(&self) -> Option<Instant> {
        self.silent_since?.checked_add(self.answer_timeout)
    }

    fn close_deadline(&self) -> Option<Instant> {
        self.closing_since?.checked_add(self.answer_timeout)
    }
}

impl Drop for NotifierPipeline {
    /// Answers the calls that are left when the task is dropped.
    fn drop(&mut self) {
        if !self.is_idle() {
            self.end(&abandoned());
        }
    }
}

/// Returns the cause if the task is dropped before it has ended.
#[cold]
pub(super) fn abandoned() -> Error {
    Error::new(ErrorKind::Closed, "the runtime of the notifier has ended")
}

/// Returns the answer to a call that waited too long to be sent.
#[cold]
pub(super) fn late(limit: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("the notification could not be sent within {limit:?}, and was not sent"),
    )
}

/// Returns the answer to a call whose command was not answered before the deadline.
#[cold]
fn unanswered(limit: Duration) -> Error {
    let cause =
        Error::new(ErrorKind::Timeout, format!("the server did not answer within {limit:?}"));
    in_doubt(&cause)
}

#[cold]
fn in_doubt(cause: &Error) -> Error {
    Error::caused(
        ErrorKind::InDoubt,
        "the server has not confirmed the notification, and may have committed it",
        cause.clone(),
    )
}

/// Returns the answer to a call that was not sent before the connection ended.
#[cold]
pub(super) fn unsent(cause: &Error) -> Error {
    Error::caused(
        ErrorKind::Closed,
        "the connection ended before the notification was sent",
        cause.clone(),
    )
}

//! The calls of a notifier: those that wait, those that are unanswered, and their deadlines. Without I/O: the bytes go
//! through a session, and the time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::call::Call;
use super::outcome::{self, Outcome};
use super::request::{Message, Reply, Request};
use super::stats::NotifierStats;
use super::transaction;
use super::waiting::{GroupLimits, WaitingCalls};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{CommandId, Session, SessionEvent};

/// The largest number of unanswered transactions. Enough to fill a round trip of 10 ms with commits of 100 µs.
pub(super) const PIPELINE_MAX: usize = 256;

/// The longest time of a call, as a multiple of the answer timeout, whatever the server does.
const CALL_TIMEOUTS: u32 = 2;

/// The calls of a notifier, in their order.
///
/// ```text
///              ┌── lose: a byte of it is unwritten ──┐
///              ▼                                     │
/// accept ─▶ waiting ─start─▶ in flight ─handle_event─┼─▶ answered
///              │                 │                   └─▶ refused group: its halves wait
///              │                 ├─ handle_timeout: its deadline has passed ─▶ in doubt
///              │                 └─ lose: it was written ─▶ in doubt
///              └─ handle_timeout, end ─▶ not sent
/// ```
/// Calls of one notification that arrive while such calls are unanswered go out together, as soon as those are answered. A call
/// of several notifications has a transaction of its own, which waits for no answer.
#[derive(Debug)]
pub(super) struct NotifierPipeline {
    answer_timeout: Duration,
    waiting: WaitingCalls,
    in_flight: VecDeque<InFlight>,
    /// The number of groups in flight. One call with one notification is a group, too.
    groups: usize,
    /// The number of the last part of a refused group.
    last_part: u64,
    /// The number of bytes that the socket has accepted.
    written: u64,
    /// The latest of: the first unanswered command was sent, an answer arrived, a byte of the oldest command was written.
    /// `None` without an unanswered command.
    silent_since: Option<Instant>,
    /// When the notifier was closed.
    closing_since: Option<Instant>,
    /// Why there is no session.
    outage: Option<Error>,
    answers: VecDeque<(Reply, Result<(), Error>)>,
    pub(super) stats: NotifierStats,
}

/// A transaction that was given to the session.
#[derive(Debug)]
struct InFlight {
    id: CommandId,
    /// The value of `written` when the last byte of this command was written.
    end: u64,
    calls: Vec<Call>,
    /// When the oldest call was made that has not returned. A later call may be older, because it has waited for room.
    oldest: Option<Instant>,
    is_group: bool,
}

/// Returns when the oldest call was made that has not returned.
fn oldest_of(calls: &[Call]) -> Option<Instant> {
    calls.iter().filter(|call| call.reply.is_some()).map(|call| call.called_at).min()
}

impl NotifierPipeline {
    /// Creates a pipeline for a session of which the socket has accepted `written` bytes.
    pub(super) fn new(answer_timeout: Duration, limits: GroupLimits, written: u64) -> Self {
        Self {
            answer_timeout,
            waiting: WaitingCalls::new(limits),
            in_flight: VecDeque::new(),
            groups: 0,
            last_part: 0,
            written,
            silent_since: None,
            closing_since: None,
            outage: None,
            answers: VecDeque::new(),
            stats: NotifierStats::default(),
        }
    }

    /// Accepts a call.
    pub(super) fn accept(&mut self, request: Request) {
        self.stats.calls += 1;
        self.waiting.push(Call::new(self.stats.calls, request));
    }

    /// Sets the deadline of all accepted calls to one answer timeout from `now`.
    pub(super) fn close(&mut self, now: Instant) {
        self.closing_since.get_or_insert(now);
    }

    /// Returns whether every call has its answer.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Begins with a new session, of which the socket has accepted `written` bytes.
    pub(super) fn begin(&mut self, written: u64) {
        self.written = written;
        self.outage = None;
        self.waiting.begin();
    }

    /// Gives commands to the session, up to [`PIPELINE_MAX`] unanswered ones.
    pub(super) fn start(&mut self, now: Instant, session: &mut Session) {
        while self.in_flight.len() < PIPELINE_MAX
            && let Some(calls) = self.waiting.next_transaction(self.groups > 0)
        {
            match transaction::send(&calls, now, session) {
                Ok(id) => {
                    if self.in_flight.is_empty() {
                        self.silent_since = Some(now);
                    }
                    let unwritten = session.transmit().len() as u64;
                    let end = self.written.saturating_add(unwritten);
                    let is_group = calls.first().is_some_and(|call| call.pair().is_some());
                    self.groups += usize::from(is_group);
                    self.stats.transactions += 1;
                    self.stats.groups += u64::from(calls.len() > 1);
                    let oldest = oldest_of(&calls);
                    self.in_flight.push_back(InFlight { id, end, calls, oldest, is_group });
                }
                Err(error) => self.answer_all(calls, &Outcome::NotSent(error)),
            }
        }
    }

    /// Records the number of bytes that the socket has accepted.
    pub(super) fn wrote(&mut self, now: Instant, written: u64) {
        let is_partly_written = self.in_flight.front().is_some_and(|one| one.end > self.written);
        if written > self.written && is_partly_written {
            self.silent_since = Some(now);
        }
        let done = self.in_flight.partition_point(|command| command.end <= self.written);
        for command in self.in_flight.range_mut(done..).take_while(|one| one.end <= written) {
            // It is not sent again. A group may be, after a refusal.
            if let [Call { message: message @ Message::Many { .. }, .. }] = &mut *command.calls {
                *message = Message::Written;
            }
        }
        self.written = written;
    }

    /// Handles an event of the session.
    pub(super) fn handle_event(&mut self, now: Instant, event: SessionEvent) {
        let SessionEvent::Done { id, result, .. } = event else { return };
        // The session has ended. `lose` decides about each command by the bytes that were written.
        if let Err(error) = &result
            && matches!(error.kind(), ErrorKind::InDoubt | ErrorKind::Connect)
        {
            return;
        }
        // The answers come in the order of the commands.
        if self.in_flight.front().is_none_or(|oldest| oldest.id != id) {
            return;
        }
        let Some(InFlight { calls, is_group, .. }) = self.in_flight.pop_front() else { return };
        self.groups = self.groups.saturating_sub(usize::from(is_group));
        match result {
            Err(error) if calls.len() > 1 && outcome::may_concern_one(&error) => self.halve(calls),
            result => self.answer_all(calls, &Outcome::of(result.map(drop))),
        }
        self.silent_since = (!self.in_flight.is_empty()).then_some(now);
    }

    /// Handles the refusal of a group: sends its halves, so that the invalid notification is refused alone at last.
    fn halve(&mut self, mut calls: Vec<Call>) {
        self.stats.halved += 1;
        // A call that has returned already is not sent again.
        calls.retain(|call| call.reply.is_some());
        let middle = calls.len().div_ceil(2);
        for (index, call) in calls.iter_mut().enumerate() {
            call.part = self.last_part + if index < middle { 1 } else { 2 };
        }
        self.last_part += 2;
        self.waiting.put_back(calls);
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called. `None`: never.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let unsent = self.waiting.oldest().and_then(|oldest| self.send_deadline(oldest));
        // Halves of a refused group are behind later calls: each transaction is looked at.
        let oldest = self.in_flight.iter().filter_map(|command| command.oldest).min();
        let unanswered = oldest.and_then(|oldest| self.call_deadline(oldest));
        [unsent, unanswered, self.silence_deadline(), self.close_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Answers the calls whose deadline has passed. Returns an error if the connection must end.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Error> {
        let limit = self.answer_timeout;
        if is_over(self.silence_deadline(), now) {
            let message = format!("the server did not answer within {limit:?}");
            return Some(Error::new(ErrorKind::Timeout, message));
        }
        if self.is_closing_over(now) {
            let message = format!(
                "the server did not answer every notification within {limit:?} after the close"
            );
            return Some(Error::new(ErrorKind::Timeout, message));
        }
        while let Some(oldest) = self.waiting.oldest()
            && is_over(self.send_deadline(oldest), now)
            && let Some(call) = self.waiting.pop_oldest()
        {
            let late = outcome::late(limit, self.outage.as_ref());
            self.answer(call.reply, Outcome::NotSent(late));
        }
        let mut late = Vec::new();
        let (limit, factor) = (self.answer_timeout, CALL_TIMEOUTS);
        let is_late = |called_at| is_over(after(called_at, limit, factor), now);
        for command in &mut self.in_flight {
            if !command.oldest.is_some_and(is_late) {
                continue;
            }
            for call in command.calls.iter_mut().filter(|call| is_late(call.called_at)) {
                late.extend(call.reply.take());
            }
            command.oldest = oldest_of(&command.calls);
        }
        for reply in late {
            let unanswered = outcome::unanswered(limit.saturating_mul(factor));
            self.answer(Some(reply), Outcome::InDoubt(unanswered));
        }
        None
    }

    /// Handles the loss of the session. A command whose last byte was written may have been committed, and is in doubt.
    /// One that was not written completely was not committed, because the Sync at its end commits it: it waits for the next
    /// session.
    // N171.
    pub(super) fn lose(&mut self, cause: &Error) {
        let mut unsent = Vec::new();
        for command in std::mem::take(&mut self.in_flight) {
            if command.end <= self.written {
                self.answer_all(command.calls, &Outcome::InDoubt(outcome::in_doubt(cause)));
            } else {
                // A call that has returned already is not sent again.
                unsent.extend(command.calls.into_iter().filter(|call| call.reply.is_some()));
            }
        }
        self.waiting.put_back(unsent);
        (self.groups, self.silent_since) = (0, None);
        self.outage = Some(cause.clone());
    }

    /// Handles a failed attempt to open the next session.
    pub(super) fn set_outage(&mut self, cause: Error) {
        self.outage = Some(cause);
    }

    /// Answers every call: there is no session, and no other one follows.
    pub(super) fn end(&mut self, cause: &Error) {
        self.lose(cause);
        while let Some(call) = self.waiting.pop_front() {
            self.answer(call.reply, Outcome::NotSent(outcome::unsent(cause)));
        }
    }

    /// Returns the next answer that must be sent.
    pub(super) fn poll_answer(&mut self) -> Option<(Reply, Result<(), Error>)> {
        self.answers.pop_front()
    }

    fn answer_all(&mut self, calls: Vec<Call>, outcome: &Outcome) {
        for call in calls {
            self.answer(call.reply, outcome.clone());
        }
    }

    fn answer(&mut self, reply: Option<Reply>, outcome: Outcome) {
        let Some(reply) = reply else { return };
        let stats = &mut self.stats;
        let (counter, answer) = match outcome {
            Outcome::Committed => (&mut stats.committed, Ok(())),
            Outcome::Refused(error) => (&mut stats.refused, Err(error)),
            Outcome::InDoubt(error) => (&mut stats.in_doubt, Err(error)),
            Outcome::NotSent(error) => (&mut stats.not_sent, Err(error)),
        };
        *counter += 1;
        self.answers.push_back((reply, answer));
    }

    /// After a close the deadline of the close applies, unless the call has waited for twice the answer timeout before.
    fn send_deadline(&self, called_at: Instant) -> Option<Instant> {
        let factor = if self.closing_since.is_some() { CALL_TIMEOUTS } else { 1 };
        after(called_at, self.answer_timeout, factor)
    }

    fn call_deadline(&self, called_at: Instant) -> Option<Instant> {
        after(called_at, self.answer_timeout, CALL_TIMEOUTS)
    }

    fn silence_deadline(&self) -> Option<Instant> {
        self.silent_since?.checked_add(self.answer_timeout)
    }

    fn close_deadline(&self) -> Option<Instant> {
        self.closing_since?.checked_add(self.answer_timeout)
    }

    /// Returns true if the time of a close has passed.
    pub(super) fn is_closing_over(&self, now: Instant) -> bool {
        is_over(self.close_deadline(), now)
    }
}

fn after(begin: Instant, time: Duration, factor: u32) -> Option<Instant> {
    begin.checked_add(time.checked_mul(factor)?)
}

fn is_over(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|deadline| deadline <= now)
}

impl Drop for NotifierPipeline {
    /// Answers the calls that are left when the task is dropped.
    fn drop(&mut self) {
        self.end(&outcome::abandoned());
        while let Some((reply, answer)) = self.poll_answer() {
            reply.send(answer);
        }
    }
}

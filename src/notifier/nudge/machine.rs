//! [`NudgeMachine`]: when nudges are sent, and what follows from the answer to them. Without I/O.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pending::{Nudge, PendingNudges};
use super::stats::NudgeCounts;
use crate::error::{Error, ErrorKind};
use crate::notifier::outcome;
use crate::notifier::session_state::{Due, SessionState};
use crate::notifier::transaction;
use crate::notifier::waiting::GroupLimits;
use crate::proto::session::{CommandId, Session, SessionEvent};
use crate::proto::supervisor::{Backoff, Reconnect};

/// The settings of nudges.
#[derive(Debug, Clone, Copy)]
pub(in crate::notifier) struct NudgePolicy {
    /// The least time between the beginnings of two flushes.
    pub(in crate::notifier) window: Duration,
    pub(in crate::notifier) answer_timeout: Duration,
    pub(in crate::notifier) limits: GroupLimits,
    pub(in crate::notifier) connect_timeout: Duration,
    /// The delays after a transient refusal, and those of reconnecting.
    pub(in crate::notifier) delays: Reconnect,
    /// If not, the loss of the session ends the nudges.
    pub(in crate::notifier) reconnects: bool,
}

/// The state machine of nudges. What waits is in [`PendingNudges`], which the callers fill.
///
/// ```text
///            the window has passed        confirmed: the next part
/// pending ───────────────────────▶ flush ────────────────────────▶ ended: settle
///    ▲                              │ ▲ │
///    │ lost, refused for a time     │ │ └─ refused for one of several: its halves
///    └──────────────────────────────┘ └────────┘
/// ```
/// A session is opened at the first nudge, and the next one after a loss. It also ends if its server is a standby or answers what is
/// no answer to a nudge, and if the server is silent: then the command is cancelled, so that no process of the server waits for ever.
///
/// A flush is everything that waits, in parts that are one transaction each. One part is in flight at a time, so nudges that are made
/// meanwhile are coalesced.
#[derive(Debug)]
pub(in crate::notifier) struct NudgeMachine {
    policy: NudgePolicy,
    session: SessionState,
    /// The parts of the flush that are not confirmed. The first one may be in flight.
    parts: VecDeque<Arc<[Nudge]>>,
    in_flight: Option<InFlight>,
    /// No flush begins before.
    window_ends: Option<Instant>,
    /// The delays after a transient refusal.
    retries: Backoff,
    retry_at: Option<Instant>,
    /// The last answer was a statement timeout, or a cancel.
    was_timed_out: bool,
    /// Nudges of the next flush may have been committed already.
    is_repeat: bool,
    closing_since: Option<Instant>,
    is_ended: bool,
    actions: VecDeque<NudgeAction>,
    pub(in crate::notifier) counts: NudgeCounts,
}

#[derive(Debug)]
struct InFlight {
    id: CommandId,
    since: Instant,
}

/// What the task must do.
#[derive(Debug)]
pub(in crate::notifier) enum NudgeAction {
    /// Begin an attempt to connect.
    Open,
    /// Drop the attempt.
    CancelOpening,
    /// Cancel the command of the session, which ends: its server is silent.
    CancelCommand,
    /// These are in the output of the session. `is_repeat`: some of them may have been committed before.
    Sent { nudges: Arc<[Nudge]>, is_repeat: bool },
    /// These were sent, and are not committed.
    Refused(Arc<[Nudge]>),
    /// Nudges were dropped, for this reason.
    Dropped(Error),
    /// A session was lost, an attempt has failed, or nudges wait because the server refuses them for a time.
    Failed(Error),
    /// Nothing more is sent. All nudges are confirmed or dropped.
    End(Result<(), Error>),
}

impl NudgeMachine {
    /// Creates it without a session. `seed` is for the delays.
    pub(in crate::notifier) fn new(policy: NudgePolicy, seed: u64) -> Self {
        // A nudge is kept until it can be sent. So a refusal, as that of a password which is changed at this moment, is not the end.
        let delays = Reconnect { retry_refusals: true, ..policy.delays };
        let reconnect = policy.reconnects.then_some(delays);
        Self {
            policy,
            session: SessionState::unopened(policy.connect_timeout, reconnect, seed),
            parts: VecDeque::new(),
            in_flight: None,
            window_ends: None,
            retries: Backoff::new(&policy.delays, seed.rotate_left(32)),
            retry_at: None,
            was_timed_out: false,
            is_repeat: false,
            closing_since: None,
            is_ended: false,
            actions: VecDeque::new(),
            counts: NudgeCounts::default(),
        }
    }

    /// Sends what waits without the window, and ends then, after one answer timeout at the latest.
    pub(in crate::notifier) fn close(&mut self, now: Instant) {
        self.closing_since.get_or_insert(now);
    }

    /// Opens the session for the first nudge, begins a flush if one is due, and gives its next part to the session.
    pub(in crate::notifier) fn start(
        &mut self,
        now: Instant,
        session: Option<&mut Session>,
        pending: &mut PendingNudges,
    ) {
        if self.session.is_unopened() && !pending.is_empty() {
            self.session.open(now);
            self.actions.push_back(NudgeAction::Open);
        }
        let Some(session) = session else { return };
        if !self.session.is_open() || !session.is_ready() || self.in_flight.is_some() {
            return;
        }
        if self.parts.is_empty() {
            if pending.is_empty() || self.flush_at().is_some_and(|at| now < at) {
                return;
            }
            self.retry_at = None;
            self.window_ends = now.checked_add(self.policy.window);
            self.parts = divided(pending.take(), &self.policy.limits);
        }
        self.send(now, session, pending);
    }

    /// Returns when the next flush may begin. `None`: at once.
    fn flush_at(&self) -> Option<Instant> {
        let window_ends = self.window_ends.filter(|_| self.closing_since.is_none());
        window_ends.max(self.retry_at)
    }

    /// Sends the next part of the flush.
    fn send(&mut self, now: Instant, session: &mut Session, pending: &mut PendingNudges) {
        while let Some(part) = self.parts.front() {
            let pairs = part.iter().map(|nudge| (&*nudge.channel, &*nudge.key));
            match transaction::send_nudges(pairs, now, session) {
                Ok(id) => {
                    self.in_flight = Some(InFlight { id, since: now });
                    self.counts.transactions += 1;
                    let (nudges, is_repeat) = (part.clone(), self.is_repeat);
                    return self.actions.push_back(NudgeAction::Sent { nudges, is_repeat });
                }
                Err(error) => self.drop_part(error, pending),
            }
        }
    }

    /// Records that notifications for another client have arrived.
    pub(in crate::notifier) fn handle_notifications(&mut self) {
        self.session.handle_notifications();
    }

    /// See [`SessionState::stray_error`].
    pub(in crate::notifier) fn stray_error(
        &self,
        event: &SessionEvent,
        session: &Session,
    ) -> Option<Error> {
        self.session.stray_error(event, session)
    }

    /// Handles an event of the session. Returns an error if the session must end: then [`handle_lost`](Self::handle_lost) follows.
    pub(in crate::notifier) fn handle_event(
        &mut self,
        now: Instant,
        event: SessionEvent,
        pending: &mut PendingNudges,
    ) -> Option<Error> {
        let SessionEvent::Done { id, result, .. } = event else { return None };
        // The session has ended: `handle_lost` follows.
        if let Err(error) = &result
            && matches!(error.kind(), ErrorKind::InDoubt | ErrorKind::Connect)
        {
            return None;
        }
        if self.in_flight.as_ref().is_none_or(|sent| sent.id != id) {
            return None;
        }
        if let Err(error) = &result
            && error.kind() == ErrorKind::Unsupported
        {
            // The answer is too large, or none to a nudge. The part stays in flight: it may have been committed.
            return result.err();
        }
        self.in_flight = None;
        let part = self.parts.front()?;
        let count = part.len();
        match result.map_err(outcome::refusal) {
            // It would refuse every further nudge, and another server may accept them.
            Err(error) if error.kind() == ErrorKind::Standby => return Some(error),
            Ok(_) => {
                self.counts.committed += count as u64;
                self.retries.reset();
                self.was_timed_out = false;
                self.parts.pop_front();
                self.settle_if_done(pending);
            }
            Err(error) => {
                self.actions.push_back(NudgeAction::Refused(part.clone()));
                let is_timed_out = error.sqlstate() == Some("57014");
                let was_timed_out = std::mem::replace(&mut self.was_timed_out, is_timed_out);
                // Together they may never be accepted in time.
                let is_too_large = is_timed_out && was_timed_out;
                if (outcome::may_concern_one(&error) || is_too_large) && count > 1 {
                    self.halve();
                } else if outcome::may_succeed_later(&error) {
                    self.retry_at = now.checked_add(self.retries.next());
                    self.put_back(pending);
                    self.actions.push_back(NudgeAction::Failed(error));
                } else {
                    self.drop_part(error, pending);
                }
            }
        }
        None
    }

    /// Divides the first part, so that the invalid nudge is refused alone at last, or that each half takes less time.
    fn halve(&mut self) {
        let Some(part) = self.parts.pop_front() else { return };
        let (first, second) = part.split_at(part.len().div_ceil(2));
        self.parts.push_front(second.into());
        self.parts.push_front(first.into());
    }

    fn drop_part(&mut self, error: Error, pending: &mut PendingNudges) {
        if let Some(part) = self.parts.pop_front() {
            self.counts.dropped += part.len() as u64;
            self.actions.push_back(NudgeAction::Dropped(error));
        }
        self.settle_if_done(pending);
    }

    fn settle_if_done(&mut self, pending: &mut PendingNudges) {
        if self.parts.is_empty() {
            self.is_repeat = false;
            pending.settle(std::iter::empty());
        }
    }

    /// Puts back what is not confirmed.
    fn put_back(&mut self, pending: &mut PendingNudges) {
        self.in_flight = None;
        let parts = std::mem::take(&mut self.parts);
        let unconfirmed = parts.iter().flat_map(|part| part.iter().cloned());
        self.counts.coalesced += pending.settle(unconfirmed);
    }

    /// Handles the loss of the session: what is in doubt is sent again.
    pub(in crate::notifier) fn handle_lost(
        &mut self,
        now: Instant,
        error: Error,
        pending: &mut PendingNudges,
    ) {
        let is_over = self.is_over(now);
        // A session whose server was silent was of no use since then: if it were, each one would be followed by the next at once.
        let live_until = self.in_flight.as_ref().map_or(now, |sent| sent.since);
        let lost = self.session.handle_lost(now, live_until, &error, is_over);
        let Some(waits) = lost else { return };
        self.is_repeat |= self.in_flight.is_some();
        self.put_back(pending);
        self.go_on(waits, error, pending);
    }

    /// Handles a new session.
    pub(in crate::notifier) fn handle_opened(&mut self, now: Instant) {
        if self.session.handle_opened(now) {
            self.counts.sessions += 1;
        }
    }

    /// Handles the failure of an attempt.
    pub(in crate::notifier) fn handle_open_failed(
        &mut self,
        now: Instant,
        error: Error,
        pending: &mut PendingNudges,
    ) {
        let is_over = self.is_over(now);
        let Some(waits) = self.session.handle_open_failed(now, &error, is_over) else { return };
        self.counts.attempts_failed += 1;
        self.go_on(waits, error, pending);
    }

    fn go_on(&mut self, waits: bool, error: Error, pending: &mut PendingNudges) {
        if waits {
            self.actions.push_back(NudgeAction::Failed(error));
        } else {
            self.end(error, pending);
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called. `None`: never.
    pub(in crate::notifier) fn poll_timeout(&self, pending: &PendingNudges) -> Option<Instant> {
        if self.is_ended {
            return None;
        }
        let is_waiting = self.in_flight.is_none() && self.session.is_open() && !pending.is_empty();
        let flush = self.flush_at().filter(|_| is_waiting);
        [flush, self.silence_deadline(), self.close_deadline(), self.session.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Handles deadlines. [`start`](Self::start) begins a flush. Returns an error if the session must end: then
    /// [`handle_lost`](Self::handle_lost) follows.
    pub(in crate::notifier) fn handle_timeout(
        &mut self,
        now: Instant,
        pending: &mut PendingNudges,
    ) -> Option<Error> {
        let error = self.overdue(now);
        if self.session.is_open() {
            if error.is_some() && self.in_flight.is_some() {
                self.actions.push_back(NudgeAction::CancelCommand);
            }
            return error;
        }
        if let Some(error) = error {
            self.end(error, pending);
        }
        match self.session.handle_timeout(now) {
            Due::Nothing => {}
            Due::Open => self.actions.push_back(NudgeAction::Open),
            Due::TooLate(error) => {
                self.actions.push_back(NudgeAction::CancelOpening);
                self.handle_open_failed(now, error, pending);
            }
        }
        None
    }

    fn overdue(&self, now: Instant) -> Option<Error> {
        let limit = self.policy.answer_timeout;
        let message = if self.silence_deadline().is_some_and(|deadline| deadline <= now) {
            format!("the server did not answer a nudge within {limit:?}")
        } else if self.is_over(now) {
            format!("the server did not confirm every nudge within {limit:?} after the close")
        } else {
            return None;
        };
        Some(Error::new(ErrorKind::Timeout, message))
    }

    fn silence_deadline(&self) -> Option<Instant> {
        self.in_flight.as_ref()?.since.checked_add(self.policy.answer_timeout)
    }

    fn close_deadline(&self) -> Option<Instant> {
        self.closing_since?.checked_add(self.policy.answer_timeout)
    }

    /// Returns true if the time of a close has passed.
    fn is_over(&self, now: Instant) -> bool {
        self.close_deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Ends with an error. All nudges are dropped.
    pub(in crate::notifier) fn end(&mut self, cause: Error, pending: &mut PendingNudges) {
        if self.is_ended {
            return;
        }
        self.put_back(pending);
        let dropped = pending.discard();
        self.counts.dropped += dropped;
        if dropped > 0 {
            self.actions.push_back(NudgeAction::Dropped(outcome::nudges_dropped(&cause)));
        }
        self.finish(Err(cause));
    }

    fn finish(&mut self, result: Result<(), Error>) {
        self.session.end();
        self.is_ended = true;
        self.actions.push_back(NudgeAction::End(result));
    }

    /// Returns whether a flush is not confirmed completely.
    #[cfg(test)]
    pub(in crate::notifier) fn is_flushing(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Returns what the task must do next.
    pub(in crate::notifier) fn poll_action(
        &mut self,
        pending: &PendingNudges,
    ) -> Option<NudgeAction> {
        let is_done = self.parts.is_empty() && pending.is_empty();
        if is_done && self.closing_since.is_some() && !self.is_ended {
            self.finish(Ok(()));
        }
        self.actions.pop_front()
    }
}

/// Divides nudges into parts, each of which is one transaction.
fn divided(nudges: Vec<Nudge>, limits: &GroupLimits) -> VecDeque<Arc<[Nudge]>> {
    let mut parts = VecDeque::new();
    let (mut part, mut bytes) = (Vec::new(), 0_usize);
    for nudge in nudges {
        let size = nudge.channel.len() + nudge.key.len();
        let is_full = part.len() >= limits.calls || bytes.saturating_add(size) > limits.bytes;
        if is_full && !part.is_empty() {
            parts.push_back(std::mem::take(&mut part).into());
            bytes = 0;
        }
        part.push(nudge);
        bytes += size;
    }
    if !part.is_empty() {
        parts.push_back(part.into());
    }
    parts
}

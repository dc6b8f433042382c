//! [`NotifierMachine`]: the calls of a notifier, and the sessions that they go through. Without I/O.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::outcome;
use super::pipeline::NotifierPipeline;
use super::request::{Reply, Request};
use super::session_state::{Due, SessionState};
use super::stats::NotifierStats;
use super::waiting::GroupLimits;
use crate::error::Error;
use crate::proto::session::{Session, SessionEvent};
use crate::proto::supervisor::{Reconnect, State};

/// The settings of a notifier.
#[derive(Debug, Clone, Copy)]
pub(super) struct NotifierPolicy {
    pub(super) answer_timeout: Duration,
    pub(super) limits: GroupLimits,
    /// The timeout of an attempt to connect. A little longer than the timeout of the attempt itself, whose error names the step
    /// that took the time.
    pub(super) connect_timeout: Duration,
    /// The delays of reconnecting. `None`: the loss of the session ends the notifier.
    pub(super) reconnect: Option<Reconnect>,
}

/// The state machine of a notifier: a [`NotifierPipeline`] for the calls, and a [`SessionState`]. It ends when all calls of a closed
/// notifier are answered, or if no session follows one that was lost.
#[derive(Debug)]
pub(super) struct NotifierMachine {
    pipeline: NotifierPipeline,
    session: SessionState,
    /// Why the notifier has ended.
    cause: Option<Error>,
    /// All requests were received.
    is_drained: bool,
    actions: VecDeque<NotifierAction>,
}

/// What the task must do.
#[derive(Debug)]
pub(super) enum NotifierAction {
    /// Begin an attempt to connect.
    Open,
    /// Drop the attempt.
    CancelOpening,
    State(State),
    /// A session was lost, or an attempt has failed.
    Failed(Error),
    /// The notifier ends. All calls are answered.
    End(Result<(), Error>),
}

impl NotifierMachine {
    /// Creates a machine for an open session of which the socket has accepted `written` bytes. `seed` is for the delays.
    pub(super) fn new(policy: &NotifierPolicy, now: Instant, written: u64, seed: u64) -> Self {
        let session = SessionState::opened(policy.connect_timeout, policy.reconnect, seed, now);
        let mut pipeline = NotifierPipeline::new(policy.answer_timeout, policy.limits, written);
        pipeline.stats.sessions = 1;
        Self { pipeline, session, cause: None, is_drained: false, actions: VecDeque::new() }
    }

    /// Accepts a call.
    pub(super) fn accept(&mut self, request: Request) {
        self.pipeline.accept(request);
        if let Some(cause) = &self.cause {
            self.pipeline.end(cause);
        }
    }

    /// Sets the deadline of all accepted calls to one answer timeout from `now`.
    pub(super) fn close(&mut self, now: Instant) {
        self.pipeline.close(now);
    }

    /// Records that no further calls follow.
    pub(super) fn drained(&mut self) {
        self.is_drained = true;
    }

    /// Returns whether every call has its answer.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.pipeline.is_idle()
    }

    /// Gives commands to the session.
    pub(super) fn start(&mut self, now: Instant, session: &mut Session) {
        // A session that has failed still returns events. The loss follows.
        if self.session.is_open() && session.is_ready() {
            self.pipeline.start(now, session);
        }
    }

    /// Records the number of bytes that the socket has accepted.
    pub(super) fn wrote(&mut self, now: Instant, written: u64) {
        self.pipeline.wrote(now, written);
    }

    /// Records that notifications for another client have arrived.
    pub(super) fn handle_notifications(&mut self) {
        self.session.handle_notifications();
    }

    /// Returns the error by which the session must end, if this answer may be the report of a dropped notification: then all
    /// later answers may be those of the commands before. Called before [`handle_event`](Self::handle_event).
    pub(super) fn stray_error(&self, event: &SessionEvent, session: &Session) -> Option<Error> {
        self.session.stray_error(event, session)
    }

    /// Handles an event of the session.
    pub(super) fn handle_event(&mut self, now: Instant, event: SessionEvent) {
        self.pipeline.handle_event(now, event);
    }

    /// Handles the loss of the session, after its last write was recorded.
    pub(super) fn handle_lost(&mut self, now: Instant, error: Error) {
        let is_over = self.pipeline.is_closing_over(now);
        let Some(waits) = self.session.handle_lost(now, now, &error, is_over) else { return };
        self.actions.push_back(NotifierAction::Failed(error.clone()));
        if waits {
            self.actions.push_back(NotifierAction::State(State::Reconnecting));
            self.pipeline.lose(&error);
        } else {
            self.end(error);
        }
    }

    /// Handles a new session, of which the socket has accepted `written` bytes.
    pub(super) fn handle_opened(&mut self, now: Instant, written: u64) {
        if !self.session.handle_opened(now) {
            return;
        }
        self.pipeline.begin(written);
        self.pipeline.stats.sessions += 1;
        self.actions.push_back(NotifierAction::State(State::Connected));
    }

    /// Handles the failure of an attempt.
    pub(super) fn handle_open_failed(&mut self, now: Instant, error: Error) {
        let is_over = self.pipeline.is_closing_over(now);
        let Some(waits) = self.session.handle_open_failed(now, &error, is_over) else { return };
        self.pipeline.stats.attempts_failed += 1;
        self.actions.push_back(NotifierAction::Failed(error.clone()));
        if waits {
            self.pipeline.set_outage(error);
        } else {
            self.end(error);
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called. `None`: never.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.cause.is_some() {
            return None;
        }
        let timeouts = [self.pipeline.poll_timeout(), self.session.poll_timeout()];
        timeouts.into_iter().flatten().min()
    }

    /// Answers the calls whose deadline has passed, and begins the next attempt. Returns an error if the session must end: then
    /// [`handle_lost`](Self::handle_lost) follows.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Error> {
        let error = self.pipeline.handle_timeout(now);
        if self.session.is_open() {
            return error;
        }
        if let Some(error) = error {
            self.end(error);
        }
        match self.session.handle_timeout(now) {
            Due::Nothing => {}
            Due::Open => self.actions.push_back(NotifierAction::Open),
            Due::TooLate(error) => {
                self.actions.push_back(NotifierAction::CancelOpening);
                self.handle_open_failed(now, error);
            }
        }
        None
    }

    /// Ends the notifier with an error.
    pub(super) fn end(&mut self, cause: Error) {
        if self.cause.is_some() {
            return;
        }
        self.session.end();
        self.pipeline.end(&cause);
        self.cause = Some(cause.clone());
        self.actions.push_back(NotifierAction::End(Err(cause)));
    }

    /// Returns what the task must do next.
    pub(super) fn poll_action(&mut self) -> Option<NotifierAction> {
        if self.is_drained && self.pipeline.is_idle() && self.cause.is_none() {
            self.session.end();
            self.cause = Some(outcome::closed());
            self.actions.push_back(NotifierAction::End(Ok(())));
        }
        self.actions.pop_front()
    }

    /// Returns the next answer that must be sent. All actions come first, so that a call that returns finds their effects.
    pub(super) fn poll_answer(&mut self) -> Option<(Reply, Result<(), Error>)> {
        self.pipeline.poll_answer()
    }

    pub(super) fn stats(&self) -> NotifierStats {
        let mut stats = self.pipeline.stats;
        stats.unanswered = stats
            .calls
            .saturating_sub(stats.committed + stats.refused + stats.in_doubt + stats.not_sent);
        stats
    }
}

//! [`SessionState`]: when a session is opened, and what follows from its loss. Without I/O.

use std::time::{Duration, Instant};

use super::outcome;
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Session, SessionEvent};
use crate::proto::supervisor::{Attempts, Reconnect};

/// The state of the session of a notifier, or of its nudges.
///
/// ```text
/// unopened                            handle_lost                 the delay has passed
///    │ open                   open ─────────────────▶ waiting ──────────────────────────▶ opening
///    ▼                         ▲                         ▲         handle_open_failed        │
/// opening                      │                         └───────────────────────────────────┤
///                              └──────────────────────────────── handle_opened ──────────────┘
/// ended: from everywhere by `end`, and if no attempt follows
/// ```
#[derive(Debug)]
pub(super) struct SessionState {
    attempts: Attempts,
    phase: Phase,
    /// Notifications have arrived on this session: another client of a pooler has executed LISTEN in it.
    has_notifications: bool,
}

#[derive(Debug)]
enum Phase {
    Unopened,
    Open { since: Instant },
    Waiting,
    Opening { deadline: Instant },
    Ended,
}

/// What follows when a deadline has passed.
#[derive(Debug)]
pub(super) enum Due {
    Nothing,
    /// An attempt begins.
    Open,
    /// The attempt takes too long. [`SessionState::handle_open_failed`] follows.
    TooLate(Error),
}

impl SessionState {
    /// Creates it without a session. `seed` is for the delays, `timeout` for an attempt.
    pub(super) fn unopened(timeout: Duration, reconnect: Option<Reconnect>, seed: u64) -> Self {
        let mut attempts = Attempts::new(timeout, reconnect, seed);
        // The configuration is that of a session that was opened.
        attempts.succeeded();
        Self { attempts, phase: Phase::Unopened, has_notifications: false }
    }

    /// Creates it with an open session.
    pub(super) fn opened(
        timeout: Duration,
        reconnect: Option<Reconnect>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut state = Self::unopened(timeout, reconnect, seed);
        state.attempts.begin(now);
        state.phase = Phase::Open { since: now };
        state
    }

    pub(super) fn is_unopened(&self) -> bool {
        matches!(self.phase, Phase::Unopened)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Begins the first attempt.
    pub(super) fn open(&mut self, now: Instant) {
        self.phase = Phase::Opening { deadline: self.attempts.begin(now) };
    }

    /// Handles the loss of the session, unless there is none. It was of use until `live_until`: after a long time the next delay is
    /// short again. Returns whether another session follows, which it does not if `is_over`.
    pub(super) fn handle_lost(
        &mut self,
        now: Instant,
        live_until: Instant,
        error: &Error,
        is_over: bool,
    ) -> Option<bool> {
        let Phase::Open { since } = self.phase else { return None };
        self.attempts.was_live(live_until.saturating_duration_since(since));
        Some(self.wait(now, error, false, is_over))
    }

    /// Handles a new session. Returns false if none was being opened.
    pub(super) fn handle_opened(&mut self, now: Instant) -> bool {
        let was_opening = matches!(self.phase, Phase::Opening { .. });
        if was_opening {
            self.phase = Phase::Open { since: now };
            self.has_notifications = false;
        }
        was_opening
    }

    /// Handles the failure of an attempt, unless there is none. Returns whether another one follows, which it does not if `is_over`.
    pub(super) fn handle_open_failed(
        &mut self,
        now: Instant,
        error: &Error,
        is_over: bool,
    ) -> Option<bool> {
        let was_opening = matches!(self.phase, Phase::Opening { .. });
        was_opening.then(|| self.wait(now, error, true, is_over))
    }

    /// Waits for the next attempt. Returns false if there is none.
    fn wait(&mut self, now: Instant, error: &Error, was_login: bool, is_over: bool) -> bool {
        let waits = !is_over
            && self.attempts.goes_on_after(error, was_login)
            && self.attempts.wait(now).is_some();
        if waits {
            self.phase = Phase::Waiting;
        }
        waits
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called. `None`: never.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Unopened | Phase::Open { .. } | Phase::Ended => None,
            Phase::Waiting => self.attempts.timeout(),
            Phase::Opening { deadline } => Some(deadline),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        match self.phase {
            Phase::Waiting => match self.attempts.begin_due(now) {
                Some(deadline) => {
                    self.phase = Phase::Opening { deadline };
                    Due::Open
                }
                None => Due::Nothing,
            },
            Phase::Opening { deadline } if deadline <= now => {
                let message = format!("no session within {:?}", self.attempts.limit());
                Due::TooLate(Error::new(ErrorKind::Timeout, message))
            }
            Phase::Unopened | Phase::Open { .. } | Phase::Opening { .. } | Phase::Ended => {
                Due::Nothing
            }
        }
    }

    pub(super) fn end(&mut self) {
        self.attempts.stop();
        self.phase = Phase::Ended;
    }

    /// Records that notifications for another client have arrived.
    pub(super) fn handle_notifications(&mut self) {
        self.has_notifications = true;
    }

    /// Returns the error by which the session must end, if this answer may be the report of a dropped notification: then all
    /// later answers may be those of the commands before.
    pub(super) fn stray_error(&self, event: &SessionEvent, session: &Session) -> Option<Error> {
        let SessionEvent::Done { result: Err(error), status, .. } = event else { return None };
        let is_possible = self.has_notifications && session.may_report_a_drop(error, *status);
        is_possible.then(|| outcome::stray(error))
    }
}

//! Reconnecting: what follows from the loss of a session, and when the next attempt begins.
//!
//! [`Backoff`](super::Backoff) computes the delays.

use std::time::Instant;

use super::action::{Action, LogEvent};
use super::link::LinkStage;
use super::{LinkEvent, Sink, State, Supervisor};
use crate::error::{Error, ErrorKind};

impl Supervisor {
    /// Ends the current link, which is broken or could not be opened, and prepares the next attempt.
    pub(super) fn lose(&mut self, now: Instant, error: Error, sink: &mut impl Sink) {
        if self.flow.is_stalled() {
            return self.end_after_buffered(now, LinkEvent::Failed(error));
        }
        let Some(link) = self.current.take() else { return };
        if let LinkStage::Closing { .. } = link.stage {
            self.current = Some(link);
            return self.finish(Ok(()));
        }
        // A session that is still logging in counts as an attempt.
        let (was_open, live_since) = (link.was_ready, link.live_since);
        // The log event comes before the consequences of the loss, as the answers to commands in flight.
        if was_open {
            self.counters.sessions_lost = self.counters.sessions_lost.saturating_add(1);
            self.actions.push_back(Action::Log(LogEvent::Lost { error: error.clone() }));
        } else {
            self.actions.push_back(Action::Log(LogEvent::AttemptFailed { error: error.clone() }));
        }
        self.abandon(link, error.clone());
        let refused = !was_open && is_refusal(&error) && !self.retries_refusals();
        if !self.goes_on() || refused {
            return self.finish(Err(error));
        }
        if was_open {
            self.hold_back(now, error.clone(), 1, sink);
            self.flow.resume(now);
            self.cancel_hook();
            self.heartbeat.stop();
            self.handover.due = None;
        }
        self.enter(State::Reconnecting);
        if let (Some(since), Some(backoff)) = (live_since, &mut self.backoff) {
            backoff.was_live(now.saturating_duration_since(since));
        }
        if !self.promote_next(now, sink) {
            self.retry_later(now, error);
        }
        self.start_waiting(now);
    }

    /// Ends a stall, and handles the end of the current link after what was read from it is delivered.
    pub(super) fn end_after_buffered(&mut self, now: Instant, end: LinkEvent) {
        self.resume(now);
        if let Some(link) = &mut self.current {
            link.end.get_or_insert(end);
        }
    }

    fn retries_refusals(&self) -> bool {
        self.policy.reconnect.is_some_and(|reconnect| reconnect.retry_refusals)
    }

    /// Sets the time of the next attempt.
    fn retry_later(&mut self, now: Instant, error: Error) {
        let Some(backoff) = &mut self.backoff else { return };
        let delay = backoff.next();
        self.retry_at = now.checked_add(delay);
        self.actions.push_back(Action::Log(LogEvent::Reconnecting { error, delay }));
    }

    /// Begins the next attempt when its delay has passed.
    pub(super) fn retry(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.outages.count_attempt();
            self.current = Some(self.open(now));
        }
    }

    /// Returns true if the listener reconnects after a loss. It does not before the first session was live.
    pub(super) fn goes_on(&self) -> bool {
        let is_wanted = !self.ending && self.draining.is_none();
        self.policy.reconnect.is_some() && self.has_begun && is_wanted
    }
}

/// Returns true if the next attempt would fail with the same error, unless another host or password is used.
///
/// A failure to read a file, for example, is no refusal: the file is read again at the next attempt.
fn is_refusal(error: &Error) -> bool {
    match error.kind() {
        _ if error.is_passing() => false,
        ErrorKind::Auth | ErrorKind::Config | ErrorKind::Misuse | ErrorKind::Unsupported => true,
        // N31: the database does not exist, or was dropped.
        _ => matches!(error.sqlstate(), Some("3D000" | "57P04")),
    }
}

//! The end of a listener: closed, drained, or with an error.

use std::time::Instant;

use super::action::{Action, Close};
use super::link::{LinkStage, ListenerLink};
use super::{CommandNumber, LinkId, Reply, State, Supervisor, closed};
use crate::error::{Error, ErrorKind};

/// A drain that is in progress.
#[derive(Debug)]
pub(super) struct Draining {
    pub(super) id: CommandNumber,
    pub(super) deadline: Option<Instant>,
    /// The link on which the last heartbeat was sent.
    pub(super) heartbeat_link: Option<LinkId>,
    /// The error of the server, if it refused every heartbeat query.
    pub(super) refusal: Option<Error>,
}

impl Supervisor {
    /// Ends the session cleanly, within the timeout. What has arrived and what still arrives is delivered, with the gaps.
    pub(super) fn close(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        self.resume(now);
        self.ending = true;
        let Some(mut link) = self.current.take() else { return self.finish(Ok(())) };
        match link.stage {
            LinkStage::Open(_) => {
                let deadline = now.checked_add(self.policy.close_timeout).unwrap_or(now);
                link.close(deadline, self.handover.closing_delivery(self.next.is_none()));
                self.resolve_answered(&mut link);
                let id = link.id;
                // The gaps that `end` releases name this session.
                self.current = Some(link);
                self.end(now, &unsent(self.cause.as_ref()));
                self.actions.push_back(Action::Close { link: id, how: Close::Graceful });
            }
            LinkStage::Closing { .. } => self.current = Some(link),
            LinkStage::Opening { .. } => {
                self.current = Some(link);
                self.finish(Ok(()));
            }
        }
    }

    /// Ends the listener with this error while its session is live. As with [`Command::Close`](super::Command::Close), what
    /// was read is delivered or counted.
    pub fn close_because(&mut self, now: Instant, cause: Error) {
        self.fail_drain(&cause);
        self.cause.get_or_insert(cause);
        self.close(now);
    }

    /// Returns true if the listener is ending: after a close, an answered drain, or an error. During a drain it is
    /// false: an error that ends the listener then is the cause of the end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Ends the listener at once, for example because the runtime of the driver ends. What was passed in is shown, each gap
    /// at its position, and commands in flight get an error. If the listener is already ending with an error, that error
    /// stays the result.
    pub fn finish(&mut self, result: Result<(), Error>) {
        if self.state == State::Closed {
            return;
        }
        let result = self.cause.take().map_or(result, Err);
        let unsent = unsent(result.as_ref().err());
        if let Err(cause) = &result {
            self.fail_drain(cause);
        }
        self.ending = true;
        if let Some(link) = self.current.take() {
            if let Some(cause) = missing_at_the_end(&link) {
                let lost_at = self.wall_clock.time(self.wall_clock.at());
                // Everything that was received is before the gap.
                self.outages.add(self.counters.received, cause, lost_at, 0);
            }
            self.abandon(link, closed());
        }
        self.end(self.wall_clock.at(), &unsent);
        self.enter(State::Closed);
        self.actions.push_back(Action::Done(result));
    }

    /// Stops everything except the current link: other links are aborted, waiting commands get `unsent`.
    fn end(&mut self, now: Instant, unsent: &Error) {
        self.ending = true;
        for link in [self.next.take(), self.old.take()].into_iter().flatten() {
            self.abandon(link, closed());
        }
        (self.retry_at, self.handover.due) = (None, None);
        self.flow.resume(now);
        self.handover.end();
        self.heartbeat.stop();
        self.cancel_hook();
        self.release_gaps(now);
        for (id, command) in std::mem::take(&mut self.waiting) {
            if !matches!(command, super::Command::Drain { .. }) {
                self.reply(id, Err(unsent.clone()));
            }
        }
        self.answer_drain(Err(unsent.clone()));
    }

    /// Aborts a link. Its commands get `error`.
    pub(super) fn abandon(&mut self, link: ListenerLink, error: Error) {
        let id = link.id;
        self.resolve_all(link, error);
        self.actions.push_back(Action::Close { link: id, how: Close::Abort });
    }

    /// Answers a drain with the cause of the end, if its heartbeat was sent.
    fn fail_drain(&mut self, cause: &Error) {
        if self.draining.as_ref().is_some_and(|draining| draining.heartbeat_link.is_some()) {
            self.answer_drain(Err(cause.clone()));
        }
    }

    /// Answers the drain, at most once. With any result the listener is ending.
    pub(super) fn answer_drain(&mut self, result: Result<Reply, Error>) {
        if let Some(draining) = self.draining.take() {
            let result = match draining.refusal {
                Some(refusal) => result.and_then(|_| Err(unconfirmed(refusal))),
                None => result,
            };
            self.ending = true;
            self.reply(draining.id, result);
        }
    }

    /// Ends the listener at the deadline of a drain.
    pub(super) fn check_drain(&mut self, now: Instant) {
        let deadline = self.draining.as_ref().and_then(|draining| draining.deadline);
        if deadline.is_some_and(|deadline| deadline <= now) {
            let message = "not everything that was committed before could be delivered in time";
            self.answer_drain(Err(Error::new(ErrorKind::Timeout, message)));
            self.close(now);
        }
    }
}

/// Returns the answer to a command that was not sent before the listener ended with this cause.
pub(super) fn unsent(cause: Option<&Error>) -> Error {
    match cause {
        None => closed(),
        Some(cause) => Error::caused(
            ErrorKind::Closed,
            "the listener has ended before this was sent",
            cause.clone(),
        ),
    }
}

/// Returns the answer to a drain after the server refused every heartbeat query.
#[cold]
fn unconfirmed(refusal: Error) -> Error {
    let message = "what arrived was delivered, but the server refused every heartbeat query, so it is unknown \
         whether the session listened to its channels until the drain";
    refusal.within(message)
}

/// Returns the cause of a gap at the end of the stream, if a link that is being closed has not delivered all that it should.
#[cold]
fn missing_at_the_end(link: &ListenerLink) -> Option<Error> {
    let LinkStage::Closing { session, delivery, .. } = &link.stage else { return None };
    if let Some(malformed) = session.malformed_after_terminate() {
        return Some(malformed.clone());
    }
    let message = "the listener was closed during a handover, and the old session ended before it had brought what \
         was read of the new one";
    delivery.is_missing().then(|| Error::new(ErrorKind::Closed, message))
}

//! How a listener ends: closed, drained, or with the cause of its end.

use std::time::Instant;

use super::action::{Action, Close};
use super::link::{Link, Stage};
use super::{CommandId, LinkId, Reply, State, Supervisor, closed};
use crate::{Error, ErrorKind};

/// A drain that is under way.
#[derive(Debug)]
pub(super) struct Draining {
    pub(super) id: CommandId,
    pub(super) deadline: Option<Instant>,
    /// The link that was asked for the proof before the end.
    pub(super) asked: Option<LinkId>,
    /// The answer of a server that refused every proof.
    pub(super) refusal: Option<Error>,
}

impl Supervisor {
    /// Ends the session cleanly, within the time for it. What has arrived is shown, with the gaps before it, and so is
    /// what still arrives.
    pub(super) fn close(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        self.resume(now);
        self.ending = true;
        let Some(mut link) = self.current.take() else { return self.finish(Ok(())) };
        match link.stage {
            Stage::Open(_) => {
                let deadline = now.checked_add(self.policy.close_timeout).unwrap_or(now);
                link.close(deadline, self.handover.rest(self.next.is_none()));
                self.settle_events(&mut link);
                let id = link.id;
                // It goes on after the gaps that are reported now.
                self.current = Some(link);
                self.end(now, &unsent(self.cause.as_ref()));
                self.actions.push_back(Action::Close { link: id, how: Close::Graceful });
            }
            Stage::Closing { .. } => self.current = Some(link),
            Stage::Opening { .. } => {
                self.current = Some(link);
                self.finish(Ok(()));
            }
        }
    }

    /// Ends the listener for a reason of its own while its session is well: as [`Command::Close`](super::Command::Close) does
    /// it, so that what was read is delivered or counted. The end has this cause.
    pub fn close_because(&mut self, now: Instant, cause: Error) {
        self.fail_drain(&cause);
        self.cause.get_or_insert(cause);
        self.close(now);
    }

    /// Whether the end has begun: a close was asked for, a drain was answered, or there is a cause. While a drain is under
    /// way it has not: what ends the listener then is the cause of the end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// The end, at once: the shell goes away, because its runtime ends for example. What was handed in is shown, each
    /// gap at its position, and commands in flight get an error. If the listener ends already, it is with the cause of that.
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
            if matches!(&link.stage, Stage::Closing { rest, .. } if rest.is_missing()) {
                self.miss_rest();
            }
            self.abandon(link, closed());
        }
        self.end(self.wall.at(), &unsent);
        self.enter(State::Closed);
        self.actions.push_back(Action::Done(result));
    }

    /// Reports a gap: the old session of a handover has ended before it has sent what was read from the new one.
    fn miss_rest(&mut self) {
        let message = "the listener was closed during a handover, and the old session ended before it had brought what \
             was read of the new one";
        let lost_at = self.wall.time(self.wall.at());
        // All that was taken in stands before it.
        let position = self.figures.received;
        self.outages.add(position, Error::new(ErrorKind::Closed, message), lost_at, 0);
    }

    /// Nothing is begun any more: all but the current link is given up, what waits gets `unsent`.
    fn end(&mut self, now: Instant, unsent: &Error) {
        self.ending = true;
        for link in [self.next.take(), self.old.take()].into_iter().flatten() {
            self.abandon(link, closed());
        }
        (self.retry_at, self.handover.due) = (None, None);
        self.flow.resume(now);
        self.handover.end();
        self.probe.stop();
        self.cancel_hook();
        self.report_outages(now);
        for (id, command) in std::mem::take(&mut self.waiting) {
            if !matches!(command, super::Command::Drain { .. }) {
                self.reply(id, Err(unsent.clone()));
            }
        }
        self.answer_drain(Err(unsent.clone()));
    }

    pub(super) fn abandon(&mut self, link: Link, error: Error) {
        let id = link.id;
        self.settle_all(link, error);
        self.actions.push_back(Action::Close { link: id, how: Close::Abort });
    }

    /// A drain whose proof was asked for gets the cause of the end itself: it was sent.
    fn fail_drain(&mut self, cause: &Error) {
        if self.draining.as_ref().is_some_and(|draining| draining.asked.is_some()) {
            self.answer_drain(Err(cause.clone()));
        }
    }

    /// Whoever drains is told how it went, once. However that was, it is the end.
    pub(super) fn answer_drain(&mut self, result: Result<Reply, Error>) {
        if let Some(draining) = self.draining.take() {
            let result = match draining.refusal {
                Some(refusal) => result.and_then(|_| Err(unproven(refusal))),
                None => result,
            };
            self.ending = true;
            self.reply(draining.id, result);
        }
    }

    pub(super) fn check_drain(&mut self, now: Instant) {
        let deadline = self.draining.as_ref().and_then(|draining| draining.deadline);
        if deadline.is_some_and(|deadline| deadline <= now) {
            let message = "not everything that was committed before could be delivered in time";
            self.answer_drain(Err(Error::new(ErrorKind::Timeout, message)));
            self.close(now);
        }
    }
}

/// The answer to a command that was not sent, of a listener that ends with this cause.
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

/// The answer to a drain where the server refused every proof.
#[cold]
fn unproven(refusal: Error) -> Error {
    let message = "what arrived was delivered, but the server refused to prove that the session listened to its \
         channels until the drain";
    refusal.within(message)
}

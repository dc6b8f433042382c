//! Ends a listener: closes its session, releases its gaps and answers its commands.

use super::action::{Action, Close, Command, State};
use super::ending::{drained_too_late, unsent};
use super::link::LinkStage;
use super::sink::Scope;
use super::{Sink, Supervisor};
use crate::error::Error;

impl<S: Sink> Supervisor<S> {
    /// Ends the session cleanly, within the timeout. What has arrived and what still arrives is delivered, with the gaps.
    pub(super) fn close(&mut self) {
        if self.state == State::Closed {
            return;
        }
        self.resume();
        self.begin_end(self.ending.unsent());
        let Some(mut link) = self.common.links.current.take() else { return self.finish(Ok(())) };
        match link.stage {
            LinkStage::Open(_) => {
                let now = self.common.now;
                let deadline = now.checked_add(self.close_timeout).unwrap_or(now);
                let is_alone = self.common.links.next.is_none();
                link.close(deadline, self.handover.closing_delivery(is_alone));
                self.resolve_answered(&mut link);
                let id = link.id;
                // The gaps that `end` releases name this session.
                self.common.links.current = Some(link);
                self.end(&self.ending.unsent());
                self.common.close(id, Close::Graceful);
            }
            LinkStage::Closing { .. } => self.common.links.current = Some(link),
            LinkStage::Opening { .. } => {
                self.common.links.current = Some(link);
                self.finish(Ok(()));
            }
        }
    }

    /// Ends the listener with this error while its session is live. As with [`Command::Close`], what was read is delivered
    /// or counted.
    pub fn close_because(&mut self, cause: Error) {
        if let Some((id, result)) = self.ending.fail_drain(&cause) {
            self.common.reply(id, result);
        }
        self.ending.because(cause);
        self.close();
    }

    /// Ends the listener at once, for example because the runtime of the driver ends. What was passed in is shown, each gap
    /// at its position, and commands in flight get an error. If the listener is already ending with an error, that error
    /// stays the result.
    pub fn finish(&mut self, result: Result<(), Error>) {
        if self.state == State::Closed {
            return;
        }
        let result = self.ending.result(result);
        let unsent = unsent(self.common.owner, result.as_ref().err());
        if let Err(cause) = &result
            && let Some((id, result)) = self.ending.fail_drain(cause)
        {
            self.common.reply(id, result);
        }
        self.begin_end(unsent.clone());
        if let Some(link) = self.common.links.current.take() {
            if let Some(cause) = link.missing_at_the_end() {
                self.begin_outage(cause, 0, Scope::All);
            }
            self.abandon(link, self.common.owner.closed());
        }
        self.end(&unsent);
        self.enter(State::Closed);
        self.common.act(Action::Done(result));
    }

    fn begin_end(&mut self, unsent: Error) {
        if self.ending.begin() {
            self.common.act(Action::RefuseCommands(unsent));
        }
        self.attempts.stop();
    }

    /// Stops everything except the current link: other links are aborted, waiting commands get `unsent`.
    fn end(&mut self, unsent: &Error) {
        let links = &mut self.common.links;
        for link in [links.next.take(), links.old.take()].into_iter().flatten() {
            self.abandon(link, self.common.owner.closed());
        }
        self.flow.resume(self.common.now);
        self.handover.stop();
        self.heartbeat.stop();
        self.cancel_hook();
        self.release_gaps();
        for (id, command) in std::mem::take(&mut self.waiting) {
            if !matches!(command, Command::Drain { .. }) {
                self.common.reply(id, Err(unsent.clone()));
            }
        }
        self.answer_drain(Err(unsent.clone()));
    }

    /// Ends the listener at the deadline of a drain.
    pub(super) fn check_drain(&mut self) {
        if self.ending.deadline().is_some_and(|deadline| deadline <= self.common.now) {
            self.answer_drain(Err(drained_too_late()));
            self.close();
        }
    }
}

//! The answers of the server to commands, and the replies to the user.

use super::action::{Close, CommandNumber, LinkId, Listening, Reply};
use super::effect::{Effect, Effects, NONE};
use super::heartbeat_query::HeartbeatQuery;
use super::link::{LinkStage, ListenerLink};
use super::links::Role;
use super::purpose::{Answered, Change, CommandPurpose};
use super::{Sink, Supervisor, rejected, restore, transaction};
use crate::error::Error;
use crate::proto::session::{Answer, CommandId, Session, SessionEvent};
use crate::proto::wire::TransactionStatus;

impl<S: Sink> Supervisor<S> {
    /// Checks the complete answer to a command.
    pub(super) fn done(
        &mut self,
        link: LinkId,
        id: CommandId,
        channels: Vec<String>,
        (result, status): (Answer, TransactionStatus),
    ) -> Effects {
        let now = self.common.now;
        let Some(found) = self.common.links.find(link) else { return NONE };
        let Some(purpose) = found.answered(now, id) else { return NONE };
        let result = found.validate_reply(&purpose, result);
        let may_be_stray =
            result.is_err() && purpose.may_get_stray_error() && found.may_send_stray_errors();
        let loss = found.possible_drop(&purpose, &result, status);
        let result = rejected::in_doubt_if_dropped(&purpose, result, loss.as_ref());
        let rejection = found.rejection.clone();
        if rejection.is_some() && found.is_leaving() {
            // All of them are answered later, in the order in which they were sent, so that an UNLISTEN cancels an earlier
            // LISTEN.
            found.undone.push((purpose, channels));
            return NONE;
        }
        if !found.is_ready() {
            // The session has failed.
            let (purpose, result) =
                transaction::undone(purpose, result, status, found.session(), found.owner);
            self.resolve_on_loss(purpose, channels, result);
            return NONE;
        }
        let is_idle = status == TransactionStatus::Idle;
        if !is_idle && rejection.is_none() && !purpose.is_query() {
            return self.leave(link, (purpose, channels), result);
        }
        if let Some(rejection) = rejection {
            self.resolve_on_loss(purpose, channels, result);
            return vec![Effect::Fail(link, rejection)];
        }
        if may_be_stray {
            self.heartbeat.require(now);
        }
        let answered = Answered { link, purpose, channels, result, status };
        let dropped = loss.map(|cause| Effect::NotificationDropped(link, cause));
        let then = [Effect::Answer(Box::new(answered)), Effect::CheckLive(link), Effect::Proceed];
        dropped.into_iter().chain(then).collect()
    }

    /// Handles an answer that was checked, by the purpose of its command.
    pub(super) fn handle_answer(&mut self, answered: Answered) -> Effects {
        let Answered { link, purpose, channels, result, status } = answered;
        let common = &mut self.common;
        match purpose {
            CommandPurpose::Restore => {
                if common.links.role(link) == Some(Role::Next) {
                    // A refusal is progress too.
                    self.handover.progresses(common.now);
                }
                return restore::answered(common, link, channels, result);
            }
            CommandPurpose::ListenPrivate
            | CommandPurpose::Fence
            | CommandPurpose::UnlistenPrivate { .. } => {
                return self.handover.answered(common, &purpose, channels, result);
            }
            CommandPurpose::Heartbeat { query, expected } => {
                return self.heartbeat.answered(common, query, expected, result);
            }
            CommandPurpose::SelfNotify => {
                let now = common.now;
                let Some(current) = &mut common.links.current else { return NONE };
                let Err(error) = result else {
                    if let Some(sent) = &mut current.self_notification {
                        sent.answered(now);
                    }
                    return vec![Effect::CheckSelfNotification];
                };
                current.self_notification = None;
                let query = HeartbeatQuery::Answer;
                return self.heartbeat.answered(common, query, None, Err(error));
            }
            CommandPurpose::RelistenPrivate => {
                return result.err().map(|error| Effect::Fail(link, error)).into_iter().collect();
            }
            // The answer to the query waits for the answer to ROLLBACK.
            CommandPurpose::User { id, change: Change::Query }
                if status != TransactionStatus::Idle =>
            {
                self.roll_back(id, result.err());
            }
            CommandPurpose::User { change: Change::Drain, .. } => {
                self.answer_drain(result.map(|_| Reply::Drained));
                self.close();
            }
            CommandPurpose::User { .. }
            | CommandPurpose::Rollback { .. }
            | CommandPurpose::LeaveTransaction => self.resolve(purpose, channels, result),
        }
        NONE
    }

    /// Answers a command that is complete.
    fn resolve(&mut self, purpose: CommandPurpose, channels: Vec<String>, result: Answer) {
        match (purpose, result) {
            (CommandPurpose::User { id, change }, Ok(rows)) => {
                let active = Listening::Active;
                let reply = self.channels.apply(&mut self.common, change, channels, rows, active);
                self.common.reply(id, Ok(reply));
            }
            (CommandPurpose::User { id, .. }, Err(error)) => self.common.reply(id, Err(error)),
            (CommandPurpose::Rollback { id, refusal }, _) => {
                self.common.reply(id, Err(transaction::left_open(refusal)));
            }
            (
                CommandPurpose::Restore
                | CommandPurpose::ListenPrivate
                | CommandPurpose::Fence
                | CommandPurpose::UnlistenPrivate { .. }
                | CommandPurpose::Heartbeat { .. }
                | CommandPurpose::LeaveTransaction
                | CommandPurpose::SelfNotify
                | CommandPurpose::RelistenPrivate,
                _,
            ) => {}
        }
    }

    /// Answers a command that was not complete when the session was lost. If the listener reconnects, changes of the wanted
    /// channels are made: the next session restores them.
    fn resolve_on_loss(&mut self, purpose: CommandPurpose, channels: Vec<String>, result: Answer) {
        match (purpose, result) {
            (CommandPurpose::User { change: Change::Drain, .. }, result) => {
                self.answer_drain(result.map(|_| Reply::Drained));
            }
            (CommandPurpose::User { id, change }, Err(_))
                if change.may_be_pending() && self.attempts.goes_on() =>
            {
                let (rows, pending) = (Vec::new(), Listening::Pending);
                let reply = self.channels.apply(&mut self.common, change, channels, rows, pending);
                self.common.reply(id, Ok(reply));
            }
            (CommandPurpose::Rollback { id, refusal }, Err(error)) => {
                self.common.reply(id, Err(transaction::not_rolled_back(refusal, error)));
            }
            (purpose, result) => self.resolve(purpose, channels, result),
        }
    }

    /// Aborts a link. Its commands get their answers if these have arrived, else `error`.
    pub(super) fn abandon(&mut self, mut link: ListenerLink, error: Error) {
        if let LinkStage::Open(session) = &mut link.stage {
            session.fail(error);
        }
        self.resolve_answered(&mut link);
        self.common.close(link.id, Close::Abort);
    }

    /// Answers the commands of a link whose answers its session has.
    pub(super) fn resolve_answered(&mut self, link: &mut ListenerLink) {
        let ListenerLink { owner, stage, in_flight, rejection, undone, .. } = link;
        for (purpose, channels) in undone.drain(..) {
            let result = Err(rejection.clone().unwrap_or_else(|| owner.closed()));
            self.resolve_on_loss(purpose, channels, result);
        }
        let (LinkStage::Open(session) | LinkStage::Closing { session, .. }) = stage else { return };
        while let Some(event) = session.poll_event() {
            if let SessionEvent::Done { id, channels, result, status } = event
                && let Some(purpose) = in_flight.remove(&id)
            {
                let result = rejection.clone().map_or(result, Err);
                let (purpose, result) =
                    transaction::undone(purpose, result, status, Some(session), *owner);
                self.resolve_on_loss(purpose, channels, result);
            }
        }
    }

    /// Answers the drain, if there is one.
    pub(super) fn answer_drain(&mut self, result: Result<Reply, Error>) {
        if let Some((id, result)) = self.ending.answer_drain(result) {
            self.common.reply(id, result);
        }
    }

    /// Rolls back a transaction that a user's query left open. The answer to the query waits for it. `refusal` is the
    /// error of the query itself.
    fn roll_back(&mut self, id: CommandNumber, refusal: Option<Error>) {
        let now = self.common.now;
        let Some(link) = &mut self.common.links.current else { return };
        let rollback = |session: &mut Session| session.roll_back(now);
        let purpose = CommandPurpose::Rollback { id, refusal: refusal.clone() };
        if let Err(error) = link.start(now, purpose, rollback) {
            self.common.reply(id, Err(transaction::not_rolled_back(refusal, error)));
        }
    }

    /// Leaves a transaction that is not ours: rejects this answer and all later ones of the link, and sends ROLLBACK.
    ///
    /// Users get their answers at the end of the session, because until then it may still listen to a channel of an
    /// UNLISTEN.
    fn leave(
        &mut self,
        id: LinkId,
        answered: (CommandPurpose, Vec<String>),
        result: Answer,
    ) -> Effects {
        let now = self.common.now;
        let error = transaction::is_in_transaction(self.common.owner, result.err());
        let was_rolled_back = matches!(answered.0, CommandPurpose::Rollback { .. });
        // A drain ends with the session, so there is no ROLLBACK.
        let may_stay =
            self.common.links.role(id) == Some(Role::Current) && !self.ending.is_draining();
        let Some(link) = self.common.links.find(id) else { return NONE };
        link.rejection = Some(error.clone());
        link.undone.push(answered);
        let rollback = |session: &mut Session| session.roll_back(now);
        // ROLLBACK is sent once, and only on a live session: another one has delivered nothing yet.
        let is_leaving = !was_rolled_back
            && may_stay
            && link.is_live()
            && link.start(now, CommandPurpose::LeaveTransaction, rollback).is_ok();
        if is_leaving { NONE } else { vec![Effect::Fail(id, error)] }
    }
}

//! A session that is inside a transaction.
//!
//! Nothing is delivered there, and nothing that is confirmed there lasts. A user's query may begin one, which is rolled
//! back. If anything else is answered from inside a transaction, it is not ours: a pooler or a proxy has begun it. Then the
//! session is rolled back too, because what it is notified of until then comes behind that, and another one takes its place.

use std::time::Instant;

use super::commands::{Change, Purpose};
use super::{CommandId, LinkId, Role, Sink, Supervisor, closed};
use crate::session::{Answer, Session};
use crate::wire::TransactionStatus;
use crate::{Error, ErrorKind};

impl Supervisor {
    /// A user's query left a transaction open: its answer waits until that is rolled back. `refusal` is that of the query
    /// itself.
    pub(super) fn roll_back(&mut self, now: Instant, id: CommandId, refusal: Option<Error>) {
        let Some(link) = &mut self.current else { return };
        let rollback = |session: &mut Session| session.roll_back(now);
        let purpose = Purpose::Rollback { id, refusal: refusal.clone() };
        if let Err(error) = link.start(now, purpose, rollback) {
            self.reply(id, Err(not_rolled_back(refusal, error)));
        }
    }

    /// This was answered from inside a transaction. Nothing of it is believed, nor anything that follows on this link. A
    /// user gets an answer when the session is over: until then it may bring what an UNLISTEN was to end.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        id: LinkId,
        purpose: Purpose,
        result: Answer,
        sink: &mut impl Sink,
    ) {
        let error = is_in_transaction(result.err());
        let was_rolled_back = matches!(purpose, Purpose::Rollback { .. });
        // A drain has a deadline of its own, and ends with the session.
        let may_stay = self.role(id) == Some(Role::Current) && self.draining.is_none();
        let Some(link) = Self::find(&mut self.current, &mut self.next, id) else { return };
        link.doubt = Some(error.clone());
        link.undone.push(purpose);
        let rollback = |session: &mut Session| session.roll_back(now);
        // Once. A session that is not live yet has delivered nothing.
        let is_leaving = !was_rolled_back
            && may_stay
            && link.is_live()
            && link.start(now, Purpose::Leave, rollback).is_ok();
        if !is_leaving {
            self.fail(now, id, error, sink);
        }
    }
}

/// The session is over. What was answered with `status` inside a transaction was undone with it, and what a user's query
/// left open was not rolled back by us.
pub(super) fn undone(
    purpose: Purpose,
    result: Answer,
    status: TransactionStatus,
    session: Option<&Session>,
) -> (Purpose, Answer) {
    match (purpose, result) {
        // An error there may be the report of a dropped notification, and the transaction is over in any case.
        (purpose @ Purpose::Rollback { .. }, _) if status == TransactionStatus::Idle => {
            (purpose, Ok(Vec::new()))
        }
        (purpose, result) if status == TransactionStatus::Idle => (purpose, result),
        (Purpose::User { id, change: Change::Query }, result) => {
            let error = session.and_then(Session::failure).cloned();
            let refusal = result.err();
            (Purpose::Rollback { id, refusal }, Err(error.unwrap_or_else(closed)))
        }
        (purpose, Ok(_)) => (purpose, Err(is_in_transaction(None))),
        (purpose, result) => (purpose, result),
    }
}

/// The answer to a query that was answered and left a transaction open, when the session was lost by `cause` before that
/// was rolled back. It may have committed another one before. If the server refused the query, the refusal is the cause:
/// the loss is reported in any case.
#[cold]
pub(super) fn not_rolled_back(refusal: Option<Error>, cause: Error) -> Error {
    let message = "the query was answered and left a transaction open, and the session was lost before that was \
         rolled back";
    Error::caused(ErrorKind::InDoubt, message, refusal.unwrap_or(cause))
}

/// The answer to a query that left a transaction open. `refusal` is that of the query. The transaction is over, because
/// the server says so behind its answer to the ROLLBACK: an error in that answer does not count.
#[cold]
pub(super) fn left_open(refusal: Option<Error>) -> Error {
    let message = "the query left a transaction open on the listening session, it was rolled back";
    match refusal {
        Some(cause) => Error::caused(ErrorKind::Misuse, message, cause),
        None => Error::new(ErrorKind::Misuse, message),
    }
    .with_hint("nothing is delivered inside a transaction: use a connection of its own")
}

fn is_in_transaction(refusal: Option<Error>) -> Error {
    let message = "the session is inside a transaction that the listener has not begun: nothing is delivered there";
    match refusal {
        Some(refusal) => Error::caused(ErrorKind::Pooler, message, refusal),
        None => Error::new(ErrorKind::Pooler, message),
    }
    .with_hint("a pooler or a proxy may have begun it: connect to the server itself")
}

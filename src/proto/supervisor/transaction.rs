//! Sessions that are inside a transaction.
//!
//! The server sends no notifications inside a transaction, and LISTEN takes effect only at its end. If a user's query
//! leaves a transaction open, it is rolled back. If another command is answered inside a transaction, a pooler or a
//! proxy has begun it. Then it is rolled back too, to get the notifications until then, and the session is replaced.

use super::owner::Owner;
use super::purpose::{Change, CommandPurpose};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Answer, Session};
use crate::proto::wire::TransactionStatus;

/// Returns the purpose and the answer of a command at the end of its session. If `status` says that it was answered
/// inside a transaction, the end of the session has undone it, and ROLLBACK after a user's query was not confirmed.
pub(super) fn undone(
    purpose: CommandPurpose,
    result: Answer,
    status: TransactionStatus,
    session: Option<&Session>,
    owner: Owner,
) -> (CommandPurpose, Answer) {
    match (purpose, result) {
        // An error in answer to ROLLBACK may be a stray error. The transaction has ended in any case.
        (purpose @ CommandPurpose::Rollback { .. }, _) if status == TransactionStatus::Idle => {
            (purpose, Ok(Vec::new()))
        }
        (purpose, result) if status == TransactionStatus::Idle => (purpose, result),
        (CommandPurpose::User { id, change: Change::Query }, result) => {
            let error = session.and_then(Session::failure).cloned();
            let refusal = result.err();
            (CommandPurpose::Rollback { id, refusal }, Err(error.unwrap_or_else(|| owner.closed())))
        }
        (purpose, Ok(_)) => (purpose, Err(is_in_transaction(owner, None))),
        (purpose, result) => (purpose, result),
    }
}

/// Returns the answer to a query that left a transaction open, if the session was lost before the rollback.
///
/// The query may have committed an earlier transaction. If the server refused the query, the refusal is the cause, because
/// the loss is reported in any case; else `cause` is.
#[cold]
pub(super) fn not_rolled_back(refusal: Option<Error>, cause: Error) -> Error {
    let message = "the query was answered and left a transaction open, and the session was lost before that was \
         rolled back";
    Error::caused(ErrorKind::InDoubt, message, refusal.unwrap_or(cause))
}

/// Returns the answer to a query that left a transaction open, after the rollback. `refusal` is the error of the query.
///
/// An error in answer to ROLLBACK does not matter: the ReadyForQuery after it says that the transaction has ended.
#[cold]
pub(super) fn left_open(refusal: Option<Error>) -> Error {
    let message = "the query left a transaction open on the listening session, it was rolled back";
    match refusal {
        Some(cause) => Error::caused(ErrorKind::Misuse, message, cause),
        None => Error::new(ErrorKind::Misuse, message),
    }
    .with_hint("nothing is delivered inside a transaction: use a connection of its own")
}

/// Returns the error for an answer inside a transaction that is not ours.
pub(super) fn is_in_transaction(owner: Owner, refusal: Option<Error>) -> Error {
    let message = format!(
        "the session is inside a transaction that the {owner} has not begun: no notification is sent there"
    );
    match refusal {
        Some(refusal) => Error::caused(ErrorKind::Pooler, message, refusal),
        None => Error::new(ErrorKind::Pooler, message),
    }
    .with_hint("a pooler or a proxy may have begun it: connect to the server itself")
}

//! Errors of the server that have a special meaning for a queue of pgmq.

use crate::error::{Error, ErrorKind};

const INSTALL_HINT: &str =
    "install pgmq 1.5 or later: CREATE EXTENSION pgmq, or run its SQL, which needs no extension";

const UPDATE_HINT: &str = "update pgmq to 1.11 or later: 1.10 cannot read all queues, for example those that an earlier version has created";

const CREATE_HINT: &str =
    "create the queue first, with Queue::create or SELECT pgmq.create('name')";

/// Returns the error with the kind and the hint that it has for a user of a queue.
pub(super) fn explained(error: Error) -> Error {
    let (kind, hint) = match error.sqlstate() {
        // Undefined schema, function, type.
        Some("3F000" | "42883" | "42704") => (ErrorKind::Schema, INSTALL_HINT),
        // Undefined column, and a row that does not have the type of a message.
        Some("42703" | "42804") => (ErrorKind::Schema, UPDATE_HINT),
        // Undefined table.
        Some("42P01") => (ErrorKind::Schema, CREATE_HINT),
        Some("42501") => (error.kind(), RIGHTS_HINT),
        _ => return error,
    };
    error.with_kind(kind).with_hint(hint)
}

const RIGHTS_HINT: &str = "grant the role USAGE on the schema pgmq, EXECUTE on its functions, and SELECT, INSERT, UPDATE and DELETE on the tables of the queue";

const DEAD_LETTER_HINT: &str = "grant the role INSERT and SELECT on the table of the dead-letter queue and, if the queue has notifications, SELECT and UPDATE on pgmq.notify_insert_throttle";

/// The error of a database without pgmq.
#[cold]
pub(super) fn missing_pgmq() -> Error {
    Error::new(ErrorKind::Schema, "the database has no pgmq: there is no schema pgmq")
        .with_hint(INSTALL_HINT)
}

/// The error of a version that is not known.
#[cold]
pub(super) fn unknown_version(found: &str) -> Error {
    let message = format!("the version of pgmq is not known: {found}");
    let hint = "use pgmq from 1.5 on, below 2.0, or a later version of pgbell";
    Error::new(ErrorKind::Schema, message).with_hint(hint)
}

/// The error of a queue that does not exist.
#[cold]
pub(super) fn missing_queue(name: &str) -> Error {
    let message = format!("the queue {name:?} does not exist");
    Error::new(ErrorKind::Schema, message).with_hint(CREATE_HINT)
}

/// The error of a role without a right.
#[cold]
pub(super) fn missing_rights(name: &str, rights: &str) -> Error {
    let message = format!("the role lacks rights for the queue {name:?}: {rights}");
    Error::new(ErrorKind::Schema, message).with_hint(RIGHTS_HINT)
}

/// The error of a role that cannot send to the dead-letter queue.
#[cold]
pub(super) fn missing_dead_letter_rights(name: &str, rights: &str) -> Error {
    let message = format!("the role cannot send to the dead-letter queue {name:?}: {rights}");
    Error::new(ErrorKind::Schema, message).with_hint(DEAD_LETTER_HINT)
}

/// Returns whether a statement may succeed later, although the server has refused it: a timeout, a lock, a state of the server.
pub(super) fn is_passing(error: &Error) -> bool {
    let is_of_state = |code: &str| {
        ["25", "55", "58"].iter().any(|class| code.starts_with(class)) || code == "57014"
    };
    error.is_transient() || error.sqlstate().is_some_and(is_of_state)
}

/// Returns whether a consumer tries again after this error. It does so while the error can pass without a change of the program or of the queue.
pub(super) fn is_retried(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Schema | ErrorKind::Config | ErrorKind::Misuse)
}

//! Errors of the server that have a special meaning for a log.

use crate::error::{Error, ErrorKind};

/// Another reader has the cursor.
const FENCED: &str = "PGB01";
/// The position of the cursor is another one.
const STALE: &str = "PGB02";
/// There is no such cursor.
const NO_CURSOR: &str = "PGB03";
/// The positions are of another cluster.
const WRONG_CLUSTER: &str = "PGB04";

const REBASE_HINT: &str =
    "run Outbox::rebase, or `pgbell outbox rebase`, while nothing else uses the log";

const INIT_HINT: &str = "create the log with Outbox::init, or with `pgbell outbox init`";

/// Returns the error with the kind and the hint that it has for a user of a log.
pub(super) fn explained(error: Error) -> Error {
    let (kind, hint) = match error.sqlstate() {
        Some(FENCED) => (ErrorKind::Fenced, "open the cursor again to wait for it"),
        Some(STALE) => {
            (ErrorKind::Fenced, "receive the next batch: it begins at the current position")
        }
        Some(NO_CURSOR) => (ErrorKind::Schema, "open the cursor again to create it anew"),
        Some(WRONG_CLUSTER) => (ErrorKind::Schema, REBASE_HINT),
        // Undefined table, function, column, schema, object.
        Some("42P01" | "42883" | "42703" | "42704") => (ErrorKind::Schema, INIT_HINT),
        Some("3F000") => (
            ErrorKind::Schema,
            "create the schema with CREATE SCHEMA, and then the log with Outbox::init, or with pgbell outbox init",
        ),
        Some("25006") => (
            ErrorKind::Standby,
            "connect to a primary, with default_transaction_read_only off for the role",
        ),
        Some("42501") => (
            error.kind(),
            "grant the role the rights that the chapter about durability of the guide lists",
        ),
        _ => return error,
    };
    error.with_kind(kind).with_hint(hint)
}

/// Returns whether a call that failed with this error is made again.
pub(super) fn is_retried(error: &Error) -> bool {
    // A lock timeout, and a cancelled statement, for example by statement_timeout.
    error.is_transient()
        || matches!(error.sqlstate(), Some("55P03" | "57014"))
        || error.kind() == ErrorKind::Closed
}

/// The error of a reader whose cursor was taken by another one.
#[cold]
pub(super) fn fenced() -> Error {
    let message = "another reader has taken over the cursor";
    Error::new(ErrorKind::Fenced, message).with_hint("open the cursor again to wait for it")
}

/// The error of an acknowledgement whose batch does not begin at the position of the cursor any more.
#[cold]
pub(super) fn stale() -> Error {
    let message = "the batch was acknowledged already, or the position of the cursor has changed";
    let hint = "receive the next batch: it begins at the current position";
    Error::new(ErrorKind::Fenced, message).with_hint(hint)
}

/// The error for a cursor that was deleted.
#[cold]
pub(super) fn no_cursor() -> Error {
    let message = "the cursor does not exist any more";
    Error::new(ErrorKind::Schema, message).with_hint("open the cursor again to create it anew")
}

/// The error of a cursor whose positions belong to another cluster.
#[cold]
pub(super) fn wrong_cluster() -> Error {
    let message = "the log was copied from another cluster, in which transactions had other xids";
    Error::new(ErrorKind::Schema, message).with_hint(REBASE_HINT)
}

/// The error for an answer that none of the functions of a log gives.
#[cold]
pub(super) fn malformed() -> Error {
    let message = "the answer of a function of the log has another form than expected";
    Error::new(ErrorKind::Protocol, message)
}

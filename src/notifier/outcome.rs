//! [`Outcome`]: how a call ends, and the errors that it returns.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// How a call ends.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Committed,
    /// Nothing was committed.
    Refused(Error),
    /// It may have been committed.
    InDoubt(Error),
    /// It was not sent, or not completely: nothing was committed.
    NotSent(Error),
}

impl Outcome {
    /// Returns the outcome of an answer of the server.
    pub(super) fn of(answer: Result<(), Error>) -> Self {
        match answer {
            Ok(()) => Self::Committed,
            // This is no refusal by the server: the answer is too large, or is not the answer to a notification. The
            // server may have committed it.
            Err(error) if error.kind() == ErrorKind::Unsupported => Self::InDoubt(in_doubt(&error)),
            Err(error) => Self::Refused(refusal(error)),
        }
    }
}

/// Returns a refusal as users get it.
pub(super) fn refusal(error: Error) -> Error {
    if is_queue_full(&error) { queue_full(error) } else { error }
}

/// Returns true if one invalid notification may be the reason for the refusal of a group.
///
/// Those are the errors of class 22, data exceptions: an invalid channel or payload (22023), or text that is invalid in the
/// encoding of the server (22021, 22P05). Every other error would be the answer to every notification.
pub(super) fn may_concern_one(error: &Error) -> bool {
    if error.kind() != ErrorKind::Server || error.is_transient() {
        return false;
    }
    error.sqlstate().is_some_and(|code| code.starts_with("22"))
}

/// Returns true if the same nudge may be accepted later, without a change of the nudge or of the server's configuration: besides what
/// [`Error::is_transient`] names, after a lock timeout (55P03), and after a statement timeout or a cancel (57014).
pub(super) fn may_succeed_later(error: &Error) -> bool {
    error.is_transient() || matches!(error.sqlstate(), Some("55P03" | "57014"))
}

/// PostgreSQL reports a full notification queue with this code.
fn is_queue_full(error: &Error) -> bool {
    error.kind() == ErrorKind::Server && error.sqlstate() == Some("54000")
}

#[cold]
fn queue_full(error: Error) -> Error {
    error.passing().with_hint(
        "a session that executed LISTEN is inside a transaction or does not read: see pg_notification_queue_usage()",
    )
}

/// Returns the cause if the task is dropped before it has ended.
#[cold]
pub(super) fn abandoned() -> Error {
    Error::new(ErrorKind::Closed, "the runtime of the notifier has ended")
}

/// Returns the answer to a call that waited too long to be sent. `cause`: why there is no session.
#[cold]
pub(super) fn late(limit: Duration, cause: Option<&Error>) -> Error {
    let message = format!("the notification could not be sent within {limit:?}, and was not sent");
    match cause {
        Some(cause) => Error::caused(ErrorKind::Timeout, message, cause.clone()),
        None => Error::new(ErrorKind::Timeout, message),
    }
}

/// Returns the answer to a call whose command was not answered before the deadline.
#[cold]
pub(super) fn unanswered(limit: Duration) -> Error {
    let cause =
        Error::new(ErrorKind::Timeout, format!("the server did not answer within {limit:?}"));
    in_doubt(&cause)
}

#[cold]
pub(super) fn in_doubt(cause: &Error) -> Error {
    Error::caused(
        ErrorKind::InDoubt,
        "the server has not confirmed the notification, and may have committed it",
        cause.clone(),
    )
}

/// Returns the cause if an error of the server may not be the answer to the oldest command.
#[cold]
pub(super) fn stray(error: &Error) -> Error {
    let message =
        "the connection was closed, because an error may not be the answer to its notification";
    Error::caused(ErrorKind::Connect, message, error.clone()).with_hint(
        "another client of a pooler has executed LISTEN in this session: let the notifier connect to the server without the pooler",
    )
}

/// Returns the reason for which nudges were dropped that were not confirmed.
#[cold]
pub(super) fn nudges_dropped(cause: &Error) -> Error {
    Error::caused(ErrorKind::Closed, "nudges were dropped that are not confirmed", cause.clone())
}

/// Returns the reason for which a nudge was dropped that there is no room for.
#[cold]
pub(super) fn too_many_channels() -> Error {
    Error::new(
        ErrorKind::Misuse,
        "nudges for 1,024 channels wait, and there is no room for another channel",
    )
    .with_hint(
        "use few channels, and keys for the rest: LISTEN for many channels is expensive, too",
    )
}

/// Returns the error of a call after a close.
#[cold]
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the notifier is closed, the notification was not sent")
}

/// Returns the answer to a call that was not sent before the connection ended.
#[cold]
pub(super) fn unsent(cause: &Error) -> Error {
    Error::caused(
        ErrorKind::Closed,
        "the connection ended before the notification was sent",
        cause.clone(),
    )
}

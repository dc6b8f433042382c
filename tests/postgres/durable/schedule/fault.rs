//! [`Fault`]: what is wrong with a log.

use std::fmt;

use pgbell::Error;

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A committed record is not delivered.
    Missed,
    /// A record is delivered again after it was acknowledged.
    Repeated,
    /// A record is delivered that is not committed.
    Uncommitted,
    /// A record is delivered in a window in whose snapshot it is not visible.
    Early,
    /// The records of a page are not in the order of their ids, or a key is not in the order of its commits.
    Unordered,
    /// The content of a record has changed.
    Changed,
    /// A receipt is accepted although the position has changed since.
    Accepted,
    /// A receipt is refused, or a reader is, although nothing has changed.
    Refused,
    /// The snapshot, the highest id or the next xid of a position is wrong.
    Position,
    /// A call returns another error.
    Failed,
}

/// A failure of a run.
#[derive(Debug)]
pub(super) struct RunFailure {
    pub(super) fault: Fault,
    what: String,
}

impl RunFailure {
    pub(super) fn new(fault: Fault, what: impl Into<String>) -> Self {
        Self { fault, what: what.into() }
    }
}

impl From<Error> for RunFailure {
    fn from(error: Error) -> Self {
        Self::new(Fault::Failed, format!("{error:#}"))
    }
}

impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.what)
    }
}

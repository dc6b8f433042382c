//! [`Fault`]: what is wrong with a reader.

use std::fmt;

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A committed record is never delivered.
    Missed,
    /// A committed record is delivered only after another transaction has ended.
    Stalled,
    /// A record is delivered again after it was acknowledged.
    Repeated,
    /// A record is delivered before an earlier one of its key.
    Reordered,
    /// A record of a transaction is delivered that has not committed.
    Uncommitted,
    /// A drain does not end, although nothing is written.
    Endless,
}

/// A failure of a run.
#[derive(Debug)]
pub(super) struct RunFailure {
    pub(super) fault: Fault,
    pub(super) what: String,
}

impl RunFailure {
    pub(super) fn new(fault: Fault, what: impl Into<String>) -> Self {
        Self { fault, what: what.into() }
    }
}

impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.what)
    }
}

//! [`LogGap`]: records that a cursor has lost.

use std::fmt;

/// Records that were removed before a cursor acknowledged them, because the log exceeded a limit of its [settings](crate::durable::OutboxSettings).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogGap {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) records: u64,
}

impl LogGap {
    /// Returns the lowest id of the records.
    #[must_use]
    pub fn first(&self) -> i64 {
        self.first
    }

    /// Returns the highest id of the records. Other records between the two may have been acknowledged.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.last
    }

    /// Returns the number of records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }
}

impl fmt::Display for LogGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, records } = self;
        write!(f, "{records} records were removed unread, with ids from {first} to {last}")
    }
}

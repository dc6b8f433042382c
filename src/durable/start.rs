//! [`Start`]: where a new cursor begins.

use std::time::{SystemTime, UNIX_EPOCH};

/// Where a cursor begins that does not exist yet. A cursor that exists continues where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Start {
    /// With the oldest record that the log still has.
    #[default]
    Beginning,
    /// With the records of transactions that commit from now on, also of those that have begun already.
    Now,
    /// With the first record that was written at this time or later, by the clock of the server.
    At(SystemTime),
}

impl Start {
    /// Returns the argument of the function that creates a cursor: a time is in seconds since 1970.
    pub(super) fn to_sql(self) -> String {
        match self {
            Self::Beginning => "beginning".to_owned(),
            Self::Now => "now".to_owned(),
            Self::At(time) => match time.duration_since(UNIX_EPOCH) {
                Ok(after) => format!("{:.6}", after.as_secs_f64()),
                Err(before) => format!("-{:.6}", before.duration().as_secs_f64()),
            },
        }
    }
}

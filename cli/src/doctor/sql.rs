//! The values of a row.

use std::str::FromStr;
use std::time::Duration;

use pgbell::Row;

/// Reads the values of a row. One that is NULL, or that is not of the form, is an empty or missing one: a check reports what it can.
pub(super) trait Values {
    fn value(&self, column: usize) -> Option<&str>;

    fn text(&self, column: usize) -> String {
        self.value(column).unwrap_or_default().to_owned()
    }

    fn number<T: FromStr>(&self, column: usize) -> Option<T> {
        self.value(column)?.parse().ok()
    }

    fn is_true(&self, column: usize) -> bool {
        self.value(column) == Some("t")
    }

    /// Reads a number of seconds.
    fn seconds(&self, column: usize) -> Option<Duration> {
        let seconds: f64 = self.number(column)?;
        Duration::try_from_secs_f64(seconds.max(0.0)).ok()
    }
}

impl Values for Row<'_> {
    fn value(&self, column: usize) -> Option<&str> {
        self.get(column)
    }
}

impl Values for Option<Row<'_>> {
    fn value(&self, column: usize) -> Option<&str> {
        self.as_ref()?.get(column)
    }
}

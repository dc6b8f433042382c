//! [`QueueMetrics`]: the sizes of a queue.

use std::time::Duration;

use crate::durable::refusal::malformed;
use crate::error::Error;
use crate::proto::session::Rows;

/// The sizes of a queue: [`Queue::metrics`](super::Queue::metrics).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueMetrics {
    /// Messages in the queue, also those that a reader has at the moment.
    pub length: u64,
    /// Those that a read can return now.
    pub visible: u64,
    /// The age of the newest message.
    pub newest: Option<Duration>,
    /// The age of the oldest message.
    pub oldest: Option<Duration>,
    /// Messages that were ever sent to the queue.
    pub total: u64,
}

impl QueueMetrics {
    pub(super) fn from_rows(rows: &Rows) -> Result<Self, Error> {
        let row = rows.get(0).ok_or_else(malformed)?;
        let count = |column| row.get(column).and_then(|text| text.parse::<u64>().ok());
        // A clock that was set back makes an age negative.
        let age = |column: usize| {
            let seconds: i64 = row.get(column)?.parse().ok()?;
            Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
        };
        Ok(Self {
            length: count(0).ok_or_else(malformed)?,
            visible: count(1).ok_or_else(malformed)?,
            newest: age(2),
            oldest: age(3),
            total: count(4).unwrap_or_default(),
        })
    }
}

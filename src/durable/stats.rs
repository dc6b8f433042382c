//! [`CursorStats`]: counters of a cursor.

/// The counters of one [`Cursor`](crate::durable::Cursor) since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CursorStats {
    /// Batches that were received, each time it was received.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Batches that were acknowledged, with [`Batch::ack`](crate::durable::Batch::ack) or in a transaction of the user.
    pub acknowledged: u64,
    /// Batches that were received and not acknowledged, so their records were received again.
    pub rewinds: u64,
    /// Calls of the server that failed and were made again.
    pub retries: u64,
    /// Records that were removed before they were received, because of a limit of the log.
    pub lost: u64,
}

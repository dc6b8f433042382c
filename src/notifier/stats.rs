//! [`NotifierStats`]: the statistics of a notifier.

/// The statistics of a [`Notifier`](crate::Notifier) at one moment.
///
/// Every accepted call has one outcome: `calls` is the sum of `committed`, `refused`, `in_doubt`, `not_sent` and `unanswered`. Calls
/// that are refused before they are accepted, for their size or because the notifier is closed, are not counted; neither are those
/// that wait for [room in the queue](crate::NotifierBuilder::queue_bytes).
///
/// # Example
/// ```no_run
/// # fn example(notifier: pgbell::Notifier) {
/// let stats = notifier.stats();
/// println!("{} calls in {} transactions, {} in doubt", stats.calls, stats.transactions, stats.in_doubt);
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotifierStats {
    /// Calls that the task has accepted.
    pub calls: u64,
    /// Calls whose notifications are committed.
    pub committed: u64,
    /// Calls that the server refused.
    pub refused: u64,
    /// Calls that returned [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt).
    pub in_doubt: u64,
    /// Calls that returned an error because they could not be sent.
    pub not_sent: u64,
    /// Calls without an answer: a gauge.
    pub unanswered: u64,
    /// Transactions that were sent, those of lost sessions included.
    pub transactions: u64,
    /// Those of the transactions that had several calls.
    pub groups: u64,
    /// Groups that the server refused, and that were sent again in two halves.
    pub halved: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Attempts to reconnect that failed.
    pub attempts_failed: u64,
    /// Calls of [`nudge`](crate::Notifier::nudge). The sum of the next four.
    pub nudges: u64,
    /// Nudges that became part of another one: of the same key, or of one without a key.
    pub nudges_coalesced: u64,
    /// Nudges whose notification is committed.
    pub nudges_committed: u64,
    /// Nudges that were dropped: invalid ones, those that the server refused, those of too many channels, and those that were not
    /// confirmed at the end. [`last_nudge_error`](crate::Notifier::last_nudge_error) has the reason of the last one.
    pub nudges_dropped: u64,
    /// Nudges that are neither confirmed nor dropped: a gauge.
    pub nudges_unconfirmed: u64,
    /// Transactions with nudges that were sent, those of lost sessions included.
    pub nudge_transactions: u64,
    /// Sessions opened for nudges.
    pub nudge_sessions: u64,
    /// Attempts to open a session for nudges that failed.
    pub nudge_attempts_failed: u64,
}

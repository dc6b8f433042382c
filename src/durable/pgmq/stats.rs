//! [`ConsumerStats`]: the statistics of a consumer.

/// The statistics of a consumer at one moment: [`RunningConsumer::stats`](super::RunningConsumer::stats).
///
/// ```no_run
/// # fn example(running: &pgbell::durable::pgmq::RunningConsumer) {
/// let stats = running.stats();
/// println!("{} finished, {} failed attempts, {} dead", stats.finished, stats.failures, stats.dead);
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Reads of the queue that were answered.
    pub reads: u64,
    /// Jobs that these reads have returned.
    pub jobs: u64,
    /// Jobs that are read and not started.
    pub waiting: u64,
    /// Handlers that run.
    pub running: u64,
    /// Jobs that were archived or deleted after their success.
    pub finished: u64,
    /// Attempts that failed: the handler has returned an error or panicked.
    pub failures: u64,
    /// Panics of handlers.
    pub panics: u64,
    /// Jobs that were put aside after the last attempt.
    pub dead: u64,
    /// Visibility timeouts that were extended, each job counted.
    pub extended: u64,
    /// Jobs whose visibility timeout has passed while this consumer had them, so another reader could take them. The session was lost, or the
    /// process was suspended.
    pub lapsed: u64,
    /// Jobs that another reader has taken or removed while this consumer had them. What their handler did happens twice. A job that its handler has
    /// archived or deleted itself counts here too, if the handler has returned an error after that.
    pub overtaken: u64,
    /// Jobs that were given back without an attempt: because the consumer stops, because all handlers were busy for a third of the visibility
    /// timeout, because it had passed before they were started, or because they did not fit into a result with the others.
    pub released: u64,
    /// Jobs that were not in the queue any more when their handler had succeeded, and whose visibility timeout had not passed: the handler has
    /// archived or deleted its job itself.
    pub removed: u64,
    /// Statements that found a job locked by another transaction, each job counted. They are repeated for it, at most a second later.
    pub locked: u64,
    /// Jobs whose end the server refused to store, for example because the archive has a row with their id. They are read again after their visibility
    /// timeout. [`last_error`](super::RunningConsumer::last_error) has the reason.
    pub refused: u64,
    /// Statements that failed and were tried again.
    pub retries: u64,
}

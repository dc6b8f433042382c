//! [`Stopped`]: the report of the end of a consumer.

use crate::error::Error;

/// How a consumer has ended: [`RunningConsumer::stop`](super::RunningConsumer::stop).
///
/// ```no_run
/// # async fn example(running: pgbell::durable::pgmq::RunningConsumer) {
/// use std::time::Duration;
///
/// let stopped = running.stop(Duration::from_secs(10)).await;
/// println!("{} cancelled, {} not stored", stopped.cancelled, stopped.unstored);
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stopped {
    /// Handlers that had not ended in time: their futures were dropped. Their jobs were given back. If the server did not store that in time, they
    /// are read again after their visibility timeout.
    pub cancelled: u64,
    /// Handlers that did not reach their next await within a second after they were cancelled. Their jobs are read again after their visibility
    /// timeout.
    pub blocked: u64,
    /// Jobs that have ended, or were not started, and for which the server did not store that in time, or for which that is in doubt. They are read
    /// again after their visibility timeout. Those that were cancelled are not counted here.
    pub unstored: u64,
    /// The error that has ended the consumer. `None` if it was stopped.
    pub error: Option<Error>,
}

//! [`ConsumerSettings`]: what the decisions of a consumer depend on. [`Finish`]: what becomes of a finished job.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// What becomes of the message of a job that has succeeded.
///
/// ```no_run
/// # fn example(queue: &pgbell::durable::pgmq::Queue) {
/// use pgbell::durable::pgmq::Finish;
///
/// let consumer = queue.consumer("postgres://localhost/shop").finish(Finish::Delete);
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Finish {
    /// It is moved to the archive of the queue, which grows.
    #[default]
    Archive,
    /// It is deleted.
    Delete,
}

/// The numbers on which the decisions depend.
#[derive(Debug, Clone)]
pub(super) struct ConsumerSettings {
    pub(super) concurrency: usize,
    pub(super) batch_size: usize,
    pub(super) visibility: Duration,
    pub(super) max_attempts: u32,
    pub(super) backoff: (Duration, Duration),
}

impl ConsumerSettings {
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::new(ErrorKind::Config, what.to_owned()));
        if self.concurrency == 0 || self.batch_size == 0 || self.max_attempts == 0 {
            return refuse(
                "the concurrency, the batch size or the attempts of a consumer are zero",
            );
        }
        if !(VISIBILITY_MIN..=TIME_MAX).contains(&self.visibility) {
            return refuse(
                "the visibility timeout of a consumer is less than a second, or more than a year",
            );
        }
        let (min, max) = self.backoff;
        if max < min || max > TIME_MAX {
            return refuse(
                "the longest delay of a consumer is shorter than the shortest, or more than a year",
            );
        }
        Ok(())
    }
}

/// pgmq counts whole seconds.
const VISIBILITY_MIN: Duration = Duration::from_secs(1);

/// The longest time that is given to the server: a year.
pub(super) const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

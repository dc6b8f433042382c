//! [`RunningConsumer`]: a consumer that was started.

use std::sync::Arc;
use std::time::Duration;

use super::shared::ConsumerShared;
use super::stats::ConsumerStats;
use super::stopped::Stopped;
use crate::dispatcher::Phase;
use crate::error::{Error, ErrorKind};
use crate::wakeups::WakeupsStatus;

/// A consumer of a queue that was started: its task reads jobs and calls the handler.
///
/// Dropping it cancels all handlers in the background, and gives their jobs back. [`stop`](Self::stop) lets them end.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::durable::pgmq::{Job, Queue};
///
/// let running = Queue::new("mail")?
///     .consumer("postgres://localhost/shop")
///     .run(|job: Job| async move { println!("{}", job.message()) })
///     .await?;
/// tokio::time::sleep(Duration::from_secs(60)).await;
/// println!("{:?}", running.stats());
/// running.stop(Duration::from_secs(10)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it cancels all handlers"]
pub struct RunningConsumer {
    shared: Arc<ConsumerShared>,
}

impl RunningConsumer {
    pub(super) fn new(shared: Arc<ConsumerShared>) -> Self {
        Self { shared }
    }

    /// Returns the statistics.
    #[must_use]
    pub fn stats(&self) -> ConsumerStats {
        self.shared.stats()
    }

    /// Returns the last error of a statement or a session, also if it was tried again and succeeded then.
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.shared.last_error()
    }

    /// Returns whether pgmq sends notifications of inserts, as the consumer has found it at its start or at its last poll. Without them only the
    /// poll and a [nudge](crate::Notifier::nudge) to [`Queue::channel`](super::Queue::channel) wake the consumer:
    /// [`Queue::enable_notifications`](super::Queue::enable_notifications).
    #[must_use]
    pub fn is_notified(&self) -> bool {
        self.shared.is_notified()
    }

    /// Returns whether the consumer listens at the moment, and if not, why. Whether pgmq sends notifications is another question:
    /// [`is_notified`](Self::is_notified). `None` after the end, and if it is
    /// [woken by](super::ConsumerBuilder::woken_by) a worker of the user: [`Wakeups::status`](crate::Wakeups::status) has it then.
    #[must_use]
    pub fn status(&self) -> Option<WakeupsStatus> {
        self.shared.status()
    }

    /// Requests a [stop](Self::stop), and returns at once. Of several timeouts, the one that ends first counts.
    pub fn request_stop(&self, timeout: Duration) {
        self.shared.advance(Phase::Stopping, Some(timeout));
    }

    /// Starts no more jobs, gives those back that were read and not started, and lets running handlers end. At the end of `timeout` they are
    /// cancelled: their futures are dropped at their next await, and their jobs are given back. A job that is given back has used no attempt, and a
    /// notification on [`Queue::channel`](super::Queue::channel) wakes other consumers, also if pgmq sends none.
    ///
    /// It takes at most `timeout`, and five seconds more: one for a handler that has not reached its next await, one in which the server stores what
    /// has ended, and three to close the sessions.
    ///
    /// A handler that waits for the stop of its own consumer is cancelled at the end of `timeout`. Use [`request_stop`](Self::request_stop) there.
    ///
    /// # Cancel safety
    /// The consumer stops even if the future is dropped.
    pub async fn stop(&self, timeout: Duration) -> Stopped {
        self.request_stop(timeout);
        self.stopped().await
    }

    /// Waits for the end: of a stop, or because pgmq or the queue does not exist any more.
    ///
    /// # Errors
    /// The error that has ended the consumer. Errors that can pass do not: they are tried again, and [`last_error`](Self::last_error) returns them.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn wait(&self) -> Result<(), Error> {
        match self.stopped().await.error {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits for the end, and returns its report.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn stopped(&self) -> Stopped {
        let mut stopped = self.shared.stopped();
        match stopped.wait_for(Option::is_some).await.map(|report| report.clone()) {
            Ok(report) => report.unwrap_or_default(),
            Err(_) => {
                let message = "the runtime of the consumer has ended";
                let error = Some(Error::new(ErrorKind::Closed, message));
                Stopped { error, ..Stopped::default() }
            }
        }
    }
}

impl Drop for RunningConsumer {
    fn drop(&mut self) {
        self.shared.advance(Phase::Cancelled, None);
    }
}

//! [`WakeWorker`]: waits for the wake-ups of a task.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::stats::WakeTaskStats;
use super::task::TaskShared;
use super::wake::Wake;
use crate::error::{Error, ErrorKind};

/// A worker of one task of [`Wakeups`](crate::Wakeups). Its clones share the work: each wake-up goes to one of them.
///
/// ```no_run
/// # async fn claim(limit: usize) -> Result<Vec<i64>, pgbell::Error> { Ok(vec![]) }
/// # async fn handle(job: i64) {}
/// # fn example(worker: pgbell::WakeWorker) {
/// use std::time::Duration;
///
/// for _ in 0..4 {
///     let worker = worker.clone();
///     tokio::spawn(async move {
///         while worker.changed().await {
///             // SELECT … FOR UPDATE SKIP LOCKED LIMIT 100
///             let Ok(jobs) = claim(worker.batch_size()).await else {
///                 worker.retry_in(Duration::from_secs(1));
///                 continue;
///             };
///             worker.found(jobs.len());
///             for job in jobs {
///                 handle(job).await;
///             }
///         }
///     });
/// }
/// # }
/// ```
///
/// A wake-up that a worker has received is not repeated: if its read fails, what it would have read is found by the next wake-up that reads
/// everything, after one interval at the latest, or after [`retry_in`](Self::retry_in).
///
/// A worker does not keep its [`Wakeups`](crate::Wakeups): they end when they are dropped, and then the worker ends too.
#[derive(Debug, Clone)]
pub struct WakeWorker {
    task: Arc<TaskShared>,
}

impl WakeWorker {
    pub(super) fn new(task: Arc<TaskShared>) -> Self {
        Self { task }
    }

    /// Waits for the next wake-up of the task. The first one is a [`Poll`](Wake::Poll), at once.
    ///
    /// Everything that has happened since the last wake-up of the task is one wake-up, for one of its workers.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] after the end of the [`Wakeups`](crate::Wakeups). While the session is lost there is no error: the interval still
    /// wakes.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime without timers.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing: what it waited for wakes the next call, or another worker.
    pub async fn wake(&self) -> Result<Wake, Error> {
        let task = &self.task;
        let _wait = task.bell.begin_wait();
        loop {
            // Before the check: what happens after it wakes this worker.
            let mut rung = pin!(task.bell.woken());
            rung.as_mut().enable();
            if task.is_closed() {
                return Err(Error::new(ErrorKind::Closed, "the wake-ups are closed"));
            }
            let due = {
                let mut doorbell = task.lock();
                if let Some(wake) = doorbell.take(Instant::now().into_std()) {
                    return Ok(wake);
                }
                doorbell.due()
            };
            match due {
                Some(due) => drop(timeout_at(due.into(), rung).await),
                None => rung.await,
            }
        }
    }

    /// Waits as [`wake`](Self::wake) does, and returns true after a notification, a loss or the interval. Returns false after the end of the
    /// [`Wakeups`](crate::Wakeups).
    ///
    /// # Panics
    /// As [`wake`](Self::wake).
    ///
    /// # Cancel safety
    /// As [`wake`](Self::wake).
    pub async fn changed(&self) -> bool {
        self.wake().await.is_ok()
    }

    /// Reports how many items the worker has found after a wake-up. Returns whether it is a full batch: then there may be more, and this worker or
    /// another one is woken at once.
    ///
    /// Call it before the items are handled, so that another worker can find the next ones meanwhile.
    #[allow(clippy::must_use_candidate, reason = "the report is the purpose")]
    pub fn found(&self, items: usize) -> bool {
        let is_full = self.task.lock().found(items);
        if is_full {
            self.task.wake();
        }
        is_full
    }

    /// Reports that the worker could not read what it was woken for: after `delay` a worker of the task is woken to read everything. Wake-ups before
    /// that do not put it off. Of several calls, the earliest time counts. Returns false, as [`found`](Self::found) does without a full batch.
    #[allow(clippy::must_use_candidate, reason = "the report is the purpose")]
    pub fn retry_in(&self, delay: Duration) -> bool {
        let at = Instant::now().into_std().checked_add(delay);
        if self.task.lock().retry_at(at) {
            // A worker that waits must wait for a shorter time.
            self.task.bell.wake_one();
        }
        false
    }

    /// Returns the highest number of items that a worker should read at a time.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.task.batch_size()
    }

    /// Returns the name of the task.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.task.name
    }

    /// Returns the statistics of the task, for all its workers.
    #[must_use]
    pub fn stats(&self) -> WakeTaskStats {
        self.task.lock().counts
    }
}

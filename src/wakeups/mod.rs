//! [`Wakeups`]: workers that are woken by notifications, and poll in case one is lost.
//!
//! ```text
//! socket ─▶ listener's task ─▶ supervisor ─▶ sink ─▶ doorbell of each task ─▶ one wake-up ─▶ one worker
//!                                                    interval, full batch ──┘
//! ```
//! The task, the supervisor and the session are those of a listener; only the sink is another one. A worker waits with a timer of its own, so the
//! interval does not depend on the session.

mod automatic;
mod builder;
mod doorbell;
mod echoes;
mod listen;
mod proof;
mod shared;
mod sink;
mod stats;
mod task;
mod telemetry;
mod wake;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

pub use self::builder::WakeupsBuilder;
pub use self::listen::{Listen, WakeupsStatus};
use self::shared::WakeupsShared;
pub use self::stats::{WakeTaskStats, WakeupsStats};
pub use self::task::WakeTask;
pub use self::wake::{Keys, Wake};
pub use self::worker::WakeWorker;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::notifier::{Notifier, NudgeTarget};

/// How long a close waits for the end of a cancelled attempt to listen.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Workers that are woken by notifications, and poll at an interval in case one is lost.
///
/// A queue, an outbox or a workflow is a table. The notification only says that something is there, so it may be lost without a loss of work, if
/// the table is read again from time to time. `Wakeups` have one listening session for any number of [tasks](WakeTask), each with its channels,
/// its interval and its batch size. The workers of a task read when they are woken: by notifications, after a loss, or after the interval, which
/// also wakes while the session is down.
///
/// ```no_run
/// # async fn claim(limit: usize) -> Result<Vec<i64>, pgbell::Error> { Ok(vec![]) }
/// # async fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::{Listen, WakeTask, Wakeups};
///
/// let wakeups = Wakeups::builder("postgres://localhost/shop")
///     .task(WakeTask::new("jobs").channel("job_added").interval(Duration::from_secs(5)))
///     .task(WakeTask::new("timers").channel("timer_set").interval(Duration::from_secs(1)))
///     .listen(Listen::Automatic)
///     .connect()
///     .await?;
///
/// let worker = wakeups.worker("jobs")?;
/// while worker.changed().await {
///     // SELECT … FOR UPDATE SKIP LOCKED LIMIT 100
///     match claim(worker.batch_size()).await {
///         Ok(jobs) => worker.found(jobs.len()), // ...
///         Err(_) => worker.retry_in(Duration::from_secs(1)),
///     };
/// }
/// # Ok(())
/// # }
/// ```
///
/// Wake-ups are coalesced: what happens while the workers of a task are busy is one wake-up. Several tasks may listen to one channel.
///
/// Dropping the `Wakeups` ends the session in the background, and the workers. [`close`](Self::close) waits for the end of the session.
///
/// # Memory
/// A task keeps at most 1,024 keys with at most 256 KiB, twice while a loss is not reported yet, and one gap of at most 5 KB. The session takes up to
/// 1 MiB, and what [`ListenerBuilder`](crate::ListenerBuilder#memory) says of long messages and TLS. If a notifier is [attached](Self::attach), the
/// nudges whose notifications are expected take at most 1 MiB: at least those of the last 2,048 nudges with 128 KiB of keys, and at most twice as
/// many.
pub struct Wakeups {
    shared: Arc<WakeupsShared>,
    /// The attempts of `Listen::Automatic`.
    attempts: Option<JoinHandle<Result<(), Error>>>,
}

impl Wakeups {
    /// Returns a builder.
    ///
    /// `config` is a URL, a `key=value` string or a [`Config`]. Parameters that it does not set are taken from the `PG*`
    /// environment variables.
    pub fn builder(config: impl TryInto<Config, Error: Into<Error>>) -> WakeupsBuilder {
        WakeupsBuilder::new(config.try_into().map_err(Into::into))
    }

    fn new(shared: Arc<WakeupsShared>) -> Self {
        Self { shared, attempts: None }
    }

    /// Returns a worker of a task. All workers of a task share its wake-ups.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if there is no task with this name.
    pub fn worker(&self, task: &str) -> Result<WakeWorker, Error> {
        match self.shared.task(task) {
            Some(task) => Ok(WakeWorker::new(task.clone())),
            None => Err(Error::new(ErrorKind::Misuse, format!("there is no task {task:?}"))),
        }
    }

    /// Wakes the tasks by the [nudges](Notifier::nudge) of this notifier at once, without the server, also with
    /// [`Listen::Disabled`] and while the session is lost.
    ///
    /// Every task with channels is woken once by the call itself, for nudges that were made before. The notification of a nudge, which arrives
    /// later, wakes nothing again if it is recognized: both sessions are connected to the same address and the same database, there is no
    /// pooler before the server, the wake-ups listened when the nudge was sent, and it arrives within 10 s. In all other cases it wakes once more:
    /// after a loss of one of the sessions, for a nudge that was sent twice, and if many nudges are on their way: at least 2,048 of them, with
    /// 128 KiB of keys, are recognized. The notifications of other sessions wake.
    ///
    /// One case is left in which such a notification wakes nothing. The address is that of a proxy or moves between servers, and after a
    /// failover the wake-ups are connected to the new server and the nudges still to the old one. Then a session of the new server can have the
    /// process id of that of the nudges, and what it sends with the channel and the key of a nudge of the last 10 s is taken for that
    /// nudge's. The [interval](crate::WakeTask::interval) of the task finds what it was for.
    ///
    /// Neither of the two keeps the other: when the wake-ups are dropped or closed, nudges no longer call them.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), pgbell::Error> {
    /// use pgbell::{Notifier, WakeTask, Wakeups};
    ///
    /// let notifier = Notifier::connect("postgres://localhost/shop").await?;
    /// let wakeups = Wakeups::builder("postgres://localhost/shop")
    ///     .task(WakeTask::new("jobs").channel("jobs"))
    ///     .connect()
    ///     .await?;
    /// wakeups.attach(&notifier);
    /// // After the commit of a job: the workers of this process, and those of others.
    /// notifier.nudge("jobs", "");
    /// # Ok(())
    /// # }
    /// ```
    pub fn attach(&self, notifier: &Notifier) {
        let shared: Arc<dyn NudgeTarget> = self.shared.clone();
        notifier.attach(&Arc::downgrade(&shared));
        // The workers may have read before the commit that an earlier nudge follows.
        self.shared.poll_now();
    }

    /// Returns whether notifications wake at the moment, and if not, why. A channel that the server refuses to a later session does not change it:
    /// the [`Resync`](crate::Wake::Resync) of its tasks names it.
    #[must_use]
    pub fn status(&self) -> WakeupsStatus {
        self.shared.status()
    }

    /// Returns the last error of the session: of a lost one, or of a failed attempt. It stays after the session has recovered.
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.shared.last_error()
    }

    /// Returns the process id of the listening session in the server. `None` while there is none, and if the server sent none in the login
    /// (BackendKeyData).
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.shared.process_id()
    }

    /// Returns the statistics.
    #[must_use]
    pub fn stats(&self) -> WakeupsStats {
        self.shared.stats()
    }

    /// Ends the workers at once, and then the session with Terminate.
    ///
    /// This takes at most [`close_timeout`](WakeupsBuilder::close_timeout), by default a second, and one more second for a proof of
    /// [`Listen::Automatic`] that runs.
    ///
    /// # Cancel safety
    /// The wake-ups close even if the future is dropped.
    pub async fn close(mut self) {
        let running = self.shared.close();
        if let Some(attempts) = self.attempts.take() {
            attempts.abort();
            let _ = tokio::time::timeout(CANCEL_TIMEOUT, attempts).await;
        }
        if let Some(running) = running {
            running.close().await;
        }
    }
}

impl Drop for Wakeups {
    fn drop(&mut self) {
        if let Some(attempts) = &self.attempts {
            attempts.abort();
        }
        drop(self.shared.close());
    }
}

impl fmt::Debug for Wakeups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakeups")
            .field("status", &self.status())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

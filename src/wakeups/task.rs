//! [`WakeTask`]: the settings of a task. [`TaskShared`]: what its workers and the sink share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::doorbell::Doorbell;
use crate::error::{Error, ErrorKind};
use crate::proto::wire;
use crate::queue::WakeAll;

/// The interval of the poll, by default.
const INTERVAL: Duration = Duration::from_secs(30);

/// The batch size, by default.
const BATCH_SIZE: usize = 100;

/// A task of [`Wakeups`](crate::Wakeups): something in the database that workers read when they are woken, such as a queue or an outbox.
///
/// ```
/// use std::time::Duration;
/// use pgbell::WakeTask;
///
/// let task = WakeTask::new("workflows")
///     .channels(["workflow_resumable", "channel_message"])
///     .interval(Duration::from_secs(1))
///     .batch_size(100);
/// ```
#[derive(Debug, Clone)]
#[must_use = "it does nothing before it is given to a builder"]
pub struct WakeTask {
    name: String,
    channels: BTreeSet<String>,
    interval: Duration,
    batch_size: usize,
}

impl WakeTask {
    /// Creates a task without channels: only its interval wakes it.
    pub fn new(name: impl Into<String>) -> Self {
        let (interval, batch_size) = (INTERVAL, BATCH_SIZE);
        Self { name: name.into(), channels: BTreeSet::new(), interval, batch_size }
    }

    /// Adds a channel whose notifications wake the task. Several tasks may have the same channel: each of them is woken.
    pub fn channel(self, channel: impl AsRef<str>) -> Self {
        self.channels([channel])
    }

    /// Adds channels, see [`channel`](Self::channel).
    pub fn channels(mut self, channels: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.channels.extend(channels.into_iter().map(|channel| channel.as_ref().to_owned()));
        self
    }

    /// Sets the interval of the poll, by default 30 s: everything is read at least as often, in case a notification is lost, or something becomes
    /// due without one. `Duration::MAX` means never.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the number of items that a worker reads at a time, by default 100. If it [finds](crate::WakeWorker::found) as many, there may be more, and
    /// the next wake-up follows at once.
    pub fn batch_size(mut self, items: usize) -> Self {
        self.batch_size = items;
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn channel_names(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(String::as_str)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let Self { name, channels, interval, batch_size } = self;
        let refuse = |what| {
            Err(Error::new(ErrorKind::Config, format!("the {what} of the task {name:?} is zero")))
        };
        if interval.is_zero() {
            return refuse("interval");
        }
        if *batch_size == 0 {
            return refuse("batch size");
        }
        channels.iter().try_for_each(|channel| Ok(wire::check_channel(channel)?))
    }
}

/// What the workers of a task, the sink and [`Wakeups`](crate::Wakeups) share.
#[derive(Debug)]
pub(super) struct TaskShared {
    pub(super) name: String,
    batch_size: usize,
    channels: BTreeSet<String>,
    doorbell: Mutex<Doorbell>,
    /// Wakes one worker for each wake-up.
    pub(super) bell: WakeAll,
    is_closed: AtomicBool,
}

impl TaskShared {
    pub(super) fn new(task: WakeTask) -> Self {
        let WakeTask { name, channels, interval, batch_size } = task;
        Self {
            name,
            batch_size,
            channels,
            doorbell: Mutex::new(Doorbell::new(interval, batch_size)),
            bell: WakeAll::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn batch_size(&self) -> usize {
        self.batch_size
    }

    pub(super) fn channels(&self) -> &BTreeSet<String> {
        &self.channels
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Doorbell> {
        self.doorbell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes a worker, if there is a wake-up. A waker is code of the user: no lock is held, and a panic of it concerns no other worker.
    pub(super) fn wake(&self) {
        let is_rung = self.lock().is_rung();
        if is_rung {
            self.bell.wake_one();
        }
    }

    /// Ends the task. [`wake_all`](Self::wake_all) follows.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// Wakes every worker.
    pub(super) fn wake_all(&self) {
        self.bell.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }
}

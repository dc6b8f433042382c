//! [`WakeupsStats`] and [`WakeTaskStats`]: statistics.

use crate::listener::Stats;

/// The statistics of [`Wakeups`](crate::Wakeups) at one moment.
///
/// ```no_run
/// # fn example(wakeups: &pgbell::Wakeups) {
/// let stats = wakeups.stats();
/// println!("{} sessions, {} gaps", stats.connection.sessions, stats.connection.gaps);
/// for (name, task) in stats.tasks {
///     println!("{name}: {} notified, {} polls", task.notified, task.polls);
/// }
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WakeupsStats {
    /// The statistics of the connection. They are zero while there is no listening session, and was none.
    pub connection: Stats,
    /// Attempts of [`Listen::Automatic`](crate::Listen::Automatic) to begin listening that failed.
    pub failed_attempts: u64,
    /// The tasks with their names, sorted.
    pub tasks: Vec<(String, WakeTaskStats)>,
}

/// The statistics of one task of [`Wakeups`](crate::Wakeups) at one moment.
///
/// ```no_run
/// # fn example(worker: &pgbell::WakeWorker) {
/// let stats = worker.stats();
/// println!("{} notifications in {} wake-ups", stats.notifications, stats.notified);
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WakeTaskStats {
    /// Notifications that were received on the channels of the task.
    pub notifications: u64,
    /// [Nudges](crate::Notifier::nudge) of [attached](crate::Wakeups::attach) notifiers, which woke without the server.
    pub nudges: u64,
    /// Notifications of such nudges that arrived afterwards, and woke nothing more. They are not part of `notifications`.
    pub echoes: u64,
    /// Wake-ups of the kind [`Notified`](crate::Wake::Notified) that a worker got.
    pub notified: u64,
    /// Wake-ups of the kind [`Poll`](crate::Wake::Poll) that a worker got.
    pub polls: u64,
    /// Wake-ups of the kind [`Resync`](crate::Wake::Resync) that a worker got.
    pub resyncs: u64,
    /// Full batches: those after which the next wake-up follows at once.
    pub full_batches: u64,
}

//! [`MirrorStatus`]: whether a mirror is right at the moment.

use std::time::SystemTime;

use crate::wakeups::WakeupsStatus;

/// Whether a [`Mirror`](crate::durable::Mirror) has what was committed, as far as that is known.
///
/// ```no_run
/// # fn example(mirror: &pgbell::durable::Mirror<String>) {
/// let status = mirror.status();
/// if let Some(since) = status.stale_since {
///     println!("behind since {since:?}: {:?}", mirror.last_error());
/// } else if !status.is_current() {
///     println!("no notifications: only the interval finds changes");
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MirrorStatus {
    /// The version of the content: see [`Mirror::version`](crate::durable::Mirror::version).
    pub version: u64,
    /// When all rows were loaded for the last time.
    pub loaded_at: SystemTime,
    /// When rows were read for the last time: all, or some.
    pub read_at: SystemTime,
    /// Since when there is something to read that was not read. `None`: everything that the mirror was woken for is read. After each notification it
    /// is set for a moment; that it stays means that reads fail.
    pub stale_since: Option<SystemTime>,
    /// Rows that are not in the mirror because they were not decoded.
    pub left_out: usize,
    /// Whether notifications arrive. `None` if the mirror is woken by a worker of the user, whose
    /// [`Wakeups::status`](crate::Wakeups::status) contains it.
    pub wakeups: Option<WakeupsStatus>,
    /// The mirror is closed: its content stays as it was.
    pub is_closed: bool,
}

impl MirrorStatus {
    /// Returns whether the mirror has what was committed, except for what was committed in the last moment: nothing is to be read, and
    /// notifications arrive. A connection that is dead without a sign is found by the heartbeat of the listening session.
    ///
    /// If a worker of the user [wakes](crate::durable::MirrorBuilder::woken_by) the mirror, it is not known here whether notifications arrive, and this
    /// returns true although they do not. Ask for `wakeups.status().is_listening()` of these [`Wakeups`](crate::Wakeups) too. If they are closed, the
    /// mirror has changes only after its interval, and this still returns true.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let arrives = self.wakeups.as_ref().is_none_or(WakeupsStatus::is_listening);
        !self.is_closed && self.stale_since.is_none() && arrives
    }
}

//! [`MirrorStats`]: counters of a mirror.

/// The counters of one [`Mirror`](crate::durable::Mirror) since its first load.
///
/// ```no_run
/// # fn example(mirror: &pgbell::durable::Mirror<String>) {
/// let stats = mirror.stats();
/// println!("{} loads, {} refreshes, {} failures", stats.loads, stats.refreshes, stats.failures);
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MirrorStats {
    /// Loads of all rows that succeeded, the first one too.
    pub loads: u64,
    /// Refreshes of the rows of some keys that succeeded.
    pub refreshes: u64,
    /// Their keys.
    pub keys: u64,
    /// Rows that were read.
    pub rows: u64,
    /// Rows that were new, changed, or vanished.
    pub changes: u64,
    /// Rows that were left out because they were not decoded, each time they changed.
    pub undecodable: u64,
    /// Keys that the type of the key column does not have, each time that they were named. Other keys of the same read are read; besides, all rows are read, at most once
    /// in a second.
    pub invalid_keys: u64,
    /// Reads that failed. Each is followed by a load, after a delay.
    pub failures: u64,
    /// Reads that were given up because the listening session was lost meanwhile and there is another one. Each is followed by a load in a new session.
    pub given_up: u64,
}

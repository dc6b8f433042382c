//! [`HubStats`]: the statistics of a hub.

use super::shared::HubShared;
use crate::listener::Stats;

/// The statistics of a hub at one moment.
///
/// # Example
/// ```no_run
/// # async fn example(hub: pgbell::Hub) {
/// let stats = hub.stats();
/// println!("{} subscriptions, {} channels", stats.subscriptions, stats.channels);
/// println!("{} gaps, {} sessions", stats.connection.gaps, stats.connection.sessions);
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// The statistics of the connection. `received` counts each notification once. `delivered` counts it once for each subscription that it is
    /// for, and `dropped` and `lagged` once for each subscription whose full queue has dropped it, so both can exceed `received`. Nothing is
    /// queued outside of subscriptions.
    pub connection: Stats,
    /// Subscriptions, without those that wait for the server.
    pub subscriptions: u64,
    /// Channels with subscriptions, or that the session still listens to.
    pub channels: u64,
    /// Topics with subscriptions.
    pub topics: u64,
    /// Notifications of channels without subscriptions, such as those that arrive between the drop of the last one and the answer to
    /// UNLISTEN. Those of a topic without subscriptions are not counted, if the channel has others.
    pub unclaimed: u64,
    /// Panics of functions that find topics. [`last_error`](crate::HubHandle::last_error) returns the last one.
    pub topic_panics: u64,
}

impl HubShared {
    /// Reads all counters.
    pub(super) fn stats(&self, connection: Stats) -> HubStats {
        let routes = self.lock();
        HubStats {
            connection,
            subscriptions: routes.subscriptions as u64,
            channels: routes.channels.len() as u64,
            topics: routes.topics() as u64,
            unclaimed: self.counters.unclaimed_count(),
            topic_panics: self.counters.topic_panic_count(),
        }
    }
}

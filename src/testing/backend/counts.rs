//! The number of notifications per channel.

use std::collections::BTreeMap;

/// The number of notifications of one channel.
///
/// ```no_run
/// # fn example(server: &pgbell::testing::Server) {
/// let orders = server.count("orders");
/// assert_eq!((orders.committed, orders.delivered), (1, 2), "two sessions listen");
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Committed by sessions. Equal notifications of one transaction count once.
    pub committed: u64,
    /// Written into the output of listening sessions. Each session counts.
    pub delivered: u64,
}

/// The counts of all channels.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<String, Count>);

impl Counts {
    pub(super) fn get(&self, channel: &str) -> Count {
        self.0.get(channel).copied().unwrap_or_default()
    }

    pub(super) fn committed(&mut self, channel: &str) {
        let count = self.of(channel);
        count.committed = count.committed.saturating_add(1);
    }

    pub(super) fn delivered(&mut self, channel: &str) {
        let count = self.of(channel);
        count.delivered = count.delivered.saturating_add(1);
    }

    fn of(&mut self, channel: &str) -> &mut Count {
        self.0.entry(channel.to_owned()).or_default()
    }
}

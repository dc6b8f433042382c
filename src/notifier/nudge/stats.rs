//! [`NudgeCounts`]: what was counted of nudges.

use crate::notifier::stats::NotifierStats;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::notifier) struct NudgeCounts {
    pub(in crate::notifier) nudges: u64,
    pub(in crate::notifier) coalesced: u64,
    pub(in crate::notifier) committed: u64,
    pub(in crate::notifier) dropped: u64,
    pub(in crate::notifier) transactions: u64,
    pub(in crate::notifier) sessions: u64,
    pub(in crate::notifier) attempts_failed: u64,
}

impl NudgeCounts {
    /// Returns the sum.
    pub(in crate::notifier) fn and(self, more: Self) -> Self {
        Self {
            nudges: self.nudges + more.nudges,
            coalesced: self.coalesced + more.coalesced,
            committed: self.committed + more.committed,
            dropped: self.dropped + more.dropped,
            transactions: self.transactions + more.transactions,
            sessions: self.sessions + more.sessions,
            attempts_failed: self.attempts_failed + more.attempts_failed,
        }
    }

    /// Returns the number of nudges that are neither confirmed nor dropped.
    pub(in crate::notifier) fn unconfirmed(&self) -> u64 {
        self.nudges.saturating_sub(self.coalesced + self.committed + self.dropped)
    }

    pub(in crate::notifier) fn add_to(&self, stats: NotifierStats) -> NotifierStats {
        NotifierStats {
            nudges: self.nudges,
            nudges_coalesced: self.coalesced,
            nudges_committed: self.committed,
            nudges_dropped: self.dropped,
            nudges_unconfirmed: self.unconfirmed(),
            nudge_transactions: self.transactions,
            nudge_sessions: self.sessions,
            nudge_attempts_failed: self.attempts_failed,
            ..stats
        }
    }
}

//! What happens when the queue is full: when to stall the socket, and for how long.

use std::fmt;
use std::time::{Duration, Instant};

/// What a listener does with notifications that its full queue cannot take.
///
/// Whatever is dropped is counted exactly and told in its place, as [`Lagged`](crate::Lagged).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The queue keeps what it has; what arrives is dropped until there is room.
    DropNewest,
    /// The queue keeps the newest; what has waited longest is dropped.
    DropOldest,
    /// The socket is not read until there is room, for at most `max_stall` in all before the queue
    /// was empty again; then as [`DropNewest`](Self::DropNewest).
    ///
    /// A client that does not read its socket holds up the server's cluster-wide notification queue
    /// and its VACUUM: keep `max_stall` short. N37.
    ///
    /// While an answer to a user's command is due the socket is read all the same, because it lies behind the
    /// notifications. So it is while the listener is being closed.
    Block {
        /// How long the socket may go unread between two moments at which the queue was empty.
        max_stall: Duration,
    },
}

/// In words: `block for at most 1s`.
impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DropNewest => f.write_str("drop newest"),
            Self::DropOldest => f.write_str("drop oldest"),
            Self::Block { max_stall } => write!(f, "block for at most {max_stall:?}"),
        }
    }
}

impl Default for Overflow {
    /// `Block` for at most a second.
    fn default() -> Self {
        Self::Block { max_stall: Duration::from_secs(1) }
    }
}

/// Decides whether to take notifications in or to stall.
#[derive(Debug)]
pub(super) struct Flow {
    max_stall: Option<Duration>,
    /// Time that may still be spent stalled before the queue is empty again.
    budget: Duration,
    /// Since when the socket is not read.
    stalled_at: Option<Instant>,
    stalls: u64,
}

impl Flow {
    pub(super) fn new(overflow: Overflow) -> Self {
        let max_stall = match overflow {
            Overflow::Block { max_stall } => Some(max_stall),
            Overflow::DropNewest | Overflow::DropOldest => None,
        };
        Self { max_stall, budget: max_stall.unwrap_or_default(), stalled_at: None, stalls: 0 }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_at.is_some()
    }

    /// How often the socket was left unread.
    pub(super) fn stalls(&self) -> u64 {
        self.stalls
    }

    /// Whether to wait for room instead of dropping.
    pub(super) fn may_stall(&mut self, queue_is_empty: bool) -> bool {
        if queue_is_empty {
            self.budget = self.max_stall.unwrap_or_default();
        }
        !self.budget.is_zero()
    }

    pub(super) fn stall(&mut self, now: Instant) {
        if self.stalled_at.is_none() {
            self.stalled_at = Some(now);
            self.stalls = self.stalls.saturating_add(1);
        }
    }

    /// Reading goes on: what the stall took comes off the budget. Returns how long it was, if there was one.
    pub(super) fn resume(&mut self, now: Instant) -> Option<Duration> {
        let stalled = now.saturating_duration_since(self.stalled_at.take()?);
        self.budget = self.budget.saturating_sub(stalled);
        Some(stalled)
    }

    /// When the stall must end.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stalled_at.and_then(|since| since.checked_add(self.budget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn stalls_share_one_budget_until_the_queue_was_empty() {
        let start = Instant::now();
        let mut flow = Flow::new(Overflow::Block { max_stall: seconds(3) });
        assert!(flow.may_stall(true));
        flow.stall(start);
        assert_eq!(flow.deadline(), Some(start + seconds(3)));
        assert_eq!(flow.resume(start + seconds(2)), Some(seconds(2)));
        // A consumer that takes a little now and then does not stall the socket for ever.
        assert!(flow.may_stall(false));
        flow.stall(start + seconds(10));
        assert_eq!(flow.deadline(), Some(start + seconds(11)));
        assert_eq!(flow.resume(start + seconds(11)), Some(seconds(1)));
        assert!(!flow.may_stall(false));
        assert!(flow.may_stall(true));
        assert_eq!(flow.stalls(), 2);
    }

    #[test]
    fn only_block_stalls() {
        for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
            assert!(!Flow::new(overflow).may_stall(true));
        }
    }
}

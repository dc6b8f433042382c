//! Flow control: when the queue is full, whether to stall the socket, and for how long.

use std::fmt;
use std::time::{Duration, Instant};

/// The policy for notifications that arrive while the queue is full.
///
/// Dropped notifications are counted exactly, and reported at their position as [`Lagged`](crate::Lagged).
///
/// ```no_run
/// # fn example(builder: pgbell::ListenerBuilder) -> pgbell::ListenerBuilder {
/// use std::time::Duration;
/// use pgbell::Overflow;
///
/// builder.overflow(Overflow::Block { max_stall: Duration::from_millis(200) })
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// What arrives is dropped until there is room.
    DropNewest,
    /// The oldest notifications in the queue are dropped.
    DropOldest,
    /// The socket is not read until there is room. After `max_stall`, what arrives is dropped as with
    /// [`DropNewest`](Self::DropNewest).
    ///
    /// A client that does not read its socket blocks the clean-up of the server's notification queue, which all databases
    /// share, and VACUUM. So `max_stall` should be short.
    ///
    /// While a user's command waits for its answer the socket is read, because the answer follows the notifications. It is
    /// also read while the listener is being closed.
    Block {
        /// The longest time without reading, summed up until the queue is empty.
        max_stall: Duration,
    },
}

/// Writes the policy in words: `block for at most 1s`.
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
    /// Returns `Block` with at most one second.
    fn default() -> Self {
        Self::Block { max_stall: Duration::from_secs(1) }
    }
}

/// Decides whether to stall, and measures the stalls.
#[derive(Debug)]
pub(super) struct Flow {
    max_stall: Option<Duration>,
    /// The time of stalls that is left until the queue is empty again.
    budget: Duration,
    /// The begin of the current stall.
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

    /// Returns the number of stalls.
    pub(super) fn stalls(&self) -> u64 {
        self.stalls
    }

    /// Returns true if the socket may be stalled instead of dropping.
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

    /// Ends the stall, and subtracts its length from the budget. Returns the length, if there was a stall.
    pub(super) fn resume(&mut self, now: Instant) -> Option<Duration> {
        let stalled = now.saturating_duration_since(self.stalled_at.take()?);
        self.budget = self.budget.saturating_sub(stalled);
        Some(stalled)
    }

    /// Returns the instant at which the stall must end.
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
        // A consumer that takes a few notifications from time to time cannot extend the stall.
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

//! [`Phase`] and [`Demand`]: how far a dispatcher has ended.

use std::time::Duration;

use tokio::time::Instant;

/// The longest time of a stop or a drain: 30 years, so that the sum with the present time is valid.
const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// How far a dispatcher has ended. It never goes back.
///
/// ```text
///            drain              only over a hub:          deadline of the drain
///  Running ───────▶ Draining ───────────────────▶ Fenced ────────────┐
///     │                │       the queues have what was              │
///     │ stop           │ stop  committed before       │ stop         ▼
///     └────────────────┴──────────────▶ Stopping ◀────┘          Cancelled
///                                           └── deadline, or drop ───▲
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// What arrives is still handled.
    Draining,
    /// A lane of a hub ends when it has handled what is in its queue now.
    Fenced,
    /// No handler run begins.
    Stopping,
    /// Handler runs are dropped.
    Cancelled,
}

/// The phase, and the time at which handler runs are cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) phase: Phase,
    pub(crate) deadline: Option<Instant>,
}

impl Demand {
    pub(crate) const RUNNING: Self = Self { phase: Phase::Running, deadline: None };

    /// Moves on to `phase`, with the earlier one of the deadlines. Returns whether something has changed.
    pub(crate) fn advance(&mut self, phase: Phase, deadline: Option<Instant>) -> bool {
        let before = *self;
        self.phase = self.phase.max(phase);
        self.deadline = match (self.deadline, deadline) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        *self != before
    }
}

/// Returns the deadline of a call that takes at most `timeout`.
pub(crate) fn deadline_in(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout.min(TIMEOUT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_never_goes_back_and_the_earliest_deadline_counts() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut demand = Demand::RUNNING;
        assert!(demand.advance(Phase::Stopping, Some(now + second)));
        assert!(!demand.advance(Phase::Draining, Some(now + 2 * second)));
        assert_eq!(demand, Demand { phase: Phase::Stopping, deadline: Some(now + second) });
        assert!(demand.advance(Phase::Draining, Some(now)));
        assert_eq!(demand, Demand { phase: Phase::Stopping, deadline: Some(now) });
        assert!(demand.advance(Phase::Cancelled, None));
        assert_eq!(demand, Demand { phase: Phase::Cancelled, deadline: Some(now) });
    }

    #[test]
    fn the_longest_timeout_is_a_valid_deadline() {
        assert!(deadline_in(Duration::MAX).is_some());
    }
}

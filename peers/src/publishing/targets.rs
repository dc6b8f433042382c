//! The targets of publishing.

use crate::matchup::{Kind, Matchup};
use crate::target::{Bound, Target};

/// The least commits of durable writers that nudge, of those without notifications, and of those with `pg_notify` in their transactions.
const NUDGE_OF_ALONE: f64 = 0.9;
const NUDGE_OF_NOTIFY: f64 = 15.0;

/// The limits for the time from a nudge to its consumer: idle, and beside durable writers.
const NUDGE_IDLE_MS: f64 = 1.0;
const NUDGE_LOADED_MS: f64 = 12.0;

/// The least notifications of a notifier, of those of one session, and of those of many sessions.
const CALLS_OF_ONE: f64 = 20.0;
const CALLS_OF_MANY: f64 = 3.0;

/// The limit for the time from the call that wakes to the start of work.
const WAKE_MS: f64 = 2.0;

impl Target {
    /// Returns the targets of the scenarios `publish` and `wake`.
    pub(crate) fn of_publishing(matchups: &[Matchup]) -> Vec<Self> {
        matchups.iter().flat_map(of_matchup).collect()
    }
}

fn of_matchup(matchup: &Matchup) -> Vec<Target> {
    let ratio =
        |over, under, least| Target::of_ratio(matchup, (over, under), Bound::AtLeast(least));
    let limit = |index: usize, most: f64| Target::of_value(matchup, index, Bound::AtMost(most));
    let strict = |index: usize, most: f64| Target::of_every_round(matchup, index, most);
    let found = match matchup.kind {
        Kind::Writers { .. } => vec![ratio(1, 0, NUDGE_OF_ALONE), ratio(1, 2, NUDGE_OF_NOTIFY)],
        Kind::NudgeDelay { .. } => vec![limit(0, NUDGE_IDLE_MS), limit(1, NUDGE_LOADED_MS)],
        Kind::Calls { .. } => vec![ratio(0, 1, CALLS_OF_ONE), ratio(0, 2, CALLS_OF_MANY)],
        Kind::Asleep { .. } => (0..matchup.names.len()).map(|index| strict(index, 1.0)).collect(),
        Kind::Wake => (0..matchup.names.len()).map(|index| limit(index, WAKE_MS)).collect(),
        Kind::Statements { .. } => vec![strict(0, 0.0), strict(1, 0.0)],
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

//! The targets of a queue and a mirror.

use crate::matchup::{Kind, Matchup};
use crate::target::{Bound, Target};

/// The batch with which the rate counts: the default of a consumer.
const BATCH: u64 = 10;

/// The least jobs per second, of those of the loop written with sqlx.
const JOBS_OF_SQLX: f64 = 0.95;

/// The limit for the processor time of a job, of that of the loop written with sqlx.
const CPU_OF_SQLX: f64 = 0.5;

/// The limit for the time from a commit to the start of a job, on an idle system.
const START_MS: f64 = 5.0;

/// The most drains beyond one that a burst may cause.
const DRAINS_BEYOND: f64 = 1.0;

/// The limit for the time from a commit to the new value in the mirror.
const REFRESH_MS: f64 = 2.0;

/// The least rows per second of a load.
const ROWS_PER_SECOND: f64 = 500_000.0;

impl Target {
    /// Returns the targets of the scenario `queue`.
    pub(crate) fn of_queue(matchups: &[Matchup]) -> Vec<Self> {
        matchups.iter().flat_map(of_matchup).collect()
    }
}

fn of_matchup(matchup: &Matchup) -> Vec<Target> {
    let limit = |index: usize, bound: Bound| Target::of_value(matchup, index, bound);
    let ratio = |over, under, bound| Target::of_ratio(matchup, (over, under), bound);
    let found = match matchup.kind {
        Kind::QueueDrain { batch: BATCH, .. } => {
            vec![ratio(0, 1, Bound::AtLeast(JOBS_OF_SQLX)), ratio(2, 3, Bound::AtMost(CPU_OF_SQLX))]
        }
        Kind::QueueStart => {
            vec![limit(0, Bound::AtMost(START_MS)), limit(1, Bound::AtMost(START_MS))]
        }
        Kind::QueueBurst { .. } => vec![Target::of_every_round(matchup, 0, DRAINS_BEYOND)],
        Kind::MirrorRefresh { .. } => {
            vec![limit(0, Bound::AtMost(REFRESH_MS)), limit(1, Bound::AtMost(REFRESH_MS))]
        }
        Kind::MirrorReload { .. } => {
            let bound = Bound::AtLeast(ROWS_PER_SECOND);
            vec![limit(0, bound), limit(1, bound)]
        }
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

//! The targets of a log.

use crate::matchup::{Kind, Matchup};
use crate::target::{Bound, Target};

/// The limit for the 99th percentile of the time from a commit to the handler, beside writers whose transactions end late.
const LAG_MS: f64 = 50.0;

/// The size of a page with which the rate counts: the default of a cursor.
const PAGE_SIZE: u64 = 1_000;

/// The least rows per second that wait.
const ROWS_PER_SECOND: f64 = 500_000.0;

/// The limit for the time of a row if many wait, of that if few do.
const TIME_OF_FEW: f64 = 1.2;

/// The limit for the time from a commit to the handler, on an idle system.
const HANDLER_MS: f64 = 2.0;

/// How much a steady rate may change.
const STEADY_RATE: f64 = 0.1;

/// The limit for the time of an acknowledgement at the end, of that at the beginning.
const STEADY_ACK: f64 = 1.2;

/// The least commits with a log, of those with a plain table.
const LOG_OF_PLAIN: f64 = 0.9;

impl Target {
    /// Returns the targets of the scenario `log`.
    pub(crate) fn of_log(matchups: &[Matchup]) -> Vec<Self> {
        matchups.iter().flat_map(of_matchup).collect()
    }
}

fn of_matchup(matchup: &Matchup) -> Vec<Target> {
    let limit = |index: usize, bound: Bound| Target::of_value(matchup, index, bound);
    let zero = |index: usize| Target::of_every_round(matchup, index, 0.0);
    let ratio = |over, under, bound| Target::of_ratio(matchup, (over, under), bound);
    let found = match matchup.kind {
        Kind::LogWriters { .. } => {
            vec![zero(0), zero(1), zero(2), limit(3, Bound::AtMost(LAG_MS))]
        }
        Kind::LogBacklog { page_size: PAGE_SIZE, .. } => vec![
            limit(1, Bound::AtLeast(ROWS_PER_SECOND)),
            // The rate of the fewer over that of the more is the time of the more over that of the fewer.
            ratio(0, 1, Bound::AtMost(TIME_OF_FEW)),
        ],
        Kind::LogHandler => vec![limit(0, Bound::AtMost(HANDLER_MS))],
        Kind::LogIdle { .. } => vec![zero(0)],
        Kind::LogSteady { .. } => vec![
            zero(0),
            limit(1, Bound::AtLeast(1.0 - STEADY_RATE)),
            limit(1, Bound::AtMost(1.0 + STEADY_RATE)),
            limit(2, Bound::AtMost(STEADY_ACK)),
        ],
        Kind::LogInserts { .. } => vec![ratio(0, 1, Bound::AtLeast(LOG_OF_PLAIN))],
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

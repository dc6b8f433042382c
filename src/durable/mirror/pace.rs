//! [`Pace`]: the pause between two loads.

use std::time::{Duration, Instant};

use super::machine::after;

/// After a load there is a pause that is as long as the load took, within limits: so loads that follow each other take about half of the time, unless one takes longer than the longest pause.
#[derive(Debug)]
pub(super) struct Pace {
    min: Duration,
    max: Duration,
    /// When the pause after the last load ends.
    ends: Option<Instant>,
}

impl Pace {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, ends: None }
    }

    /// A load has ended.
    pub(super) fn handle_load(&mut self, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        self.ends = Some(after(now, took.max(self.min).min(self.max)));
    }

    /// Returns this instant, or the end of the pause if that is later.
    pub(super) fn not_before(&self, at: Instant) -> Instant {
        self.ends.map_or(at, |ends| ends.max(at))
    }
}

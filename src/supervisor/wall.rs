//! The time of day, from a clock that was looked at with every read.

use std::time::{Instant, SystemTime};

/// Time of day at some moment, and so at those near it. A supervisor reads no clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wall {
    at: Instant,
    time: SystemTime,
}

impl Wall {
    pub(super) fn new(at: Instant, time: SystemTime) -> Self {
        Self { at, time }
    }

    pub(super) fn set(&mut self, at: Instant, time: SystemTime) {
        *self = Self { at, time };
    }

    /// The last moment that is known.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    pub(super) fn time(&self, now: Instant) -> SystemTime {
        let passed = now.saturating_duration_since(self.at);
        self.time.checked_add(passed).unwrap_or(self.time)
    }
}

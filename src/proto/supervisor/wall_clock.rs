//! The time of day. The driver passes it in with every read, because a supervisor reads no clock.

use std::time::{Instant, SystemTime};

/// The time of day at one instant, from which later times are computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct WallClock {
    at: Instant,
    time: SystemTime,
}

impl WallClock {
    pub(super) fn new(at: Instant, time: SystemTime) -> Self {
        Self { at, time }
    }

    pub(super) fn set(&mut self, at: Instant, time: SystemTime) {
        *self = Self { at, time };
    }

    /// Returns the instant at which the time was set last.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Returns the time of day at `now`.
    pub(super) fn time(&self, now: Instant) -> SystemTime {
        let passed = now.saturating_duration_since(self.at);
        self.time.checked_add(passed).unwrap_or(self.time)
    }
}

//! [`Rest`]: the time after a wake-up in which no other one is taken.

use std::time::{Duration, Instant};

/// The least time between two wake-ups: what arrives within it is one read, so a burst of notifications causes one more.
const WAKE_PAUSE: Duration = Duration::from_millis(10);

/// The longest time between two wake-ups because a burst is still arriving.
const WAKE_PAUSE_MAX: Duration = Duration::from_millis(100);

/// The notifications in the least time between two wake-ups that are a burst.
const BURST_MIN: u64 = 64;

/// The time after a wake-up in which no other one is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) until: Instant,
    /// When it ends although a burst is arriving.
    latest: Instant,
    /// The notifications that were received before.
    received: u64,
}

impl Rest {
    /// Begins a rest. `received`: the notifications that were received until now.
    pub(super) fn begin(now: Instant, received: u64) -> Self {
        Self { until: now + WAKE_PAUSE, latest: now + WAKE_PAUSE_MAX, received }
    }

    /// Returns what is left of the rest: nothing after its time, unless a burst is still arriving.
    pub(super) fn at(mut self, now: Instant, received: u64) -> Option<Self> {
        if self.until > now {
            return Some(self);
        }
        let is_burst = received.saturating_sub(self.received) >= BURST_MIN;
        if !is_burst || self.latest <= now {
            return None;
        }
        (self.until, self.received) = ((now + WAKE_PAUSE).min(self.latest), received);
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn another_wake_up_is_taken_after_ten_milliseconds() {
        let now = Instant::now();
        let rest = Rest::begin(now, 7);
        assert_eq!(rest.until, now + 10 * MILLI);
        assert!(rest.at(now + 9 * MILLI, 7 + 10_000).is_some());
        // One notification less than a burst has arrived.
        assert!(rest.at(now + 10 * MILLI, 7 + 63).is_none());
    }

    #[test]
    fn a_burst_that_still_arrives_delays_the_next_wake_up_by_a_hundred_milliseconds_at_most() {
        let now = Instant::now();
        let (mut rest, mut received) = (Rest::begin(now, 0), 0);
        for step in 1..10 {
            received += 64;
            rest = rest.at(now + 10 * step * MILLI, received).unwrap();
            assert_eq!(rest.until, now + 10 * (step + 1) * MILLI);
        }
        assert!(rest.at(now + 100 * MILLI, received + 64).is_none());
        // It ends sooner when the burst ends.
        let rest = Rest::begin(now, 0).at(now + 10 * MILLI, 64).unwrap();
        assert!(rest.at(now + 20 * MILLI, 64).is_none());
        // A task that was late does not rest beyond the longest time.
        let rest = Rest::begin(now, 0).at(now + 95 * MILLI, 64).unwrap();
        assert_eq!(rest.until, now + 100 * MILLI);
    }
}

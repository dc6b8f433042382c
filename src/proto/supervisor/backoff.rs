//! The delay before the next attempt to reconnect.

use std::time::Duration;

use super::policy::Reconnect;
use crate::proto::route::PseudoRandom;

/// Exponential delays with full jitter, computed from a seed. So many listeners that have lost the same server do not
/// reconnect at the same time.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    random: PseudoRandom,
}

impl Backoff {
    pub(crate) fn new(reconnect: &Reconnect, seed: u64) -> Self {
        let Reconnect { min, max, .. } = *reconnect;
        Self { min, max: max.max(min), failures: 0, random: PseudoRandom::new(seed) }
    }

    /// Returns the next delay: a random one between the shortest and a limit that doubles every time.
    pub(crate) fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let factor = 2u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        let limit = self.min.saturating_mul(factor).min(self.max);
        let range = u64::try_from(limit.saturating_sub(self.min).as_nanos()).unwrap_or(u64::MAX);
        let jitter = self.random.number() % range.saturating_add(1).max(1);
        self.min.saturating_add(Duration::from_nanos(jitter))
    }

    /// Makes the next delay short again, after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Makes the next delay short again, if the session was live for long enough.
    pub(crate) fn was_live(&mut self, lifetime: Duration) {
        if lifetime >= self.max {
            self.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(30);

    fn backoff(seed: u64) -> Backoff {
        Backoff::new(&Reconnect { min: MIN, max: MAX, retry_refusals: false }, seed)
    }

    #[test]
    fn delays_grow_from_the_shortest_to_the_longest_and_spread_over_all_between() {
        for n in 1..12 {
            let limit = MIN.saturating_mul(1 << n).min(MAX);
            let delays: Vec<Duration> = (0..200)
                .map(|seed| {
                    let mut backoff = backoff(seed);
                    for _ in 1..n {
                        backoff.next();
                    }
                    backoff.next()
                })
                .collect();
            let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
            assert!(*least >= MIN && *most <= limit, "{n}: {least:?} to {most:?}");
            let range = limit.saturating_sub(MIN);
            assert!(*least < MIN + range / 10 && *most > limit - range / 10, "{n}: no full jitter");
        }
    }

    #[test]
    fn only_a_session_that_was_live_for_long_makes_the_delay_short_again() {
        let mut backoff = backoff(1);
        for _ in 0..10 {
            backoff.next();
        }
        backoff.was_live(MAX - Duration::from_millis(1));
        assert_eq!(backoff.failures, 10);
        backoff.was_live(MAX);
        assert!(backoff.next() <= MIN * 2);
    }

    #[test]
    fn a_day_without_a_server_has_about_240_attempts_an_hour() {
        let mut backoff = backoff(7);
        let mut attempts = 0;
        let mut time = Duration::ZERO;
        while time < Duration::from_secs(24 * 3600) {
            time += backoff.next();
            attempts += 1;
        }
        // On average the delay is half of the longest one: 240 attempts an hour.
        assert!((5_000..7_000).contains(&attempts), "{attempts} attempts");
    }

    #[test]
    fn extreme_delays_do_not_overflow() {
        let reconnect =
            Reconnect { min: Duration::ZERO, max: Duration::MAX, retry_refusals: false };
        let mut backoff = Backoff::new(&reconnect, 3);
        assert_eq!(backoff.next(), Duration::ZERO);
        let longest = Duration::from_secs(u64::MAX);
        let reconnect = Reconnect { min: longest, max: Duration::ZERO, retry_refusals: false };
        assert_eq!(Backoff::new(&reconnect, 3).next(), longest);
    }
}

//! [`Retry`]: how often a handler is tried, and when.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// How often a run of a handler is tried while it returns an error, and how long the delays are: they double from a shortest to a longest
/// one.
///
/// ```
/// use std::time::Duration;
/// use pgbell::Retry;
///
/// // Delays of 1 s, 2 s, 4 s, 5 s.
/// let retry = Retry::new(5).backoff(Duration::from_secs(1), Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
    min: Duration,
    max: Duration,
}

impl Retry {
    /// Returns a policy with this number of attempts, the first one included, and delays from 100 ms to 10 s. At least 1: then nothing is
    /// tried again.
    #[must_use]
    pub const fn new(attempts: u32) -> Self {
        Self { attempts, min: Duration::from_millis(100), max: Duration::from_secs(10) }
    }

    /// Sets the delay before the second attempt, and the longest one.
    #[must_use]
    pub const fn backoff(self, min: Duration, max: Duration) -> Self {
        Self { min, max, ..self }
    }

    /// Returns the delay after this number of attempts, or `None` if there is no further one.
    pub(super) fn delay_after(&self, attempts: u32) -> Option<Duration> {
        if attempts >= self.attempts {
            return None;
        }
        let factor = 2_u32.saturating_pow(attempts.saturating_sub(1));
        Some(self.min.saturating_mul(factor).min(self.max))
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if self.attempts == 0 {
            let message = "the number of attempts is 0, at least 1 is needed";
            return Err(Error::new(ErrorKind::Config, message));
        }
        if self.max < self.min {
            let (min, max) = (self.min, self.max);
            let message = format!(
                "the longest delay of a retry is {max:?}, less than the shortest one, {min:?}"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(())
    }
}

/// One attempt: nothing is tried again.
impl Default for Retry {
    fn default() -> Self {
        Self::new(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_end_with_the_attempts() {
        let millis = Duration::from_millis;
        let retry = Retry::new(6).backoff(millis(10), millis(50));
        let delays: Vec<_> = (1..=6).map(|attempts| retry.delay_after(attempts)).collect();
        let expected = [10, 20, 40, 50, 50].map(|one| Some(millis(one)));
        assert_eq!(delays[..5], expected);
        assert_eq!(delays[5], None);
        assert_eq!(Retry::default().delay_after(1), None);
        assert_eq!(Retry::new(u32::MAX).delay_after(u32::MAX - 1), Some(Duration::from_secs(10)));
    }

    #[test]
    fn no_attempt_and_a_longest_delay_below_the_shortest_are_refused() {
        assert!(Retry::default().check().is_ok());
        assert_eq!(Retry::new(0).check().unwrap_err().kind(), ErrorKind::Config);
        let wrong = Retry::new(2).backoff(Duration::from_secs(2), Duration::from_secs(1));
        assert!(wrong.check().unwrap_err().to_string().contains("2s"));
    }
}

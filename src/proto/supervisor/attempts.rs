//! Attempts to open a session: when the next one begins, and when there is none.
//!
//! ```text
//!       begin        a transient failure, or the session is lost: wait
//! idle ───────▶ open ─────────────────────────────────────────────────▶ waiting
//!                ▲                                                        │ the delay has passed: begin_due
//!                └────────────────────────────────────────────────────────┘
//! stopped: from everywhere by `stop`. If `goes_on_after` is false, the owner ends too.
//! ```
//!
//! One attempt tries every host of the configuration in its order ([`route`](crate::proto::route)) and asks the password
//! provider; that is the owner's part, which has the sockets. This part has the delays, the refusals and the limits. It
//! knows nothing of channels: everything that opens sessions again and again can own one, as a supervisor, the
//! first connect of a listener and a notifier do.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::policy::Reconnect;
use crate::error::{Error, ErrorKind};

/// The longest timeout of an attempt. Without it `now + timeout` could overflow, and the deadline would be `now`.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(crate) struct Attempts {
    timeout: Duration,
    /// `None`: the loss of a session is the end.
    reconnecting: Option<Reconnecting>,
    retry_at: Option<Instant>,
    /// True after the first session was of use. Before that a failure is the end.
    has_succeeded: bool,
    is_stopped: bool,
    count: u64,
}

#[derive(Debug)]
struct Reconnecting {
    backoff: Backoff,
    retry_refusals: bool,
}

impl Attempts {
    /// Attempts with this timeout and these delays. `seed` is for the jitter.
    pub(crate) fn new(timeout: Duration, reconnect: Option<Reconnect>, seed: u64) -> Self {
        let reconnecting = reconnect.map(|delays| Reconnecting {
            backoff: Backoff::new(&delays, seed),
            retry_refusals: delays.retry_refusals,
        });
        Self {
            timeout: timeout.min(TIMEOUT_MAX),
            reconnecting,
            retry_at: None,
            has_succeeded: false,
            is_stopped: false,
            count: 0,
        }
    }

    /// Begins an attempt. Returns its deadline.
    pub(crate) fn begin(&mut self, now: Instant) -> Instant {
        self.count = self.count.saturating_add(1);
        self.retry_at = None;
        now.checked_add(self.timeout).unwrap_or(now)
    }

    /// Begins an attempt if its delay has passed. Returns its deadline.
    pub(crate) fn begin_due(&mut self, now: Instant) -> Option<Instant> {
        self.retry_at.filter(|at| *at <= now)?;
        Some(self.begin(now))
    }

    /// Handles the success of an attempt, when its session was of use.
    pub(crate) fn succeeded(&mut self) {
        self.has_succeeded = true;
    }

    /// Returns true if another attempt follows the loss of a session. None does before the first session was of use.
    pub(crate) fn goes_on(&self) -> bool {
        self.reconnecting.is_some() && self.has_succeeded && !self.is_stopped
    }

    /// Returns true if another attempt follows this failure. `was_login`: the session was not ready yet.
    pub(crate) fn goes_on_after(&self, error: &Error, was_login: bool) -> bool {
        let retries = self.reconnecting.as_ref().is_some_and(|one| one.retry_refusals);
        self.goes_on() && !(was_login && is_refusal(error) && !retries)
    }

    /// Handles the loss of a session that was live for this time. After a long time the next delay is short again.
    pub(crate) fn was_live(&mut self, lifetime: Duration) {
        if let Some(reconnecting) = &mut self.reconnecting {
            reconnecting.backoff.was_live(lifetime);
        }
    }

    /// Sets the time of the next attempt. Returns the delay until then, or `None` if there is no further attempt.
    pub(crate) fn wait(&mut self, now: Instant) -> Option<Duration> {
        let reconnecting = self.reconnecting.as_mut().filter(|_| !self.is_stopped)?;
        let delay = reconnecting.backoff.next();
        self.retry_at = now.checked_add(delay);
        Some(delay)
    }

    /// Returns the instant at which [`begin_due`](Self::begin_due) must be called.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Makes no further attempt, except for those that the owner begins.
    pub(crate) fn stop(&mut self) {
        (self.is_stopped, self.retry_at) = (true, None);
    }

    /// Returns true after the first session was of use.
    pub(crate) fn have_succeeded(&self) -> bool {
        self.has_succeeded
    }

    /// Returns the number of attempts.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the timeout of an attempt.
    pub(crate) fn limit(&self) -> Duration {
        self.timeout
    }
}

/// Returns true if the next attempt would fail with the same error, unless another host or password is used.
///
/// A failure to read a file, for example, is no refusal: the file is read again at the next attempt.
fn is_refusal(error: &Error) -> bool {
    match error.kind() {
        _ if error.is_passing() => false,
        ErrorKind::Auth | ErrorKind::Config | ErrorKind::Misuse | ErrorKind::Unsupported => true,
        // N31: the database does not exist, or was dropped.
        _ => matches!(error.sqlstate(), Some("3D000" | "57P04")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECONNECT: Reconnect = Reconnect {
        min: Duration::from_millis(50),
        max: Duration::from_secs(30),
        retry_refusals: false,
    };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "no")
    }

    #[test]
    fn an_owner_without_channels_connects_again_after_each_loss() {
        let mut now = Instant::now();
        let mut attempts = Attempts::new(seconds(10), Some(RECONNECT), 1);
        assert_eq!(attempts.begin(now), now + seconds(10));
        assert!(!attempts.goes_on_after(&error(ErrorKind::Connect), true), "the first one fails");
        attempts.succeeded();
        for count in 2..20 {
            assert!(attempts.goes_on_after(&error(ErrorKind::Connect), count % 2 == 0));
            attempts.was_live(Duration::from_millis(1));
            let delay = attempts.wait(now).unwrap();
            assert_eq!(attempts.timeout(), Some(now + delay));
            assert_eq!(attempts.begin_due(now + delay - Duration::from_nanos(1)), None);
            now += delay;
            assert_eq!(attempts.begin_due(now), Some(now + seconds(10)));
            assert_eq!((attempts.timeout(), attempts.count()), (None, count));
        }
    }

    #[test]
    fn a_refused_login_is_the_end_unless_refusals_are_retried() {
        for retry_refusals in [false, true] {
            let reconnect = Reconnect { retry_refusals, ..RECONNECT };
            let mut attempts = Attempts::new(seconds(10), Some(reconnect), 1);
            attempts.succeeded();
            assert_eq!(attempts.goes_on_after(&error(ErrorKind::Auth), true), retry_refusals);
            // The server ended a session that was ready: that refuses no login.
            assert!(attempts.goes_on_after(&error(ErrorKind::Auth), false));
            assert!(attempts.goes_on_after(&error(ErrorKind::Timeout), true));
        }
    }

    #[test]
    fn there_is_no_attempt_after_a_stop_and_none_without_delays() {
        let now = Instant::now();
        let mut attempts = Attempts::new(seconds(10), Some(RECONNECT), 1);
        attempts.succeeded();
        attempts.wait(now).unwrap();
        attempts.stop();
        assert_eq!(
            (attempts.timeout(), attempts.wait(now), attempts.goes_on()),
            (None, None, false)
        );
        assert_eq!(attempts.begin_due(now + seconds(60)), None);
        let mut attempts = Attempts::new(Duration::MAX, None, 1);
        attempts.succeeded();
        assert_eq!((attempts.wait(now), attempts.goes_on()), (None, false));
        assert_eq!(attempts.begin(now), now + TIMEOUT_MAX, "a longer timeout must not overflow");
    }
}

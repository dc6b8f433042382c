//! The user's hook. The state that it reads is complete, because nothing is delivered before the hook is done.
//!
//! | step | what happens | next step |
//! |---|---|---|
//! | `Idle` | `start`: a session is live, and there is a reason | `Running` |
//! | | `schedule`: the server has dropped a notification | `Later` |
//! | `Running` | success, no outage since the start | `Idle`: the outages end |
//! | | success, but an outage has begun since | `Later` |
//! | | failure, timeout | `Later`, or the end of the listener |
//! | `Later` | the delay has passed | `Running` |
//! | any | `cancel`: the session is lost, or the listener ends | `Idle` |

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::owner::Owner;
use super::policy::{HookPolicy, Reconnect};
use crate::error::{Error, ErrorKind};

#[derive(Debug)]
pub(super) struct Hook {
    /// `None`: there is no hook.
    policy: Option<HookPolicy>,
    step: HookStep,
    done_at: Option<Instant>,
    /// The number of failures in a row.
    failures: u32,
    /// The delays after failures.
    backoff: Backoff,
    /// The delays after notifications that the server dropped in a session that goes on.
    pace: Backoff,
}

/// The delays of a hook that runs again because the server dropped notifications.
const PACE_DELAYS: Reconnect = Reconnect {
    min: Duration::from_millis(20),
    max: Duration::from_secs(1),
    retry_refusals: false,
};

#[derive(Debug, Default)]
enum HookStep {
    /// It does not run, and everything is delivered.
    #[default]
    Idle,
    /// It runs, or waits for the end of a cancelled run. `outages` is the number of outages when it was started. If it
    /// is not done at `until`, it has failed.
    Running { outages: u64, until: Option<Instant>, has_begun: bool },
    /// It runs at this instant. `None`: the instant is too far in the future to be represented.
    Later(Option<Instant>),
}

/// The end of a run.
#[derive(Debug)]
pub(super) enum HookEnd {
    /// It has read the state after the last outage.
    UpToDate,
    /// An outage has begun during the run. The hook may have read the state before it.
    Outdated,
    Failed(Error),
}

/// What must be done at [`Hook::timeout`].
#[derive(Debug)]
pub(super) enum HookDue {
    Run,
    /// The run must be cancelled, and has failed.
    Failed(Error),
}

impl Hook {
    pub(super) fn new(policy: Option<HookPolicy>, backoff: Backoff, seed: u64) -> Self {
        let pace = Backoff::new(&PACE_DELAYS, seed);
        Self { policy, step: HookStep::Idle, done_at: None, failures: 0, backoff, pace }
    }

    /// Returns true if there is a hook.
    pub(super) fn exists(&self) -> bool {
        self.policy.is_some()
    }

    /// Returns true if nothing is held back for the hook.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.step, HookStep::Idle)
    }

    /// Returns the instant at which the hook runs or times out.
    pub(super) fn timeout(&self) -> Option<Instant> {
        match self.step {
            HookStep::Later(at) | HookStep::Running { until: at, .. } => at,
            HookStep::Idle => None,
        }
    }

    /// Starts a run. `outages` is the number of outages so far.
    pub(super) fn start(&mut self, now: Instant, outages: u64) {
        self.step = HookStep::Running { outages, until: self.limit(now), has_begun: false };
    }

    /// Handles the begin of a run, after the end of a cancelled run. Its timeout begins again.
    pub(super) fn begun(&mut self, now: Instant) {
        let limit = self.limit(now);
        if let HookStep::Running { until, has_begun, .. } = &mut self.step {
            (*until, *has_begun) = (limit, true);
        }
    }

    /// Plans a run, because the server has dropped a notification in a session that goes on. It has a delay: without it, a
    /// server that drops notifications all the time would run the hook in a loop.
    pub(super) fn schedule(&mut self, now: Instant) {
        if self.is_idle() {
            let delay = self.pace.next();
            self.later(now, delay);
        }
    }

    /// Handles the end of a run. `None`: no run was in progress.
    pub(super) fn done(
        &mut self,
        now: Instant,
        result: Result<(), Error>,
        outages_now: u64,
    ) -> Option<HookEnd> {
        let HookStep::Running { outages, .. } = self.step else { return None };
        self.step = HookStep::Idle;
        Some(match result {
            Err(error) => HookEnd::Failed(error),
            Ok(()) => {
                self.failures = 0;
                self.backoff.reset();
                if let Some(before) = self.done_at.replace(now) {
                    // The pace is reset only if the last success was long ago.
                    self.pace.was_live(now.saturating_duration_since(before));
                }
                if outages == outages_now { HookEnd::UpToDate } else { HookEnd::Outdated }
            }
        })
    }

    /// Counts a failure. Returns the delay of the next run, or `None` if there were too many failures.
    pub(super) fn retry(&mut self, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let limit = self.policy.and_then(|policy| policy.failures_max);
        if limit.is_some_and(|limit| self.failures >= limit) {
            return None;
        }
        let delay = self.backoff.next();
        self.later(now, delay);
        Some(delay)
    }

    /// Returns what must be done now. The hook is idle afterwards.
    pub(super) fn take_due(&mut self, now: Instant, owner: Owner) -> Option<HookDue> {
        self.timeout().filter(|at| *at <= now)?;
        match std::mem::take(&mut self.step) {
            HookStep::Later(_) => Some(HookDue::Run),
            HookStep::Running { has_begun, .. } => {
                let timeout = self.policy.map_or(Duration::ZERO, |policy| policy.timeout);
                let hook = owner.hook();
                let message = match has_begun {
                    true => format!("the {hook} hook was not done within {timeout:?}"),
                    false => format!(
                        "the {hook} hook did not begin within {timeout:?}: its last run was cancelled and has not ended"
                    ),
                };
                Some(HookDue::Failed(Error::new(ErrorKind::Timeout, message)))
            }
            HookStep::Idle => None,
        }
    }

    /// Makes the hook idle. Returns true if a run must be cancelled.
    pub(super) fn cancel(&mut self) -> bool {
        matches!(std::mem::take(&mut self.step), HookStep::Running { .. })
    }

    /// Returns the deadline of a run that begins now.
    fn limit(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.policy?.timeout)
    }

    fn later(&mut self, now: Instant, delay: Duration) {
        self.step = HookStep::Later(now.checked_add(delay));
    }
}

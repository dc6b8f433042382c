//! The user's hook. The state that it reads is complete, because nothing is delivered before the hook is done.

use std::time::{Duration, Instant};

use super::action::{Action, Live, LogEvent};
use super::backoff::Backoff;
use super::link::ListenerLink;
use super::{Reconnect, Sink, State, Supervisor};
use crate::error::{Error, ErrorKind};

/// The state of the hook and the delays between its runs.
#[derive(Debug)]
pub(super) struct HookState {
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

/// The state of the hook.
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

impl HookState {
    pub(super) fn new(backoff: Backoff, seed: u64) -> Self {
        let pace = Backoff::new(&PACE_DELAYS, seed);
        Self { step: HookStep::Idle, done_at: None, failures: 0, backoff, pace }
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

    fn later(&mut self, now: Instant, delay: Duration) {
        self.step = HookStep::Later(now.checked_add(delay));
    }

    /// Resets the delays after a successful run. `pace` is reset only if the last success was long ago.
    fn done(&mut self, now: Instant) {
        self.failures = 0;
        self.backoff.reset();
        if let Some(before) = self.done_at.replace(now) {
            self.pace.was_live(now.saturating_duration_since(before));
        }
    }
}

impl Supervisor {
    /// Runs the hook if there is one and it has a reason to run, else ends the outages. Every wanted channel is active or
    /// refused, or the session is about to be replaced.
    pub(super) fn run_hook(&mut self, now: Instant) {
        if !self.hook.is_idle() || self.is_leaving() {
            return;
        }
        let live = match (self.policy.hook, self.gap_of_outages(now)) {
            (Some(_), _) if !self.has_begun => Live::Start,
            (Some(_), Some(gap)) => Live::AfterGap(gap),
            _ => return self.end_outages(now),
        };
        let (until, has_begun) = (self.hook_limit(now), false);
        self.hook.step = HookStep::Running { outages: self.outages.count(), until, has_begun };
        self.counters.hooks = self.counters.hooks.saturating_add(1);
        self.enter(State::CatchingUp);
        self.actions.push_back(Action::RunHook(live));
    }

    /// Returns the deadline of a run of the hook that begins now.
    fn hook_limit(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.policy.hook?.timeout)
    }

    /// Handles the begin of a run of the hook, after the end of a cancelled run. Its timeout begins again.
    pub fn handle_hook_begun(&mut self, now: Instant) {
        let limit = self.hook_limit(now);
        if let HookStep::Running { until, has_begun, .. } = &mut self.hook.step {
            (*until, *has_begun) = (limit, true);
        }
    }

    /// Runs the hook after a delay, or ends the outages if there is no hook: the server has dropped a notification in a
    /// session that goes on. Without the delay, a server that drops notifications all the time would run the hook in a
    /// loop.
    pub(super) fn schedule_hook(&mut self, now: Instant) {
        if self.is_leaving() {
            return self.catch_up();
        }
        if self.policy.hook.is_none() {
            return self.end_outages(now);
        }
        if self.hook.is_idle() {
            let delay = self.hook.pace.next();
            self.hook.later(now, delay);
        }
        self.enter(State::CatchingUp);
    }

    /// Handles the end of a run of the hook. After a failure it runs again after a delay, and nothing is delivered
    /// until then.
    pub fn handle_hook(&mut self, now: Instant, result: Result<(), Error>, sink: &mut impl Sink) {
        let HookStep::Running { outages, .. } = self.hook.step else { return };
        self.hook.step = HookStep::Idle;
        match result {
            Ok(()) => {
                self.hook.done(now);
                self.has_begun = true;
                if self.outages.count() == outages && !self.is_leaving() {
                    self.end_outages(now);
                } else {
                    // The hook may have read the state before the last outage.
                    self.schedule_hook(now);
                }
                self.proceed(now, sink);
            }
            Err(error) => self.hook_failed(now, error),
        }
    }

    fn hook_failed(&mut self, now: Instant, error: Error) {
        self.counters.hook_failures = self.counters.hook_failures.saturating_add(1);
        self.hook.failures = self.hook.failures.saturating_add(1);
        let limit = self.policy.hook.and_then(|policy| policy.failures_max);
        if !self.has_begun || limit.is_some_and(|limit| self.hook.failures >= limit) {
            return self.close_because(now, error);
        }
        let delay = self.hook.backoff.next();
        self.hook.later(now, delay);
        self.actions.push_back(Action::Log(LogEvent::HookFailed { error, delay }));
    }

    /// Returns true while the session leaves a transaction that is not ours. Its channels are not known any more, and the next
    /// session runs the hook and ends the outages.
    fn is_leaving(&self) -> bool {
        self.current.as_ref().is_some_and(ListenerLink::is_leaving)
    }

    /// Starts the hook after its delay, or cancels it at its deadline.
    pub(super) fn check_hook(&mut self, now: Instant) {
        if self.hook.timeout().is_none_or(|at| now < at) {
            return;
        }
        match std::mem::take(&mut self.hook.step) {
            HookStep::Later(_) => self.run_hook(now),
            HookStep::Running { has_begun, .. } => {
                self.actions.push_back(Action::CancelHook);
                let timeout = self.policy.hook.map_or(Duration::ZERO, |policy| policy.timeout);
                let message = match has_begun {
                    true => format!("the on_live hook was not done within {timeout:?}"),
                    false => format!(
                        "the on_live hook did not begin within {timeout:?}: its last run was cancelled and has not ended"
                    ),
                };
                self.hook_failed(now, Error::new(ErrorKind::Timeout, message));
            }
            HookStep::Idle => {}
        }
    }

    /// Cancels the hook, because the session is lost or the listener ends.
    pub(super) fn cancel_hook(&mut self) {
        if let HookStep::Running { .. } = std::mem::take(&mut self.hook.step) {
            self.actions.push_back(Action::CancelHook);
        }
    }
}

//! The user's hook: what it reads is complete, because nothing is delivered before it is done.

use std::time::{Duration, Instant};

use super::action::{Action, Incident, Live};
use super::backoff::Backoff;
use super::{Reconnect, Sink, State, Supervisor};
use crate::{Error, ErrorKind};

/// The hook, and how often it may run.
#[derive(Debug)]
pub(super) struct Hook {
    step: Step,
    done_at: Option<Instant>,
    /// In a row, up to now.
    failures: u32,
    /// After a failure.
    backoff: Backoff,
    /// From one loss in a session that goes on to the next.
    pace: Backoff,
}

/// Delays of a hook that a server makes run again and again.
const PACE: Reconnect = Reconnect {
    min: Duration::from_millis(20),
    max: Duration::from_secs(1),
    retry_refusals: false,
};

/// What the hook does at this moment.
#[derive(Debug, Default)]
enum Step {
    /// Nothing: everything is delivered.
    #[default]
    Idle,
    /// It runs, for so many outages, or waits for the end of a run that was cancelled. If it is not done by then, or has not
    /// begun, it has failed.
    Running { outages: u64, until: Option<Instant>, has_begun: bool },
    /// It will run then, if that is not too far away.
    Later(Option<Instant>),
}

impl Hook {
    pub(super) fn new(backoff: Backoff, seed: u64) -> Self {
        let pace = Backoff::new(&PACE, seed);
        Self { step: Step::Idle, done_at: None, failures: 0, backoff, pace }
    }

    /// Whether nothing is held back for it.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.step, Step::Idle)
    }

    /// When it runs, or has run for too long.
    pub(super) fn timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Later(at) | Step::Running { until: at, .. } => at,
            Step::Idle => None,
        }
    }

    fn later(&mut self, now: Instant, delay: Duration) {
        self.step = Step::Later(now.checked_add(delay));
    }

    /// It has read the state. If it has not for long, the next delay is short again.
    fn done(&mut self, now: Instant) {
        self.failures = 0;
        self.backoff.reset();
        if let Some(before) = self.done_at.replace(now) {
            self.pace.was_live(now.saturating_duration_since(before));
        }
    }
}

impl Supervisor {
    /// Every wanted channel is active or refused: runs the hook if there is one and something to report,
    /// else lets everything through.
    pub(super) fn run_hook(&mut self, now: Instant) {
        if !self.hook.is_idle() {
            return;
        }
        let live = match (self.policy.hook, self.sum_of_outages(now)) {
            (Some(_), _) if !self.has_begun => Live::Start,
            (Some(_), Some(gap)) => Live::AfterGap(gap),
            _ => return self.let_through(now),
        };
        let (until, has_begun) = (self.hook_limit(now), false);
        self.hook.step = Step::Running { outages: self.outages.count(), until, has_begun };
        self.figures.hooks = self.figures.hooks.saturating_add(1);
        self.enter(State::CatchingUp);
        self.actions.push_back(Action::RunHook(live));
    }

    /// When a run of the hook that begins now must be done.
    fn hook_limit(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.policy.hook?.timeout)
    }

    /// The hook runs from now on: no cancelled run of it is left. Its time begins again.
    pub fn handle_hook_begun(&mut self, now: Instant) {
        let limit = self.hook_limit(now);
        if let Step::Running { until, has_begun, .. } = &mut self.hook.step {
            (*until, *has_begun) = (limit, true);
        }
    }

    /// The same in a session that goes on. Not at once: a server that drops something all the time would make the
    /// hook run without end.
    pub(super) fn run_hook_later(&mut self, now: Instant) {
        if self.policy.hook.is_none() {
            return self.let_through(now);
        }
        if self.hook.is_idle() {
            let delay = self.hook.pace.next();
            self.hook.later(now, delay);
        }
        self.enter(State::CatchingUp);
    }

    /// The hook has ended. If it failed, it runs again after a delay; nothing is delivered meanwhile.
    pub fn handle_hook(&mut self, now: Instant, result: Result<(), Error>, sink: &mut impl Sink) {
        let Step::Running { outages, .. } = self.hook.step else { return };
        self.hook.step = Step::Idle;
        match result {
            Ok(()) => {
                self.hook.done(now);
                self.has_begun = true;
                if self.outages.count() == outages {
                    self.let_through(now);
                } else {
                    // What the hook has read may be older than what was lost since.
                    self.run_hook_later(now);
                }
                self.proceed(now, sink);
            }
            Err(error) => self.hook_failed(now, error),
        }
    }

    fn hook_failed(&mut self, now: Instant, error: Error) {
        self.figures.hook_failures = self.figures.hook_failures.saturating_add(1);
        self.hook.failures = self.hook.failures.saturating_add(1);
        let limit = self.policy.hook.and_then(|policy| policy.failures_max);
        if !self.has_begun || limit.is_some_and(|limit| self.hook.failures >= limit) {
            return self.close_because(now, error);
        }
        let delay = self.hook.backoff.next();
        self.hook.later(now, delay);
        self.actions.push_back(Action::Tell(Incident::HookFailed { error, delay }));
    }

    pub(super) fn check_hook(&mut self, now: Instant) {
        if self.hook.timeout().is_none_or(|at| now < at) {
            return;
        }
        match std::mem::take(&mut self.hook.step) {
            Step::Later(_) => self.run_hook(now),
            Step::Running { has_begun, .. } => {
                self.actions.push_back(Action::CancelHook);
                let timeout = self.policy.hook.map_or(Duration::ZERO, |policy| policy.timeout);
                let message = match has_begun {
                    true => format!("the on_live hook was not done within {timeout:?}"),
                    false => format!(
                        "the on_live hook could not begin within {timeout:?}: its last run was cancelled and has not ended"
                    ),
                };
                self.hook_failed(now, Error::new(ErrorKind::Timeout, message));
            }
            Step::Idle => {}
        }
    }

    /// There is no session to be live: what the hook does is in vain.
    pub(super) fn cancel_hook(&mut self) {
        if let Step::Running { .. } = std::mem::take(&mut self.hook.step) {
            self.actions.push_back(Action::CancelHook);
        }
    }
}

//! The user's hook: what it read is complete, because nothing is delivered before it is done.

use std::time::{Duration, Instant};

use super::action::{Action, Incident, Live};
use super::backoff::Backoff;
use super::{Reconnect, Sink, Supervisor};
use crate::Error;

/// The hook, and how often it may run.
#[derive(Debug)]
pub(super) struct Hook {
    step: Step,
    /// It was done once.
    pub(super) started: bool,
    done_at: Option<Instant>,
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
    /// It runs, for so many outages.
    Running(u64),
    /// It will run then, if that is not too far away.
    Later(Option<Instant>),
}

impl Hook {
    pub(super) fn new(backoff: Backoff, seed: u64) -> Self {
        let pace = Backoff::new(&PACE, seed);
        Self { step: Step::Idle, started: false, done_at: None, backoff, pace }
    }

    /// Whether nothing is held back for it.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.step, Step::Idle)
    }

    /// When it runs later.
    pub(super) fn timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Later(at) => at,
            Step::Idle | Step::Running(_) => None,
        }
    }

    fn later(&mut self, now: Instant, delay: Duration) {
        self.step = Step::Later(now.checked_add(delay));
    }

    /// It has read the state. If it has not for long, the next delay is short again.
    fn done(&mut self, now: Instant) {
        self.backoff.reset();
        if let Some(before) = self.done_at.replace(now) {
            self.pace.was_live(now.saturating_duration_since(before));
        }
        self.started = true;
    }
}

impl Supervisor {
    /// Every wanted channel is active or refused: runs the hook if there is one and something to tell,
    /// else lets everything through.
    pub(super) fn run_hook(&mut self, now: Instant, sink: &mut impl Sink) {
        if !self.hook.is_idle() {
            return;
        }
        let live = match self.sum_of_outages(now) {
            _ if !self.policy.has_hook => return self.let_through(now, sink),
            _ if !self.hook.started => Live::Start,
            Some(gap) => Live::AfterGap(gap),
            None => return self.let_through(now, sink),
        };
        self.hook.step = Step::Running(self.outages.count());
        self.figures.hooks = self.figures.hooks.saturating_add(1);
        self.actions.push_back(Action::RunHook(live));
    }

    /// The same in a session that goes on. Not at once: a server that drops something all the time would make the
    /// hook run without end.
    pub(super) fn run_hook_later(&mut self, now: Instant, sink: &mut impl Sink) {
        if !self.policy.has_hook {
            self.let_through(now, sink);
        } else if self.hook.is_idle() {
            let delay = self.hook.pace.next();
            self.hook.later(now, delay);
        }
    }

    /// The hook has ended. If it failed, it runs again after a delay; nothing is delivered meanwhile.
    pub fn handle_hook(&mut self, now: Instant, result: Result<(), Error>, sink: &mut impl Sink) {
        let Step::Running(known) = self.hook.step else { return };
        self.hook.step = Step::Idle;
        match result {
            Ok(()) => {
                self.hook.done(now);
                if self.outages.count() == known {
                    self.let_through(now, sink);
                } else {
                    // What the hook has read may be older than what was lost since.
                    self.run_hook_later(now, sink);
                }
                self.proceed(now, sink);
            }
            Err(error) => {
                self.figures.hook_failures = self.figures.hook_failures.saturating_add(1);
                let delay = self.hook.backoff.next();
                self.hook.later(now, delay);
                self.actions.push_back(Action::Tell(Incident::HookFailed { error, delay }));
            }
        }
    }

    pub(super) fn check_hook(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.hook.timeout().is_some_and(|at| at <= now) {
            self.hook.step = Step::Idle;
            self.run_hook(now, sink);
        }
    }

    /// There is no session to be live: what the hook does is in vain.
    pub(super) fn cancel_hook(&mut self) {
        if let Step::Running(_) = std::mem::take(&mut self.hook.step) {
            self.actions.push_back(Action::CancelHook);
        }
    }
}

//! The user's hook: what it read is complete, because nothing is delivered before it is done.

use std::time::Instant;

use super::action::{Action, Incident, Live};
use super::{Sink, Supervisor};
use crate::Error;

/// What the hook does at this moment.
#[derive(Debug, Default)]
pub(super) enum Hook {
    /// Nothing: everything is delivered.
    #[default]
    Idle,
    /// It runs, for so many outages.
    Running(u64),
    /// It has failed and will run again, if that is not too far away.
    Again(Option<Instant>),
}

impl Supervisor {
    /// Every wanted channel is active or refused: runs the hook if there is one and something to tell,
    /// else lets everything through.
    pub(super) fn run_hook(&mut self, now: Instant, sink: &mut impl Sink) {
        if !matches!(self.hook, Hook::Idle) {
            return;
        }
        let live = match self.sum_of_outages(now) {
            _ if !self.policy.has_hook => return self.let_through(now, sink),
            _ if !self.started => Live::Start,
            Some(gap) => Live::AfterGap(gap),
            None => return self.let_through(now, sink),
        };
        self.hook = Hook::Running(self.outages.count());
        self.figures.hooks = self.figures.hooks.saturating_add(1);
        self.actions.push_back(Action::RunHook(live));
    }

    /// The hook has ended. If it failed, it runs again after a delay; nothing is delivered meanwhile.
    pub fn handle_hook(&mut self, now: Instant, result: Result<(), Error>, sink: &mut impl Sink) {
        let Hook::Running(known) = self.hook else { return };
        match result {
            Ok(()) => {
                self.hook = Hook::Idle;
                self.started = true;
                if self.outages.count() == known {
                    self.hook_backoff.reset();
                    self.let_through(now, sink);
                } else {
                    // What the hook has read may be older than what was lost since. Not at once: a server that drops
                    // something every time would make it run without end.
                    self.hook = Hook::Again(now.checked_add(self.hook_backoff.next()));
                }
                self.proceed(now, sink);
            }
            Err(error) => {
                self.figures.hook_failures = self.figures.hook_failures.saturating_add(1);
                let delay = self.hook_backoff.next();
                self.hook = Hook::Again(now.checked_add(delay));
                self.actions.push_back(Action::Tell(Incident::HookFailed { error, delay }));
            }
        }
    }

    /// When a hook that has failed runs again.
    pub(super) fn hook_timeout(&self) -> Option<Instant> {
        match self.hook {
            Hook::Again(at) => at,
            Hook::Idle | Hook::Running(_) => None,
        }
    }

    pub(super) fn check_hook(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.hook_timeout().is_some_and(|at| at <= now) {
            self.hook = Hook::Idle;
            self.run_hook(now, sink);
        }
    }

    /// There is no session to be live: what the hook does is in vain.
    pub(super) fn cancel_hook(&mut self) {
        if let Hook::Running(_) = std::mem::take(&mut self.hook) {
            self.actions.push_back(Action::CancelHook);
        }
    }
}

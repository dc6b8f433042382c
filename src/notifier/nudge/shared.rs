//! [`NudgeShared`]: what the clones of a notifier and the task of its nudges share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::machine::{NudgeMachine, NudgePolicy};
use super::pending::{Added, NudgeLimits, PendingNudges};
use super::stats::NudgeCounts;
use super::target::NudgeTargets;
use super::task::NudgeTask;
use crate::error::{Error, contain};
use crate::notifier::link::{SessionOpener, TaskLink};
use crate::notifier::outcome;
use crate::notifier::request::Reply;
use crate::notifier::telemetry;
use crate::proto::wire;

#[derive(Debug)]
pub(super) struct NudgeShared {
    state: Mutex<NudgeState>,
    pub(super) targets: NudgeTargets,
}

/// The state under the lock, which is held for no longer than a nudge takes.
#[derive(Debug)]
pub(super) struct NudgeState {
    pub(super) pending: PendingNudges,
    stage: NudgeStage,
    /// What the callers have counted.
    called: NudgeCounts,
    /// What the machine has counted.
    pub(super) of_machine: NudgeCounts,
    pub(super) waker: Option<Waker>,
    /// The `close` calls that wait for the end of the task.
    closing: Vec<Reply<()>>,
    last_error: Option<Error>,
    /// A nudge was dropped, and that was logged.
    is_drop_logged: bool,
}

#[derive(Debug)]
enum NudgeStage {
    /// There was no nudge yet.
    Unstarted(Box<NudgeStart>),
    Running,
    /// What waits is sent. Nothing more is accepted.
    Closing,
    /// The cause, unless it was closed.
    Ended(Option<Error>),
}

/// What the task is made of.
#[derive(Debug)]
pub(in crate::notifier) struct NudgeStart {
    pub(in crate::notifier) policy: NudgePolicy,
    pub(in crate::notifier) seed: u64,
    pub(in crate::notifier) opener: SessionOpener,
    /// A nudge may be made in another runtime, or in none.
    pub(in crate::notifier) runtime: Handle,
}

impl NudgeShared {
    pub(super) fn new(start: NudgeStart) -> Self {
        let state = NudgeState {
            pending: PendingNudges::new(NudgeLimits::default()),
            stage: NudgeStage::Unstarted(Box::new(start)),
            called: NudgeCounts::default(),
            of_machine: NudgeCounts::default(),
            waker: None,
            closing: Vec::new(),
            last_error: None,
            is_drop_logged: false,
        };
        Self { state: Mutex::new(state), targets: NudgeTargets::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, NudgeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a nudge, and starts the task with the first one.
    pub(super) fn nudge(self: &Arc<Self>, channel: &str, key: &str) {
        if let Err(refused) = check(channel, key) {
            return self.refuse(refused);
        }
        self.targets.each(|target| target.nudged(channel, key));
        let mut state = self.lock();
        if let NudgeStage::Closing | NudgeStage::Ended(_) = &state.stage {
            let refused = match &state.stage {
                NudgeStage::Ended(Some(cause)) => outcome::unsent(cause),
                _ => outcome::closed(),
            };
            drop(state);
            return self.refuse(refused);
        }
        let was_empty = state.pending.is_empty();
        match state.pending.add(channel, key) {
            Added::New => {}
            Added::Coalesced(count) => state.called.coalesced += count,
            Added::NoRoom => {
                drop(state);
                return self.refuse(outcome::too_many_channels());
            }
        }
        state.called.nudges += 1;
        // If others wait already, the task has set its timer.
        let waker = if was_empty { state.waker.take() } else { None };
        let start = match &mut state.stage {
            stage @ NudgeStage::Unstarted(_) => std::mem::replace(stage, NudgeStage::Running),
            _ => NudgeStage::Running,
        };
        drop(state);
        if let NudgeStage::Unstarted(start) = start {
            let NudgeStart { policy, seed, opener, runtime } = *start;
            let machine = NudgeMachine::new(policy, seed);
            let task = NudgeTask::new(TaskLink::new(None, opener), machine, self.clone());
            // If the runtime has ended, the task is dropped, and with it the nudges.
            runtime.spawn(task.run());
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Drops a nudge.
    fn refuse(&self, error: Error) {
        {
            let mut state = self.lock();
            state.called.nudges += 1;
            state.called.dropped += 1;
        }
        self.dropped(error);
    }

    /// Records why nudges were dropped. The first time it is logged.
    pub(super) fn dropped(&self, error: Error) {
        let is_first = !std::mem::replace(&mut self.lock().is_drop_logged, true);
        if is_first {
            telemetry::nudge_dropped(&error);
        }
        self.failed(error);
    }

    pub(super) fn failed(&self, error: Error) {
        let last = self.lock().last_error.replace(error.brief());
        // An error can contain one of the user.
        let _ = contain(|| drop(last));
    }

    /// Accepts nothing more. What waits is sent in the background. Returns a waiter for the end.
    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (reply, closed) = oneshot::channel();
        let reply = Reply::new(reply);
        let mut state = self.lock();
        let unused = match &mut state.stage {
            stage @ NudgeStage::Unstarted(_) => {
                Some(std::mem::replace(stage, NudgeStage::Ended(None)))
            }
            stage @ NudgeStage::Running => {
                *stage = NudgeStage::Closing;
                None
            }
            NudgeStage::Closing | NudgeStage::Ended(_) => None,
        };
        if matches!(state.stage, NudgeStage::Closing) {
            state.closing.push(reply);
        }
        let waker = state.waker.take();
        drop(state);
        // It contains code of the user.
        let _ = contain(|| drop(unused));
        if let Some(waker) = waker {
            waker.wake();
        }
        closed
    }

    /// Accepts nothing more: the task ends with this cause, or because it was closed. A cause is logged.
    pub(super) fn end(&self, cause: Option<Error>) {
        {
            let mut state = self.lock();
            if matches!(state.stage, NudgeStage::Ended(_)) {
                return;
            }
            state.stage = NudgeStage::Ended(cause.clone());
        }
        if let Some(cause) = cause {
            telemetry::nudges_ended(&cause);
        }
    }

    /// Handles the drop of the task. If it has not ended by itself, its runtime has ended.
    pub(super) fn abandon(&self) {
        let is_closed = {
            let state = self.lock();
            matches!(state.stage, NudgeStage::Closing) && state.counts().unconfirmed() == 0
        };
        self.end((!is_closed).then(outcome::abandoned));
        let (lost, closing) = {
            let mut state = self.lock();
            let _ = state.pending.discard();
            let lost = state.counts().unconfirmed();
            state.called.dropped += lost;
            (lost, std::mem::take(&mut state.closing))
        };
        if lost > 0 {
            self.dropped(outcome::nudges_dropped(&outcome::abandoned()));
        }
        closing.into_iter().for_each(|reply| reply.send(()));
    }

    pub(super) fn counts(&self) -> NudgeCounts {
        self.lock().counts()
    }

    pub(super) fn last_error(&self) -> Option<Error> {
        self.lock().last_error.clone()
    }
}

impl NudgeState {
    fn counts(&self) -> NudgeCounts {
        self.called.and(self.of_machine)
    }

    /// Returns whether nothing more is accepted.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.stage, NudgeStage::Closing | NudgeStage::Ended(_))
    }
}

fn check(channel: &str, key: &str) -> Result<(), Error> {
    wire::check_channel(channel)?;
    wire::check_payload(key)?;
    Ok(())
}

//! The simulated hook: it takes some time, and may fail.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use super::clock::{MILLI, Micros, SECOND, SimulatorEvent};
use super::recording_sink::SharedSink;
use super::{Simulation, log_line};
use crate::error::{Error, ErrorKind};
use crate::proto::supervisor::{Live, State, Supervisor};

#[derive(Debug, Default)]
pub(super) struct SimulatedHook {
    /// The number of runs that the supervisor requested.
    pub(super) asked: u64,
    /// The time of the request, and then of the beginning of the run. Its timeout counts from there.
    since: Micros,
    /// The number of lost sessions at the request.
    lost_sessions: u32,
    /// A run was requested and has not begun, because the previous one may still run.
    pub(super) is_asked: bool,
    number: u64,
    pub(super) running: Option<u64>,
    runs: BTreeMap<u64, RunState>,
    /// A run has succeeded since the last session was lost.
    pub(super) has_succeeded: bool,
    /// The first run was requested.
    has_begun: bool,
    /// A run has succeeded.
    has_ever_succeeded: bool,
    /// The number of consecutive failures.
    failures: u32,
    /// It has failed too often: the listener closes.
    pub(super) was_last: bool,
}

/// A run that the task owns.
#[derive(Debug)]
pub(super) struct RunningHook(u64);

/// The state of a run.
#[derive(Debug, Default)]
struct RunState {
    /// The result, until the task has received it.
    result: Option<Result<(), Error>>,
    waker: Option<Waker>,
    is_cancelled: bool,
}

impl SimulatedHook {
    /// Returns whether a run has ended whose result the task has not received.
    pub(super) fn has_unseen_end(&self) -> bool {
        self.runs.values().any(|life| life.result.is_some())
    }
}

impl Simulation {
    pub(super) fn hook_begins(&mut self, live: &Live, supervisor: &Supervisor<SharedSink>) {
        log_line!(self, "hook: {live:?}");
        if !self.plan.has_hook {
            return self.fail("a hook is run, and there is none");
        }
        if self.hook.running.is_some() || self.hook.is_asked {
            return self.fail("a hook is run while it runs");
        }
        if self.hook.was_last {
            return self.fail("a hook is run that has failed too often");
        }
        self.hook.asked += 1;
        (self.hook.since, self.hook.lost_sessions) = (self.clock.now(), self.lost_sessions);
        self.hook.is_asked = true;
        // When this action is performed, the listener may have ended.
        if !self.sink.get().is_held && supervisor.state() != State::Closed {
            return self.fail("a hook is run while notifications are published");
        }
        match live {
            Live::Start => self.hook.has_begun = true,
            Live::AfterGap(_) if !self.hook.has_begun => {
                return self.fail("the hook gets a gap before the start");
            }
            Live::AfterGap(_) => {}
        }
        // When this action is performed, the session may be lost, or close.
        if supervisor.state() == State::CatchingUp && !self.is_closing {
            self.check_channels("a hook is run", supervisor);
        }
    }

    /// Checks the reason for a cancelled run: the session was lost, or the run took too long.
    pub(super) fn hook_is_cancelled(&mut self, state: State) {
        self.hook.is_asked = false;
        let is_late = self.clock.now() >= self.hook.since + self.plan.hook_timeout;
        if self.is_closing || self.is_dropped {
            return;
        }
        // A process that was suspended may detect both at once: then the session was lost.
        if is_late && state != State::Reconnecting {
            self.hook_ended(false);
        } else if state == State::CatchingUp && self.lost_sessions == self.hook.lost_sessions {
            self.fail("a hook is cancelled before its timeout, and the session was not lost");
        }
    }

    pub(super) fn start_hook(&mut self) -> RunningHook {
        if !self.hook.runs.is_empty() {
            self.fail("a hook begins before the last one has ended");
        }
        (self.hook.is_asked, self.hook.since) = (false, self.clock.now());
        self.hook.number += 1;
        let number = self.hook.number;
        self.hook.running = Some(number);
        self.hook.runs.insert(number, RunState::default());
        let most = if self.is_calm { self.plan.hook_timeout / 2 } else { SECOND };
        let time = if self.random.chance(10) { 0 } else { self.random.range(0, most.min(SECOND)) };
        self.clock.after(time, SimulatorEvent::Hook(number), &mut self.random);
        RunningHook(number)
    }

    /// Cancels a run, which continues for a while.
    pub(super) fn stop_hook(&mut self, run: &RunningHook) {
        if let Some(life) = self.hook.runs.get_mut(&run.0) {
            life.is_cancelled = true;
        }
        self.hook.running = None;
        let most = if self.random.chance(10) { 3 * SECOND } else { 5 * MILLI };
        let time = self.random.range(0, most);
        self.clock.after(time, SimulatorEvent::Hook(run.0), &mut self.random);
    }

    pub(super) fn hook_returns(&mut self, number: u64) {
        // The first run fails rarely, because its failure ends the listener.
        let failures = match (self.is_calm, self.hook.has_ever_succeeded) {
            (true, _) => 0,
            (false, true) => 30,
            (false, false) => 5,
        };
        let Some(life) = self.hook.runs.get_mut(&number) else { return };
        if life.result.is_some() {
            return;
        }
        // A suspended process cannot cancel a run.
        let since = self.hook.since.max(self.asleep_until);
        let is_late = self.clock.now() > since + self.plan.hook_timeout + 100 * MILLI;
        if is_late && !life.is_cancelled {
            return self.fail("a hook runs for longer than it may");
        }
        let result = if life.is_cancelled {
            Err(Error::new(ErrorKind::Closed, "the hook was cancelled (simulated)"))
        } else if self.random.chance(failures) {
            // An error of any kind, also that of a closed listener.
            let kind =
                if number.is_multiple_of(2) { ErrorKind::Closed } else { ErrorKind::Connect };
            Err(Error::new(kind, "the hook fails (simulated)"))
        } else {
            Ok(())
        };
        life.result = Some(result);
        if let Some(waker) = life.waker.take() {
            waker.wake();
        }
        log_line!(self, "hook {number}: {:?}", self.hook.runs[&number].result);
    }

    /// Records the end of a run.
    fn hook_ended(&mut self, is_ok: bool) {
        let hook = &mut self.hook;
        hook.has_succeeded |= is_ok;
        hook.has_ever_succeeded |= is_ok;
        hook.failures = if is_ok { 0 } else { hook.failures + 1 };
        let is_last = self.plan.hook_failures_max.is_some_and(|most| hook.failures >= most);
        hook.was_last = !is_ok && (is_last || !hook.has_ever_succeeded);
        if hook.was_last && !self.is_closing {
            log_line!(self, "the hook has failed too often");
            self.expect_end();
        }
    }

    pub(super) fn poll_hook_run(
        &mut self,
        cx: &mut Context<'_>,
        run: &RunningHook,
    ) -> Poll<Result<(), Error>> {
        let Some(life) = self.hook.runs.get_mut(&run.0) else {
            self.fail("a hook is polled that has ended");
            return Poll::Pending;
        };
        let Some(result) = life.result.take() else {
            life.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.hook.runs.remove(&run.0);
        if self.hook.running == Some(run.0) {
            self.hook.running = None;
            self.hook_ended(result.is_ok());
        }
        Poll::Ready(result)
    }
}

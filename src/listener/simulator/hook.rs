//! The user's hook, as far as it can be simulated: it takes its time, and may fail.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use super::clock::{Event, MILLI, Micros, SECOND};
use super::{World, say};
use crate::supervisor::{Live, State, Supervisor};
use crate::{Error, ErrorKind};

#[derive(Debug, Default)]
pub(super) struct Hook {
    /// How often it was asked for.
    pub(super) asked: u64,
    /// When it was asked for, and then when it has begun: its time runs from there.
    since: Micros,
    /// How many sessions were lost when it was asked for.
    lost_sessions: u32,
    /// It was asked for, and has yet to begin: the one before it may run on.
    pub(super) is_asked: bool,
    number: u64,
    pub(super) running: Option<u64>,
    runs: BTreeMap<u64, Life>,
    /// It has read the state since the last session was lost.
    pub(super) has_succeeded: bool,
    /// It was run at the start.
    has_begun: bool,
    /// It has succeeded once.
    has_ever_succeeded: bool,
    /// How often in a row it has failed.
    failures: u32,
    /// It has failed for the last time: the listener closes.
    pub(super) was_last: bool,
}

/// A hook that runs, in the hands of the task.
#[derive(Debug)]
pub(super) struct Run(u64);

#[derive(Debug, Default)]
struct Life {
    /// How it has ended.
    result: Option<Result<(), Error>>,
    waker: Option<Waker>,
    is_cancelled: bool,
}

impl Hook {
    /// A hook has ended, and whoever waits for it does not know.
    pub(super) fn has_unseen_end(&self) -> bool {
        self.runs.values().any(|life| life.result.is_some())
    }
}

impl World {
    pub(super) fn hook_begins(&mut self, live: &Live, supervisor: &Supervisor) {
        say!(self, "hook: {live:?}");
        if !self.plan.has_hook {
            return self.fail("a hook is run, and there is none");
        }
        if self.hook.running.is_some() || self.hook.is_asked {
            return self.fail("a hook is run while it runs");
        }
        if self.hook.was_last {
            return self.fail("a hook is run that has failed for the last time");
        }
        self.hook.asked += 1;
        (self.hook.since, self.hook.lost_sessions) = (self.clock.now(), self.lost_sessions);
        self.hook.is_asked = true;
        // By the time this is carried out everything may have ended.
        if !self.sink.is_held && supervisor.state() != State::Closed {
            return self.fail("a hook is run while notifications are shown");
        }
        match live {
            Live::Start => self.hook.has_begun = true,
            Live::AfterGap(_) if !self.hook.has_begun => {
                return self.fail("the hook is told of a gap before the start");
            }
            Live::AfterGap(_) => {}
        }
        // By the time this is carried out the session may be lost again, or end.
        if supervisor.state() == State::CatchingUp && !self.is_closing {
            self.check_channels("a hook is run", supervisor);
        }
    }

    /// The session is gone, or it took too long.
    pub(super) fn hook_is_cancelled(&mut self, state: State) {
        self.hook.is_asked = false;
        let is_late = self.clock.now() >= self.hook.since + self.plan.hook_timeout;
        if self.is_closing || self.is_dropped {
            return;
        }
        // A process that slept may find both at once: then the session is gone.
        if is_late && state != State::Reconnecting {
            self.hook_ended(false);
        } else if state == State::CatchingUp && self.lost_sessions == self.hook.lost_sessions {
            self.fail("a hook is cancelled before its time, and the session is there");
        }
    }

    pub(super) fn start_hook(&mut self) -> Run {
        if !self.hook.runs.is_empty() {
            self.fail("a hook begins before the last one has ended");
        }
        (self.hook.is_asked, self.hook.since) = (false, self.clock.now());
        self.hook.number += 1;
        let number = self.hook.number;
        self.hook.running = Some(number);
        self.hook.runs.insert(number, Life::default());
        let most = if self.is_calm { self.plan.hook_timeout / 2 } else { SECOND };
        let time = if self.random.chance(10) { 0 } else { self.random.range(0, most.min(SECOND)) };
        self.clock.after(time, Event::Hook(number), &mut self.random);
        Run(number)
    }

    /// It goes on to its next await, which may take its time.
    pub(super) fn stop_hook(&mut self, run: &Run) {
        if let Some(life) = self.hook.runs.get_mut(&run.0) {
            life.is_cancelled = true;
        }
        self.hook.running = None;
        let most = if self.random.chance(10) { 3 * SECOND } else { 5 * MILLI };
        let time = self.random.range(0, most);
        self.clock.after(time, Event::Hook(run.0), &mut self.random);
    }

    pub(super) fn hook_returns(&mut self, number: u64) {
        // Most listeners begin well: a first run that fails is their end.
        let failures = match (self.is_calm, self.hook.has_ever_succeeded) {
            (true, _) => 0,
            (false, true) => 30,
            (false, false) => 5,
        };
        let Some(life) = self.hook.runs.get_mut(&number) else { return };
        if life.result.is_some() {
            return;
        }
        // A process that sleeps cancels nothing.
        let since = self.hook.since.max(self.asleep_until);
        let is_late = self.clock.now() > since + self.plan.hook_timeout + 100 * MILLI;
        if is_late && !life.is_cancelled {
            return self.fail("a hook runs for longer than it may");
        }
        let result = if life.is_cancelled {
            Err(Error::new(ErrorKind::Closed, "the hook was cancelled (simulated)"))
        } else if self.random.chance(failures) {
            // Of any kind: this one is that of a clean end too.
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
        say!(self, "hook {number}: {:?}", self.hook.runs[&number].result);
    }

    /// A run has succeeded, failed, or took too long.
    fn hook_ended(&mut self, is_ok: bool) {
        let hook = &mut self.hook;
        hook.has_succeeded |= is_ok;
        hook.has_ever_succeeded |= is_ok;
        hook.failures = if is_ok { 0 } else { hook.failures + 1 };
        let is_last = self.plan.hook_failures_max.is_some_and(|most| hook.failures >= most);
        hook.was_last = !is_ok && (is_last || !hook.has_ever_succeeded);
        if hook.was_last && !self.is_closing {
            say!(self, "the hook has failed for the last time");
            self.closes();
        }
    }

    pub(super) fn look_at_hook(
        &mut self,
        cx: &mut Context<'_>,
        run: &Run,
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

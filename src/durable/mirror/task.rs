//! [`Task`]: carries wake-ups, time and calls of the user to the machine, and runs the reads that follow.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Instant, SystemTime};

use tokio::time::sleep_until;

use super::machine::{Machine, Read, Step};
use super::polls::Polls;
use super::race::unless;
use super::reads::{Done, Reads};
use super::shared::{Phase, Requests, Shared};
use super::telemetry;
use super::waiter::{Waiter, answer};
use crate::error::{Error, contain};
use crate::net;

pub(super) struct Task<V> {
    shared: Arc<Shared<V>>,
    reads: Reads<V>,
    machine: Machine,
    polls: Polls,
    /// Calls that a read is to answer.
    waiters: Vec<Waiter>,
}

impl<V: Send + Sync + 'static> Task<V> {
    pub(super) fn new(
        shared: Arc<Shared<V>>,
        reads: Reads<V>,
        machine: Machine,
        polls: Polls,
    ) -> Self {
        Self { shared, reads, machine, polls, waiters: Vec::new() }
    }

    /// Loads all rows, of which each must be decoded.
    pub(super) async fn first_load(&mut self) -> Result<(), Error> {
        let begun = net::now();
        self.reads.first_load().await?;
        self.machine.handle_loaded(begun, net::now());
        Ok(())
    }

    /// Reads until the mirror is closed. A runtime may drop the future before it is polled: the end is reported then too.
    pub(super) fn run(mut self) -> impl Future<Output = ()> + Send {
        let end = End(self.shared.clone());
        async move {
            let shared = self.shared.clone();
            unless(shared.closing(), self.work()).await;
            self.reads.close().await;
            if let Some(wakeups) = shared.take_wakeups() {
                wakeups.close().await;
            }
            telemetry::closed(&shared.name);
            drop(end);
        }
    }

    async fn work(&mut self) {
        loop {
            self.handle_requests();
            // While calls of the user follow each other without a pause, `wait` is not reached.
            self.polls.handle_time(&mut self.machine);
            if let Some(wake) = self.polls.taken().await {
                self.polls.handle_wake(&wake, &mut self.machine);
            }
            let step = self.machine.next(net::now());
            self.report_staleness(matches!(step, Step::Read(_)) || !self.machine.is_idle());
            match step {
                Step::Read(read) => self.read(read).await,
                Step::Wait(until) => self.wait(until).await,
            }
        }
    }

    fn handle_requests(&mut self) {
        let Requests { keys, is_all, waiters } = self.shared.take_requests();
        if is_all {
            self.machine.handle_reload(net::now());
        } else if !keys.is_empty() {
            self.machine.handle_keys(keys, net::now());
        } else {
            // They ask for no key.
            answer(waiters, &Ok(()));
            return;
        }
        if self.waiters.len() + waiters.len() > self.waiters.capacity() {
            // Those of dropped futures: during a delay, or the pause before a load, nothing else takes them away.
            self.waiters.retain(|waiter| !waiter.is_closed());
        }
        self.waiters.extend(waiters);
    }

    fn report_staleness(&self, is_stale: bool) {
        let mut facts = self.shared.facts();
        match facts.stale_since {
            None if is_stale => facts.stale_since = Some(SystemTime::now()),
            Some(_) if !is_stale => facts.stale_since = None,
            _ => {}
        }
    }

    async fn wait(&mut self, until: Option<Instant>) {
        let until = until.into_iter().chain(self.polls.next()).min();
        let woken = {
            let mut wake = pin!(self.polls.wake());
            let mut requested = pin!(self.shared.requested.notified());
            let mut time = pin!(passed(until));
            poll_fn(|cx| {
                if requested.as_mut().poll(cx).is_ready() || time.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                wake.as_mut().poll(cx).map(Some)
            })
            .await
        };
        if let Some(wake) = woken {
            self.polls.handle_wake(&wake, &mut self.machine);
        }
    }

    async fn read(&mut self, read: Read) {
        match self.run_read(read).await {
            Some(Ok(Done { keys, invalid })) => {
                self.machine.handle_done(net::now());
                let waiters = mem::take(&mut self.waiters);
                let (answered, waiting): (Vec<_>, _) =
                    waiters.into_iter().partition(|waiter| waiter.is_answered_by(keys.as_ref()));
                self.waiters = waiting;
                if let Some(error) = invalid {
                    self.shared.set_last_error(&error);
                    if self.machine.handle_invalid_key(net::now()) {
                        telemetry::invalid_keys(&self.shared.name, &error);
                    }
                }
                answer(answered, &Ok(()));
            }
            Some(Err(error)) => {
                let delay = self.machine.handle_failure(net::now());
                telemetry::failed(&self.shared.name, &error, delay);
                self.shared.set_last_error(&error);
                self.shared.facts().stats.failures += 1;
                answer(mem::take(&mut self.waiters), &Err(error));
            }
            // The load that follows answers the calls.
            None => {
                self.machine.handle_given_up();
                telemetry::given_up(&self.shared.name);
                self.shared.facts().stats.given_up += 1;
            }
        }
    }

    /// Runs a read, and takes what arrives meanwhile. Returns `None` if the read is given up: the listening session was lost and there is another one, so the
    /// session of the read may wait for a server that is not there any more.
    async fn run_read(&mut self, read: Read) -> Option<Result<Done, Error>> {
        let Self { reads, machine, polls, .. } = self;
        let mut work = pin!(reads.run(read));
        loop {
            let give_up_at = machine.gives_up_at();
            if give_up_at.is_some_and(|at| at <= net::now()) {
                return None;
            }
            let woken = {
                let mut wake = pin!(polls.wake());
                let mut time = pin!(passed(give_up_at));
                poll_fn(|cx| {
                    if let Poll::Ready(result) = work.as_mut().poll(cx) {
                        return Poll::Ready(Woken::Done(result));
                    }
                    if time.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Woken::Time);
                    }
                    wake.as_mut().poll(cx).map(Woken::Wake)
                })
                .await
            };
            match woken {
                Woken::Done(result) => return Some(result),
                Woken::Wake(wake) => polls.handle_wake(&wake, machine),
                Woken::Time => return None,
            }
        }
    }
}

/// What happens first while a read runs.
enum Woken<W> {
    Done(Result<Done, Error>),
    Wake(W),
    Time,
}

/// Waits until an instant. `None` is never.
async fn passed(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// Reports the end of a task, also if its runtime drops it.
struct End<V>(Arc<Shared<V>>);

impl<V> Drop for End<V> {
    fn drop(&mut self) {
        let _ = contain(|| self.0.phase.send_replace(Phase::Ended));
        drop(self.0.take_requests());
        drop(self.0.take_wakeups());
    }
}

//! [`Run`]: what a handler has to handle once, with its attempts.

use std::ops::ControlFlow;

use super::contained::{ContainedRun, Outcome};
use super::failure::{FailedInput, Failure, FailureCause};
use super::handler::{Reports, RunFuture};
use super::key::LaneKey;
use super::phase::Phase;
use super::shared::DispatcherShared;
use super::until::until;

/// A run of one handler, which is tried until it succeeds or has failed for good.
pub(super) struct Run<'a> {
    pub(super) shared: &'a DispatcherShared,
    pub(super) reports: &'a Reports,
    pub(super) key: Option<&'a LaneKey>,
    /// The number of the handler in its lane.
    pub(super) handler: Option<usize>,
}

impl Run<'_> {
    /// Calls the handler with the policy of retries, and reports a failure. `Break`: the dispatcher stops, and the handler has not finished.
    pub(super) async fn execute(
        &self,
        call: impl Fn() -> RunFuture,
        input: impl Fn() -> FailedInput,
    ) -> ControlFlow<()> {
        let shared = self.shared;
        let mut attempts = 0_u32;
        loop {
            let permit = until(shared.reached(Phase::Stopping), shared.permits.acquire()).await;
            // The semaphore is never closed.
            let Some(Ok(permit)) = permit else { return ControlFlow::Break(()) };
            attempts = attempts.saturating_add(1);
            let cause = match self.attempt(&call).await {
                None => return ControlFlow::Break(()),
                Some(Outcome::Done) => return ControlFlow::Continue(()),
                Some(Outcome::Panicked(message)) => {
                    shared.counters.panics.add(1);
                    FailureCause::Panic(message)
                }
                #[cfg(feature = "json")]
                Some(Outcome::Undecodable(error)) => FailureCause::Error(error),
                Some(Outcome::Failed(error)) => match shared.retry.delay_after(attempts) {
                    None => FailureCause::Error(error),
                    Some(delay) => {
                        // The delay does not keep another handler from running.
                        drop(permit);
                        shared.drop_contained(error);
                        let sleep = tokio::time::sleep(delay);
                        if until(shared.reached(Phase::Stopping), sleep).await.is_none() {
                            return ControlFlow::Break(());
                        }
                        shared.counters.retries.add(1);
                        continue;
                    }
                },
            };
            shared.counters.failures.add(1);
            let (key, handler) = (self.key.cloned(), self.handler);
            self.report(Failure { key, handler, input: input(), attempts, cause }).await;
            return ControlFlow::Continue(());
        }
    }

    /// Calls the handler once. Returns `None` if it was cancelled.
    async fn attempt(&self, call: impl FnOnce() -> RunFuture) -> Option<Outcome> {
        let counters = &self.shared.counters;
        let _counted = counters.begin();
        let mut run = ContainedRun::new(call);
        let outcome = until(self.shared.reached(Phase::Cancelled), &mut run).await;
        if outcome.is_none() {
            counters.cancelled.add(1);
            if run.cancel().is_some() {
                counters.panics.add(1);
            }
        }
        outcome
    }

    /// Passes a failure to its handler. What that handler returns is not used.
    async fn report(&self, failure: Failure) {
        let Some(on_failure) = &self.reports.failure else {
            return self.shared.drop_contained(failure);
        };
        match self.attempt(|| on_failure(failure)).await {
            Some(Outcome::Panicked(_)) => self.shared.counters.panics.add(1),
            // Its error is of the user.
            outcome => self.shared.drop_contained(outcome),
        }
    }
}

//! [`DispatcherShared`]: what a running dispatcher, its handles and its tasks share.

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::contained::contain;
use super::phase::{Demand, Phase};
use super::retry::Retry;
use super::stats::Counters;
use super::stopped::Stopped;

#[derive(Debug)]
pub(super) struct DispatcherShared {
    demand: watch::Sender<Demand>,
    /// One for each handler that may run at once.
    pub(super) permits: Semaphore,
    pub(super) retry: Retry,
    pub(super) counters: Counters,
    pub(super) lanes: u64,
    /// The bytes of notifications at which a batch ends.
    pub(super) lane_bytes: usize,
    /// The report of the end, once there is one.
    pub(super) stopped: watch::Receiver<Option<Stopped>>,
}

impl DispatcherShared {
    pub(super) fn new(
        concurrency: usize,
        retry: Retry,
        lanes: usize,
        lane_bytes: usize,
        stopped: watch::Receiver<Option<Stopped>>,
    ) -> Self {
        Self {
            demand: watch::Sender::new(Demand::RUNNING),
            permits: Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS)),
            retry,
            counters: Counters::default(),
            lanes: lanes as u64,
            lane_bytes,
            stopped,
        }
    }

    /// Moves on to `phase`, and sets the time at which handler runs are cancelled, unless an earlier one is set.
    pub(super) fn advance(&self, phase: Phase, deadline: Option<Instant>) {
        self.demand.send_if_modified(|demand| demand.advance(phase, deadline));
    }

    pub(super) fn phase(&self) -> Phase {
        self.demand.borrow().phase
    }

    /// Waits until the dispatcher is in `phase`, or in a later one.
    pub(super) async fn reached(&self, phase: Phase) {
        // It fails only without a sender, which is here.
        let _ = self.demand.subscribe().wait_for(|demand| demand.phase >= phase).await;
    }

    /// Drops a value of the user. A panic is contained, and counted.
    pub(super) fn drop_contained<T>(&self, value: T) {
        if contain(|| drop(value)).is_err() {
            self.counters.panics.add(1);
        }
    }

    pub(super) fn demands(&self) -> watch::Receiver<Demand> {
        self.demand.subscribe()
    }
}

//! What has arrived on a connection, in its order, and what of it was lost.

use bytes::Buf;

use super::EPOCH;
use super::kept::Kept;
use crate::Error;
use crate::net::{Driver, Meanwhile};
use crate::notification::{Gap, Lagged, Loss, ReceiveInfo};
use crate::wire::Run;

/// Places in the stream of a connection: every notification that arrives has a sequence number, whether it was
/// kept or not.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Notifications that arrived while a command waited.
    pub(super) kept: Kept,
    /// Sequence number of the next notification that arrives.
    arrived: u64,
    /// Sequence number of the next notification to hand out.
    next: u64,
    /// Gaps with their places in the stream. Adjacent ones merge.
    gap: Option<(u64, Gap)>,
}

impl Arrivals {
    /// Keeps at most `bytes` bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { kept: Kept::new(bytes), arrived: 0, next: 0, gap: None }
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether something was lost that was not handed out yet.
    pub(super) fn has_loss(&self) -> bool {
        self.arrived > self.next || self.gap.is_some()
    }

    /// This run of kept notifications is handed out.
    pub(super) fn hand_out(&mut self, first: u64, run: Run) {
        self.next = first.saturating_add(run.count as u64);
    }

    /// A run has arrived, and is handed out at once.
    pub(super) fn pass(&mut self, run: Run) {
        self.hand_out(self.arrived, run);
        self.arrived = self.next;
    }

    /// The loss that lies before sequence number `until`.
    pub(super) fn take_loss(&mut self, until: u64) -> Option<Loss> {
        if let Some((at, gap)) = self.gap.take_if(|(at, _)| *at <= until) {
            if at <= self.next {
                return Some(Loss::Gap(gap));
            }
            let lagged = self.lag(at);
            self.gap = Some((at, gap));
            return Some(lagged);
        }
        (until > self.next).then(|| self.lag(until))
    }

    fn lag(&mut self, until: u64) -> Loss {
        let first_sequence = std::mem::replace(&mut self.next, until);
        Loss::Lagged(Lagged { first_sequence, count: until - first_sequence })
    }
}

impl Meanwhile for Arrivals {
    /// Moves a run from the input to the queue. What has no room is lost, and told by its place.
    fn take(&mut self, driver: &mut Driver, run: Run) {
        let stamp = ReceiveInfo { received_at: driver.received_at, epoch: EPOCH };
        self.kept.push(&driver.input, run, self.arrived, stamp);
        self.arrived = self.arrived.saturating_add(run.count as u64);
        driver.input.advance(run.bytes);
    }

    fn miss(&mut self, driver: &Driver, cause: Error) {
        let gap = Gap::within_session(cause, driver.received_at, EPOCH);
        match &mut self.gap {
            Some((_, first)) => first.merge(gap),
            None => self.gap = Some((self.arrived, gap)),
        }
    }
}

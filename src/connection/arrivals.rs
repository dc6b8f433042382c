//! The notifications that arrived on a connection, and the losses between them, in order.

use bytes::Buf;

use super::EPOCH;
use super::backlog::Backlog;
use crate::error::Error;
use crate::net::{Driver, NotificationSink};
use crate::notification::{Gap, Lagged, Loss, ReceiveInfo};
use crate::proto::wire::Run;

/// The positions in the stream of a connection. Every notification that arrives has a sequence number, also one for which
/// the backlog has no room.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Notifications that arrived while a command ran.
    pub(super) backlog: Backlog,
    /// Sequence number of the next notification that arrives.
    arrived: u64,
    /// Sequence number of the next notification to deliver.
    next: u64,
    /// A gap that was not delivered yet, and its position. Further gaps are merged into it.
    gap: Option<(u64, Gap)>,
}

impl Arrivals {
    /// Creates an empty stream, whose backlog holds at most `bytes` bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { backlog: Backlog::new(bytes), arrived: 0, next: 0, gap: None }
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Returns whether there is a loss or a backlog that was not delivered yet.
    pub(super) fn has_loss(&self) -> bool {
        self.arrived > self.next || self.gap.is_some()
    }

    /// Records that this run of the backlog is delivered.
    pub(super) fn deliver_backlog(&mut self, first: u64, run: Run) {
        self.next = first.saturating_add(run.count as u64);
    }

    /// Records that a run arrived and is delivered at once.
    pub(super) fn deliver_arrived(&mut self, run: Run) {
        self.deliver_backlog(self.arrived, run);
        self.arrived = self.next;
    }

    /// Removes and returns the first loss before sequence number `until`.
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

impl NotificationSink for Arrivals {
    /// Moves a run from the receive buffer to the backlog. Notifications that do not fit are lost: they are reported as
    /// lagged, at their position.
    fn take(&mut self, driver: &mut Driver, run: Run) {
        let stamp = ReceiveInfo { received_at: driver.received_at, epoch: EPOCH };
        self.backlog.push(&driver.input, run, self.arrived, stamp);
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

//! [`RecordingSink`]: the real queue, with a record of everything that is put into it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use crate::listener::shared::ListenerShared;
use crate::listener::sink::RingSink;
use crate::notification::{Gap, ReceiveInfo};
use crate::proto::supervisor::{Overflow, Sink, State};
use crate::proto::wire::{self, Run};

/// A notification that the listener received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// The index of its connection.
    pub(super) connection: usize,
    pub(super) process_id: i32,
    /// The epoch in its `ReceiveInfo`.
    pub(super) epoch: u32,
}

/// A gap that the listener put into the stream.
#[derive(Debug, Clone)]
pub(super) struct RecordedGap {
    /// The number of notifications before it.
    pub(super) position: u64,
    pub(super) gap: Gap,
    /// The connection whose input was handled at that time.
    pub(super) connection: usize,
    /// The state and the number of gaps that a handle showed when the gap was published.
    pub(super) state: State,
    pub(super) counted: u64,
}

/// A sink that records what is put into the queue.
pub(super) struct RecordingSink {
    pub(super) ring: RingSink,
    shared: Arc<ListenerShared>,
    /// The connection whose input is being handled.
    pub(super) connection: usize,
    pub(super) taken: Vec<Taken>,
    pub(super) gaps: Vec<RecordedGap>,
    /// How many of `taken` and of `gaps` are published.
    pub(super) shown: (usize, usize),
    /// The queue holds back everything.
    pub(super) is_held: bool,
    /// How often that began.
    pub(super) holds: u32,
    /// The highest number of bytes in the queue after a run was put into it.
    pub(super) most_unread_bytes: u64,
    /// How many of `taken` and of `gaps` were checked.
    pub(super) checked: (usize, usize),
    /// A run was allowed to exceed the capacity.
    pub(super) had_surplus: bool,
    /// The longest stall, and the length of the stalls since the queue was last found empty.
    max_stall: Option<Duration>,
    pub(super) stalled: Cell<Duration>,
    /// Notifications were dropped although the stall could have continued.
    pub(super) drops_too_early: bool,
}

impl RecordingSink {
    pub(super) fn new(ring: RingSink, shared: Arc<ListenerShared>, overflow: Overflow) -> Self {
        Self {
            ring,
            shared,
            connection: usize::MAX,
            taken: Vec::new(),
            gaps: Vec::new(),
            shown: (0, 0),
            is_held: false,
            holds: 0,
            most_unread_bytes: 0,
            checked: (0, 0),
            had_surplus: false,
            max_stall: match overflow {
                Overflow::Block { max_stall } => Some(max_stall),
                _ => None,
            },
            stalled: Cell::default(),
            drops_too_early: false,
        }
    }
}

impl Sink for RecordingSink {
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run {
        self.ring.fits(frames, run, surplus)
    }

    fn notifications(&mut self, input: &mut BytesMut, run: Run, info: ReceiveInfo, surplus: bool) {
        let before = self.taken.len();
        for one in wire::frames(&input[..run.bytes]) {
            let connection = self.connection;
            let (process_id, epoch) = (one.process_id, info.epoch);
            self.taken.push(Taken { connection, process_id, epoch });
        }
        assert_eq!(self.taken.len() - before, run.count, "the run has another length");
        let bytes = self.ring.outlet.producer.unread_bytes() + run.bytes as u64;
        self.most_unread_bytes = self.most_unread_bytes.max(bytes);
        self.had_surplus |= surplus;
        let has_budget = self.max_stall.is_some_and(|most| self.stalled.get() < most);
        let drops = self.ring.fits(input, run, surplus).count < run.count;
        self.drops_too_early |=
            drops && !surplus && has_budget && !self.ring.outlet.producer.is_abandoned();
        self.ring.notifications(input, run, info, surplus);
    }

    fn publish(&mut self) {
        if !self.is_held {
            self.shown = (self.taken.len(), self.gaps.len());
        }
        self.ring.publish();
    }

    fn position(&self) -> u64 {
        let position = self.ring.position();
        assert_eq!(position, self.taken.len() as u64, "the position is another");
        position
    }

    fn hold(&mut self) {
        // The real queue must publish everything before this.
        if !self.is_held {
            self.shown = (self.taken.len(), self.gaps.len());
        }
        self.is_held = true;
        self.holds += 1;
        self.ring.hold();
    }

    fn release(&mut self, gaps: Vec<(u64, Gap)>) {
        for (position, gap) in &gaps {
            let (position, connection) = (*position, self.connection);
            let (state, counted) = (self.shared.state(), self.shared.stats().gaps);
            self.gaps.push(RecordedGap { position, gap: gap.clone(), connection, state, counted });
        }
        self.is_held = false;
        self.shown = (self.taken.len(), self.gaps.len());
        self.ring.release(gaps);
    }

    fn is_empty(&self) -> bool {
        let is_empty = self.ring.is_empty();
        if is_empty {
            self.stalled.set(Duration::ZERO);
        }
        is_empty
    }
}

//! The real queue, with a witness of what goes into it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use crate::listener::shared::Shared;
use crate::listener::sink::RingSink;
use crate::notification::{Gap, Stamp};
use crate::supervisor::{Overflow, Sink, State};
use crate::wire::{self, Run};

/// A notification that the listener took in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Index of the connection it came on.
    pub(super) connection: usize,
    pub(super) process_id: i32,
    /// As the stamp says.
    pub(super) epoch: u32,
}

/// A gap that the listener put into the stream.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// How many notifications were taken before it.
    pub(super) position: u64,
    pub(super) gap: Gap,
    /// The connection whose input was handled then.
    pub(super) connection: usize,
    /// What could be seen from outside when the consumer could see it: the state, and how many gaps were counted.
    pub(super) state: State,
    pub(super) counted: u64,
}

pub(super) struct Witness {
    pub(super) ring: RingSink,
    shared: Arc<Shared>,
    /// The connection whose input is being handled.
    pub(super) connection: usize,
    pub(super) taken: Vec<Taken>,
    pub(super) gaps: Vec<Told>,
    /// Of both, how many the consumer can see.
    pub(super) shown: (usize, usize),
    /// Nothing is shown at present.
    pub(super) is_held: bool,
    /// How often that began.
    pub(super) holds: u32,
    /// Most bytes that waited after a run was taken in.
    pub(super) most_unread_bytes: u64,
    /// How many of the last two were checked.
    pub(super) checked: (usize, usize),
    /// Whether any run came with a surplus.
    pub(super) had_surplus: bool,
    /// How long the socket may go unread, and how long it was since the queue was empty when that was asked.
    max_stall: Option<Duration>,
    pub(super) stalled: Cell<Duration>,
    /// Something was dropped though there was time left to wait.
    pub(super) drops_too_early: bool,
}

impl Witness {
    pub(super) fn new(ring: RingSink, shared: Arc<Shared>, overflow: Overflow) -> Self {
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

impl Sink for Witness {
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run {
        self.ring.fits(frames, run, surplus)
    }

    fn notifications(&mut self, input: &mut BytesMut, run: Run, stamp: Stamp, surplus: bool) {
        let before = self.taken.len();
        for one in wire::frames(&input[..run.bytes]) {
            let connection = self.connection;
            let (process_id, epoch) = (one.process_id, stamp.epoch);
            self.taken.push(Taken { connection, process_id, epoch });
        }
        assert_eq!(self.taken.len() - before, run.count, "the run has another length");
        let bytes = self.ring.producer.unread_bytes() + run.bytes as u64;
        self.most_unread_bytes = self.most_unread_bytes.max(bytes);
        self.had_surplus |= surplus;
        let has_budget = self.max_stall.is_some_and(|most| self.stalled.get() < most);
        let drops = self.ring.fits(input, run, surplus).count < run.count;
        self.drops_too_early |=
            drops && !surplus && has_budget && !self.ring.producer.is_abandoned();
        self.ring.notifications(input, run, stamp, surplus);
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
        // The queue itself must show what came before.
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
            self.gaps.push(Told { position, gap: gap.clone(), connection, state, counted });
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

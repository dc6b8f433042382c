//! [`RecordingSink`]: the real queue, with a record of everything that is put into it.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;

use crate::hub::tests::probe::HubSinkParts;
use crate::listener::shared::ListenerShared;
use crate::notification::{Gap, ReceiveInfo};
use crate::proto::supervisor::{Overflow, PlacedGap, Scope, Sink, State, StreamPosition};
use crate::proto::wire::{self, Run};
use crate::queue::{ReceiveBuffers, RingSink};

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
    /// The consumers that it concerns.
    pub(super) scope: Scope,
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
    /// The sink of a hub. It is then the real one, and the ring gets a copy of everything.
    pub(super) hub: Option<Box<dyn HubSinkParts>>,
    shared: Arc<ListenerShared>,
    /// The connection whose input is being handled.
    pub(super) connection: usize,
    pub(super) taken: Vec<Taken>,
    pub(super) gaps: Vec<RecordedGap>,
    /// How many of `taken` and of `gaps` are published.
    pub(super) shown: (usize, usize),
    /// The number of notifications before those that are held back, for all consumers, and for those of a channel.
    pub(super) held_at: Option<usize>,
    pub(super) held_channels: BTreeMap<String, usize>,
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
            hub: None,
            shared,
            connection: usize::MAX,
            taken: Vec::new(),
            gaps: Vec::new(),
            shown: (0, 0),
            held_at: None,
            held_channels: BTreeMap::new(),
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

impl RecordingSink {
    /// Returns how many notifications a consumer can see that receives from these channels, and from no others.
    pub(super) fn shown_to<'a>(&self, channels: impl Iterator<Item = &'a str>) -> usize {
        let held = channels.filter_map(|channel| self.held_channels.get(channel).copied());
        held.chain(self.held_at).min().unwrap_or(self.taken.len())
    }
}

impl Sink for RecordingSink {
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run {
        match &self.hub {
            Some(hub) => hub.fits(frames, run, surplus),
            None => self.ring.fits(frames, run, surplus),
        }
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
        match &mut self.hub {
            Some(hub) => {
                let mut copy = BytesMut::from(&input[..run.bytes]);
                hub.notifications(input, run, info, surplus);
                self.ring.notifications(&mut copy, run, info, surplus);
            }
            None => self.ring.notifications(input, run, info, surplus),
        }
    }

    fn publish(&mut self) {
        if !self.is_held {
            self.shown = (self.taken.len(), self.gaps.len());
        }
        if let Some(hub) = &mut self.hub {
            hub.publish();
        }
        self.ring.publish();
    }

    fn hold(&mut self, scope: &Scope) -> StreamPosition {
        // The real queue must publish everything before this.
        if !self.is_held {
            self.shown = (self.taken.len(), self.gaps.len());
        }
        self.is_held = true;
        self.holds += 1;
        let now = self.taken.len();
        match scope {
            Scope::All => drop(self.held_at.get_or_insert(now)),
            Scope::Channels(channels) => {
                for channel in channels {
                    self.held_channels.entry(channel.clone()).or_insert(now);
                }
            }
        }
        let position = self.ring.hold(scope);
        assert_eq!(position.0, self.taken.len() as u64, "the position is another");
        if let Some(hub) = &mut self.hub {
            assert_eq!(hub.hold(scope), position, "the position of the hub is another");
        }
        position
    }

    fn release(&mut self, gaps: Vec<PlacedGap>) {
        for PlacedGap { position, scope, gap } in &gaps {
            let (position, connection) = (position.0, self.connection);
            let (state, counted) = (self.shared.state(), self.shared.stats().gaps);
            let (scope, gap) = (scope.clone(), gap.clone());
            self.gaps.push(RecordedGap { position, scope, gap, connection, state, counted });
        }
        self.is_held = false;
        self.held_at = None;
        self.held_channels.clear();
        self.shown = (self.taken.len(), self.gaps.len());
        if let Some(hub) = &mut self.hub {
            hub.release(gaps.clone());
        }
        self.ring.release(gaps);
    }

    fn is_empty(&self) -> bool {
        if let Some(hub) = &self.hub {
            return hub.is_empty();
        }
        let is_empty = self.ring.is_empty();
        if is_empty {
            self.stalled.set(Duration::ZERO);
        }
        is_empty
    }
}

/// The sink as the supervisor owns it. The simulation looks at it too.
#[derive(Clone)]
pub(super) struct SharedSink(Rc<RefCell<RecordingSink>>);

impl SharedSink {
    pub(super) fn new(sink: RecordingSink) -> Self {
        Self(Rc::new(RefCell::new(sink)))
    }

    pub(super) fn get(&self) -> Ref<'_, RecordingSink> {
        self.0.borrow()
    }

    pub(super) fn get_mut(&self) -> RefMut<'_, RecordingSink> {
        self.0.borrow_mut()
    }
}

impl Sink for SharedSink {
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run {
        self.get().fits(frames, run, surplus)
    }

    fn notifications(&mut self, input: &mut BytesMut, run: Run, info: ReceiveInfo, surplus: bool) {
        self.get_mut().notifications(input, run, info, surplus);
    }

    fn publish(&mut self) {
        self.get_mut().publish();
    }

    fn hold(&mut self, scope: &Scope) -> StreamPosition {
        self.get_mut().hold(scope)
    }

    fn release(&mut self, gaps: Vec<PlacedGap>) {
        self.get_mut().release(gaps);
    }

    fn is_empty(&self) -> bool {
        self.get().is_empty()
    }
}

impl RecordingSink {
    /// Returns the receive buffers that are in use.
    fn buffers(&mut self) -> &mut dyn ReceiveBuffers {
        match &mut self.hub {
            Some(hub) => &mut **hub,
            None => &mut self.ring,
        }
    }
}

impl ReceiveBuffers for SharedSink {
    fn first_buffer(&mut self) -> BytesMut {
        self.get_mut().buffers().first_buffer()
    }

    fn prepare(&mut self, input: &mut BytesMut) {
        self.get_mut().buffers().prepare(input);
    }

    fn handle_read(&mut self, bytes: usize) {
        self.get_mut().buffers().handle_read(bytes);
    }

    fn make_room(&mut self, input: &mut BytesMut, bytes: usize) {
        self.get_mut().buffers().make_room(input, bytes);
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, input: &mut BytesMut) -> Poll<()> {
        self.get_mut().buffers().poll_room(cx, input)
    }
}

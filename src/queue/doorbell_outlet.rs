//! [`DoorbellOutlet`]: counts notifications and wakes. It keeps no frames, and never lacks room.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::chunk::Chunk;
use super::counters::{self, QueueCounters};
use super::outlet::{Outlet, count_gap, merge_gaps};
use crate::notification::Gap;
use crate::proto::ring::doorbell::Ringer;
use crate::proto::supervisor::{PlacedGap, Scope, StreamPosition};
use crate::proto::wire::Run;

/// The producing end of a doorbell.
#[derive(Debug)]
pub(crate) struct DoorbellOutlet {
    ringer: Ringer<Gap>,
    counters: Arc<QueueCounters>,
}

impl DoorbellOutlet {
    pub(crate) fn new(ringer: Ringer<Gap>, counters: Arc<QueueCounters>) -> Self {
        Self { ringer, counters }
    }
}

impl Outlet for DoorbellOutlet {
    fn fits(&self, _frames: &[u8], run: Run, _surplus: bool) -> Run {
        run
    }

    fn put(&mut self, run: Run, _cut: impl FnOnce() -> Chunk) {
        self.ringer.count(run.count as u64);
    }

    fn skip(&mut self, count: u64) {
        self.ringer.count(count);
    }

    fn trim(&mut self) {}

    fn make_buffer_free(&mut self) -> bool {
        false
    }

    fn is_abandoned(&self) -> bool {
        self.ringer.is_abandoned()
    }

    /// Nothing waits in it.
    fn is_empty(&self) -> bool {
        true
    }

    fn publish(&mut self) {
        counters::set(&self.counters.received, self.ringer.position());
        self.ringer.publish();
    }

    /// A doorbell has one consumer, which is woken for every channel.
    fn hold(&mut self, _scope: &Scope) -> StreamPosition {
        self.publish();
        self.ringer.hold();
        StreamPosition(self.ringer.position())
    }

    fn release(&mut self, gaps: Vec<PlacedGap>) {
        for PlacedGap { position: StreamPosition(position), gap, .. } in gaps {
            count_gap(&self.counters, &gap);
            self.ringer.mark_at(position, gap, merge_gaps);
        }
        self.ringer.release();
    }

    fn poll_room(&mut self, _cx: &mut Context<'_>, _first: Run, _is_starved: bool) -> Poll<()> {
        Poll::Ready(())
    }
}

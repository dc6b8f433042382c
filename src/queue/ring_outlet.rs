//! [`RingOutlet`]: puts runs of notifications into the ring. Those without room are dropped and counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::chunk::Chunk;
use super::counters::{self, QueueCounters};
use super::outlet::{Outlet, count_gap, merge_gaps};
use crate::notification::Gap;
use crate::proto::ring::Producer;
use crate::proto::supervisor::{Overflow, PlacedGap, Scope, StreamPosition};
use crate::proto::wire::Run;

/// The producing end of a listener's queue.
#[derive(Debug)]
pub(crate) struct RingOutlet {
    pub(crate) producer: Producer<Chunk, Gap>,
    /// The highest number of notifications in the queue.
    capacity: u64,
    /// The highest number of bytes of notifications in the queue.
    bytes: u64,
    drop_oldest: bool,
    counters: Arc<QueueCounters>,
}

impl RingOutlet {
    pub(super) fn new(
        producer: Producer<Chunk, Gap>,
        capacity: u64,
        bytes: u64,
        overflow: Overflow,
        counters: Arc<QueueCounters>,
    ) -> Self {
        let drop_oldest = overflow == Overflow::DropOldest;
        Self { producer, capacity, bytes, drop_oldest, counters }
    }
}

impl Outlet for RingOutlet {
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run {
        if self.producer.is_abandoned() {
            return Run::default();
        }
        if self.drop_oldest {
            return run;
        }
        if !self.producer.has_slot() {
            return Run::default();
        }
        let room = |limit: u64, used: u64| {
            usize::try_from(limit.saturating_sub(used)).unwrap_or(usize::MAX)
        };
        let count = if surplus { usize::MAX } else { room(self.capacity, self.producer.unread()) };
        let bytes = room(self.bytes, self.producer.unread_bytes());
        if run.count <= count && run.bytes <= bytes {
            return run;
        }
        let run = if run.count > count { Run::first(count, frames) } else { run };
        if run.bytes > bytes { Run::within(bytes, frames) } else { run }
    }

    fn put(&mut self, run: Run, cut: impl FnOnce() -> Chunk) {
        self.producer.push(cut(), run.count as u64, run.bytes as u64);
    }

    fn skip(&mut self, count: u64) {
        self.producer.skip(count);
    }

    fn trim(&mut self) {
        if self.drop_oldest {
            self.producer.keep_newest(self.capacity);
            while self.producer.unread_bytes() > self.bytes && self.producer.evict() {}
        }
    }

    fn make_buffer_free(&mut self) -> bool {
        // An evicted item frees its buffer, unless the consumer pins it.
        self.drop_oldest && self.producer.evict()
    }

    fn is_abandoned(&self) -> bool {
        self.producer.is_abandoned()
    }

    fn is_empty(&self) -> bool {
        self.producer.unread() == 0
    }

    fn publish(&mut self) {
        // The counters are set before the consumer can take the notifications, so that its counters never exceed these. The
        // number of queued notifications is `kept` minus `taken`, and each side counts one of them.
        counters::set(&self.counters.kept, self.producer.kept());
        counters::set(&self.counters.kept_bytes, self.producer.kept_bytes());
        // Release: a reader that loads this number also finds how many of them were kept. The rest was dropped.
        self.counters.received.store(self.producer.sequence(), Ordering::Release);
        self.producer.publish();
    }

    /// A listener has one consumer, which receives every channel.
    fn hold(&mut self, _scope: &Scope) -> StreamPosition {
        // Notifications received before this are published and counted.
        self.publish();
        self.producer.hold();
        StreamPosition(self.producer.sequence())
    }

    fn release(&mut self, gaps: Vec<PlacedGap>) {
        for PlacedGap { position: StreamPosition(position), gap, .. } in gaps {
            count_gap(&self.counters, &gap);
            self.producer.mark_at(position, gap, merge_gaps);
        }
        self.producer.release();
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, first: Run, is_starved: bool) -> Poll<()> {
        let (capacity, bytes) = (self.capacity, self.bytes);
        self.producer.poll_room(cx, |producer| {
            let used = producer.unread_bytes().saturating_add(first.bytes as u64);
            !is_starved && producer.has_slot() && producer.unread() < capacity && used <= bytes
        })
    }
}

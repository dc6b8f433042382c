//! From runs of frames to the ring: what has room goes in, what has not is dropped and accounted for.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};

use super::shared::{Counters, Shared};
use crate::notification::{Gap, Stamp};
use crate::ring::{Buffers, Producer};
use crate::supervisor::{Overflow, Sink};
use crate::wire::Run;

/// Size of a receive buffer, in bytes.
pub(super) const BUFFER_BYTES: usize = 256 * 1024;

/// Least spare capacity to read into, in bytes: a buffer with less is put aside. Two of the server's
/// own writes.
const READ_BYTES_MIN: usize = 16 * 1024;

/// Longest notification that PostgreSQL sends, in bytes, rounded up: so much at the end of a buffer may belong
/// to one that is not whole, and moves to the next.
const FRAME_BYTES: usize = 8 * 1024;

/// An unbroken run of NotificationResponse frames, as they were read.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) frames: Bytes,
    pub(super) count: usize,
    pub(super) stamp: Stamp,
    /// Number of the buffer in which the frames lie. `None`: they were copied.
    pub(super) buffer: Option<NonZeroU64>,
}

/// The producing end of a listener's queue.
#[derive(Debug)]
pub(super) struct RingSink {
    pub(super) producer: Producer<Chunk, Gap>,
    buffers: Buffers,
    /// Most notifications in the queue.
    capacity: u64,
    /// Most bytes of notifications in the queue.
    bytes: u64,
    drop_oldest: bool,
    /// Every buffer is looked into and no more may be had: nothing can be taken.
    starved: bool,
    shared: Arc<Shared>,
}

impl RingSink {
    pub(super) fn new(
        producer: Producer<Chunk, Gap>,
        capacity: u64,
        bytes: usize,
        overflow: Overflow,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            producer,
            buffers: Buffers::new(BUFFER_BYTES, buffers_max(bytes, shared.pins.limit())),
            shared,
            capacity,
            bytes: bytes as u64,
            drop_oldest: overflow == Overflow::DropOldest,
            starved: false,
        }
    }

    /// The first receive buffer.
    pub(super) fn first_buffer(&mut self) -> BytesMut {
        self.buffers.first()
    }

    /// How many receive buffers are alive.
    #[cfg(test)]
    pub(super) fn buffers_alive(&self) -> usize {
        self.buffers.alive()
    }

    /// Makes room in `input` for the next read.
    pub(super) fn prepare(&mut self, input: &mut BytesMut) {
        self.exchange(input, READ_BYTES_MIN);
    }

    /// Makes room in `input` for `bytes` more, which do not come from a socket.
    pub(super) fn make_room(&mut self, input: &mut BytesMut, bytes: usize) {
        self.exchange(input, bytes);
    }

    /// With no `need`, nothing is moved: it is only seen whether a buffer became free.
    fn exchange(&mut self, input: &mut BytesMut, need: usize) {
        loop {
            self.starved = !self.buffers.exchange(input, need);
            // What is evicted gives its buffer free, unless the consumer holds it.
            if !(self.starved && self.drop_oldest && self.producer.evict()) {
                return;
            }
        }
    }

    /// Takes a run off the front. Behind a long message it is copied, or it would hold all of that.
    fn cut(&self, input: &mut BytesMut, bytes: usize) -> Bytes {
        if !self.buffers.is_long() {
            return input.split_to(bytes).freeze();
        }
        let copy = Bytes::copy_from_slice(input.get(..bytes).unwrap_or_default());
        input.advance(copy.len());
        copy
    }

    /// Waits until something can be taken without dropping, or nobody will ever read.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, input: &mut BytesMut) -> Poll<()> {
        let first = Run::first(1, input);
        let starved = self.starved;
        let (capacity, bytes) = (self.capacity, self.bytes);
        let poll = self.producer.poll_room(cx, |producer| {
            let used = producer.unread_bytes().saturating_add(first.bytes as u64);
            !starved && producer.has_slot() && producer.unread() < capacity && used <= bytes
        });
        if starved {
            // Every buffer was looked into: perhaps one of them is free by now. The consumer's next take says
            // that it let go of one, and so does the end of a pin.
            self.shared.pins.wake_on_release(cx);
            self.exchange(input, 0);
            if !self.starved {
                return Poll::Ready(());
            }
        }
        poll
    }
}

impl Sink for RingSink {
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run {
        if self.producer.is_abandoned() {
            // Nobody will ever make room: to wait for it would be to spin.
            return run;
        }
        if self.starved {
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

    fn notifications(&mut self, input: &mut BytesMut, run: Run, stamp: Stamp, surplus: bool) {
        if self.starved {
            // Before anything is dropped for it: perhaps a buffer became free since.
            self.exchange(input, 0);
        }
        let fits = if self.producer.is_abandoned() {
            Run::default()
        } else {
            self.fits(input, run, surplus)
        };
        if fits.count > 0 {
            let frames = self.cut(input, fits.bytes);
            let buffer = self.buffers.number();
            let chunk = Chunk { frames, count: fits.count, stamp, buffer };
            self.producer.push(chunk, fits.count as u64, fits.bytes as u64);
        }
        if fits.count < run.count {
            self.producer.skip((run.count - fits.count) as u64);
            discard(input, run.bytes - fits.bytes);
        }
        if self.drop_oldest {
            self.producer.keep_newest(self.capacity);
            while self.producer.unread_bytes() > self.bytes && self.producer.evict() {}
        }
    }

    fn publish(&mut self) {
        // Before the consumer sees it: what it counts never exceeds what was received and kept. What is
        // queued is what was kept and not taken; each side counts its own part.
        let counters = &self.shared.counters;
        Counters::set(&counters.received, self.producer.sequence());
        Counters::set(&counters.kept, self.producer.kept());
        Counters::set(&counters.kept_bytes, self.producer.kept_bytes());
        self.producer.publish();
    }

    fn is_empty(&self) -> bool {
        self.producer.unread() == 0
    }

    fn position(&self) -> u64 {
        self.producer.sequence()
    }

    fn hold(&mut self) {
        // What came before it is shown, and counted first.
        self.publish();
        self.producer.hold();
    }

    fn release(&mut self, gaps: Vec<(u64, Gap)>) {
        for (position, gap) in gaps {
            if gap.sessions() == 0 {
                Counters::add(&self.shared.counters.dropped_by_server, 1);
            }
            self.producer.mark_at(position, gap, |last, gap, is_adjacent| match is_adjacent {
                true => last.merge(gap),
                false => last.absorb(gap),
            });
        }
        self.producer.release();
    }
}

/// How many buffers a queue of so many bytes may have: enough for all of them, if 24 KiB at the end of each
/// stay unused, one in the reader's hand and one in the consumer's; and as many more as may be pinned, so
/// that a pin never takes one from the queue.
pub(super) fn buffers_max(queue_bytes: usize, pin_limit: u64) -> usize {
    let pinned = usize::try_from(pin_limit / BUFFER_BYTES as u64).unwrap_or(usize::MAX);
    let queued = queue_bytes.div_ceil(BUFFER_BYTES - READ_BYTES_MIN - FRAME_BYTES);
    queued.saturating_add(2).saturating_add(pinned)
}

/// Removes `bytes` bytes from the front. What follows moves up when it is no longer than what goes, so
/// that dropped notifications use up no buffer; else many short runs would each move all the rest.
fn discard(input: &mut BytesMut, bytes: usize) {
    let left = input.len().saturating_sub(bytes);
    if left > bytes {
        return input.advance(bytes);
    }
    input.copy_within(bytes.., 0);
    input.truncate(left);
}

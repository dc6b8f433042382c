//! [`RingSink`]: puts runs of notifications into the queue. Those without room are dropped and counted.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};

use super::copied_part::CopiedPart;
use super::shared::ListenerShared;
use super::stats::Counters;
use crate::notification::{Gap, ReceiveInfo};
use crate::proto::ring::{Buffers, Producer};
use crate::proto::supervisor::{Overflow, PlacedGap, Scope, Sink, StreamPosition};
use crate::proto::wire::Run;

/// The size of a receive buffer, in bytes. It is smaller while the flow is sparse.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// The size of the first receive buffer, and of the only one if the flow is sparse and the consumer keeps up, in bytes.
pub(super) const FIRST_BUFFER_BYTES: usize = 16 * 1024;

/// The least spare capacity for a read, in bytes. A buffer with less is replaced. It is the size of two writes of a
/// server.
const READ_BYTES_MIN: usize = 16 * 1024;

/// The longest notification that PostgreSQL sends, in bytes, rounded up. At most this much at the end of a buffer belongs to
/// an incomplete notification, and moves to the next buffer.
const FRAME_BYTES: usize = 8 * 1024;

/// The value of an item: a run of NotificationResponse messages, as they were read.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(super) frames: Bytes,
    pub(super) count: usize,
    pub(super) info: ReceiveInfo,
    /// The number of the buffer that contains the frames. `None` if they were copied.
    pub(super) buffer: Option<NonZeroU64>,
}

/// The producing end of a listener's queue.
#[derive(Debug)]
pub(crate) struct RingSink {
    pub(crate) producer: Producer<Chunk, Gap>,
    buffers: Buffers,
    copied: CopiedPart,
    /// The highest number of notifications in the queue.
    capacity: u64,
    /// The highest number of bytes of notifications in the queue.
    bytes: u64,
    drop_oldest: bool,
    /// Every buffer has views, and there may be no more buffers: nothing can be put into the queue.
    starved: bool,
    shared: Arc<ListenerShared>,
}

impl RingSink {
    pub(crate) fn new(
        producer: Producer<Chunk, Gap>,
        capacity: u64,
        bytes: usize,
        overflow: Overflow,
        shared: Arc<ListenerShared>,
    ) -> Self {
        Self {
            producer,
            buffers: Buffers::new(BUFFER_BYTES, buffers_max(bytes, shared.pins.limit()))
                .starting_at(FIRST_BUFFER_BYTES),
            copied: CopiedPart::default(),
            shared,
            capacity,
            bytes: bytes as u64,
            drop_oldest: overflow == Overflow::DropOldest,
            starved: false,
        }
    }

    /// Returns the first receive buffer.
    pub(super) fn first_buffer(&mut self) -> BytesMut {
        self.buffers.first()
    }

    /// Returns the bytes of the receive buffers.
    #[cfg(test)]
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffers.bytes()
    }

    /// Makes room in `input` for the next read.
    pub(super) fn prepare(&mut self, input: &mut BytesMut) {
        self.starved = !self.buffers.prepare(input, READ_BYTES_MIN);
        if self.starved {
            self.exchange(input, READ_BYTES_MIN);
        }
    }

    /// Makes room in `input` for `bytes` more bytes that were read before.
    pub(super) fn make_room(&mut self, input: &mut BytesMut, bytes: usize) {
        self.exchange(input, bytes);
    }

    /// If `need` is zero, nothing is moved: this only checks whether a buffer became free.
    fn exchange(&mut self, input: &mut BytesMut, need: usize) {
        loop {
            self.starved = !self.buffers.exchange(input, need);
            // An evicted item frees its buffer, unless the consumer pins it.
            if !(self.starved && self.drop_oldest && self.producer.evict()) {
                return;
            }
        }
    }

    /// Takes a run from the front: a view, and the number of its buffer, or a copy. In the buffer of a long message it
    /// is copied, or its view would keep that whole buffer.
    fn split_run(&mut self, input: &mut BytesMut, bytes: usize) -> (Bytes, Option<NonZeroU64>) {
        let pinned = usize::try_from(self.shared.pins.bytes()).unwrap_or(0) / BUFFER_BYTES;
        let is_copied = self.copied.includes(&self.buffers, pinned, bytes);
        if !is_copied && !self.buffers.is_long() {
            return (input.split_to(bytes).freeze(), self.buffers.number());
        }
        let copy = Bytes::copy_from_slice(input.get(..bytes).unwrap_or_default());
        input.advance(copy.len());
        (copy, None)
    }

    /// Waits until a notification has room, or the consumer is dropped.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, input: &mut BytesMut) -> Poll<()> {
        let first = Run::first(1, input);
        let starved = self.starved;
        let (capacity, bytes) = (self.capacity, self.bytes);
        let poll = self.producer.poll_room(cx, |producer| {
            let used = producer.unread_bytes().saturating_add(first.bytes as u64);
            !starved && producer.has_slot() && producer.unread() < capacity && used <= bytes
        });
        if starved {
            // Every buffer had views: one of them may be free by now. The consumer frees one at its next take, and the drop
            // of a pin does too. Both wake this task.
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
            // There will be no room, and to wait for it would be a busy loop.
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

    fn notifications(&mut self, input: &mut BytesMut, run: Run, info: ReceiveInfo, surplus: bool) {
        if self.starved {
            // A buffer may have become free since, so that nothing must be dropped.
            self.exchange(input, 0);
        }
        let fits = if self.producer.is_abandoned() {
            Run::default()
        } else {
            self.fits(input, run, surplus)
        };
        if fits.count > 0 {
            let (frames, buffer) = self.split_run(input, fits.bytes);
            let chunk = Chunk { frames, count: fits.count, info, buffer };
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
        // The counters are set before the consumer can take the notifications, so that its counters never exceed these. The
        // number of queued notifications is `kept` minus `taken`, and each side counts one of them.
        let counters = &self.shared.counters;
        Counters::set(&counters.received, self.producer.sequence());
        Counters::set(&counters.kept, self.producer.kept());
        Counters::set(&counters.kept_bytes, self.producer.kept_bytes());
        self.producer.publish();
    }

    fn is_empty(&self) -> bool {
        self.producer.unread() == 0
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

/// Returns the highest number of buffers for a queue of `queue_bytes` bytes: enough for these bytes if the last 24 KiB of each
/// buffer stay unused, one that is read into, one that the consumer receives from, one for those below the full size, and as many as can be pinned, so that pins do
/// not reduce the queue.
pub(crate) fn buffers_max(queue_bytes: usize, pin_limit: u64) -> usize {
    let pinned = usize::try_from(pin_limit / BUFFER_BYTES as u64).unwrap_or(usize::MAX);
    let queued = queue_bytes.div_ceil(BUFFER_BYTES - READ_BYTES_MIN - FRAME_BYTES);
    queued.saturating_add(3).saturating_add(pinned)
}

/// Removes `bytes` bytes from the front. The rest moves to the front if it is not longer than `bytes`, so that dropped
/// notifications do not fill the buffer. A longer rest is not moved, because many short runs would each move it.
fn discard(input: &mut BytesMut, bytes: usize) {
    let left = input.len().saturating_sub(bytes);
    if left > bytes {
        return input.advance(bytes);
    }
    input.copy_within(bytes.., 0);
    input.truncate(left);
}

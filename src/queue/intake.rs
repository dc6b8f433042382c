//! [`Intake`]: the receive buffers of a listener. It cuts runs off the front of the current one.

use std::num::NonZeroU64;
use std::task::Context;

use bytes::{Buf, Bytes, BytesMut};

use super::chunk::Chunk;
use super::copied_part::CopiedPart;
use crate::notification::ReceiveInfo;
use crate::proto::ring::{Buffers, Pins};
use crate::proto::wire::Run;

/// The size of a receive buffer, in bytes. It is smaller while the flow is sparse.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// The size of the first receive buffer, and of the only one if the flow is sparse and the consumer keeps up, in bytes.
pub(super) const FIRST_BUFFER_BYTES: usize = 16 * 1024;

/// The least spare capacity for a read, in bytes. A buffer with less is replaced. It is the size of two writes of a
/// server.
pub(super) const READ_BYTES_MIN: usize = 16 * 1024;

/// The longest notification that PostgreSQL sends, in bytes, rounded up. At most this much at the end of a buffer belongs to
/// an incomplete notification, and moves to the next buffer.
const FRAME_BYTES: usize = 8 * 1024;

/// The receive buffers, and whether there are enough of them.
#[derive(Debug)]
pub(super) struct Intake {
    buffers: Buffers,
    copied: CopiedPart,
    pins: Pins,
    /// Every buffer has views, and there may be no more buffers: nothing can be cut off the current one.
    starved: bool,
}

impl Intake {
    /// Creates the buffers for a queue of at most `queue_bytes` bytes.
    pub(super) fn new(queue_bytes: usize, pins: Pins) -> Self {
        let buffers = Buffers::new(BUFFER_BYTES, buffers_max(queue_bytes, pins.limit()));
        Self {
            buffers: buffers.starting_at(FIRST_BUFFER_BYTES),
            copied: CopiedPart::default(),
            pins,
            starved: false,
        }
    }

    /// Returns the first receive buffer.
    pub(super) fn first_buffer(&mut self) -> BytesMut {
        self.buffers.first()
    }

    /// Returns the bytes of the receive buffers.
    #[cfg(test)]
    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffers.bytes()
    }

    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Makes room in `input` for the next read. If there is no buffer, `make_free` is called until it returns false: each call
    /// drops unread notifications, which may be the last views of a buffer.
    pub(super) fn prepare(&mut self, input: &mut BytesMut, make_free: impl FnMut() -> bool) {
        self.starved = !self.buffers.prepare(input, READ_BYTES_MIN);
        if self.starved {
            self.exchange(input, READ_BYTES_MIN, make_free);
        }
    }

    /// Handles a read of this many bytes: the size of the buffers follows the reads.
    pub(super) fn handle_read(&mut self, bytes: usize) {
        self.buffers.handle_read(bytes);
    }

    /// Makes room for `need` bytes that were read before, as [`prepare`](Self::prepare). If `need` is zero, nothing is moved: this only checks whether a buffer became
    /// free.
    pub(super) fn exchange(
        &mut self,
        input: &mut BytesMut,
        need: usize,
        mut make_free: impl FnMut() -> bool,
    ) {
        loop {
            self.starved = !self.buffers.exchange(input, need);
            if !(self.starved && make_free()) {
                return;
            }
        }
    }

    /// Stores the waker of `cx`, which is woken when the application drops the last pin of a buffer.
    pub(super) fn wake_on_release(&self, cx: &Context<'_>) {
        self.pins.wake_on_release(cx);
    }

    /// Takes a run from the front.
    pub(super) fn cut(&mut self, input: &mut BytesMut, run: Run, info: ReceiveInfo) -> Chunk {
        let (frames, buffer) = self.split_run(input, run.bytes);
        Chunk { frames, count: run.count, info, buffer }
    }

    /// Takes a run from the front: a view, and the number of its buffer, or a copy. In the buffer of a long message it
    /// is copied, because otherwise its view would keep that whole buffer.
    fn split_run(&mut self, input: &mut BytesMut, bytes: usize) -> (Bytes, Option<NonZeroU64>) {
        let pinned = usize::try_from(self.pins.bytes()).unwrap_or(0) / BUFFER_BYTES;
        let is_copied = self.copied.includes(&self.buffers, pinned, bytes);
        if !is_copied && !self.buffers.is_long() {
            return (input.split_to(bytes).freeze(), self.buffers.number());
        }
        let copy = Bytes::copy_from_slice(input.get(..bytes).unwrap_or_default());
        input.advance(copy.len());
        (copy, None)
    }
}

/// Returns the highest number of buffers for a queue of `queue_bytes` bytes: enough for these bytes if the last 24 KiB of each
/// buffer stay unused, one that is read into, one that the consumer receives from, one for those below the full size
/// together, and as many as can be pinned, so that pins do not reduce the queue.
pub(crate) fn buffers_max(queue_bytes: usize, pin_limit: u64) -> usize {
    let pinned = usize::try_from(pin_limit / BUFFER_BYTES as u64).unwrap_or(usize::MAX);
    let queued = queue_bytes.div_ceil(BUFFER_BYTES - READ_BYTES_MIN - FRAME_BYTES);
    queued.saturating_add(3).saturating_add(pinned)
}

/// Removes `bytes` bytes from the front. The rest moves to the front if it is not longer than `bytes`, so that dropped
/// notifications do not fill the buffer. A longer rest is not moved, because many short runs would each move it.
pub(super) fn discard(input: &mut BytesMut, bytes: usize) {
    let left = input.len().saturating_sub(bytes);
    if left > bytes {
        return input.advance(bytes);
    }
    input.copy_within(bytes.., 0);
    input.truncate(left);
}

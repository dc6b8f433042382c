//! [`CopiedPart`]: which runs are copied, so that a consumer that sleeps does not keep whole receive buffers for a few bytes.

use crate::proto::ring::Buffers;

/// The eighth part of a buffer is copied before its runs are views, if the consumer is behind.
const PART: usize = 8;

/// A consumer that keeps up has views of the current buffer and of the one before, and it may be in an earlier one.
const BUFFERS_BEHIND: usize = 2;

/// Counts the bytes of the current buffer that went into one queue. A queue that gets a small part of each buffer gets copies.
///
/// ```text
/// buffers, oldest first    [ view ][ view ][ copy, copy, copy: 1/8 ▏ view, view, … ]
///                            the consumer is two buffers behind
/// ```
/// If a queue with `u` unread bytes keeps `n` buffers of one size, the consumer was behind when the third and each later one
/// became the current one. Each of them has an eighth or more of its bytes in this queue, so
/// `(n - 2) × size ≤ 8 × u`.
#[derive(Debug, Default)]
pub(super) struct CopiedPart {
    /// The number of buffers up to the current one.
    buffer: u64,
    /// The bytes of the current buffer that were put into the queue.
    queued_bytes: usize,
}

impl CopiedPart {
    /// Adds a run of `bytes` bytes. Returns whether it is copied. `pinned` buffers are kept by the application, and do not
    /// show that the consumer is behind.
    pub(super) fn includes(&mut self, buffers: &Buffers, pinned: usize, bytes: usize) -> bool {
        if self.buffer != buffers.count() {
            (self.buffer, self.queued_bytes) = (buffers.count(), 0);
        }
        self.queued_bytes = self.queued_bytes.saturating_add(bytes);
        buffers.behind() >= BUFFERS_BEHIND.saturating_add(pinned)
            && self.queued_bytes < buffers.current_size() / PART
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;

    #[test]
    fn pinned_buffers_do_not_make_a_consumer_that_keeps_up_look_late() {
        const SIZE: usize = 8 * 1024;
        let mut buffers = Buffers::new(SIZE, 8);
        let mut current: BytesMut = buffers.first();
        let mut views: Vec<Bytes> = Vec::new();
        while buffers.behind() < 4 {
            current.resize(current.capacity(), 0);
            views.push(current.split().freeze());
            assert!(buffers.exchange(&mut current, SIZE));
        }
        for (pinned, is_copied) in [(0, true), (2, true), (3, false), (4, false)] {
            let copied = CopiedPart::default().includes(&buffers, pinned, 100);
            assert_eq!(copied, is_copied, "{pinned} pinned");
        }
        // Only the first eighth of a buffer.
        let mut part = CopiedPart::default();
        assert!(part.includes(&buffers, 0, SIZE / PART - 1) && !part.includes(&buffers, 0, 1));
    }
}

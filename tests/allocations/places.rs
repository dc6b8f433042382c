//! Where payloads lie.

use crate::replay::FRAME_BYTES;

/// Size of a receive buffer, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// Spare capacity below which the next buffer is taken, in bytes.
const READ_BYTES_MIN: usize = 16 * 1024;

/// The addresses of all payloads, as stretches in which each lies one frame behind the one before: so
/// they stand as on the wire, headers in between, and nobody has copied them one by one.
pub(crate) struct Places {
    /// Of the first and the last payload. Allocated beforehand.
    stretches: Vec<(usize, usize)>,
    /// Whether the next payload is the first of its batch.
    fresh: bool,
    payloads: usize,
}

impl Places {
    pub(crate) fn new(payloads: u64) -> Self {
        let bytes = usize::try_from(payloads).unwrap() * FRAME_BYTES;
        let stretches = Vec::with_capacity(Self::most(bytes) + 1_024);
        Self { stretches, fresh: true, payloads: 0 }
    }

    /// Most stretches that so many bytes may come in.
    fn most(bytes: usize) -> usize {
        bytes / (BUFFER_BYTES - READ_BYTES_MIN - FRAME_BYTES) + 2
    }

    pub(crate) fn add(&mut self, payload: &[u8]) {
        let at = payload.as_ptr().addr();
        self.payloads += 1;
        match self.stretches.last_mut() {
            Some((_, last)) if *last + FRAME_BYTES == at => *last = at,
            _ => {
                assert!(self.fresh, "a batch is one piece");
                assert!(self.stretches.len() < self.stretches.capacity(), "too many pieces");
                self.stretches.push((at, at));
            }
        }
        self.fresh = false;
    }

    pub(crate) fn end_batch(&mut self) {
        self.fresh = true;
    }

    /// Also from one read to the next there is nothing between two frames, until a buffer is full; and
    /// there are at most so many buffers.
    pub(crate) fn check(mut self, buffers: usize) {
        let most = Self::most(self.payloads * FRAME_BYTES);
        assert!(self.stretches.len() <= most, "{} for {}", self.stretches.len(), self.payloads);
        self.stretches.sort_unstable();
        let mut found = 0;
        let mut until = 0;
        for (first, last) in self.stretches {
            assert!(last - first < BUFFER_BYTES);
            if last >= until {
                found += 1;
                until = first + BUFFER_BYTES;
            }
        }
        assert!(found <= buffers, "{found} buffers instead of {buffers}");
    }
}

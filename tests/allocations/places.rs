//! The positions of payloads in memory.

use crate::replay::FRAME_BYTES;

/// Size of a receive buffer, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// The addresses of all payloads, as ranges in which each payload is one frame behind the one before. So they are in memory as
/// on the wire, with their headers, and were not copied one by one.
pub(crate) struct PayloadAddresses {
    /// The addresses of the first and the last payload of each range. Allocated beforehand.
    ranges: Vec<(usize, usize)>,
    /// True if the next payload is the first of its batch.
    fresh: bool,
}

impl PayloadAddresses {
    pub(crate) fn new(payloads: u64) -> Self {
        let most = usize::try_from(payloads).unwrap();
        Self { ranges: Vec::with_capacity(most), fresh: true }
    }

    pub(crate) fn add(&mut self, payload: &[u8]) {
        let at = payload.as_ptr().addr();
        match self.ranges.last_mut() {
            Some((_, last)) if *last + FRAME_BYTES == at => *last = at,
            _ => {
                assert!(self.fresh, "a batch is one piece");
                assert!(self.ranges.len() < self.ranges.capacity(), "too many pieces");
                self.ranges.push((at, at));
            }
        }
        self.fresh = false;
    }

    pub(crate) fn end_batch(&mut self) {
        self.fresh = true;
    }

    /// Fails if there are more than this many buffers.
    pub(crate) fn check(mut self, buffers: usize) {
        self.ranges.sort_unstable();
        let mut found = 0;
        let mut until = 0;
        for (first, last) in self.ranges {
            assert!(last - first < BUFFER_BYTES);
            if last >= until {
                found += 1;
                until = first + BUFFER_BYTES;
            }
        }
        assert!(found <= buffers, "{found} buffers instead of {buffers}");
    }
}

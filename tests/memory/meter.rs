//! Measures the allocated memory and its peak.

use crate::ALLOCATOR;

/// The bytes that were allocated since its start, and the peak.
pub(crate) struct Meter {
    base: usize,
    live: usize,
    allocated: usize,
    peak: usize,
}

impl Meter {
    pub(crate) fn start() -> Self {
        let stats = ALLOCATOR.stats();
        let live = stats.bytes_allocated - stats.bytes_deallocated;
        Self { base: live, live, allocated: stats.bytes_allocated, peak: 0 }
    }

    /// Measures. Since the last measurement, everything may have been allocated before anything was freed: the peak assumes
    /// this.
    pub(crate) fn look(&mut self) {
        let stats = ALLOCATOR.stats();
        let most = self.live + (stats.bytes_allocated - self.allocated);
        self.peak = self.peak.max(most.saturating_sub(self.base));
        self.live = stats.bytes_allocated - stats.bytes_deallocated;
        self.allocated = stats.bytes_allocated;
    }

    /// The peak in bytes. Never too low.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }

    /// The bytes that are allocated now.
    pub(crate) fn held(&mut self) -> usize {
        self.look();
        self.live.saturating_sub(self.base)
    }
}

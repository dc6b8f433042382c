//! What is allocated, and how much it was at most.

use crate::ALLOCATOR;

/// Bytes allocated since it was made.
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

    /// Since the last look everything may have been allocated before anything was freed: so much it was
    /// then, and no less is assumed.
    pub(crate) fn look(&mut self) {
        let stats = ALLOCATOR.stats();
        let most = self.live + (stats.bytes_allocated - self.allocated);
        self.peak = self.peak.max(most.saturating_sub(self.base));
        self.live = stats.bytes_allocated - stats.bytes_deallocated;
        self.allocated = stats.bytes_allocated;
    }

    /// Most bytes so far. Never too few.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }

    /// Bytes at the moment.
    pub(crate) fn held(&mut self) -> usize {
        self.look();
        self.live.saturating_sub(self.base)
    }
}

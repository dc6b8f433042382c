//! Where all that happens by chance comes from.

/// SplitMix64: one number of state, and a whole run follows from it.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Seeds that follow each other begin far apart.
        let mut random = Self(seed.wrapping_mul(0xd605_1b5c_9c6e_8b1d) ^ 0x5851_f42d_4c95_7f2d);
        random.number();
        random
    }

    /// Another one, which takes nothing away from this one.
    pub(super) fn apart(&self) -> Self {
        Self::new(self.0)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n - 1`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.number() % n.max(1)
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub(super) fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// From 1 to `max`, small numbers as often as large ones.
    pub(super) fn size(&mut self, max: u64) -> u64 {
        let top = self.range(1, max.max(1));
        let top = self.range(1, top);
        self.range(1, top)
    }

    /// True so many times out of a hundred.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }
}

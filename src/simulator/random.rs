//! [`SimulatorRandom`]: the random generator of a run.

/// SplitMix64. Its state is one number, so that a seed determines a run.
#[derive(Debug)]
pub(crate) struct SimulatorRandom(u64);

impl SimulatorRandom {
    pub(crate) fn new(seed: u64) -> Self {
        // Consecutive seeds begin with very different states.
        let mut random = Self(seed.wrapping_mul(0xd605_1b5c_9c6e_8b1d) ^ 0x5851_f42d_4c95_7f2d);
        random.number();
        random
    }

    /// Returns another generator, and does not change the state of this one.
    pub(crate) fn apart(&self) -> Self {
        Self::new(self.0)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to `n - 1`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.number() % n.max(1)
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub(crate) fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// Returns a number from 1 to `max`. Small numbers are more frequent.
    pub(crate) fn size(&mut self, max: u64) -> u64 {
        let top = self.range(1, max.max(1));
        let top = self.range(1, top);
        self.range(1, top)
    }

    /// Returns true with a probability of `percent` percent.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }
}

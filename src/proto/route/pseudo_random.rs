//! A pseudo-random generator.

/// A SplitMix64 generator, for the order of servers, delays and the like. It is not suitable for secrets.
#[derive(Debug, Clone)]
pub struct PseudoRandom(u64);

impl PseudoRandom {
    /// Returns a generator. The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// Puts `items` into random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = last as u64 + 1;
            let other = usize::try_from(self.number() % bound).unwrap_or(0);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_order_of_three_occurs() {
        let orders: BTreeSet<_> = (0..200)
            .map(|seed| {
                let mut items = [1, 2, 3];
                PseudoRandom::new(seed).shuffle(&mut items);
                items
            })
            .collect();
        assert_eq!(orders.len(), 6);
        let mut none: [u8; 0] = [];
        PseudoRandom::new(1).shuffle(&mut none);
    }
}

//! Random order from a seed.

/// A small generator of the SplitMix64 kind: for the order of servers and the like, not for secrets.
#[derive(Debug, Clone)]
pub struct Shuffle(u64);

impl Shuffle {
    /// The same seed gives the same order.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// Puts `items` into random order: Fisher and Yates.
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
    fn every_order_of_three_comes_up_and_nothing_is_lost() {
        let orders: BTreeSet<_> = (0..200)
            .map(|seed| {
                let mut items = [1, 2, 3];
                Shuffle::new(seed).shuffle(&mut items);
                items
            })
            .collect();
        assert_eq!(orders.len(), 6);
        let mut none: [u8; 0] = [];
        Shuffle::new(1).shuffle(&mut none);
    }
}

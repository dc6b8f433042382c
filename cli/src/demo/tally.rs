//! A count of the sequence numbers that arrived: each one must arrive once and in order.

/// The sequence numbers of `1..=count` that arrived, and the defects.
#[derive(Debug)]
pub(crate) struct Tally {
    /// By sequence number, from 1.
    seen: Vec<bool>,
    highest: u64,
    received: u64,
    duplicated: u64,
    out_of_order: u64,
    unexpected: u64,
}

impl Tally {
    pub(crate) fn new(count: u64) -> Self {
        Self {
            seen: vec![false; usize::try_from(count).unwrap_or(usize::MAX)],
            highest: 0,
            received: 0,
            duplicated: 0,
            out_of_order: 0,
            unexpected: 0,
        }
    }

    /// Counts a sequence number; `None` for a payload that has none.
    pub(crate) fn take(&mut self, sequence: Option<u64>) {
        self.received += 1;
        let index = sequence.and_then(|sequence| sequence.checked_sub(1));
        let index = index.and_then(|index| usize::try_from(index).ok());
        let Some((seen, sequence)) = index.and_then(|at| self.seen.get_mut(at)).zip(sequence)
        else {
            self.unexpected += 1;
            return;
        };
        if std::mem::replace(seen, true) {
            self.duplicated += 1;
        } else if sequence < self.highest {
            self.out_of_order += 1;
        }
        self.highest = self.highest.max(sequence);
    }

    /// Returns the number of all notifications that arrived, unexpected ones too.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn lost(&self) -> u64 {
        self.seen.iter().filter(|seen| !**seen).count() as u64
    }

    pub(crate) fn duplicated(&self) -> u64 {
        self.duplicated
    }

    pub(crate) fn out_of_order(&self) -> u64 {
        self.out_of_order
    }

    /// Returns the number of payloads that were never sent.
    pub(crate) fn unexpected(&self) -> u64 {
        self.unexpected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_defect_is_counted() {
        // Arrived, then: lost, duplicated, out of order, unexpected.
        for (arrived, expected) in [
            (&[Some(1), Some(2), Some(3)][..], [0, 0, 0, 0]),
            (&[], [3, 0, 0, 0]),
            (&[Some(1), Some(3)], [1, 0, 0, 0]),
            (&[Some(1), Some(3), Some(2)], [0, 0, 1, 0]),
            (&[Some(3), Some(2), Some(1)], [0, 0, 2, 0]),
            (&[Some(1), Some(1), Some(2), Some(3)], [0, 1, 0, 0]),
            (&[Some(1), Some(2), Some(3), Some(1)], [0, 1, 0, 0]),
            (&[Some(1), Some(2), Some(3), Some(4), Some(0), None], [0, 0, 0, 3]),
        ] {
            let mut tally = Tally::new(3);
            arrived.iter().for_each(|sequence| tally.take(*sequence));
            let found =
                [tally.lost(), tally.duplicated(), tally.out_of_order(), tally.unexpected()];
            assert_eq!(found, expected, "{arrived:?}");
            assert_eq!(tally.received(), arrived.len() as u64);
        }
    }
}

//! A consumer that reads every byte, in order.

use crate::rivals::path::Visitor;

/// Sums every byte of channels and payloads, one word at a time, so that the sum depends on their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    pub delivered: u64,
    pub lost: u64,
    sum: u64,
    /// Not zero if a sequence number was not the next one.
    disorder: u64,
}

impl Digest {
    /// The next sequence number: all below were delivered or reported as lost.
    pub fn next(&self) -> u64 {
        self.delivered + self.lost
    }

    /// Returns whether every sequence number arrived once and in order.
    pub fn is_unbroken(&self) -> bool {
        self.disorder == 0
    }
}

impl Visitor for Digest {
    #[inline]
    fn notification(&mut self, sequence: u64, channel: &[u8], payload: &[u8]) {
        self.disorder |= sequence ^ self.next();
        self.delivered += 1;
        let words = words(channel).wrapping_add(words(payload));
        self.sum = self.sum.wrapping_mul(31).wrapping_add(words);
    }

    fn lost(&mut self, first: u64, count: u64) {
        self.disorder |= first ^ self.next();
        self.lost += count;
    }
}

/// Returns the wrapping sum of the little-endian words; the last one overlaps if the length is not a multiple of 8.
#[inline]
fn words(bytes: &[u8]) -> u64 {
    let (whole, rest) = bytes.as_chunks::<8>();
    let sum = whole.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    if rest.is_empty() {
        return sum;
    }
    let tail = match bytes.last_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    sum.wrapping_add(tail)
}

//! Who looks at every byte, in order.

use crate::rivals::path::Visitor;

/// Sums every byte of channels and payloads, a word at a time, so that their order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    pub delivered: u64,
    pub lost: u64,
    sum: u64,
    /// Not zero when a sequence number was not the next.
    disorder: u64,
}

impl Digest {
    /// Sequence number of the next: all below were delivered or reported lost.
    pub fn next(&self) -> u64 {
        self.delivered + self.lost
    }

    /// Whether every sequence number came, once and in order.
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

/// Wrapping sum of the little-endian words; the last one overlaps when the length is no multiple of 8.
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

//! [`Beginning`]: bytes that many other bytes begin with.

/// Bytes with which others are compared, most of which begin with them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning<'a> {
    pub(super) bytes: &'a [u8],
    /// The first 16 of `bytes` as two little-endian words, filled up with zeros.
    pub(super) words: [u64; 2],
    /// The bits of `words` that contain bytes.
    pub(super) masks: [u64; 2],
}

impl<'a> Beginning<'a> {
    /// Nothing begins with it.
    pub(super) const NONE: Self = Self { bytes: &[], words: [0; 2], masks: [0; 2] };

    /// Returns that of `bytes`. If it is empty, nothing begins with it.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let mut padded = [0; 16];
        padded.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        let mask = |bytes: usize| match bytes {
            0 => 0,
            1..8 => (1 << (8 * bytes)) - 1,
            _ => u64::MAX,
        };
        let masks = [mask(bytes.len()), mask(bytes.len().saturating_sub(8))];
        Self { bytes, words: words(padded), masks }
    }

    /// Returns whether `other` begins with these bytes. For up to 16 bytes it compares two words, because a call of `memcmp` costs more
    /// than the rest of a scan.
    #[inline(always)]
    pub(crate) fn begins(&self, other: &[u8]) -> bool {
        let length = self.bytes.len();
        if length == 0 {
            return false;
        }
        match other.first_chunk::<16>() {
            Some(head) => {
                let [first, second] = words(*head);
                first & self.masks[0] == self.words[0]
                    && second & self.masks[1] == self.words[1]
                    && (length <= 16 || other.starts_with(self.bytes))
            }
            None => match other.first_chunk::<8>() {
                Some(head) => {
                    u64::from_le_bytes(*head) & self.masks[0] == self.words[0]
                        && (length <= 8 || other.starts_with(self.bytes))
                }
                None => other.starts_with(self.bytes),
            },
        }
    }
}

/// Returns 16 bytes as two little-endian words.
#[inline(always)]
pub(super) fn words([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: [u8; 16]) -> [u64; 2] {
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_begins_what_starts_with_its_bytes(
            bytes in prop::collection::vec(0_u8..3, 0..20),
            rest in prop::collection::vec(0_u8..3, 0..20),
            cut in 0_usize..40,
            other in prop::collection::vec(0_u8..2, 0..20),
        ) {
            let beginning = Beginning::of(&bytes);
            let mut whole = [&bytes[..], &rest].concat();
            whole.truncate(cut);
            for text in [&whole, &other] {
                let expected = !bytes.is_empty() && text.starts_with(&bytes);
                prop_assert_eq!(beginning.begins(text), expected, "{:?} {:?}", bytes, text);
            }
        }
    }
}

//! The digest that every contestant computes from the notifications it received.

use serde::{Deserialize, Serialize};

/// Counts notifications and sums every byte of channels and payloads, a word at a time.
///
/// It is cheap and the same for every contestant: it reads every byte, which an application does at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) count: u64,
    /// Bytes of channels and payloads.
    pub(crate) bytes: u64,
    channels: u64,
    payloads: u64,
}

impl Digest {
    #[inline]
    pub(crate) fn add(&mut self, channel: &[u8], payload: &[u8]) {
        self.count += 1;
        self.bytes += (channel.len() + payload.len()) as u64;
        self.channels = self.channels.wrapping_add(words(channel));
        self.payloads = self.payloads.wrapping_add(words(payload));
    }

    /// Returns the digest of notifications that are only counted.
    pub(crate) fn of_count(count: u64) -> Self {
        Self { count, ..Self::default() }
    }

    /// Returns the digest of the same notifications repeated `times` times.
    pub(crate) fn times(&self, times: u64) -> Self {
        Self {
            count: self.count * times,
            bytes: self.bytes * times,
            channels: self.channels.wrapping_mul(times),
            payloads: self.payloads.wrapping_mul(times),
        }
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        Self {
            count: self.count + other.count,
            bytes: self.bytes + other.bytes,
            channels: self.channels.wrapping_add(other.channels),
            payloads: self.payloads.wrapping_add(other.payloads),
        }
    }

    /// Channels and payloads are summed separately, so that a wrong boundary between them changes the result.
    pub(crate) fn checksum(&self) -> u64 {
        self.channels.rotate_left(29) ^ self.payloads
    }
}

/// Wrapping sum of the little-endian words. If the length is no multiple of 8, the last word overlaps.
#[inline]
fn words(bytes: &[u8]) -> u64 {
    let (whole, rest) = bytes.as_chunks::<8>();
    let sum = whole.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    if rest.is_empty() {
        return sum;
    }
    let tail = match bytes.last_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => short(rest),
    };
    sum.wrapping_add(tail)
}

/// Sums up to 7 bytes.
#[inline]
fn short(bytes: &[u8]) -> u64 {
    if let (Some(head), Some(tail)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << 32;
    }
    bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::Digest;

    fn checksum(channel: &[u8], payload: &[u8]) -> u64 {
        let mut digest = Digest::default();
        digest.add(channel, payload);
        digest.checksum()
    }

    #[test]
    fn every_byte_of_every_length_changes_the_checksum() {
        for len in 0..40 {
            let payload: Vec<u8> = (0..len).map(|n: u8| n ^ 0x5a).collect();
            for at in 0..payload.len() {
                let mut other = payload.clone();
                other[at] ^= 1;
                assert_ne!(checksum(b"c", &payload), checksum(b"c", &other), "{at} of {len}");
                assert_ne!(checksum(&payload, b""), checksum(&other, b""), "{at} of {len}");
            }
        }
    }

    #[test]
    fn a_digest_times_n_equals_n_digests() {
        let mut once = Digest::default();
        once.add(b"abc", b"0123456789");
        let mut thrice = once;
        thrice.add(b"abc", b"0123456789");
        assert_eq!(once.times(2), thrice);
        assert_eq!(once.and(&thrice), once.times(3));
    }
}

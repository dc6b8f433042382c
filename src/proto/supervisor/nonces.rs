//! Values that no other client can guess.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Generates values from one secret: HMAC-SHA-256 of a counter. A value reveals neither the secret nor another value.
///
/// A supervisor reads no randomness, so it gets the secret once.
pub(super) struct Nonces {
    key: Zeroizing<[u8; 32]>,
    count: u64,
}

impl Nonces {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { key: Zeroizing::new(key), count: 0 }
    }

    /// Returns the next value.
    fn next(&mut self) -> [u8; 32] {
        self.count = self.count.wrapping_add(1);
        let mut block = Zeroizing::new([0; 64]);
        block.iter_mut().zip(&*self.key).for_each(|(to, from)| *to = *from);
        let mut mac = Hmac::<Sha256>::new((&*block).into());
        mac.update(&self.count.to_be_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Returns 128 bits of the next value in hexadecimal.
    pub(super) fn hex(&mut self) -> String {
        let number = self.next().first_chunk().copied().unwrap_or_default();
        format!("{:032x}", u128::from_be_bytes(number))
    }

    /// Returns 64 bits of the next value, as the seed of a generator for random numbers that are not secret.
    pub(super) fn seed(&mut self) -> u64 {
        u64::from_be_bytes(self.next().first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_values_differ_and_follow_from_the_secret() {
        let texts = |key| {
            let mut nonces = Nonces::new(key);
            (0..1_000).map(|_| nonces.hex()).collect::<BTreeSet<_>>()
        };
        let (ones, others) = (texts([1; 32]), texts([2; 32]));
        assert_eq!((ones.len(), others.len()), (1_000, 1_000));
        assert!(ones.is_disjoint(&others));
        assert!(ones.iter().all(|text| text.len() == 32));
        assert_eq!(ones, texts([1; 32]));
        // RFC 4231 has no key of 32 bytes and 8 bytes of data: computed with OpenSSL, key 0101…01, data 0000000000000001.
        assert_eq!(Nonces::new([1; 32]).hex(), "1684b95211ac74a90f1bb60f31d18260");
    }

    #[test]
    fn no_output_shows_the_secret() {
        assert_eq!(format!("{:?}", Nonces::new([7; 32])), "Nonces");
    }
}

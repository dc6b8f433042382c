//! PBKDF2 in steps, and the keys that are derived from it (RFC 5802 section 3).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::SCRAM_ROUNDS_PER_STEP_MAX;

/// HMAC-SHA-256, keyed.
pub(super) type HmacSha256 = Hmac<Sha256>;

/// A SHA-256 sized secret.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// The state of a computation in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum ScramProgress {
    /// Call again.
    More,
    /// The computation is complete.
    Done,
}

/// The computation of SaltedPassword: `Hi(password, salt, i)` for one output block.
pub(super) struct Pbkdf2 {
    /// The HMAC with both padded key blocks compressed. With a clone of it, a round costs two compressions.
    keyed: HmacSha256,
    salt: Vec<u8>,
    /// The last U. Not used while `done` is 0.
    last: Key,
    /// The XOR of the first `done` U's.
    sum: Key,
    /// The computed rounds, at most `total`.
    done: u32,
    /// The requested rounds, at least 1.
    total: u32,
}

impl Pbkdf2 {
    /// Prepares the computation. No round is computed.
    pub(super) fn new(password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        Self {
            keyed: hmac_keyed(password),
            salt,
            last: Zeroizing::new([0; 32]),
            sum: Zeroizing::new([0; 32]),
            done: 0,
            total: iterations.max(1),
        }
    }

    /// Computes at most `rounds` rounds, and never more than [`SCRAM_ROUNDS_PER_STEP_MAX`].
    pub(super) fn advance(&mut self, rounds: u32) -> ScramProgress {
        let left = self.total.saturating_sub(self.done);
        let rounds = rounds.min(SCRAM_ROUNDS_PER_STEP_MAX).min(left);
        for _ in 0..rounds {
            let mut mac = self.keyed.clone();
            if self.done == 0 {
                mac.update(&self.salt);
                mac.update(&1_u32.to_be_bytes());
            } else {
                mac.update(&*self.last);
            }
            *self.last = mac.finalize().into_bytes().into();
            xor_into(&mut self.sum, &self.last);
            self.done += 1;
        }
        if self.done == self.total { ScramProgress::Done } else { ScramProgress::More }
    }

    /// Returns SaltedPassword. Valid only after [`advance`](Self::advance) has returned [`ScramProgress::Done`].
    pub(super) fn salted_password(&self) -> SaltedPassword {
        SaltedPassword(self.sum.clone())
    }
}

/// SaltedPassword, from which all keys are derived.
pub(super) struct SaltedPassword(Key);

impl SaltedPassword {
    pub(super) fn client_key(&self) -> Key {
        mac(&*self.0, b"Client Key")
    }

    pub(super) fn server_key(&self) -> Key {
        mac(&*self.0, b"Server Key")
    }
}

/// Returns StoredKey: the hash of ClientKey, which a server stores.
pub(super) fn stored_key(client_key: &[u8; 32]) -> Key {
    Zeroizing::new(Sha256::digest(client_key).into())
}

/// Returns ClientSignature, which both sides compute: ClientProof is its XOR with ClientKey.
pub(super) fn client_signature(stored_key: &[u8; 32], auth_message: &[u8]) -> Key {
    mac(stored_key, auth_message)
}

/// Returns the MAC whose output is ServerSignature, not finalized yet.
pub(super) fn server_signature(server_key: &[u8; 32], auth_message: &[u8]) -> HmacSha256 {
    let mut mac = hmac_keyed(server_key);
    mac.update(auth_message);
    mac
}

fn mac(key: &[u8], message: &[u8]) -> Key {
    let mut mac = hmac_keyed(key);
    mac.update(message);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// Creates an HMAC. RFC 2104: a key longer than a block is hashed, a shorter one is padded with zeros.
fn hmac_keyed(key: &[u8]) -> HmacSha256 {
    let mut block = Zeroizing::new([0_u8; 64]);
    if key.len() > block.len() {
        let hash = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(key)));
        block.iter_mut().zip(&*hash).for_each(|(to, from)| *to = *from);
    } else {
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    }
    HmacSha256::new((&*block).into())
}

/// `to ^= from`, byte by byte.
pub(super) fn xor_into(to: &mut [u8; 32], from: &[u8; 32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to ^= from);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Hi` as it is defined in RFC 5802 section 2.2, with HMAC as in RFC 2104.
    fn naive_hi(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
        let hmac = |message: &[u8]| -> [u8; 32] {
            let mut key = if password.len() > 64 {
                Sha256::digest(password).to_vec()
            } else {
                password.to_vec()
            };
            key.resize(64, 0);
            let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
            let inner = Sha256::digest([pad(0x36), message.to_vec()].concat());
            Sha256::digest([pad(0x5c), inner.to_vec()].concat()).into()
        };
        let mut last = hmac(&[salt, &[0, 0, 0, 1]].concat());
        let mut sum = last;
        for _ in 1..iterations {
            last = hmac(&last);
            for at in 0..32 {
                sum[at] ^= last[at];
            }
        }
        sum
    }

    fn stepped(password: &[u8], salt: &[u8], iterations: u32, rounds: u32) -> [u8; 32] {
        let mut hi = Pbkdf2::new(password, salt.to_vec(), iterations);
        while hi.advance(rounds) == ScramProgress::More {}
        *hi.salted_password().0
    }

    #[test]
    fn steps_of_any_size_give_the_result_of_a_plain_loop() {
        let long = [0xa5; 200];
        for (password, salt, iterations) in [
            (&b"pencil"[..], &b"salt"[..], 1),
            (b"", b"s", 2),
            (&long[..63], &long, 3),
            (&long[..64], b"0123456789abcdef", 4),
            (&long[..65], b"0123456789abcdef", 5),
            (&long, b"0123456789abcdef", 1_001),
        ] {
            let expect = naive_hi(password, salt, iterations);
            for rounds in [1, 2, 7, 999, 1_000, u32::MAX] {
                assert_eq!(stepped(password, salt, iterations, rounds), expect, "{rounds}");
            }
        }
    }

    /// RFC 7914 section 11.
    #[test]
    fn the_first_block_of_a_published_vector() {
        let expect = [
            0x55, 0xac, 0x04, 0x6e, 0x56, 0xe3, 0x08, 0x9f, 0xec, 0x16, 0x91, 0xc2, 0x25, 0x44,
            0xb6, 0x05, 0xf9, 0x41, 0x85, 0x21, 0x6d, 0xde, 0x04, 0x65, 0xe6, 0x8b, 0x9d, 0x57,
            0xc2, 0x0d, 0xac, 0xbc,
        ];
        assert_eq!(stepped(b"passwd", b"salt", 1, 1), expect);
    }

    #[test]
    fn a_step_computes_the_requested_rounds_and_at_most_1000() {
        let mut hi = Pbkdf2::new(b"pencil", b"salt".to_vec(), 100_000);
        for (rounds, done) in
            [(0, 0), (1, 1), (998, 999), (1_000, 1_999), (1_001, 2_999), (u32::MAX, 3_999)]
        {
            assert_eq!(hi.advance(rounds), ScramProgress::More);
            assert_eq!(hi.done, done);
        }
        let mut calls = 0;
        while hi.advance(u32::MAX) == ScramProgress::More {
            calls += 1;
        }
        assert_eq!((calls, hi.done), (96, 100_000));
        assert_eq!(hi.advance(u32::MAX), ScramProgress::Done);
        assert_eq!(hi.done, 100_000);
    }
}

//! The MD5 password exchange: `"md5" + hex(md5(hex(md5(password ‖ user)) ‖ salt))`.
//!
//! Deprecated by PostgreSQL 18, and weak: the stored hash is enough to log in.
// N21.

use hmac::digest::CtOutput;
use md5::{Digest, Md5};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::secret::Password;

/// Length of a response: `md5` and 32 hexadecimal digits.
pub const MD5_RESPONSE_BYTES: usize = 35;

/// Returns the client's response to the server's salt, without the final NUL.
#[must_use]
pub fn response(user: &str, password: &Password, salt: [u8; 4]) -> [u8; MD5_RESPONSE_BYTES] {
    // `pg_authid` stores this after `md5`. It is as secret as the password.
    let stored = hex_digest(&[password.expose(), user.as_bytes()]);
    let answer = hex_digest(&[&*stored, &salt]);
    let mut response = [0; MD5_RESPONSE_BYTES];
    for (to, from) in response.iter_mut().zip(b"md5".iter().chain(&*answer)) {
        *to = *from;
    }
    response
}

/// Returns whether a response belongs to this user, password and salt: the server's side.
///
/// The time does not depend on the position of the first difference (CVE-2026-6478 was such a leak).
#[must_use]
pub fn verify(user: &str, password: &Password, salt: [u8; 4], found: &[u8]) -> bool {
    let expected = response(user, password, salt);
    // Hashed, so that the time depends neither on the length nor on the position of a difference.
    CtOutput::<Sha256>::new(Sha256::digest(expected)) == CtOutput::new(Sha256::digest(found))
}

fn hex_digest(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    let mut digest = md5.finalize();
    let mut hex = Zeroizing::new([0; 32]);
    for (pair, byte) in hex.chunks_exact_mut(2).zip(&digest) {
        if let [high, low] = pair {
            *high = hex_digit(byte >> 4);
            *low = hex_digit(byte & 0x0f);
        }
    }
    digest.as_mut_slice().zeroize();
    hex
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; 4] = [1, 2, 3, 4];

    #[test]
    fn the_response_follows_the_formula_of_the_manual() {
        let response = response("postgres", &Password::new("secret"), SALT);
        assert_eq!(&response, b"md5bb41a296aab6baccb36ff243a562abff");
    }

    #[test]
    fn the_server_side_accepts_only_the_right_response() {
        let password = Password::new("secret");
        let right = response("postgres", &password, SALT);
        assert!(verify("postgres", &password, SALT, &right));
        assert!(!verify("postgre", &password, SALT, &right));
        assert!(!verify("postgres", &Password::new("Secret"), SALT, &right));
        assert!(!verify("postgres", &password, [1, 2, 3, 5], &right));
        for at in 0..right.len() {
            let mut wrong = right;
            wrong[at] ^= 1;
            assert!(!verify("postgres", &password, SALT, &wrong), "byte {at}");
            assert!(!verify("postgres", &password, SALT, &right[..at]), "{at} bytes");
        }
        assert!(!verify("postgres", &password, SALT, &[&right[..], b"\0"].concat()));
    }
}

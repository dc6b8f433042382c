//! Tests with certificates made by openssl, and with bytes that are not a certificate.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

struct Vector {
    name: &'static str,
    digest: &'static str,
    expected: &'static str,
    der: Vec<u8>,
}

fn vectors() -> &'static [Vector] {
    static VECTORS: LazyLock<Vec<Vector>> = LazyLock::new(read_vectors);
    &VECTORS
}

fn read_vectors() -> Vec<Vector> {
    let lines = include_str!("vectors.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap();
            let (name, digest, expected) = (word(), word(), word());
            Vector { name, digest, expected, der: STANDARD.decode(word()).unwrap() }
        })
        .collect()
}

fn vector(name: &str) -> &'static Vector {
    vectors().iter().find(|vector| vector.name == name).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the certificate with another algorithm in all places.
fn with_algorithm(vector: &Vector, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut der = vector.der.clone();
    let found: Vec<_> = (0..der.len()).filter(|&at| der[at..].starts_with(from)).collect();
    assert!(!found.is_empty());
    for at in found {
        der[at..at + from.len()].copy_from_slice(to);
    }
    der
}

#[test]
fn a_certificate_is_hashed_as_its_issuer_signed_it() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 22);
    for vector in vectors {
        let found = tls_server_end_point(&vector.der).map(|hash| hex(&hash));
        let expected = (vector.digest != "none").then(|| vector.expected.to_owned());
        assert_eq!(found, expected, "{}: {}", vector.name, vector.digest);
    }
}

#[test]
fn a_signature_without_a_hash_gives_no_binding() {
    for name in ["ed25519", "ed448", "ec-sha3-256"] {
        assert_eq!(tls_server_end_point(&vector(name).der), None, "{name}");
    }
    // An unknown number of PKCS #1, ML-DSA-44, and an identifier that is not assigned.
    let sha256 = [PKCS1, &[11]].concat();
    let rsa = vector("rsa-sha256");
    for to in [[PKCS1, &[99]].concat(), vec![0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 17]] {
        assert_eq!(tls_server_end_point(&with_algorithm(rsa, &sha256, &to)), None);
    }
    assert_eq!(tls_server_end_point(&with_algorithm(rsa, &sha256, &[7; 9])), None);
}

#[test]
fn the_hash_of_pss_is_in_its_parameters() {
    let sha384 = [NIST_HASHES, &[2]].concat();
    let pss = vector("pss-sha384");
    for (number, hash) in [
        (1, Some(32)),
        (2, Some(48)),
        (3, Some(64)),
        (4, Some(28)),
        (5, Some(28)),
        (6, Some(32)),
        (7, None),
        (0, None),
    ] {
        let der = with_algorithm(pss, &sha384, &[NIST_HASHES, &[number]].concat());
        assert_eq!(tls_server_end_point(&der).map(|hash| hash.len()), hash, "{number}");
    }
    let parameters = |bytes: &[u8]| hash_of_pss(Reader::new(bytes));
    // None at all, an empty list, only a salt length: SHA-1, and so SHA-256.
    assert_eq!(parameters(&[]), Some(Hash::Sha256));
    assert_eq!(parameters(&[0x30, 0]), Some(Hash::Sha256));
    assert_eq!(parameters(&[0x30, 5, 0xa2, 3, 2, 1, 32]), Some(Hash::Sha256));
    for malformed in [
        &[0x05, 0][..],
        &[0x30, 2, 0xa0, 0],
        &[0x30, 4, 0xa0, 2, 0x30, 0],
        &[0x30, 6, 0xa0, 4, 0x30, 2, 0x06, 0],
        &[0x30, 4, 0xa0, 9, 0x30, 0],
        &[0x30, 2, 0xa2, 5],
    ] {
        assert_eq!(parameters(malformed), None, "{malformed:x?}");
    }
}

#[test]
fn an_incomplete_certificate_has_no_hash() {
    let whole = &vector("ec-sha256").der;
    for end in 0..whole.len() {
        assert_eq!(tls_server_end_point(&whole[..end]), None, "{end}");
    }
    assert_eq!(tls_server_end_point(&[&whole[..], &[0]].concat()), None);
    assert_eq!(tls_server_end_point(&[]), None);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = tls_server_end_point(&bytes);
    }

    /// A certificate with some changed bytes reaches more of the parser than random bytes.
    #[test]
    fn a_changed_certificate_does_not_panic(
        which in 0..22usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut der = vectors()[which].der.clone();
        for (at, byte) in changes {
            let at = at.index(der.len());
            der[at] = byte;
        }
        if let Some(hash) = tls_server_end_point(&der) {
            prop_assert!([28, 32, 48, 64].contains(&hash.len()));
        }
    }
}

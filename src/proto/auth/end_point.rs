//! Channel binding `tls-server-end-point` (RFC 5929): the hash of the server's certificate.
//!
//! The hash algorithm is the one with which the *issuer signed* the certificate: a
//! P-256 certificate of a P-384 authority is hashed with SHA-384. MD5 and SHA-1 are replaced by SHA-256.
//! If the signature algorithm has no separate hash (Ed25519, Ed448, post-quantum ones), no binding is defined, and
//! the server has no hash either.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_224, Sha512_256};

use super::der::{self, Reader, tag};

/// `1.2.840.113549.1.1`: PKCS #1.
const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// `1.2.840.10045.4.1`: ECDSA with SHA-1.
const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
/// `1.2.840.10045.4.3`: ECDSA with a hash of SHA-2.
const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// `1.2.840.10040.4.3`: DSA with SHA-1.
const DSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x03];
/// `2.16.840.1.101.3.4.3`: signatures of NIST.
const NIST_SIGNATURES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03];
/// `2.16.840.1.101.3.4.2`: hashes of NIST.
const NIST_HASHES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// `1.3.14.3.2.26`: SHA-1.
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// `1.2.840.113549.2.5`: MD5.
const MD5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05];

/// The number of RSASSA-PSS under [`PKCS1`]. Its parameters contain the hash.
const RSASSA_PSS: u8 = 10;

/// A hash algorithm for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512_224,
    Sha512_256,
}

/// Returns the hash of a server's certificate (DER) that binds a login to its TLS channel.
///
/// `None` if the signature algorithm has no hash or is not known, or the bytes are not a certificate.
/// Then there is no channel binding: `SCRAM-SHA-256-PLUS` cannot be used, and a client that requires it
/// must fail.
///
/// ```
/// # #[cfg(feature = "proto")] {
/// assert_eq!(pgbell::proto::auth::tls_server_end_point(b"not a certificate"), None);
/// # }
/// ```
#[must_use]
pub fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(match hash_of(certificate)? {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
        Hash::Sha512_224 => Sha512_224::digest(certificate).to_vec(),
        Hash::Sha512_256 => Sha512_256::digest(certificate).to_vec(),
    })
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }`
fn hash_of(certificate: &[u8]) -> Option<Hash> {
    let mut parts = der::single(certificate, tag::SEQUENCE)?.values();
    parts.of(tag::SEQUENCE)?;
    let mut algorithm = parts.of(tag::SEQUENCE)?.values();
    let identifier = algorithm.of(tag::OBJECT_IDENTIFIER)?.contents;
    if identifier == ECDSA_SHA1 || identifier == DSA_SHA1 {
        return Some(Hash::Sha256);
    }
    match identifier.split_last()? {
        (&RSASSA_PSS, PKCS1) => hash_of_pss(algorithm),
        // MD5 and SHA-1, then SHA-256 itself.
        (4 | 5 | 11, PKCS1) => Some(Hash::Sha256),
        (12, PKCS1) => Some(Hash::Sha384),
        (13, PKCS1) => Some(Hash::Sha512),
        (14, PKCS1) => Some(Hash::Sha224),
        (15, PKCS1) => Some(Hash::Sha512_224),
        (16, PKCS1) => Some(Hash::Sha512_256),
        // Under NIST's number these four are DSA; the numbers after them use no SHA-2 hash, or none at all.
        (1, ECDSA_SHA2 | NIST_SIGNATURES) => Some(Hash::Sha224),
        (2, ECDSA_SHA2 | NIST_SIGNATURES) => Some(Hash::Sha256),
        (3, ECDSA_SHA2 | NIST_SIGNATURES) => Some(Hash::Sha384),
        (4, ECDSA_SHA2 | NIST_SIGNATURES) => Some(Hash::Sha512),
        _ => None,
    }
}

/// `RSASSA-PSS-params ::= SEQUENCE { [0] hashAlgorithm DEFAULT sha1, … }`
fn hash_of_pss(mut parameters: Reader<'_>) -> Option<Hash> {
    // Without parameters, and without this one, the hash is SHA-1.
    if parameters.is_empty() {
        return Some(Hash::Sha256);
    }
    let mut parameters = parameters.of(tag::SEQUENCE)?.values();
    if parameters.is_empty() {
        return Some(Hash::Sha256);
    }
    let Some(named) = parameters.of(tag::explicit(0)) else {
        return parameters.any().map(|_| Hash::Sha256);
    };
    let mut algorithm = der::single(named.contents, tag::SEQUENCE)?.values();
    let identifier = algorithm.of(tag::OBJECT_IDENTIFIER)?.contents;
    match identifier.split_last()? {
        _ if identifier == SHA1 || identifier == MD5 => Some(Hash::Sha256),
        (1, NIST_HASHES) => Some(Hash::Sha256),
        (2, NIST_HASHES) => Some(Hash::Sha384),
        (3, NIST_HASHES) => Some(Hash::Sha512),
        (4, NIST_HASHES) => Some(Hash::Sha224),
        (5, NIST_HASHES) => Some(Hash::Sha512_224),
        (6, NIST_HASHES) => Some(Hash::Sha512_256),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

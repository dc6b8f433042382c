//! The kind of a certificate's key, so that errors can name a kind that is not supported.

use std::fmt;

use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;

use super::certificate::Certificate;
use crate::proto::auth::der::{self, Reader, tag};

/// `1.2.840.113549.1.1.1`
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `1.2.840.113549.1.1.10`
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// `1.2.840.10045.2.1`
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `1.2.840.10045.3.1.7`
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `1.3.132.0.34`
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// `1.3.132.0.35`
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
/// `1.3.101.112`
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// `1.3.101.113`
const ED448: &[u8] = &[0x2b, 0x65, 0x71];

/// The lengths of the RSA keys that rustls' providers support.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// Schemes that are offered although their signatures cannot be verified. Otherwise a server with such a key would end the
/// handshake with an alert that does not contain the reason. With the offer it sends its certificate, and the error can name
/// the kind of the key.
///
/// A scheme must not be in this list if a supported key can use it: in TLS 1.2 the scheme of P-521 means ECDSA with SHA-512
/// on any curve, and servers with OpenSSL before 1.1.1 would choose it for P-256.
const OFFERED_ANYWAY: [SignatureScheme; 4] = [
    SignatureScheme::ED448,
    // RSASSA-PSS with a key only for that: rsa_pss_pss_sha256, 384, 512.
    SignatureScheme::Unknown(0x0809),
    SignatureScheme::Unknown(0x080a),
    SignatureScheme::Unknown(0x080b),
];

/// The kind of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Rsa {
        bits: usize,
    },
    /// RSA only for signatures of RSASSA-PSS.
    RsaPss,
    P256,
    P384,
    P521,
    /// ECDSA on another curve.
    OtherCurve,
    Ed25519,
    Ed448,
}

impl Key {
    /// Returns the kind of a certificate's key, or `None` if it is not known.
    pub(super) fn of(certificate: &Certificate<'_>) -> Option<Self> {
        Self::parse(der::single(certificate.public_key, tag::SEQUENCE)?.values())
    }

    /// Returns the kind of the key in the contents of a `SubjectPublicKeyInfo`.
    pub(super) fn parse(mut info: Reader<'_>) -> Option<Self> {
        let mut algorithm = info.of(tag::SEQUENCE)?.values();
        let identifier = algorithm.of(tag::OBJECT_IDENTIFIER)?.contents;
        Some(match identifier {
            RSA => Self::Rsa { bits: modulus_bits(info.of(tag::BIT_STRING)?.contents)? },
            RSA_PSS => Self::RsaPss,
            EC => match algorithm.of(tag::OBJECT_IDENTIFIER).map(|curve| curve.contents) {
                Some(P256) => Self::P256,
                Some(P384) => Self::P384,
                Some(P521) => Self::P521,
                _ => Self::OtherCurve,
            },
            ED25519 => Self::Ed25519,
            ED448 => Self::Ed448,
            _ => return None,
        })
    }

    /// Returns whether its signatures can be verified.
    pub(super) fn is_supported(self, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let scheme = match self {
            // ring counts whole bytes, and some generators make keys of 2,047 bits.
            Self::Rsa { bits } => return RSA_BITS.contains(&bits.next_multiple_of(8)),
            Self::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::P384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::P521 => SignatureScheme::ECDSA_NISTP521_SHA512,
            Self::Ed25519 => SignatureScheme::ED25519,
            Self::Ed448 => SignatureScheme::ED448,
            Self::RsaPss | Self::OtherCurve => return false,
        };
        algorithms.mapping.iter().any(|(known, _)| *known == scheme)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa { bits } => write!(f, "an RSA key of {bits} bits"),
            Self::RsaPss => f.write_str("an RSA key only for RSASSA-PSS"),
            Self::P256 => f.write_str("an ECDSA key on P-256"),
            Self::P384 => f.write_str("an ECDSA key on P-384"),
            Self::P521 => f.write_str("an ECDSA key on P-521"),
            Self::OtherCurve => f.write_str("an ECDSA key on a curve that is not a NIST curve"),
            Self::Ed25519 => f.write_str("an Ed25519 key"),
            Self::Ed448 => f.write_str("an Ed448 key"),
        }
    }
}

/// Returns the schemes to offer to a server: those that can be verified, and after them those of [`OFFERED_ANYWAY`].
pub(super) fn offered(algorithms: &WebPkiSupportedAlgorithms) -> Vec<SignatureScheme> {
    let mut schemes = algorithms.supported_schemes();
    for scheme in OFFERED_ANYWAY {
        if !schemes.contains(&scheme) {
            schemes.push(scheme);
        }
    }
    schemes
}

/// Returns the length of the modulus in an `RSAPublicKey`, which is in a BIT STRING.
fn modulus_bits(bit_string: &[u8]) -> Option<usize> {
    let key = bit_string.strip_prefix(&[0])?;
    let modulus = der::single(key, tag::SEQUENCE)?.values().of(tag::INTEGER)?.contents;
    let significant = modulus.iter().position(|&byte| byte != 0)?;
    let (first, rest) = modulus.get(significant..)?.split_first()?;
    let first = usize::try_from(first.ilog2()).ok()?.checked_add(1)?;
    rest.len().checked_mul(8)?.checked_add(first)
}

#[cfg(all(test, feature = "tls-ring"))]
mod tests {
    use super::*;

    /// Servers with OpenSSL before 1.1.1 chose SHA-512 for their P-256 keys, which ring does not verify.
    #[test]
    fn no_unverifiable_scheme_is_offered_that_a_supported_key_could_use() {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        for scheme in offered(&algorithms) {
            let is_known = algorithms.mapping.iter().any(|(known, _)| *known == scheme);
            let is_ecdsa = u16::from(scheme) & 0xff == 0x03;
            assert!(is_known || !is_ecdsa, "{scheme:?}");
        }
    }

    #[test]
    fn an_rsa_key_that_lacks_a_few_bits_is_supported_as_in_ring() {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        for (bits, expected) in [
            (1_024, false),
            (2_040, false),
            (2_041, true),
            (2_048, true),
            (8_192, true),
            (8_200, false),
        ] {
            assert_eq!(Key::Rsa { bits }.is_supported(&algorithms), expected, "{bits}");
        }
    }
}

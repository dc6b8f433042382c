//! Kinds of keys and of signatures.

use crate::error::Error;

/// The key of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Key {
    /// ECDSA on the curve P-256. It is made quickly.
    #[default]
    P256,
    /// ECDSA on the curve P-384.
    P384,
    /// ECDSA on the curve P-521.
    P521,
    /// Ed25519. Its signatures have no hash, so `tls-server-end-point` is undefined.
    Ed25519,
    /// RSA of 2048 bits. It takes a few tenths of a second to make one.
    Rsa2048,
    /// RSA of 1024 bits, which is too short for any use today.
    Rsa1024,
    /// RSA of 2048 bits, only for signatures of RSASSA-PSS.
    RsaPss2048,
    /// Ed448.
    Ed448,
}

impl Key {
    /// Arguments of `openssl genpkey`.
    pub(super) fn options(self) -> &'static [&'static str] {
        const NAMED: &str = "ec_param_enc:named_curve";
        match self {
            Self::P256 => {
                &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", NAMED]
            }
            Self::P384 => {
                &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-pkeyopt", NAMED]
            }
            Self::P521 => {
                &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521", "-pkeyopt", NAMED]
            }
            Self::Ed25519 => &["-algorithm", "ED25519"],
            Self::Ed448 => &["-algorithm", "ED448"],
            Self::RsaPss2048 => &["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"],
            Self::Rsa2048 => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            Self::Rsa1024 => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
        }
    }

    /// Returns the key usage of a leaf with such a key. An RSA key may also encrypt another key.
    pub(super) fn usage(self) -> &'static str {
        match self {
            Self::Rsa2048 | Self::Rsa1024 => "digitalSignature,keyEncipherment",
            _ => "digitalSignature",
        }
    }
}

/// How an issuer signs a certificate: the hash, and with RSA the padding.
///
/// Together with the issuer's [`Key`] this is the certificate's `signatureAlgorithm`, from which the channel
/// binding `tls-server-end-point` takes its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signature {
    /// SHA-1 with ECDSA or RSA PKCS#1.
    Sha1,
    /// SHA-224 with ECDSA or RSA PKCS#1.
    Sha224,
    /// SHA-256 with ECDSA or RSA PKCS#1.
    Sha256,
    /// SHA-384 with ECDSA or RSA PKCS#1.
    Sha384,
    /// SHA-512 with ECDSA or RSA PKCS#1.
    Sha512,
    /// RSA-PSS with SHA-256.
    PssSha256,
    /// RSA-PSS with SHA-384.
    PssSha384,
    /// RSA-PSS with SHA-512.
    PssSha512,
}

impl Signature {
    /// Returns arguments of `openssl ca`, for an issuer with that key. The default is SHA-256, and with
    /// Ed25519 the only signature of that key.
    pub(super) fn options(
        choice: Option<Self>,
        issuer: Key,
    ) -> Result<&'static [&'static str], Error> {
        const PSS: &str = "rsa_padding_mode:pss";
        // As long as the hash, as RFC 8446 demands.
        const SALT: &str = "rsa_pss_saltlen:-1";
        let Some(signature) = choice else {
            return Ok(if matches!(issuer, Key::Ed25519 | Key::Ed448) {
                &[]
            } else {
                &["-md", "sha256"]
            });
        };
        match (signature, issuer) {
            (_, Key::Ed25519 | Key::Ed448 | Key::RsaPss2048) => Err(Error::new(format!(
                "an issuer with such a key ({issuer:?}) has one kind of signature, which is not {signature:?}: leave the \
                 signature out"
            ))),
            (
                Self::PssSha256 | Self::PssSha384 | Self::PssSha512,
                Key::P256 | Key::P384 | Key::P521,
            ) => Err(Error::new(format!(
                "{signature:?} needs an issuer with an RSA key, this one has {issuer:?}"
            ))),
            (Self::Sha1, _) => Ok(&["-md", "sha1"]),
            (Self::Sha224, _) => Ok(&["-md", "sha224"]),
            (Self::Sha256, _) => Ok(&["-md", "sha256"]),
            (Self::Sha384, _) => Ok(&["-md", "sha384"]),
            (Self::Sha512, _) => Ok(&["-md", "sha512"]),
            (Self::PssSha256, Key::Rsa2048 | Key::Rsa1024) => {
                Ok(&["-md", "sha256", "-sigopt", PSS, "-sigopt", SALT])
            }
            (Self::PssSha384, Key::Rsa2048 | Key::Rsa1024) => {
                Ok(&["-md", "sha384", "-sigopt", PSS, "-sigopt", SALT])
            }
            (Self::PssSha512, Key::Rsa2048 | Key::Rsa1024) => {
                Ok(&["-md", "sha512", "-sigopt", PSS, "-sigopt", SALT])
            }
        }
    }
}

//! The reasons to refuse a server's certificate.

use std::fmt;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};

use super::key::Key;

/// Why a server's certificate is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// An error of webpki.
    Chain(webpki::Error),
    /// webpki accepts the chain, but another check failed.
    Flaw(Flaw),
}

/// A failed check that webpki does not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The authority at the end of the chain has expired.
    AuthorityExpired { days: u64 },
    /// That authority is not valid yet.
    AuthorityNotYetValid { days: u64 },
    /// A list of revoked certificates contains it.
    AuthorityRevoked,
    /// Its `extendedKeyUsage` lacks serverAuth.
    AuthorityNotForServers,
    /// It has a critical extension that is not known here.
    UnknownExtension,
    /// Its `pathlen` is smaller than the number of intermediates.
    PathTooLong,
    /// The `keyUsage` of an intermediate lacks keyCertSign.
    IntermediateMayNotSign,
    /// The `keyUsage` of the server's certificate contains no use of TLS.
    ServerMayNotUseTls,
    /// The `extendedKeyUsage` of the server's certificate lacks serverAuth.
    ServerNotForServers,
    /// The signatures of the server's key cannot be verified.
    ServerKey(Key),
    /// The signatures of an authority above the server's certificate cannot be verified.
    AuthorityKey(Key),
    /// A certificate cannot be parsed.
    Unreadable,
}

impl From<webpki::Error> for Refusal {
    fn from(error: webpki::Error) -> Self {
        Self::Chain(error)
    }
}

impl From<Flaw> for Refusal {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

impl Refusal {
    /// Returns the error of rustls with the same meaning. It decides which alert the server receives.
    pub(super) fn alert(&self) -> CertificateError {
        match self {
            Self::Chain(error) => of_chain(error),
            Self::Flaw(flaw) => match flaw {
                Flaw::AuthorityExpired { .. } => CertificateError::Expired,
                Flaw::AuthorityNotYetValid { .. } => CertificateError::NotValidYet,
                Flaw::AuthorityRevoked => CertificateError::Revoked,
                Flaw::UnknownExtension => CertificateError::UnhandledCriticalExtension,
                Flaw::Unreadable => CertificateError::BadEncoding,
                Flaw::ServerKey(_) | Flaw::AuthorityKey(_) => {
                    CertificateError::Other(OtherError(Arc::new(UnsupportedKey)))
                }
                Flaw::AuthorityNotForServers
                | Flaw::PathTooLong
                | Flaw::IntermediateMayNotSign
                | Flaw::ServerMayNotUseTls
                | Flaw::ServerNotForServers => CertificateError::InvalidPurpose,
            },
        }
    }
}

/// The error for a key that is not supported. rustls sends the alert `certificate_unknown` for it.
#[derive(Debug)]
struct UnsupportedKey;

impl fmt::Display for UnsupportedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kind of the certificate's key is not supported")
    }
}

impl std::error::Error for UnsupportedKey {}

fn of_chain(error: &webpki::Error) -> CertificateError {
    use webpki::Error as E;
    match error {
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertExpired { .. } | E::InvalidCertValidity => CertificateError::Expired,
        E::CertNotValidYet { .. } => CertificateError::NotValidYet,
        E::CertNotValidForName(_) => CertificateError::NotValidForName,
        E::CertRevoked => CertificateError::Revoked,
        E::UnknownRevocationStatus | E::CrlExpired { .. } => {
            CertificateError::UnknownRevocationStatus
        }
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other.clone()))),
    }
}

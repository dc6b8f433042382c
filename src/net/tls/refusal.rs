//! Why a server's certificate is refused.

use std::fmt;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};

use super::key::Key;

/// What is wrong.
#[derive(Debug)]
pub(super) enum Refusal {
    /// What webpki says.
    Chain(webpki::Error),
    /// Its chain is whole, and something that webpki does not look at is wrong.
    Flaw(Flaw),
}

/// What webpki does not look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The authority at the end of the chain has expired.
    AuthorityExpired { days: u64 },
    /// It is not valid yet.
    AuthorityNotYetValid { days: u64 },
    /// A list names it.
    AuthorityRevoked,
    /// Its `extendedKeyUsage` lacks serverAuth.
    AuthorityNotForServers,
    /// It has a critical extension that is not known here.
    UnknownExtension,
    /// Its `pathlen` is smaller than the number of intermediates.
    TooLong,
    /// The `keyUsage` of an intermediate lacks keyCertSign.
    IntermediateMayNotSign,
    /// The `keyUsage` of the server's certificate has nothing that TLS uses.
    ServerMayNotSpeakTls,
    /// The `extendedKeyUsage` of the server's certificate lacks serverAuth.
    ServerNotForServers,
    /// The server's certificate is for a key whose signatures cannot be verified.
    ServerKey(Key),
    /// So is the one of the authority that signed the server's certificate, or of one above it.
    AuthorityKey(Key),
    /// A certificate cannot be read.
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
    /// The error of rustls that has the same meaning. It decides which alert the server receives.
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
                | Flaw::TooLong
                | Flaw::IntermediateMayNotSign
                | Flaw::ServerMayNotSpeakTls
                | Flaw::ServerNotForServers => CertificateError::InvalidPurpose,
            },
        }
    }
}

/// For rustls, which sends the alert `certificate_unknown` for it.
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

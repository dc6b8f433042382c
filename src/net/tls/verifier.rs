//! Whether the server is who it should be.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, SignatureScheme,
};
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RawPublicKeyEntity, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::certificate::Certificate;
use super::hint::{self, Shown};
use super::roots::Trust;
use super::told::Told;

/// What is asked of a server's certificate.
#[derive(Debug)]
pub(super) enum Check {
    /// Nothing but that the server has its key.
    Nothing,
    /// That an authority vouches for it.
    Chain(Arc<Trust>),
    /// That an authority vouches for it being this host.
    Host(Arc<Trust>, ServerName<'static>),
}

/// The check of one connection.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) check: Check,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) told: Arc<Told>,
}

impl Verifier {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let (trust, host) = match &self.check {
            Check::Nothing => return Ok(()),
            Check::Chain(trust) => (trust, None),
            Check::Host(trust, host) => (trust, Some(host)),
        };
        // webpki wants no authority at the end of a chain, and wants one above every certificate. A server
        // that shows the very certificate that we were given is known all the same: what
        // `openssl req -x509` makes for a server is such a one.
        if trust.pinned.iter().any(|pinned| pinned == certificate) {
            check_dates(certificate, now)?;
        } else {
            self.verify_chain(trust, certificate, intermediates, now)?;
        }
        match host {
            Some(host) => {
                EndEntityCert::try_from(certificate)?.verify_is_valid_for_subject_name(host)
            }
            None => Ok(()),
        }
    }

    fn verify_chain(
        &self,
        trust: &Trust,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let lists: Vec<_> = trust.revoked.iter().collect();
        // As OpenSSL does when it is given a list: one for each authority of the chain, none of them old.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let certificate = EndEntityCert::try_from(certificate)?;
        let path = certificate.verify_for_usage(
            self.algorithms.all,
            &trust.anchors,
            intermediates,
            now,
            KeyUsage::server_auth(),
            revocation,
            None,
        );
        path.map(drop)
    }

    /// The key with which a server proves that the certificate is its own, where the certificate itself is not
    /// judged: webpki reads only those of version 3, and what `openssl x509 -req` makes is of version 1.
    fn bare_key<'a>(
        &self,
        certificate: &'a CertificateDer<'_>,
    ) -> Option<SubjectPublicKeyInfoDer<'a>> {
        match self.check {
            Check::Nothing => Some(Certificate::parse(certificate)?.public_key.into()),
            Check::Chain(_) | Check::Host(..) => None,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(certificate, intermediates, now).map_err(|error| {
            let alert = alert_for(&error);
            let shown = Shown { certificate, intermediates: intermediates.len() };
            self.told.set_refusal(hint::refused(&error, &self.check, &shown));
            Error::InvalidCertificate(alert)
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.bare_key(certificate) {
            Some(key) => verify_signature(message, &key, signed, &self.algorithms),
            None => crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.bare_key(certificate) {
            Some(key) => {
                crypto::verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
            }
            None => crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What rustls has for a certificate in version 1.2, for a key alone: there the scheme does not say the curve,
/// so all algorithms of the scheme are tried.
fn verify_signature(
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = RawPublicKeyEntity::try_from(key)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let of_scheme = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let Some((_, candidates)) = of_scheme else {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    };
    let valid = candidates
        .iter()
        .any(|algorithm| key.verify_signature(*algorithm, message, signed.signature()).is_ok());
    if valid {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

/// A pinned certificate ends like any other.
fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), webpki::Error> {
    let dates = Certificate::parse(certificate).ok_or(webpki::Error::BadDer)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let at = |seconds: i64| {
        let seconds = u64::try_from(seconds).unwrap_or_default();
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    };
    if seconds < dates.not_before {
        let not_before = at(dates.not_before);
        return Err(webpki::Error::CertNotValidYet { time: now, not_before });
    }
    if seconds > dates.not_after {
        let not_after = at(dates.not_after);
        return Err(webpki::Error::CertExpired { time: now, not_after });
    }
    Ok(())
}

/// What rustls tells the server, by way of the alert that it has for this.
fn alert_for(error: &webpki::Error) -> CertificateError {
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

//! The verification of the server's certificate.

use std::cell::Cell;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RawPublicKeyEntity, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::certificate::Certificate;
use super::handshake_info::HandshakeInfo;
use super::hint::{self, Shown};
use super::key::{self, Key};
use super::refusal::{Flaw, Refusal};
use super::rights::Rights;
use super::roots::Trust;

/// The checks of a server's certificate.
#[derive(Debug)]
pub(super) enum Check {
    /// The server has the key of its certificate. Nothing else is checked.
    Nothing,
    /// A trusted authority has issued the certificate, too.
    Chain(Arc<Trust>),
    /// The certificate is for this host, too.
    Host(Arc<Trust>, ServerName<'static>),
}

/// The verifier of one connection.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) check: Check,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) info: Arc<HandshakeInfo>,
}

impl Verifier {
    fn verify(&self, shown: &Shown<'_>, now: UnixTime) -> Result<(), Refusal> {
        let key = Certificate::parse(shown.certificate).and_then(|parsed| Key::of(&parsed));
        if let Some(key) = key.filter(|key| !key.is_supported(&self.algorithms)) {
            return Err(Flaw::ServerKey(key).into());
        }
        let (trust, host) = match &self.check {
            Check::Nothing => return Ok(()),
            Check::Chain(trust) => (trust, None),
            Check::Host(trust, host) => (trust, Some(host)),
        };
        if trust.is_pinned(shown.certificate) {
            self.verify_pinned(trust, shown, now)?;
        } else {
            self.verify_chain(trust, shown, now)?;
        }
        if let Some(host) = host {
            EndEntityCert::try_from(shown.certificate)?.verify_is_valid_for_subject_name(host)?;
        }
        Ok(())
    }

    /// Verifies a certificate that is itself in the file of authorities. webpki refuses the certificate of an authority as
    /// that of a server, and one without an authority above it: certificates made by `openssl req -x509` would
    /// always be refused.
    ///
    /// The other checks are those of OpenSSL for such a certificate: its dates, its permitted uses, and, if there are lists
    /// of revoked certificates, that the list of its issuer does not contain it.
    fn verify_pinned(
        &self,
        trust: &Trust,
        shown: &Shown<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let parsed = Certificate::parse(shown.certificate).ok_or(webpki::Error::BadDer)?;
        check_dates(&parsed, now)?;
        let rights = Rights::of(&parsed).ok_or(webpki::Error::BadDer)?;
        if !rights.may_be_used_for_tls() {
            return Err(Flaw::ServerMayNotUseTls.into());
        }
        if !rights.is_for_servers() {
            return Err(Flaw::ServerNotForServers.into());
        }
        if rights.has_unknown_critical {
            return Err(webpki::Error::UnsupportedCriticalExtension.into());
        }
        if trust.lists.is_empty() {
            return Ok(());
        }
        if parsed.is_self_issued() {
            let lists = &trust.lists;
            return Ok(lists.check_self_signed(&parsed, rights, &self.algorithms, now)?);
        }
        // The list of its issuer decides whether it is revoked.
        match self.verify_chain(trust, shown, now) {
            Err(Refusal::Chain(
                webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity,
            )) => Err(webpki::Error::UnknownRevocationStatus.into()),
            verified => verified,
        }
    }

    fn verify_chain(&self, trust: &Trust, shown: &Shown<'_>, now: UnixTime) -> Result<(), Refusal> {
        let lists = trust.lists.at(now);
        if lists.is_empty() && !trust.lists.is_empty() {
            return Err(webpki::Error::UnknownRevocationStatus.into());
        }
        // As in OpenSSL, every authority of the chain must have a list, and none may have expired.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let authorities = &trust.authorities;
        let given = authorities.intermediates.iter().chain(shown.intermediates);
        let intermediates: Vec<_> =
            given.map(|certificate| CertificateDer::from(certificate.as_ref())).collect();
        let flaw = Cell::new(None);
        let check = |path: &VerifiedPath<'_>| {
            authorities.check(path, &trust.lists, now).map_err(|found| {
                flaw.set(Some(found));
                // An error after which webpki tries another chain.
                webpki::Error::UnknownIssuer
            })
        };
        let certificate = EndEntityCert::try_from(shown.certificate)?;
        let path = certificate.verify_for_usage(
            self.algorithms.all,
            &authorities.anchors,
            &intermediates,
            now,
            KeyUsage::server_auth(),
            revocation,
            Some(&check),
        );
        match (path, flaw.get()) {
            (Ok(_), _) => Ok(()),
            (Err(_), Some(flaw)) => Err(flaw.into()),
            (Err(error), None) => {
                let key = if is_about_a_key(&error) {
                    self.unsupported_issuer(trust, shown)
                } else {
                    None
                };
                Err(key.unwrap_or(error.into()))
            }
        }
    }

    /// Returns a refusal if a certificate above the server's, found by its name, has a key whose signatures cannot be
    /// verified. webpki only returns that a signature is wrong, or that its algorithm is not supported.
    fn unsupported_issuer(&self, trust: &Trust, shown: &Shown<'_>) -> Option<Refusal> {
        let sent = [shown.certificate].into_iter().chain(shown.intermediates);
        let sent: Vec<_> = sent.filter_map(|der| Certificate::parse(der)).collect();
        let key = sent.iter().find_map(|certificate| {
            let above = sent.iter().skip(1).filter(|above| above.subject == certificate.issuer);
            let mut keys =
                above.filter_map(Key::of).chain(trust.authorities.keys(certificate.issuer));
            keys.find(|key| !key.is_supported(&self.algorithms))
        })?;
        Some(Flaw::AuthorityKey(key).into())
    }

    /// Returns the key with which the server proves that the certificate is its own, if webpki does not verify the
    /// certificate. webpki supports only version 3, and `openssl x509 -req` makes version 1. A certificate of the file of
    /// authorities is not verified by webpki either, unless its names are checked.
    fn bare_key<'a>(
        &self,
        certificate: &'a CertificateDer<'_>,
    ) -> Option<SubjectPublicKeyInfoDer<'a>> {
        let bare = |parsed: Certificate<'a>| SubjectPublicKeyInfoDer::from(parsed.public_key);
        match &self.check {
            Check::Nothing => Certificate::parse(certificate).map(bare),
            Check::Chain(trust) if trust.is_pinned(certificate) => {
                Certificate::parse(certificate).filter(|parsed| !parsed.is_version_3).map(bare)
            }
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
        let shown = Shown { certificate, intermediates };
        self.verify(&shown, now).map_err(|refusal| {
            self.info.set_refusal(hint::refused(&refusal, &self.check, &shown));
            Error::InvalidCertificate(refusal.alert())
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
        key::offered(&self.algorithms)
    }
}

/// Verifies a signature of TLS 1.2 with a key, as rustls does with a certificate. In 1.2 the scheme does not contain the
/// curve, so all algorithms of the scheme are tried.
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

/// Returns whether an unsupported key can be the cause of an error.
fn is_about_a_key(error: &webpki::Error) -> bool {
    matches!(
        error,
        webpki::Error::UnknownIssuer
            | webpki::Error::InvalidSignatureForPublicKey
            | webpki::Error::UnsupportedSignatureAlgorithmContext(_)
            | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
    )
}

/// Checks that a certificate is valid now.
fn check_dates(dates: &Certificate<'_>, now: UnixTime) -> Result<(), webpki::Error> {
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

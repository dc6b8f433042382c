//! The certificates of `sslrootcert`, sorted: authorities at the end of a chain, intermediates, and certificates that are
//! trusted only as the server's own.

use std::collections::HashSet;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{VerifiedPath, anchor_from_trusted_cert};

use super::certificate::Certificate;
use super::key::Key;
use super::lists::RevocationLists;
use super::refusal::Flaw;
use super::rights::Rights;
use crate::proto::auth::der::Reader;

/// The certificates of the file, sorted by their use.
#[derive(Default)]
pub(super) struct Authorities {
    /// Authorities at which a chain may end, for webpki.
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    /// The limits of each anchor, which webpki does not check, in the same order.
    limits: Vec<AuthorityLimits>,
    /// Authorities below others of the file. As in OpenSSL, a chain continues to the highest one.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    /// Certificates that must not sign others, with their names.
    non_signers: Vec<(Vec<u8>, NonSigner)>,
}

/// The properties of an authority that are checked, in addition to its signature, when a chain ends with it.
struct AuthorityLimits {
    issuer: Vec<u8>,
    serial: Vec<u8>,
    not_before: i64,
    not_after: i64,
    rights: Rights,
}

/// Why a certificate must not sign others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NonSigner {
    /// It is of version 1 or 2, in which it cannot be marked as that of an authority.
    OldVersion,
    /// `basicConstraints` with CA:TRUE are missing.
    NotAuthority,
    /// It has `keyUsage` without keyCertSign.
    MayNotSign,
    /// A part of it is malformed.
    Malformed,
}

impl Authorities {
    /// Sorts certificates.
    ///
    /// # Errors
    /// If a certificate is malformed as a whole: its index, and the cause.
    pub(super) fn new(
        certificates: &[CertificateDer<'static>],
    ) -> Result<Self, (usize, webpki::Error)> {
        let mut sorted = Self::default();
        let mut seen = HashSet::new();
        let mut signing = Vec::new();
        for (at, certificate) in certificates.iter().enumerate() {
            // A file may contain a certificate twice. webpki would try both, and limits the number of tries.
            if !seen.insert(certificate.as_ref()) {
                continue;
            }
            let anchor = anchor_from_trusted_cert(certificate).map_err(|error| (at, error))?;
            match signer(certificate) {
                Ok((parsed, rights)) => signing.push((certificate, anchor, parsed, rights)),
                Err(other) => sorted.non_signers.push((anchor.subject.to_vec(), other)),
            }
        }
        let names: HashSet<_> = signing.iter().map(|(_, _, parsed, _)| parsed.subject).collect();
        for (certificate, anchor, parsed, rights) in &signing {
            if !parsed.is_self_issued() && names.contains(parsed.issuer) {
                sorted.intermediates.push(CertificateDer::clone(certificate));
                continue;
            }
            sorted.anchors.push(anchor.to_owned());
            sorted.limits.push(AuthorityLimits {
                issuer: parsed.issuer.to_vec(),
                serial: parsed.serial.to_vec(),
                not_before: parsed.not_before,
                not_after: parsed.not_after,
                rights: *rights,
            });
        }
        Ok(sorted)
    }

    /// Returns why the certificate of that name must not sign others, if there is such a certificate.
    pub(super) fn non_signer(&self, name: &[u8]) -> Option<NonSigner> {
        self.non_signers.iter().find(|(other, _)| other == name).map(|(_, why)| *why)
    }

    /// Returns the keys of the authorities of that name.
    pub(super) fn keys<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = Key> + 'a {
        let anchors = self.anchors.iter().filter(move |anchor| anchor.subject.as_ref() == name);
        let intermediates = self.intermediates.iter().filter_map(|der| Certificate::parse(der));
        let intermediates = intermediates.filter(move |certificate| certificate.subject == name);
        anchors
            .filter_map(|anchor| Key::parse(Reader::new(anchor.subject_public_key_info.as_ref())))
            .chain(intermediates.filter_map(|certificate| Key::of(&certificate)))
    }

    /// Checks the properties of a chain that OpenSSL checks and webpki does not.
    pub(super) fn check(
        &self,
        path: &VerifiedPath<'_>,
        lists: &RevocationLists,
        now: UnixTime,
    ) -> Result<(), Flaw> {
        let server = path.end_entity().der();
        if !rights(&server)?.may_be_used_for_tls() {
            return Err(Flaw::ServerMayNotUseTls);
        }
        // Self-issued certificates are not counted: RFC 5280 section 4.2.1.9.
        let mut length = 0;
        for intermediate in path.intermediate_certificates() {
            if !rights(&intermediate.der())?.may_sign_certificates() {
                return Err(Flaw::IntermediateMayNotSign);
            }
            length += usize::from(intermediate.issuer() != intermediate.subject());
        }
        let anchors = self.anchors.iter().zip(&self.limits);
        let found = anchors.into_iter().find(|(anchor, _)| std::ptr::eq(*anchor, path.anchor()));
        let (_, limits) = found.ok_or(Flaw::Unreadable)?;
        limits.check(length, lists, now)
    }
}

impl AuthorityLimits {
    fn check(&self, length: usize, lists: &RevocationLists, now: UnixTime) -> Result<(), Flaw> {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds > self.not_after {
            return Err(Flaw::AuthorityExpired { days: days(seconds, self.not_after) });
        }
        if seconds < self.not_before {
            return Err(Flaw::AuthorityNotYetValid { days: days(self.not_before, seconds) });
        }
        if self.rights.has_unknown_critical {
            return Err(Flaw::UnknownExtension);
        }
        if !self.rights.is_for_servers() {
            return Err(Flaw::AuthorityNotForServers);
        }
        if self.rights.path_length.is_some_and(|most| length > most) {
            return Err(Flaw::PathTooLong);
        }
        if lists.contains(&self.issuer, &self.serial, now) {
            return Err(Flaw::AuthorityRevoked);
        }
        Ok(())
    }
}

/// Returns the number of days between two times, rounded up.
fn days(later: i64, earlier: i64) -> u64 {
    u64::try_from(later.saturating_sub(earlier)).unwrap_or_default().div_ceil(86_400)
}

fn rights(certificate: &CertificateDer<'_>) -> Result<Rights, Flaw> {
    let parsed = Certificate::parse(certificate).ok_or(Flaw::Unreadable)?;
    Rights::of(&parsed).ok_or(Flaw::Unreadable)
}

/// Parses a certificate, and checks that it may sign others.
fn signer<'a>(certificate: &'a CertificateDer<'_>) -> Result<(Certificate<'a>, Rights), NonSigner> {
    let parsed = Certificate::parse(certificate).ok_or(NonSigner::Malformed)?;
    if !parsed.is_version_3 {
        return Err(NonSigner::OldVersion);
    }
    let rights = Rights::of(&parsed).ok_or(NonSigner::Malformed)?;
    if !rights.is_authority() {
        return Err(NonSigner::NotAuthority);
    }
    if !rights.may_sign_certificates() {
        return Err(NonSigner::MayNotSign);
    }
    Ok((parsed, rights))
}

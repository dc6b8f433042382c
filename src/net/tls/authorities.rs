//! The certificates of `sslrootcert`, sorted: authorities at the end of a chain, intermediates, and certificates that are
//! trusted only as the server's own.

use std::collections::HashSet;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{VerifiedPath, anchor_from_trusted_cert};

use super::certificate::Certificate;
use super::key::Key;
use super::lists::Lists;
use super::refusal::Flaw;
use super::rights::Rights;
use crate::auth::der::Reader;

/// What they come to.
#[derive(Default)]
pub(super) struct Authorities {
    /// For webpki.
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    /// What it does not keep of each of them, in the same order.
    limits: Vec<Limits>,
    /// Authorities below others that were given: as in OpenSSL, a chain goes on to the top.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    /// Certificates that vouch for no other, by their names.
    others: Vec<(Vec<u8>, Other)>,
}

/// What is asked of an authority beside its signature, when a chain ends with it.
struct Limits {
    issuer: Vec<u8>,
    serial: Vec<u8>,
    not_before: i64,
    not_after: i64,
    rights: Rights,
}

/// Why a certificate vouches for no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    /// It is of version 1 or 2, in which nothing says that it is one of an authority.
    OldVersion,
    /// `basicConstraints` with CA:TRUE are missing.
    NotAuthority,
    /// `keyUsage` is there, and without keyCertSign.
    MayNotSign,
    /// A part of it is malformed.
    Malformed,
}

impl Authorities {
    /// Sorts them.
    ///
    /// # Errors
    /// The position of a certificate that is malformed as a whole, and why.
    pub(super) fn new(
        certificates: &[CertificateDer<'static>],
    ) -> Result<Self, (usize, webpki::Error)> {
        let mut sorted = Self::default();
        let mut seen = HashSet::new();
        let mut signing = Vec::new();
        for (at, certificate) in certificates.iter().enumerate() {
            // A bundle may have one twice. webpki tries each, and has a limit of tries.
            if !seen.insert(certificate.as_ref()) {
                continue;
            }
            let anchor = anchor_from_trusted_cert(certificate).map_err(|error| (at, error))?;
            match signer(certificate) {
                Ok((parsed, rights)) => signing.push((certificate, anchor, parsed, rights)),
                Err(other) => sorted.others.push((anchor.subject.to_vec(), other)),
            }
        }
        let names: HashSet<_> = signing.iter().map(|(_, _, parsed, _)| parsed.subject).collect();
        for (certificate, anchor, parsed, rights) in &signing {
            if !parsed.is_self_issued() && names.contains(parsed.issuer) {
                sorted.intermediates.push(CertificateDer::clone(certificate));
                continue;
            }
            sorted.anchors.push(anchor.to_owned());
            sorted.limits.push(Limits {
                issuer: parsed.issuer.to_vec(),
                serial: parsed.serial.to_vec(),
                not_before: parsed.not_before,
                not_after: parsed.not_after,
                rights: *rights,
            });
        }
        Ok(sorted)
    }

    /// Why a certificate of that name vouches for no other, if there is one.
    pub(super) fn other(&self, name: &[u8]) -> Option<Other> {
        self.others.iter().find(|(other, _)| other == name).map(|(_, why)| *why)
    }

    /// The keys of the authorities of that name.
    pub(super) fn keys<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = Key> + 'a {
        let anchors = self.anchors.iter().filter(move |anchor| anchor.subject.as_ref() == name);
        let intermediates = self.intermediates.iter().filter_map(|der| Certificate::parse(der));
        let intermediates = intermediates.filter(move |certificate| certificate.subject == name);
        anchors
            .filter_map(|anchor| Key::parse(Reader::new(anchor.subject_public_key_info.as_ref())))
            .chain(intermediates.filter_map(|certificate| Key::of(&certificate)))
    }

    /// What OpenSSL asks of a chain and webpki does not.
    pub(super) fn judge(
        &self,
        path: &VerifiedPath<'_>,
        lists: &Lists,
        now: UnixTime,
    ) -> Result<(), Flaw> {
        let server = path.end_entity().der();
        if !rights(&server)?.may_speak_tls() {
            return Err(Flaw::ServerMayNotSpeakTls);
        }
        // Those that issue themselves do not count: RFC 5280 section 4.2.1.9.
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
        limits.judge(length, lists, now)
    }
}

impl Limits {
    fn judge(&self, length: usize, lists: &Lists, now: UnixTime) -> Result<(), Flaw> {
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
            return Err(Flaw::TooLong);
        }
        if lists.name(&self.issuer, &self.serial, now) {
            return Err(Flaw::AuthorityRevoked);
        }
        Ok(())
    }
}

/// Days that have begun between two times.
fn days(later: i64, earlier: i64) -> u64 {
    u64::try_from(later.saturating_sub(earlier)).unwrap_or_default().div_ceil(86_400)
}

fn rights(certificate: &CertificateDer<'_>) -> Result<Rights, Flaw> {
    let parsed = Certificate::parse(certificate).ok_or(Flaw::Unreadable)?;
    Rights::of(&parsed).ok_or(Flaw::Unreadable)
}

/// The parts of a certificate that may vouch for others.
fn signer<'a>(certificate: &'a CertificateDer<'_>) -> Result<(Certificate<'a>, Rights), Other> {
    let parsed = Certificate::parse(certificate).ok_or(Other::Malformed)?;
    if !parsed.is_version_3 {
        return Err(Other::OldVersion);
    }
    let rights = Rights::of(&parsed).ok_or(Other::Malformed)?;
    if !rights.is_authority() {
        return Err(Other::NotAuthority);
    }
    if !rights.may_sign_certificates() {
        return Err(Other::MayNotSign);
    }
    Ok((parsed, rights))
}

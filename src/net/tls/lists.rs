//! RevocationLists of revoked certificates.

use std::cmp::Reverse;
use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateRevocationListDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{CertRevocationList, OwnedCertRevocationList, RawPublicKeyEntity};

use super::certificate::{Certificate, time};
use super::rights::Rights;
use crate::proto::auth::der::{self, Value, tag};

/// All lists, the newest first. webpki uses the first one of an authority, and OpenSSL the newest.
#[derive(Default)]
pub(super) struct RevocationLists {
    lists: Vec<RevocationList>,
}

/// One list, parsed by webpki, and its bytes.
pub(super) struct RevocationList {
    read: CertRevocationList<'static>,
    der: CertificateRevocationListDer<'static>,
    /// When it was issued, in seconds since 1970.
    issued_at: i64,
    /// When the next one is issued.
    next_at: Option<i64>,
}

/// The signed data of a list, the algorithm and the signature.
struct Signed<'a> {
    data: Value<'a>,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl RevocationList {
    /// Parses a list.
    ///
    /// # Errors
    /// If it is malformed, or a kind of list that webpki does not support.
    pub(super) fn read(der: CertificateRevocationListDer<'static>) -> Result<Self, webpki::Error> {
        let read = OwnedCertRevocationList::from_der(&der)?.into();
        let (issued_at, next_at) = dates(&der).ok_or(webpki::Error::BadDerTime)?;
        Ok(Self { read, der, issued_at, next_at })
    }
}

impl RevocationLists {
    pub(super) fn new(mut lists: Vec<RevocationList>) -> Self {
        lists.sort_by_key(|list| Reverse(list.issued_at));
        Self { lists }
    }

    pub(super) fn len(&self) -> usize {
        self.lists.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Returns the lists that are valid now, for webpki. A list from the future is not.
    pub(super) fn at(&self, now: UnixTime) -> Vec<&CertRevocationList<'static>> {
        self.valid(now).map(|list| &list.read).collect()
    }

    fn valid(&self, now: UnixTime) -> impl Iterator<Item = &RevocationList> {
        let now = seconds(now);
        self.lists.iter().filter(move |list| list.issued_at <= now)
    }

    /// Returns whether the newest list of its issuer contains this certificate. The signature of the list is not checked:
    /// a forged list could only cause that a certificate is refused.
    pub(super) fn contains(&self, issuer: &[u8], serial: &[u8], now: UnixTime) -> bool {
        let newest = self.valid(now).find(|list| list.read.issuer() == issuer);
        newest.is_some_and(|list| !matches!(list.read.find_serial(serial), Ok(None)))
    }

    /// Checks that a self-signed certificate is not revoked by the list that it has signed. As in OpenSSL, there
    /// must be such a list. webpki does not check this.
    ///
    /// # Errors
    /// If there is no such list, or it is too old, or it contains the certificate.
    pub(super) fn check_self_signed(
        &self,
        certificate: &Certificate<'_>,
        rights: Rights,
        algorithms: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let list = self.valid(now).find(|list| list.read.issuer() == certificate.issuer);
        // A list for a part of the certificates does not cover the others.
        let list = list.filter(|list| list.read.issuing_distribution_point().is_none());
        let list = list.ok_or(webpki::Error::UnknownRevocationStatus)?;
        if !rights.may_sign_lists() {
            return Err(webpki::Error::IssuerNotCrlSigner);
        }
        let signed = signed(&list.der).ok_or(webpki::Error::BadDer)?;
        if !is_signed_by(&signed, certificate.public_key, algorithms) {
            return Err(webpki::Error::InvalidCrlSignatureForPublicKey);
        }
        match list.next_at {
            Some(next) if seconds(now) < next => {}
            next => {
                let next = u64::try_from(next.unwrap_or_default()).unwrap_or_default();
                let next_update = UnixTime::since_unix_epoch(Duration::from_secs(next));
                return Err(webpki::Error::CrlExpired { time: now, next_update });
            }
        }
        match list.read.find_serial(certificate.serial)? {
            None => Ok(()),
            Some(_) => Err(webpki::Error::CertRevoked),
        }
    }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn signed(list: &[u8]) -> Option<Signed<'_>> {
    let mut parts = der::single(list, tag::SEQUENCE)?.values();
    let data = parts.of(tag::SEQUENCE)?;
    let algorithm = parts.of(tag::SEQUENCE)?.contents;
    // The first byte is the number of unused bits, which must be zero.
    let signature = parts.of(tag::BIT_STRING)?.contents.strip_prefix(&[0])?;
    Some(Signed { data, algorithm, signature })
}

/// Returns when a list was issued, and when the next one will be.
fn dates(list: &[u8]) -> Option<(i64, Option<i64>)> {
    let mut parts = signed(list)?.data.values();
    parts.of(tag::INTEGER);
    parts.of(tag::SEQUENCE)?;
    parts.of(tag::SEQUENCE)?;
    Some((time(parts.any()?)?, parts.any().and_then(time)))
}

fn is_signed_by(signed: &Signed<'_>, key: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
    let key = SubjectPublicKeyInfoDer::from(key);
    let Ok(key) = RawPublicKeyEntity::try_from(&key) else { return false };
    let of_kind = algorithms
        .all
        .iter()
        .filter(|algorithm| algorithm.signature_alg_id().as_ref() == signed.algorithm);
    of_kind.into_iter().any(|algorithm| {
        key.verify_signature(*algorithm, signed.data.whole, signed.signature).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = dates(&bytes);
            let _ = RevocationList::read(CertificateRevocationListDer::from(bytes));
        }
    }
}

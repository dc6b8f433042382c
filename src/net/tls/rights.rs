//! The uses that the extensions of a certificate permit.
//!
//! The rules are those of OpenSSL (`check_ca`, `check_purpose_ssl_server`) that webpki lacks: it ignores
//! `keyUsage`, and the extensions of a trusted authority.

use super::certificate::Certificate;
use super::extension::{Extension, is_true};
use crate::proto::auth::der::{self, tag};

/// `2.5.29`, the arc of the standard extensions.
const STANDARD: [u8; 2] = [0x55, 0x1d];
const KEY_USAGE: u8 = 15;
const BASIC_CONSTRAINTS: u8 = 19;
const EXTENDED_KEY_USAGE: u8 = 37;

/// Further standard extensions that may be critical, because webpki reads them, or they need not be read:
/// subjectAltName, nameConstraints, cRLDistributionPoints; and those about policies, which are not required.
const READ: [u8; 7] = [17, 30, 31, 32, 33, 36, 54];

/// `1.3.6.1.5.5.7.3.1`, `serverAuth`.
const SERVER_AUTH: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// Bits of `keyUsage`, the first one on the left.
const DIGITAL_SIGNATURE: u8 = 0x80;
const KEY_ENCIPHERMENT: u8 = 0x20;
const KEY_AGREEMENT: u8 = 0x08;
const KEY_CERT_SIGN: u8 = 0x04;
const CRL_SIGN: u8 = 0x02;

/// The uses that a certificate permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rights {
    /// `basicConstraints` with CA:TRUE.
    is_authority: bool,
    /// The largest number of authorities between it and a server's certificate.
    pub(super) path_length: Option<usize>,
    /// The first eight bits of `keyUsage`. Without the extension everything is allowed.
    key_usage: Option<u8>,
    /// `extendedKeyUsage` contains `serverAuth`. Without the extension everything is allowed.
    for_servers: Option<bool>,
    /// There is a critical extension that is not known here.
    pub(super) has_unknown_critical: bool,
}

impl Rights {
    /// Returns the rights of a certificate, or `None` if an extension is malformed or occurs twice.
    pub(super) fn of(certificate: &Certificate<'_>) -> Option<Self> {
        let mut rights = Self::default();
        // One bit for each standard extension.
        let mut seen = 0u64;
        for extension in certificate.extensions()? {
            let extension = extension?;
            if let Some(&[number]) = extension.id.strip_prefix(&STANDARD) {
                let bit = 1u64.checked_shl(number.into()).unwrap_or_default();
                if seen & bit != 0 {
                    return None;
                }
                seen |= bit;
            }
            rights.read(&extension)?;
        }
        Some(rights)
    }

    fn read(&mut self, extension: &Extension<'_>) -> Option<()> {
        match extension.id.strip_prefix(&STANDARD) {
            Some(&[BASIC_CONSTRAINTS]) => {
                let mut parts = der::single(extension.value, tag::SEQUENCE)?.values();
                self.is_authority = parts.of(tag::BOOLEAN).is_some_and(is_true);
                if let Some(length) = parts.of(tag::INTEGER) {
                    self.path_length = Some(number(length.contents)?);
                }
                parts.is_empty().then_some(())
            }
            Some(&[KEY_USAGE]) => {
                // The number of unused bits, and the bits.
                let bits = der::single(extension.value, tag::BIT_STRING)?.contents;
                let (_, bits) = bits.split_first()?;
                self.key_usage = Some(bits.first().copied().unwrap_or_default());
                Some(())
            }
            Some(&[EXTENDED_KEY_USAGE]) => {
                let mut purposes = der::single(extension.value, tag::SEQUENCE)?.values();
                let mut found = false;
                while !purposes.is_empty() {
                    found |= purposes.of(tag::OBJECT_IDENTIFIER)?.contents == SERVER_AUTH;
                }
                self.for_servers = Some(found);
                Some(())
            }
            Some(&[other]) if READ.contains(&other) => Some(()),
            _ => {
                self.has_unknown_critical |= extension.is_critical;
                Some(())
            }
        }
    }

    fn may(self, bits: u8) -> bool {
        self.key_usage.is_none_or(|usage| usage & bits != 0)
    }

    /// Returns whether it is the certificate of an authority.
    pub(super) fn is_authority(self) -> bool {
        self.is_authority
    }

    /// Returns whether `keyUsage` permits to sign certificates.
    pub(super) fn may_sign_certificates(self) -> bool {
        self.may(KEY_CERT_SIGN)
    }

    /// Returns whether `keyUsage` permits to sign lists of revoked certificates.
    pub(super) fn may_sign_lists(self) -> bool {
        self.may(CRL_SIGN)
    }

    /// Returns whether `keyUsage` permits the use by a TLS server.
    pub(super) fn may_be_used_for_tls(self) -> bool {
        self.may(DIGITAL_SIGNATURE | KEY_ENCIPHERMENT | KEY_AGREEMENT)
    }

    /// Returns whether `extendedKeyUsage` permits the use by a server.
    pub(super) fn is_for_servers(self) -> bool {
        self.for_servers.unwrap_or(true)
    }
}

/// Parses a number that is not negative. A number that is too large becomes the largest one, which limits nothing.
fn number(bytes: &[u8]) -> Option<usize> {
    let &first = bytes.first()?;
    if first & 0x80 != 0 {
        return None;
    }
    let add = |sum: usize, &byte: &u8| sum.checked_mul(256)?.checked_add(usize::from(byte));
    Some(bytes.iter().try_fold(0, add).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(id: u8, is_critical: bool, value: &[u8]) -> Option<Rights> {
        let mut rights = Rights::default();
        let id = [0x55, 0x1d, id];
        rights.read(&Extension { id: &id, is_critical, value })?;
        Some(rights)
    }

    #[test]
    fn basic_constraints_contain_the_authority_flag_and_the_path_length() {
        let of = |value: &[u8]| {
            read(BASIC_CONSTRAINTS, true, value).map(|it| (it.is_authority, it.path_length))
        };
        assert_eq!(of(&[0x30, 0]), Some((false, None)));
        assert_eq!(of(&[0x30, 3, 1, 1, 0xff]), Some((true, None)));
        assert_eq!(of(&[0x30, 3, 1, 1, 0]), Some((false, None)));
        assert_eq!(of(&[0x30, 6, 1, 1, 0xff, 2, 1, 0]), Some((true, Some(0))));
        assert_eq!(of(&[0x30, 7, 1, 1, 0xff, 2, 2, 1, 1]), Some((true, Some(257))));
        let huge = [&[0x30, 14, 1, 1, 0xff, 2, 9][..], &[0x7f; 9]].concat();
        assert_eq!(of(&huge), Some((true, Some(usize::MAX))));
        for malformed in [
            &[][..],
            &[0x30, 1, 1],
            &[0x30, 6, 1, 1, 0xff, 2, 1, 0xff],
            &[0x30, 5, 1, 1, 0xff, 2, 0],
            &[0x30, 6, 1, 1, 0xff, 4, 1, 0],
        ] {
            assert_eq!(of(malformed), None, "{malformed:x?}");
        }
    }

    #[test]
    fn key_usage_permits_what_it_names_and_everything_if_it_is_missing() {
        let of = |bits: u8| read(KEY_USAGE, true, &[3, 2, 0, bits]).unwrap();
        let all = Rights::default();
        assert!(all.may_sign_certificates() && all.may_sign_lists() && all.may_be_used_for_tls());
        assert!(of(0x06).may_sign_certificates() && of(0x06).may_sign_lists());
        assert!(!of(0x06).may_be_used_for_tls());
        assert!(of(0x80).may_be_used_for_tls() && !of(0x80).may_sign_certificates());
        assert!(!of(0x04).may_sign_lists());
        let none = read(KEY_USAGE, true, &[3, 1, 0]).unwrap();
        assert!(!none.may_be_used_for_tls() && !none.may_sign_certificates());
        assert_eq!(read(KEY_USAGE, true, &[3, 0]), None);
        assert_eq!(read(KEY_USAGE, true, &[4, 2, 0, 6]), None);
    }

    #[test]
    fn an_unknown_critical_extension_is_recorded() {
        assert!(!read(17, true, &[]).unwrap().has_unknown_critical);
        assert!(!read(99, false, &[]).unwrap().has_unknown_critical);
        assert!(read(99, true, &[]).unwrap().has_unknown_critical);
    }
}

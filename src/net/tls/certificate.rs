//! A parser of certificates, for the checks that webpki does not make and for error messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::extension::Extensions;
use crate::proto::auth::der::{self, Reader, Value, tag};

/// `2.5.4.3`
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `2.5.29.17`
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// The number 2, which means version 3.
const VERSION_3: [u8; 3] = [0x02, 1, 2];

/// A certificate in parts. Nothing in it is verified.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// It is of version 3, the only one with extensions.
    pub(super) is_version_3: bool,
    /// Serial number, issuer and subject: the contents of a number and of two names.
    pub(super) serial: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    /// The validity, in seconds since 1970.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// The public key, in DER as `SubjectPublicKeyInfo`.
    pub(super) public_key: &'a [u8],
    extensions: Option<Value<'a>>,
}

impl<'a> Certificate<'a> {
    /// Parses a certificate in DER. `None` if it is malformed.
    pub(super) fn parse(certificate: &'a [u8]) -> Option<Self> {
        let signed = der::single(certificate, tag::SEQUENCE)?.values().of(tag::SEQUENCE)?;
        let mut parts = signed.values();
        // The version. Version 1 has no such field.
        let version = parts.of(tag::explicit(0));
        let is_version_3 = version.is_some_and(|version| version.contents == VERSION_3);
        let serial = parts.of(tag::INTEGER)?.contents;
        parts.of(tag::SEQUENCE)?;
        let issuer = parts.of(tag::SEQUENCE)?.contents;
        let mut validity = parts.of(tag::SEQUENCE)?.values();
        let not_before = time(validity.any()?)?;
        let not_after = time(validity.any()?)?;
        let subject = parts.of(tag::SEQUENCE)?.contents;
        let public_key = parts.of(tag::SEQUENCE)?.whole;
        parts.of(tag::implicit(1));
        parts.of(tag::implicit(2));
        let extensions = parts.of(tag::explicit(3));
        Some(Self {
            is_version_3,
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            public_key,
            extensions,
        })
    }

    /// Returns the extensions, or `None` if they are malformed as a whole.
    pub(super) fn extensions(&self) -> Option<Extensions<'a>> {
        Extensions::new(self.extensions)
    }

    /// Returns whether issuer and subject are the same.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Returns the hosts that it is for: names and addresses.
    pub(super) fn hosts(&self) -> Vec<String> {
        self.alternative_names().unwrap_or_default()
    }

    fn alternative_names(&self) -> Option<Vec<String>> {
        let found = self.extensions()?.map_while(|extension| extension);
        let names = found.into_iter().find(|extension| extension.id == SUBJECT_ALT_NAME)?;
        let mut names = der::single(names.value, tag::SEQUENCE)?.values();
        let mut hosts = Vec::new();
        while let Some(name) = names.any() {
            if name.tag == tag::implicit(2) {
                hosts.push(text(name));
            } else if name.tag == tag::implicit(7) {
                hosts.extend(address(name.contents).map(|address| address.to_string()));
            }
        }
        Some(hosts)
    }

    /// Returns the `CN` of its subject.
    pub(super) fn common_name(&self) -> Option<String> {
        let mut names = Reader::new(self.subject);
        while let Some(name) = names.of(tag::SET) {
            let mut attributes = name.values();
            while let Some(attribute) = attributes.of(tag::SEQUENCE) {
                let mut parts: Reader<'_> = attribute.values();
                if parts.of(tag::OBJECT_IDENTIFIER)?.contents == COMMON_NAME {
                    return parts.any().map(text);
                }
            }
        }
        None
    }
}

fn text(value: Value<'_>) -> String {
    String::from_utf8_lossy(value.contents).into_owned()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into());
    v4().or_else(v6)
}

/// Parses `YYMMDDhhmmssZ`, with years from 1950 on, or `YYYYMMDDhhmmssZ`. RFC 5280 has no other format.
pub(super) fn time(value: Value<'_>) -> Option<i64> {
    let (century, digits) = match (value.tag, value.contents) {
        (tag::UTC_TIME, [digits @ .., b'Z']) if digits.len() == 12 => (None, digits),
        (tag::GENERALIZED_TIME, [a, b, digits @ .., b'Z']) if digits.len() == 12 => {
            (Some(pair(&[*a, *b])?), digits)
        }
        _ => return None,
    };
    let mut pairs = digits.chunks_exact(2).map(pair);
    let mut next = || pairs.next().flatten();
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    let century = century.unwrap_or(if year >= 50 { 19 } else { 20 });
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    let days = days_since_1970(century * 100 + year, month, day);
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second.min(59))
}

/// Parses two digits.
fn pair(digits: &[u8]) -> Option<i64> {
    match digits {
        &[tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
        }
        _ => None,
    }
}

/// Returns the number of days in the Gregorian calendar. Years are counted from March, so that a leap day is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rights::Rights;
    use super::*;

    fn seconds(tag: u8, text: &str) -> Option<i64> {
        time(Value { tag, contents: text.as_bytes(), whole: &[] })
    }

    #[test]
    fn times_are_parsed_as_in_the_calendar() {
        for (text, expected) in [
            ("700101000000Z", Some(0)),
            ("000229235959Z", Some(951_868_799)),
            ("491231235959Z", Some(2_524_607_999)),
            ("500101000000Z", Some(-631_152_000)),
            ("250301000000Z", Some(1_740_787_200)),
            ("251301000000Z", None),
            ("250300000000Z", None),
            ("25030100000Z", None),
            ("250301000000+", None),
            ("2503010000", None),
            ("", None),
        ] {
            assert_eq!(seconds(tag::UTC_TIME, text), expected, "{text}");
        }
        assert_eq!(seconds(tag::GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(seconds(tag::GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        assert_eq!(seconds(tag::GENERALIZED_TIME, "00000101000000Z"), Some(-62_167_219_200));
        assert_eq!(seconds(tag::OCTET_STRING, "700101000000Z"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(certificate) = Certificate::parse(&bytes) {
                let _ = (certificate.hosts(), certificate.common_name());
                let _ = Rights::of(&certificate);
            }
        }
    }
}

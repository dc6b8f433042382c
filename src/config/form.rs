//! The forms of parameter values: text, numbers, lists.

use core::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::error::ParameterFault;
use super::values::TlsVersion;
use crate::proto::auth::RequireAuth;

/// The form that the value of a parameter must have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Any text.
    Text,
    /// Names, addresses and socket directories, separated by commas.
    Hosts,
    /// Ports, separated by commas. Each may be empty.
    Ports,
    /// IP addresses, separated by commas. Each may be empty.
    Addresses,
    /// A number of 32 bits.
    Integer,
    /// A number of SCRAM iterations, from 1.
    Iterations,
    /// A number of seconds, with up to three decimals.
    Seconds,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A name of UTF-8.
    Encoding,
    /// The lowest version of TLS to use.
    TlsMin,
    /// The highest version of TLS to use.
    TlsMax,
    /// Methods of authentication, separated by commas.
    RequireAuth,
}

/// The supported versions of TLS.
const TLS_VERSIONS: &[&str] = &[TlsVersion::V1_2.as_str(), TlsVersion::V1_3.as_str()];

impl Form {
    /// Checks a value.
    pub(super) fn check(self, text: &str) -> Result<(), ParameterFault> {
        match self {
            // If a connection string, or a part of a URL, is here by mistake, its password would be shown: N49.
            Self::Text | Self::Hosts if is_nested(text) => Err(ParameterFault::Nested),
            Self::Hosts => list(text).try_for_each(host),
            Self::Text => Ok(()),
            Self::Ports => list(text)
                .all(|item| item.is_empty() || port(item).is_some())
                .then_some(())
                .ok_or(ParameterFault::Port),
            Self::Addresses => list(text)
                .all(|item| item.is_empty() || address(item).is_some())
                .then_some(())
                .ok_or(ParameterFault::Address),
            Self::Integer => integer(text).map(drop).ok_or(ParameterFault::Integer),
            Self::Iterations => iterations(text).map(drop).ok_or(ParameterFault::Iterations),
            Self::Seconds => seconds(text).map(drop).ok_or(ParameterFault::Seconds),
            Self::Choice(expected) => {
                expected.contains(&text).then_some(()).ok_or(ParameterFault::Choice { expected })
            }
            Self::Encoding => is_utf8(text).then_some(()).ok_or(ParameterFault::Encoding),
            // As in libpq, an empty value sets no limit.
            Self::TlsMin | Self::TlsMax if text.is_empty() => Ok(()),
            Self::TlsMin => TlsVersion::lowest(text)
                .map(drop)
                .ok_or(ParameterFault::UnsupportedValue { supported: TLS_VERSIONS }),
            Self::TlsMax => TlsVersion::named(text)
                .map(drop)
                .ok_or(ParameterFault::UnsupportedValue { supported: TLS_VERSIONS }),
            Self::RequireAuth if text.is_empty() => Ok(()),
            Self::RequireAuth => {
                text.parse::<RequireAuth>().map(drop).map_err(ParameterFault::RequireAuth)
            }
        }
    }
}

/// Checks one item of a list of hosts. A character that no host contains comes from a mistake, and a password may follow it.
fn host(item: &str) -> Result<(), ParameterFault> {
    if item.starts_with(['/', '@']) {
        return Ok(());
    }
    if item.contains('@') {
        return Err(ParameterFault::Host);
    }
    // A zone may follow the address: fe80::1%eth0.
    let is_ipv6 = || {
        let address = item.split_once('%').map_or(item, |(address, _)| address);
        address.parse::<Ipv6Addr>().is_ok()
    };
    if item.contains([';', '=', '&']) || (item.contains(':') && !is_ipv6()) {
        return Err(ParameterFault::HostMark);
    }
    if !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParameterFault::HostNumber);
    }
    Ok(())
}

/// Returns whether libpq treats the character as white space: `isspace` in the C locale. Rust's `is_ascii_whitespace`
/// does not include 0x0b.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// Like [`is_space`], for a byte.
pub(super) fn is_space_byte(byte: u8) -> bool {
    is_space(char::from(byte))
}

/// Returns the items of a list. The empty text has no items, a single comma separates two empty items.
// N48.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(move |_| !text.is_empty())
}

/// Parses a port: 1 to 65535. White space around it is allowed.
pub(super) fn port(text: &str) -> Option<u16> {
    integer(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// Parses an IPv4 or IPv6 address without brackets and without a zone.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Parses a decimal number of 32 bits, as `strtol` does. White space around it is allowed.
pub(super) fn integer(text: &str) -> Option<i32> {
    text.trim_matches(is_space).parse().ok()
}

/// Parses a number of SCRAM iterations: 1 to the maximum that PostgreSQL can be set to. White space around it is allowed.
pub(super) fn iterations(text: &str) -> Option<u32> {
    integer(text).and_then(|count| u32::try_from(count).ok()).filter(|count| *count != 0)
}

/// Parses a number of seconds. A negative number counts as zero. libpq does not accept decimals, this function does.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim_matches(is_space);
    let Some((whole, decimals)) = text.split_once('.') else {
        return integer(text)
            .map(|whole| Duration::from_secs(u64::try_from(whole).unwrap_or_default()));
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return None;
    }
    let whole = u64::try_from(integer(whole)?).ok()?;
    let millis: u64 = format!("{decimals:0<3}").parse().ok()?;
    Some(Duration::from_secs(whole) + Duration::from_millis(millis))
}

/// Formats a duration for [`seconds`]. It is rounded up to milliseconds, so that a duration that is not zero never becomes
/// zero, which means "no limit".
pub(super) fn seconds_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let millis = duration.subsec_nanos().div_ceil(1_000_000);
    // 999.9… ms round up to a second.
    let (seconds, millis) =
        if millis == 1_000 { (seconds.saturating_add(1), 0) } else { (seconds, millis) };
    match i32::try_from(seconds) {
        Err(_) => i32::MAX.to_string(),
        Ok(seconds) if millis == 0 => seconds.to_string(),
        Ok(seconds) => format!("{seconds}.{millis:03}"),
    }
}

/// Converts a duration to whole units, rounded up, at most the maximum of 32 bits.
pub(super) fn whole(duration: Duration, unit: Duration) -> i32 {
    let units = duration.as_nanos().div_ceil(unit.as_nanos().max(1));
    i32::try_from(units).unwrap_or(i32::MAX)
}

/// Returns whether the text is a name of UTF-8, or `auto`, or empty. As in the server, case and punctuation do not matter.
fn is_utf8(text: &str) -> bool {
    let name: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    text.is_empty()
        || ["utf8", "unicode", "auto"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The separators between the pairs of other connection strings: those of ADO.NET, of lists, of URLs.
pub(super) const SEPARATORS: [char; 3] = [';', ',', '&'];

/// Returns whether a value is a connection string, or contains one with a password.
fn is_nested(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if lower.contains("postgres://") || lower.contains("postgresql://") {
        return true;
    }
    lower.match_indices("password").any(|(at, word)| {
        let (before, rest) = lower.split_at(at);
        let starts =
            before.chars().next_back().is_none_or(|c| is_space(c) || SEPARATORS.contains(&c));
        starts
            && rest
                .strip_prefix(word)
                .is_some_and(|rest| rest.trim_start_matches(is_space).starts_with('='))
    })
}

//! The forms that values take: words, numbers, lists.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::error::{ConfigError, Fault, Place};
use super::keys::Key;

/// An enumeration whose variants are words of a parameter.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident of $key:expr, all in $words:ident:
     $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+) => {
        pub(super) const $words: &[&str] = &[$($word),+];

        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The word in a connection string.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ConfigError;

            /// Reads the word of a connection string. Case matters, as in libpq.
            fn from_str(text: &str) -> Result<Self, ConfigError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(ConfigError::new(
                        Fault::Choice { expected: $words },
                        Some($key.name()),
                        Place::Call,
                    )),
                }
            }
        }
    };
}

words! {
    /// Whether the connection is encrypted, and what of the server's certificate is checked.
    SslMode of Key::Sslmode, all in SSL_MODES:
    /// Never encrypted.
    Disable = "disable",
    /// Encrypted only if the server refuses clear text.
    Allow = "allow",
    /// Encrypted if the server offers it. libpq's default.
    #[default]
    Prefer = "prefer",
    /// Encrypted, the certificate is not checked.
    Require = "require",
    /// Encrypted, the certificate must come from a trusted authority.
    VerifyCa = "verify-ca",
    /// Encrypted, and the certificate must also name the host.
    VerifyFull = "verify-full",
}

words! {
    /// Which servers of a list are acceptable.
    TargetSessionAttrs of Key::TargetSessionAttrs, all in TARGET_SESSION_ATTRS:
    /// Any server. libpq's default.
    #[default]
    Any = "any",
    /// Sessions accept writes by default.
    ReadWrite = "read-write",
    /// Sessions do not accept writes by default.
    ReadOnly = "read-only",
    /// The server is not in recovery: the only kind that accepts `LISTEN`.
    Primary = "primary",
    /// The server is in recovery.
    Standby = "standby",
    /// A standby if there is one, any server otherwise.
    PreferStandby = "prefer-standby",
}

words! {
    /// In which order the servers of a list are tried.
    LoadBalanceHosts of Key::LoadBalanceHosts, all in LOAD_BALANCE_HOSTS:
    /// In the order in which they were given. libpq's default.
    #[default]
    Disable = "disable",
    /// Hosts in random order, then the addresses of each host in random order.
    Random = "random",
}

/// What a value must look like to be kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Any text.
    Text,
    /// Names, addresses and socket directories between commas.
    Hosts,
    /// Ports between commas, each of which may be empty.
    Ports,
    /// IP addresses between commas, each of which may be empty.
    Addresses,
    /// A number of 32 bits.
    Integer,
    /// A number of seconds, with up to three decimals.
    Seconds,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A name of UTF-8.
    Encoding,
}

impl Form {
    /// Checks a value.
    pub(super) fn check(self, text: &str) -> Result<(), Fault> {
        match self {
            // A connection string, or a piece of a URL, put here by mistake would show its
            // password. N49.
            Self::Text | Self::Hosts if is_nested(text) => Err(Fault::Nested),
            Self::Hosts => list(text)
                .all(|item| item.starts_with(['/', '@']) || !item.contains('@'))
                .then_some(())
                .ok_or(Fault::Host),
            Self::Text => Ok(()),
            Self::Ports => list(text)
                .all(|item| item.is_empty() || port(item).is_some())
                .then_some(())
                .ok_or(Fault::Port),
            Self::Addresses => list(text)
                .all(|item| item.is_empty() || address(item).is_some())
                .then_some(())
                .ok_or(Fault::Address),
            Self::Integer => integer(text).map(drop).ok_or(Fault::Integer),
            Self::Seconds => seconds(text).map(drop).ok_or(Fault::Seconds),
            Self::Choice(expected) => {
                expected.contains(&text).then_some(()).ok_or(Fault::Choice { expected })
            }
            Self::Encoding => is_utf8(text).then_some(()).ok_or(Fault::Encoding),
        }
    }
}

/// White space of libpq: `isspace` in the C locale. Rust's `is_ascii_whitespace` lacks 0x0b.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// The items of a list. No text is no list, a lone comma is two empty items. N48.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(move |_| !text.is_empty())
}

/// A port: 1 to 65535, with white space around it if need be.
pub(super) fn port(text: &str) -> Option<u16> {
    integer(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// An IPv4 or IPv6 address without brackets and without a zone.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// A number as `strtol` reads it in base 10, white space around it allowed, within 32 bits.
pub(super) fn integer(text: &str) -> Option<i32> {
    text.trim_matches(is_space).parse().ok()
}

/// A number of seconds. Not positive is zero. Decimals are ours: libpq knows whole seconds only.
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

/// The text of a duration for [`seconds`], rounded up to milliseconds, so that what is not zero
/// never becomes "no limit".
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

/// A duration in whole units, rounded up, at most what 32 bits hold.
pub(super) fn whole(duration: Duration, unit: Duration) -> i32 {
    let units = duration.as_nanos().div_ceil(unit.as_nanos().max(1));
    i32::try_from(units).unwrap_or(i32::MAX)
}

/// Names of UTF-8 as the server knows them (case and punctuation do not matter there), and `auto`.
fn is_utf8(text: &str) -> bool {
    let name: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    text.is_empty()
        || ["utf8", "unicode", "auto"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a value is a connection string itself, or holds one with a password in it.
fn is_nested(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if lower.contains("postgres://") || lower.contains("postgresql://") {
        return true;
    }
    lower.match_indices("password").any(|(at, word)| {
        let (before, rest) = lower.split_at(at);
        let starts = before.chars().next_back().is_none_or(is_space);
        starts
            && rest
                .strip_prefix(word)
                .is_some_and(|rest| rest.trim_start_matches(is_space).starts_with('='))
    })
}

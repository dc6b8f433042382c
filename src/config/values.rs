//! The words that parameters take as values, as enumerations.

use std::fmt;
use std::str::FromStr;

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

words! {
    /// How TLS begins on a connection.
    SslNegotiation of Key::Sslnegotiation, all in SSL_NEGOTIATIONS:
    /// The client asks whether the server does TLS, and begins it when the server says so.
    #[default]
    Postgres = "postgres",
    /// TLS from the first byte: one round trip less, PostgreSQL 17 and later.
    Direct = "direct",
}

words! {
    /// Whether a client certificate is sent.
    SslCertMode of Key::Sslcertmode, all in SSL_CERT_MODES:
    /// Never, even if there is one.
    Disable = "disable",
    /// If the server asks for one and there is one.
    #[default]
    Allow = "allow",
    /// The server must ask for it: otherwise the connection fails.
    Require = "require",
}

/// What `min_protocol_version` and `max_protocol_version` take. 3.1 never existed. N12.
pub(super) const PROTOCOL_VERSIONS: &[&str] = &["3.0", "3.2", "latest"];

/// A version of TLS. Older ones are never spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2, `TLSv1.2`.
    V1_2,
    /// TLS 1.3, `TLSv1.3`.
    V1_3,
}

impl TlsVersion {
    /// The word in a connection string.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "TLSv1.2",
            Self::V1_3 => "TLSv1.3",
        }
    }

    /// The lowest version that is spoken when this is the lowest one that the user allows. As in
    /// libpq, case does not matter. What allows older versions is kept to by not speaking them.
    pub(super) fn lowest(text: &str) -> Option<Self> {
        let older = ["TLSv1", "TLSv1.1"].iter().any(|word| text.eq_ignore_ascii_case(word));
        if older { Some(Self::V1_2) } else { Self::named(text) }
    }

    /// The version of that name. As in libpq, case does not matter.
    pub(super) fn named(text: &str) -> Option<Self> {
        [Self::V1_2, Self::V1_3]
            .into_iter()
            .find(|version| text.eq_ignore_ascii_case(version.as_str()))
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

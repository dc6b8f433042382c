//! Enumerations for the parameters whose values are fixed words.

use std::fmt;
use std::str::FromStr;

use super::error::{ConfigError, Location, ParameterFault};
use super::keys::ParameterKey;

/// Declares an enumeration whose variants are the words of a parameter.
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
            /// Returns the word that is written in a connection string.
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

            /// Parses the word of a connection string. Case matters, as in libpq.
            fn from_str(text: &str) -> Result<Self, ConfigError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(ConfigError::new(
                        ParameterFault::Choice { expected: $words },
                        Some($key.name()),
                        Location::Call,
                    )),
                }
            }
        }
    };
}

words! {
    /// The mode of TLS: whether the connection is encrypted, and how the server's certificate is checked.
    SslMode of ParameterKey::Sslmode, all in SSL_MODES:
    /// Never encrypted.
    Disable = "disable",
    /// Encrypted only if the server refuses an unencrypted session.
    Allow = "allow",
    /// Encrypted if the server offers it. libpq's default.
    #[default]
    Prefer = "prefer",
    /// Encrypted. The certificate is not checked.
    Require = "require",
    /// Encrypted. A trusted authority must have issued the certificate.
    VerifyCa = "verify-ca",
    /// Encrypted. A trusted authority must have issued the certificate, and the certificate must name the host.
    VerifyFull = "verify-full",
}

words! {
    /// The kind of server that is accepted.
    TargetSessionAttrs of ParameterKey::TargetSessionAttrs, all in TARGET_SESSION_ATTRS:
    /// Any server. libpq's default.
    #[default]
    Any = "any",
    /// A server whose sessions accept writes by default.
    ReadWrite = "read-write",
    /// A server whose sessions do not accept writes by default.
    ReadOnly = "read-only",
    /// A server that is not in recovery. Only such a server accepts `LISTEN`.
    Primary = "primary",
    /// A server that is in recovery.
    Standby = "standby",
    /// A standby if one can be reached, otherwise any server.
    PreferStandby = "prefer-standby",
}

words! {
    /// The order in which the servers of a list are tried.
    LoadBalanceHosts of ParameterKey::LoadBalanceHosts, all in LOAD_BALANCE_HOSTS:
    /// The order in which they were given. libpq's default.
    #[default]
    Disable = "disable",
    /// A random order of the hosts, and of the addresses of each host.
    Random = "random",
}

words! {
    /// The way in which TLS begins on a connection.
    SslNegotiation of ParameterKey::Sslnegotiation, all in SSL_NEGOTIATIONS:
    /// The client sends SSLRequest, and begins TLS if the server accepts it.
    #[default]
    Postgres = "postgres",
    /// TLS begins with the first byte, which saves one round trip. Needs PostgreSQL 17 or later.
    Direct = "direct",
}

words! {
    /// The condition under which a client certificate is sent.
    SslCertMode of ParameterKey::Sslcertmode, all in SSL_CERT_MODES:
    /// It is never sent.
    Disable = "disable",
    /// It is sent if the server asks for one and the client has one.
    #[default]
    Allow = "allow",
    /// The server must ask for it. Otherwise the attempt fails.
    Require = "require",
}

/// The values of `min_protocol_version` and `max_protocol_version`. Version 3.1 was never released.
pub(super) const PROTOCOL_VERSIONS: &[&str] = &["3.0", "3.2", "latest"];

/// A version of TLS. Older versions are not supported.
///
/// ```
/// use pgbell::Config;
/// use pgbell::config::TlsVersion;
///
/// let config: Config = "sslmode=require ssl_min_protocol_version=TLSv1.3".parse().unwrap();
/// assert_eq!(config.get_ssl_min_protocol_version(), Some(TlsVersion::V1_3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2, `TLSv1.2`.
    V1_2,
    /// TLS 1.3, `TLSv1.3`.
    V1_3,
}

impl TlsVersion {
    /// Returns the word that is written in a connection string.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "TLSv1.2",
            Self::V1_3 => "TLSv1.3",
        }
    }

    /// The lowest version to use, from the text of `ssl_min_protocol_version`. As in libpq, case does not matter.
    /// A version that is too old to be supported counts as the oldest supported one.
    pub(super) fn lowest(text: &str) -> Option<Self> {
        let older = ["TLSv1", "TLSv1.1"].iter().any(|word| text.eq_ignore_ascii_case(word));
        if older { Some(Self::V1_2) } else { Self::named(text) }
    }

    /// The version with this name. As in libpq, case does not matter.
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

//! The kinds of encryption that an attempt tries, and their order.

use crate::config::SslMode;

/// The encryption of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encryption {
    /// No encryption.
    Clear,
    /// TLS if the server accepts SSLRequest, otherwise no encryption, on the same connection.
    TlsIfOffered,
    /// TLS after SSLRequest. The connection fails if the server declines.
    Tls,
    /// TLS from the first byte: PostgreSQL 17 and later.
    // N93.
    DirectTls,
}

impl Encryption {
    /// Returns the kinds to try, in libpq's order, each on a connection of its own. A Unix socket has no TLS, whatever
    /// `sslmode` is.
    // N92.
    #[must_use]
    pub fn methods(mode: SslMode, direct: bool, is_unix: bool) -> &'static [Self] {
        match (mode, direct) {
            _ if is_unix => &[Self::Clear],
            (SslMode::Disable, _) => &[Self::Clear],
            (SslMode::Allow, _) => &[Self::Clear, Self::Tls],
            (SslMode::Prefer, _) => &[Self::TlsIfOffered, Self::Clear],
            (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull, true) => {
                &[Self::DirectTls]
            }
            (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull, false) => &[Self::Tls],
        }
    }

    /// Returns whether the connection may be encrypted.
    #[must_use]
    pub fn may_be_tls(self) -> bool {
        self != Self::Clear
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_requires_tls_never_tries_an_unencrypted_connection() {
        for direct in [false, true] {
            for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
                let methods = Encryption::methods(mode, direct, false);
                assert!(!methods.is_empty());
                for method in methods {
                    assert!(matches!(method, Encryption::Tls | Encryption::DirectTls));
                }
            }
        }
        assert_eq!(Encryption::methods(SslMode::Disable, false, false), [Encryption::Clear]);
        assert_eq!(Encryption::methods(SslMode::VerifyFull, true, true), [Encryption::Clear]);
    }
}

//! Clear or TLS: what is tried, and in which order.

use crate::config::SslMode;

/// What a connection is wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encryption {
    /// Nothing.
    Clear,
    /// TLS if the server answers yes to SSLRequest, else nothing, on the same connection.
    TlsIfOffered,
    /// TLS after SSLRequest, or no connection.
    Tls,
    /// TLS from the first byte. PostgreSQL 17 and later. N93.
    DirectTls,
}

impl Encryption {
    /// What is tried, in libpq's order, each on a connection of its own. A Unix socket has no TLS, whatever
    /// `sslmode` says. N92.
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

    /// Whether it can need TLS.
    #[must_use]
    pub fn may_be_tls(self) -> bool {
        self != Self::Clear
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mode_that_asks_for_tls_is_ever_tried_in_clear() {
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

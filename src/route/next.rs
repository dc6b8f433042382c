//! After a try that failed: what is tried next.

use super::Encryption;
use crate::{Error, ErrorKind};

/// How far a try had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// The server had not asked for authentication.
    Server,
    /// The server had asked for authentication: its rule for this kind of encryption was found.
    Rule,
    /// The server had let us in.
    Session,
}

/// What is tried next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The other kind of encryption, with the same address.
    Encryption,
    /// The next address of the same name; after the last, the next server.
    Address,
    /// The next server of the list.
    Server,
    /// Nothing: another server would not say anything else.
    Nothing,
}

impl Next {
    /// After `error`. `other` is the encryption that is left to try with the same address.
    ///
    /// As libpq does it, except that a certificate that is refused leads to the next server, that a wrong
    /// password leads nowhere, and that from TLS to the clear leads only that the server declined TLS or has no rule
    /// for it. N94, N173.
    #[must_use]
    pub fn after(error: &Error, reached: Reached, other: Option<Encryption>) -> Self {
        match (error.kind(), error.sqlstate()) {
            (ErrorKind::Config | ErrorKind::Misuse | ErrorKind::Pooler, _) => Self::Nothing,
            // It starts up, shuts down or recovers: on its other addresses too.
            (_, Some("57P03")) | (ErrorKind::Standby, _) => Self::Server,
            // A password that is wrong here is wrong everywhere, and each try counts against the role.
            (_, Some("28P01")) => Self::Nothing,
            _ if other.is_some_and(|other| other.is_left_after(error, reached)) => Self::Encryption,
            (ErrorKind::Connect | ErrorKind::Timeout, _) => Self::Address,
            (ErrorKind::Tls, _) => Self::Server,
            _ => Self::Nothing,
        }
    }
}

impl Encryption {
    /// Whether it is worth a try, and safe.
    fn is_left_after(self, error: &Error, reached: Reached) -> bool {
        match self {
            // The server must have declined TLS, or have no rule for it in its `pg_hba.conf`. Neither what we have
            // refused under TLS nor another refusal of the server is a reason to go on in the clear.
            Self::Clear => {
                let has_no_rule = error.sqlstate() == Some("28000");
                reached < Reached::Rule && (error.is_declined() || has_no_rule)
            }
            Self::TlsIfOffered | Self::Tls | Self::DirectTls => reached < Reached::Session,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DbError, Severity};

    fn server(code: &str) -> Error {
        Error::server("refused", DbError::new(Severity::Fatal, code, "no"))
    }

    #[test]
    fn a_refused_socket_leads_on_and_a_refused_password_does_not() {
        let next = |kind, reached, other| Next::after(&Error::new(kind, "x"), reached, other);
        let (clear, tls) = (Some(Encryption::Clear), Some(Encryption::Tls));
        assert_eq!(next(ErrorKind::Connect, Reached::Server, None), Next::Address);
        assert_eq!(next(ErrorKind::Connect, Reached::Server, tls), Next::Encryption);
        assert_eq!(next(ErrorKind::Connect, Reached::Server, clear), Next::Address);
        assert_eq!(next(ErrorKind::Connect, Reached::Session, clear), Next::Address);
        assert_eq!(next(ErrorKind::Auth, Reached::Server, None), Next::Nothing);
        assert_eq!(next(ErrorKind::Tls, Reached::Server, None), Next::Server);
        for other in [None, clear, tls] {
            assert_eq!(next(ErrorKind::Standby, Reached::Session, other), Next::Server);
            assert_eq!(next(ErrorKind::Config, Reached::Server, other), Next::Nothing);
            assert_eq!(next(ErrorKind::Pooler, Reached::Session, other), Next::Nothing);
            assert_eq!(Next::after(&server("28P01"), Reached::Server, other), Next::Nothing);
        }
        // No line of pg_hba.conf for this kind of encryption.
        assert_eq!(Next::after(&server("28000"), Reached::Server, clear), Next::Encryption);
        assert_eq!(Next::after(&server("28000"), Reached::Server, None), Next::Nothing);
        // Another refusal has nothing to do with the encryption.
        for code in ["53300", "08P01", "3D000", "XX000"] {
            assert_eq!(Next::after(&server(code), Reached::Server, clear), Next::Nothing, "{code}");
            assert_eq!(
                Next::after(&server(code), Reached::Server, tls),
                Next::Encryption,
                "{code}"
            );
        }
        // There is one, and it is not met.
        assert_eq!(Next::after(&server("28000"), Reached::Rule, clear), Next::Nothing);
        assert_eq!(Next::after(&server("28000"), Reached::Rule, tls), Next::Encryption);
    }

    #[test]
    fn where_the_server_has_declined_tls_the_clear_is_tried_and_nowhere_else() {
        let clear = Some(Encryption::Clear);
        for kind in [ErrorKind::Connect, ErrorKind::Tls] {
            let declined = Error::new(kind, "x").declined();
            assert_eq!(
                Next::after(&declined, Reached::Server, clear),
                Next::Encryption,
                "{kind:?}"
            );
        }
        for (kind, next) in [
            (ErrorKind::Connect, Next::Address),
            (ErrorKind::Timeout, Next::Address),
            (ErrorKind::Tls, Next::Server),
        ] {
            let error = Error::new(kind, "x");
            assert_eq!(Next::after(&error, Reached::Server, clear), next, "{kind:?}");
        }
    }

    /// A server that does not prove itself under TLS gets no second chance in the clear.
    #[test]
    fn what_we_have_refused_under_tls_is_not_tried_in_the_clear() {
        for kind in [ErrorKind::Auth, ErrorKind::Protocol, ErrorKind::Unsupported] {
            let after = |other| Next::after(&Error::new(kind, "x"), Reached::Server, Some(other));
            assert_eq!(after(Encryption::Clear), Next::Nothing, "{kind:?}");
            // The other way round it is: a password that may not travel in the clear may under TLS.
            assert_eq!(after(Encryption::Tls), Next::Encryption, "{kind:?}");
        }
    }
}

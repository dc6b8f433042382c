//! The choice of the next candidate after one that failed.

use super::Encryption;
use crate::error::{Error, ErrorKind};

/// The phase in which a candidate failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// The server had not requested authentication.
    Server,
    /// The server had requested authentication: its `pg_hba.conf` has a rule for this kind of encryption.
    Rule,
    /// The server had accepted the login.
    Session,
}

/// The next step of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAttempt {
    /// The other kind of encryption, with the same address.
    Encryption,
    /// The next address of the same name; after the last, the next server.
    Address,
    /// The next server of the list.
    Server,
    /// Nothing: another server would give the same answer.
    Nothing,
}

impl NextAttempt {
    /// Returns what to try after `error`. `other` is the encryption that is left to try with the same address.
    ///
    /// The choice is that of libpq, with three exceptions. After a rejected certificate the next server is tried. After a
    /// wrong password nothing is tried. An unencrypted connection is tried after TLS only if the server declined TLS or
    /// has no rule for it.
    // N94, N173.
    #[must_use]
    pub fn after(error: &Error, reached: Reached, other: Option<Encryption>) -> Self {
        match (error.kind(), error.sqlstate()) {
            (ErrorKind::Config | ErrorKind::Misuse | ErrorKind::Pooler, _) => Self::Nothing,
            // The server starts up, shuts down or recovers: its other addresses give the same answer.
            (_, Some("57P03")) | (ErrorKind::Standby, _) => Self::Server,
            // The password would be wrong on the other servers too, and each login attempt counts against the role.
            (_, Some("28P01")) => Self::Nothing,
            _ if other.is_some_and(|other| other.is_left_after(error, reached)) => Self::Encryption,
            (ErrorKind::Connect | ErrorKind::Timeout, _) => Self::Address,
            (ErrorKind::Tls, _) => Self::Server,
            _ => Self::Nothing,
        }
    }
}

impl Encryption {
    /// Returns whether it may succeed after `error`, and is safe to try.
    fn is_left_after(self, error: &Error, reached: Reached) -> bool {
        match self {
            // Only if the server has declined TLS, or has no rule for it in its `pg_hba.conf`. After any other refusal,
            // ours or the server's, an attacker could otherwise force an unencrypted connection.
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
    use crate::proto::wire::{DbError, Severity};

    fn server(code: &str) -> Error {
        Error::server("refused", DbError::new(Severity::Fatal, code, "no"))
    }

    #[test]
    fn another_candidate_is_tried_after_a_refused_socket_and_not_after_a_refused_password() {
        let next =
            |kind, reached, other| NextAttempt::after(&Error::new(kind, "x"), reached, other);
        let (clear, tls) = (Some(Encryption::Clear), Some(Encryption::Tls));
        assert_eq!(next(ErrorKind::Connect, Reached::Server, None), NextAttempt::Address);
        assert_eq!(next(ErrorKind::Connect, Reached::Server, tls), NextAttempt::Encryption);
        assert_eq!(next(ErrorKind::Connect, Reached::Server, clear), NextAttempt::Address);
        assert_eq!(next(ErrorKind::Connect, Reached::Session, clear), NextAttempt::Address);
        assert_eq!(next(ErrorKind::Auth, Reached::Server, None), NextAttempt::Nothing);
        assert_eq!(next(ErrorKind::Tls, Reached::Server, None), NextAttempt::Server);
        for other in [None, clear, tls] {
            assert_eq!(next(ErrorKind::Standby, Reached::Session, other), NextAttempt::Server);
            assert_eq!(next(ErrorKind::Config, Reached::Server, other), NextAttempt::Nothing);
            assert_eq!(next(ErrorKind::Pooler, Reached::Session, other), NextAttempt::Nothing);
            assert_eq!(
                NextAttempt::after(&server("28P01"), Reached::Server, other),
                NextAttempt::Nothing
            );
        }
        // No line of pg_hba.conf for this kind of encryption.
        assert_eq!(
            NextAttempt::after(&server("28000"), Reached::Server, clear),
            NextAttempt::Encryption
        );
        assert_eq!(
            NextAttempt::after(&server("28000"), Reached::Server, None),
            NextAttempt::Nothing
        );
        // Other refusals do not depend on the encryption.
        for code in ["53300", "08P01", "3D000", "XX000"] {
            assert_eq!(
                NextAttempt::after(&server(code), Reached::Server, clear),
                NextAttempt::Nothing,
                "{code}"
            );
            assert_eq!(
                NextAttempt::after(&server(code), Reached::Server, tls),
                NextAttempt::Encryption,
                "{code}"
            );
        }
        // There is such a line, and the login does not meet its condition.
        assert_eq!(
            NextAttempt::after(&server("28000"), Reached::Rule, clear),
            NextAttempt::Nothing
        );
        assert_eq!(
            NextAttempt::after(&server("28000"), Reached::Rule, tls),
            NextAttempt::Encryption
        );
    }

    #[test]
    fn an_unencrypted_connection_is_tried_only_if_the_server_declined_tls() {
        let clear = Some(Encryption::Clear);
        for kind in [ErrorKind::Connect, ErrorKind::Tls] {
            let declined = Error::new(kind, "x").declined();
            assert_eq!(
                NextAttempt::after(&declined, Reached::Server, clear),
                NextAttempt::Encryption,
                "{kind:?}"
            );
        }
        for (kind, next) in [
            (ErrorKind::Connect, NextAttempt::Address),
            (ErrorKind::Timeout, NextAttempt::Address),
            (ErrorKind::Tls, NextAttempt::Server),
        ] {
            let error = Error::new(kind, "x");
            assert_eq!(NextAttempt::after(&error, Reached::Server, clear), next, "{kind:?}");
        }
    }

    /// A server that does not prove its identity under TLS is not tried without TLS.
    #[test]
    fn no_unencrypted_connection_is_tried_after_a_server_was_rejected_under_tls() {
        for kind in [ErrorKind::Auth, ErrorKind::Protocol, ErrorKind::Unsupported] {
            let after =
                |other| NextAttempt::after(&Error::new(kind, "x"), Reached::Server, Some(other));
            assert_eq!(after(Encryption::Clear), NextAttempt::Nothing, "{kind:?}");
            // The reverse is allowed: a password that must not be sent unencrypted may be sent under TLS.
            assert_eq!(after(Encryption::Tls), NextAttempt::Encryption, "{kind:?}");
        }
    }
}

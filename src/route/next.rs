//! After a try that failed: what is tried next.

use super::Encryption;
use crate::{Error, ErrorKind};

/// How far a try had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// The server had not let us in.
    Server,
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
    /// As libpq does it, except that a certificate that is refused leads to the next server, and a wrong
    /// password leads nowhere. N94.
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
        let is_safe = match error.kind() {
            // The other kind did not come about, or the server says no: there may be another rule in its
            // `pg_hba.conf` for this one.
            ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Tls => true,
            _ if error.sqlstate().is_some() => true,
            // What we have refused under TLS is not asked for once more in the clear.
            _ => self.may_be_tls(),
        };
        is_safe && reached < Reached::Session
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
        let clear = Some(Encryption::Clear);
        assert_eq!(next(ErrorKind::Connect, Reached::Server, None), Next::Address);
        assert_eq!(next(ErrorKind::Connect, Reached::Server, clear), Next::Encryption);
        assert_eq!(next(ErrorKind::Connect, Reached::Session, clear), Next::Address);
        assert_eq!(next(ErrorKind::Auth, Reached::Server, None), Next::Nothing);
        assert_eq!(next(ErrorKind::Tls, Reached::Server, None), Next::Server);
        for other in [None, clear, Some(Encryption::Tls)] {
            assert_eq!(next(ErrorKind::Standby, Reached::Session, other), Next::Server);
            assert_eq!(next(ErrorKind::Config, Reached::Server, other), Next::Nothing);
            assert_eq!(next(ErrorKind::Pooler, Reached::Session, other), Next::Nothing);
            assert_eq!(Next::after(&server("28P01"), Reached::Server, other), Next::Nothing);
        }
        // No line of pg_hba.conf for this kind of encryption.
        assert_eq!(Next::after(&server("28000"), Reached::Server, clear), Next::Encryption);
        assert_eq!(Next::after(&server("28000"), Reached::Server, None), Next::Nothing);
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

//! After a try that failed: what is tried next.

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
    /// After `error`. `other` says whether there is another encryption to try.
    ///
    /// As libpq does it, except that a certificate that is refused leads to the next server. N94.
    #[must_use]
    pub fn after(error: &Error, reached: Reached, other: bool) -> Self {
        match (error.kind(), error.sqlstate()) {
            (ErrorKind::Config | ErrorKind::Misuse | ErrorKind::Pooler, _) => Self::Nothing,
            // It starts up, shuts down or recovers: on its other addresses too.
            (_, Some("57P03")) | (ErrorKind::Standby, _) => Self::Server,
            // Behind a refusal may stand a rule of `pg_hba.conf` for the other kind of encryption.
            _ if other && reached < Reached::Session => Self::Encryption,
            (ErrorKind::Connect | ErrorKind::Timeout, _) => Self::Address,
            (ErrorKind::Tls, _) => Self::Server,
            // A password that is wrong here is wrong everywhere.
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_socket_leads_on_and_a_refused_password_does_not() {
        let next = |kind, reached, other| Next::after(&Error::new(kind, "x"), reached, other);
        assert_eq!(next(ErrorKind::Connect, Reached::Server, false), Next::Address);
        assert_eq!(next(ErrorKind::Connect, Reached::Server, true), Next::Encryption);
        assert_eq!(next(ErrorKind::Connect, Reached::Session, true), Next::Address);
        assert_eq!(next(ErrorKind::Auth, Reached::Server, true), Next::Encryption);
        assert_eq!(next(ErrorKind::Auth, Reached::Server, false), Next::Nothing);
        assert_eq!(next(ErrorKind::Tls, Reached::Server, false), Next::Server);
        for other in [false, true] {
            assert_eq!(next(ErrorKind::Standby, Reached::Session, other), Next::Server);
            assert_eq!(next(ErrorKind::Config, Reached::Server, other), Next::Nothing);
            assert_eq!(next(ErrorKind::Pooler, Reached::Session, other), Next::Nothing);
        }
    }
}

//! What a new session is connected to.

use super::Rows;
use crate::route::ServerFacts;
use crate::{Error, ErrorKind};

/// Asks for them, in one round trip. Works on a standby and behind a pooler.
pub const FACTS_SQL: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), \
    pg_catalog.current_setting('transaction_read_only'), \
    pg_catalog.current_setting('idle_session_timeout', true), pg_catalog.inet_server_port()";

/// As [`FACTS_SQL`], for a role that may not call `inet_server_port()`: the port stays unknown.
pub const FACTS_WITHOUT_PORT_SQL: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), \
    pg_catalog.current_setting('transaction_read_only'), \
    pg_catalog.current_setting('idle_session_timeout', true)";

/// What the server says of itself and of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Process id of the server process that answered. Behind a pooler it is not that of BackendKeyData. N90.
    pub backend_pid: i32,
    /// Whether it accepts LISTEN.
    pub server: ServerFacts,
    /// The server ends sessions that are idle for some time, as a listener is.
    pub ends_idle_sessions: bool,
    /// The server process has no TCP connection: it is reached through a Unix socket, or it has no client of its own. N174.
    pub has_no_port: bool,
}

impl Facts {
    /// From the answer to [`FACTS_SQL`].
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] when it is none.
    pub fn from_rows(results: &[Rows]) -> Result<Self, Error> {
        let parse = || {
            let row = results.first()?.get(0)?;
            let text = |column| row.get(column);
            Some(Self {
                backend_pid: text(0)?.parse().ok()?,
                server: ServerFacts { in_recovery: text(1)? == "t", read_only: text(2)? == "on" },
                // NULL before PostgreSQL 14, which has no such setting.
                ends_idle_sessions: text(3).is_some_and(|timeout| timeout != "0"),
                has_no_port: row.len() > 4 && text(4).is_none(),
            })
        };
        parse().ok_or_else(|| {
            Error::new(ErrorKind::Protocol, "the server does not say what it is: not PostgreSQL?")
        })
    }
}

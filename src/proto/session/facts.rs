//! Facts about the server of a new session.

use std::time::Instant;

use super::{CommandId, Rows, Session};
use crate::error::{Error, ErrorKind};
use crate::proto::route::ServerFacts;

/// The query for [`SessionFacts`], in one round trip. It works on a standby and through a pooler.
pub(crate) const FACTS_SQL: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), \
    pg_catalog.current_setting('transaction_read_only'), \
    pg_catalog.current_setting('idle_session_timeout', true), pg_catalog.inet_server_port()";

/// As [`FACTS_SQL`], for a role that may not call `inet_server_port()`. The port is not known then.
#[allow(dead_code, reason = "only connections use it")]
pub(crate) const FACTS_WITHOUT_PORT_SQL: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), \
    pg_catalog.current_setting('transaction_read_only'), \
    pg_catalog.current_setting('idle_session_timeout', true)";

/// Facts about the server and the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionFacts {
    /// The process id of the backend that answered. Behind a pooler it is not that of BackendKeyData.
    pub backend_pid: i32,
    /// The facts that decide whether the server accepts LISTEN.
    pub server: ServerFacts,
    /// True if the server ends idle sessions, as that of a listener.
    pub ends_idle_sessions: bool,
    /// True if the backend has no TCP connection: its client uses a Unix socket, or it has no client of its own.
    pub has_no_port: bool,
}

impl SessionFacts {
    /// Sends the query for the facts.
    ///
    /// # Errors
    /// See [`Session::simple_query`].
    pub fn query(session: &mut Session, now: Instant) -> Result<CommandId, Error> {
        session.simple_query(now, FACTS_SQL)
    }

    /// Parses the answer to [`query`](Self::query).
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if it cannot be parsed.
    pub fn from_rows(results: &[Rows]) -> Result<Self, Error> {
        let parse = || {
            let row = results.first()?.get(0)?;
            let text = |column| row.get(column);
            Some(Self {
                backend_pid: text(0)?.parse().ok()?,
                server: ServerFacts { in_recovery: text(1)? == "t", read_only: text(2)? == "on" },
                // NULL before PostgreSQL 14, where the setting does not exist.
                ends_idle_sessions: text(3).is_some_and(|timeout| timeout != "0"),
                has_no_port: row.len() > 4 && text(4).is_none(),
            })
        };
        parse().ok_or_else(|| {
            Error::new(ErrorKind::Protocol, "the query for the facts of the server has no valid answer: the server may not be PostgreSQL")
        })
    }
}

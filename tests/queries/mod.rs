//! The queries that pgbell sends by itself, as a server receives them. A test that does not find its query in what was sent
//! fails.
#![allow(dead_code, reason = "not every test needs all of them")]

/// The facts about the server and the session, after the login.
pub(crate) const FACTS_SQL: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), \
    pg_catalog.current_setting('transaction_read_only'), \
    pg_catalog.current_setting('idle_session_timeout', true), pg_catalog.inet_server_port()";

/// The heartbeat query: the number of channels and a digest of their names.
pub(crate) const HEARTBEAT_SQL: &str = "SELECT pg_catalog.count(*), \
    pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(\
    pg_catalog.string_agg(c, ',' ORDER BY pg_catalog.convert_to(c, 'UTF8')), 'UTF8')), 'hex') \
    FROM pg_catalog.pg_listening_channels() AS c";

/// The heartbeat query after a refusal: the number of channels.
pub(crate) const HEARTBEAT_COUNT_SQL: &str =
    "SELECT pg_catalog.count(*) FROM pg_catalog.pg_listening_channels() AS c";

/// The heartbeat query after another refusal: any answer.
pub(crate) const HEARTBEAT_ANSWER_SQL: &str = "SELECT 'pgbell'";

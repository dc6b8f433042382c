//! The queries of heartbeats and their expected answers.
//!
//! EXECUTE of any function can be revoked, and a server that is not PostgreSQL may lack a function. If a query is refused,
//! the rest of the session uses a simpler one.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::proto::session::Rows;

/// Asks for the number of the session's channels and a digest of their names. The names are sorted and hashed in UTF-8,
/// with any encoding of the server.
pub(crate) const HEARTBEAT_SQL: &str = "SELECT pg_catalog.count(*), \
    pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(\
    pg_catalog.string_agg(c, ',' ORDER BY pg_catalog.convert_to(c, 'UTF8')), 'UTF8')), 'hex') \
    FROM pg_catalog.pg_listening_channels() AS c";

/// Asks for the number of the session's channels.
pub(crate) const HEARTBEAT_COUNT_SQL: &str =
    "SELECT pg_catalog.count(*) FROM pg_catalog.pg_listening_channels() AS c";

/// Asks for an answer of any kind. No function is called.
pub(crate) const HEARTBEAT_ANSWER_SQL: &str = "SELECT 'pgbell'";

/// The query of a heartbeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum HeartbeatQuery {
    #[default]
    Digest,
    Count,
    Answer,
}

impl HeartbeatQuery {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Digest => HEARTBEAT_SQL,
            Self::Count => HEARTBEAT_COUNT_SQL,
            Self::Answer => HEARTBEAT_ANSWER_SQL,
        }
    }

    /// Returns the query to use if this one is refused.
    pub(super) fn simpler(self) -> Option<Self> {
        match self {
            Self::Digest => Some(Self::Count),
            Self::Count => Some(Self::Answer),
            Self::Answer => None,
        }
    }
}

/// The expected answer: the number of channels and the digest of their names.
#[derive(Debug)]
pub(super) struct ExpectedChannels {
    pub(super) count: usize,
    digest: String,
}

impl ExpectedChannels {
    /// Returns the expected answer of a session that listens to these channels, which are sorted.
    pub(super) fn of<'a>(channels: impl Iterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        let mut count = 0_usize;
        for channel in channels {
            if count > 0 {
                hash.update(b",");
            }
            hash.update(channel);
            count = count.saturating_add(1);
        }
        let mut digest = String::new();
        // Without a channel the server returns NULL.
        if count > 0 {
            for byte in hash.finalize() {
                let _ = write!(digest, "{byte:02x}");
            }
        }
        Self { count, digest }
    }

    /// Returns true if this is the expected answer to this query. An answer to another one of the three queries does not
    /// match.
    pub(super) fn matches(&self, query: HeartbeatQuery, found: &[Rows]) -> bool {
        let Some(rows) = found.first() else { return false };
        let Some(row) = rows.get(0) else { return false };
        match query {
            HeartbeatQuery::Digest => {
                number(found) == Some(self.count)
                    && row.len() >= 2
                    && row.get(1).unwrap_or_default() == self.digest
            }
            HeartbeatQuery::Count => number(found) == Some(self.count) && row.len() == 1,
            HeartbeatQuery::Answer => row.get(0) == Some("pgbell"),
        }
    }
}

/// Returns true if `found`, the answer to [`HEARTBEAT_SQL`], says that the session listens to `channel` and to no other.
///
/// At the login this shows whether the server can answer heartbeat queries later.
#[allow(dead_code, reason = "only the delivery proof uses it")]
pub(crate) fn names_only(channel: &str, found: &[Rows]) -> bool {
    ExpectedChannels::of(std::iter::once(channel)).matches(HeartbeatQuery::Digest, found)
}

/// Returns the number of channels in the answer.
pub(super) fn number(found: &[Rows]) -> Option<usize> {
    found.first()?.get(0)?.get(0)?.parse().ok()
}

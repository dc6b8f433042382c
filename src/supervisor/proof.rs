//! What a session is asked to prove that it lives and listens to what it should, and what the answer must be.
//!
//! EXECUTE of any function may be revoked, and a server may know less than PostgreSQL does. Where a question is refused, an
//! easier one takes its place for the rest of the session. N155.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::session::Rows;

/// Asks what the session listens to: a count and a digest, however many channels there are. Sorted and hashed
/// in UTF-8, whatever the server's encoding is. N140.
pub const PROOF_SQL: &str = "SELECT pg_catalog.count(*), \
    pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(\
    pg_catalog.string_agg(c, ',' ORDER BY pg_catalog.convert_to(c, 'UTF8')), 'UTF8')), 'hex') \
    FROM pg_catalog.pg_listening_channels() AS c";

/// Asks only how many channels the session listens to.
pub const PROOF_COUNT_SQL: &str =
    "SELECT pg_catalog.count(*) FROM pg_catalog.pg_listening_channels() AS c";

/// Asks for an answer of any kind. No function is called.
pub const PROOF_OF_LIFE_SQL: &str = "SELECT 'pgbell'";

/// What is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Question {
    #[default]
    Digest,
    Count,
    Life,
}

impl Question {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Digest => PROOF_SQL,
            Self::Count => PROOF_COUNT_SQL,
            Self::Life => PROOF_OF_LIFE_SQL,
        }
    }

    /// What to ask where this is refused.
    pub(super) fn easier(self) -> Option<Self> {
        match self {
            Self::Digest => Some(Self::Count),
            Self::Count => Some(Self::Life),
            Self::Life => None,
        }
    }
}

/// The right answer: how many channels there are, and the digest of their names.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) count: usize,
    digest: String,
}

impl Expected {
    /// Of a session that listens to these channels, sorted.
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
        // No channel: the server says NULL.
        if count > 0 {
            for byte in hash.finalize() {
                let _ = write!(digest, "{byte:02x}");
            }
        }
        Self { count, digest }
    }

    /// Whether this is the answer. The three kinds of answers are never taken for each other.
    pub(super) fn is_met(&self, question: Question, found: &[Rows]) -> bool {
        let Some(rows) = found.first() else { return false };
        let Some(row) = rows.get(0) else { return false };
        match question {
            Question::Digest => {
                number(found) == Some(self.count)
                    && row.len() >= 2
                    && row.get(1).unwrap_or_default() == self.digest
            }
            Question::Count => number(found) == Some(self.count) && row.len() == 1,
            Question::Life => row.get(0) == Some("pgbell"),
        }
    }
}

/// Whether `found`, the answer to [`PROOF_SQL`], says that the session listens to `channel` and to no other. Of a session
/// that is set up and listens to one channel: whether such an answer can prove it later.
#[must_use]
pub fn names_only(channel: &str, found: &[Rows]) -> bool {
    Expected::of(std::iter::once(channel)).is_met(Question::Digest, found)
}

/// How many channels the server names.
pub(super) fn number(found: &[Rows]) -> Option<usize> {
    found.first()?.get(0)?.get(0)?.parse().ok()
}

//! The supported queries with an aggregate: the number of channels of a session, and a digest of their names.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::select::Value;
use super::token::{Kind, Token};

/// The tokens of the query for both, without `pg_catalog.` before the functions.
const DIGEST: &str = "select count ( * ) , encode ( sha256 ( convert_to ( string_agg ( c , ',' order by \
    convert_to ( c , 'UTF8' ) ) , 'UTF8' ) ) , 'hex' ) from pg_listening_channels ( ) as c";

/// The same query without the digest.
const COUNT: &str = "select count ( * ) from pg_listening_channels ( ) as c";

/// A heartbeat query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeartbeatQuery {
    Digest,
    Count,
}

impl HeartbeatQuery {
    /// Returns the heartbeat query that has these tokens, if there is one.
    pub(super) fn of(tokens: &[Token<'_>]) -> Option<Self> {
        [(DIGEST, Self::Digest), (COUNT, Self::Count)]
            .into_iter()
            .find_map(|(expected, query)| is(tokens, expected).then_some(query))
    }

    /// Returns the names of its columns.
    pub(super) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Digest => &["count", "encode"],
            Self::Count => &["count"],
        }
    }

    /// Returns its only row.
    pub(super) fn row(self, channels: &BTreeSet<String>) -> Vec<Value> {
        let all: Vec<&str> = channels.iter().map(String::as_str).collect();
        let digest = Sha256::digest(all.join(","));
        let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let row = [Some(all.len().to_string()), (!all.is_empty()).then_some(hex)];
        row.into_iter().take(self.columns().len()).collect()
    }
}

fn is(tokens: &[Token<'_>], query: &str) -> bool {
    let mut expected = query.split_whitespace();
    let mut rest = tokens.iter();
    while let Some(token) = rest.next() {
        if matches!(&token.kind, Kind::Word(word) if word == "pg_catalog") {
            rest.next();
        } else if expected.next().is_none_or(|word| !word.eq_ignore_ascii_case(token.raw)) {
            return false;
        }
    }
    expected.next().is_none()
}

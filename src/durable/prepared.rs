//! [`Prepared`]: a statement that the server keeps, so that it is not parsed and planned each time.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// How long a statement is kept. Its plan is one for the tables as they were: a queue that was empty then may have many rows now.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// The session that keeps a statement, by its number in a [`LogSession`](super::session::LogSession), and since when.
#[derive(Debug, Clone, Copy)]
struct Kept {
    session: u64,
    since: Instant,
}

#[derive(Debug)]
pub(super) struct Prepared {
    sql: String,
    name: String,
    kept: Option<Kept>,
}

impl Prepared {
    /// The name has the hash of the text: behind a pooler, clients share the sessions of the server, and with them the statements.
    pub(super) fn new(sql: String) -> Self {
        let hash = Sha256::digest(&sql);
        let hash = hash.iter().take(16).fold(0_u128, |hash, byte| hash << 8 | u128::from(*byte));
        Self { sql, name: format!("pgbell_{hash:032x}"), kept: None }
    }

    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether a session has it, and its plan is not too old.
    pub(super) fn is_kept(&self, session: u64, now: Instant) -> bool {
        self.kept.is_some_and(|kept| {
            kept.session == session && now.saturating_duration_since(kept.since) < KEPT_FOR
        })
    }

    /// Records that a session has it now.
    pub(super) fn keep(&mut self, session: u64, since: Instant) {
        self.kept = Some(Kept { session, since });
    }

    /// Lets the next use prepare it again.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }
}

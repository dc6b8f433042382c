//! [`MemoryOutbox`]: a log in memory, with the visibility of PostgreSQL.
//!
//! ```text
//! MemoryTransaction ─ add, commit ─▶ Store ─ read ─▶ MemoryCursor
//!         └─ ack ─▶ StoredCursors ◀─ take, ack, renew ──┘
//! ```
//! Both are under one lock, as one statement of a server is one step. What the functions of a log do in SQL, [`StoredCursors`] does here.

mod changes;
mod cursor;
mod record;
mod store;
mod stored_cursors;
#[cfg(test)]
mod tests;
mod transaction;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::changes::Changes;
pub(super) use self::cursor::{MemoryCursor, MemoryPage};
use self::record::Content;
pub(super) use self::record::MemoryRecord;
use self::store::{FIRST_XID, Store};
use self::stored_cursors::StoredCursors;
pub(super) use self::stored_cursors::{AckRefusal, StoredPosition};
pub use self::transaction::MemoryTransaction;
use super::cursor_builder::{CursorBuilder, Target};

/// A log in memory, for tests without a server.
///
/// It has the visibility of PostgreSQL, and the test decides when each transaction commits: records get their ids when they are added, and are
/// visible when their transaction has committed. So a test can show that a program handles records that commit late, in another order than that
/// of their ids, and that the effects of a transaction which is rolled back are not read.
///
/// A clone is the same log.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), pgbell::Error> {
/// use pgbell::durable::MemoryOutbox;
///
/// let log = MemoryOutbox::new();
/// let mut cursor = log.cursor("mail").open().await?;
/// let (mut slow, mut fast) = (log.begin(), log.begin());
/// slow.add("order 1", "created");
/// fast.add("order 2", "created");
///
/// fast.commit();
/// let batch = cursor.next().await?;
/// assert_eq!(batch.get(0).unwrap().key(), "order 2");
/// batch.ack().await?;
///
/// slow.commit();
/// assert_eq!(cursor.next().await?.get(0).unwrap().key(), "order 1");
/// # Ok(())
/// # }
/// ```
///
/// As in PostgreSQL, nothing keeps two open transactions from adding records of one key. Their records are in order only if the second one begins to
/// add after the first one has committed, which the lock of a row ensures in a database.
///
/// # Memory
/// Every record is kept until the last clone of the log is dropped.
#[derive(Clone)]
pub struct MemoryOutbox {
    shared: Arc<MemoryShared>,
}

/// What the clones, transactions and cursors of a log share.
pub(super) struct MemoryShared {
    log: Mutex<MemoryLog>,
    changes: Changes,
}

pub(super) struct MemoryLog {
    store: Store<Content>,
    cursors: StoredCursors,
}

impl MemoryOutbox {
    /// Makes an empty log.
    #[must_use]
    pub fn new() -> Self {
        let log = MemoryLog { store: Store::new(FIRST_XID), cursors: StoredCursors::default() };
        let shared = MemoryShared { log: Mutex::new(log), changes: Changes::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Begins a transaction.
    pub fn begin(&self) -> MemoryTransaction {
        MemoryTransaction::new(self.shared.clone())
    }

    /// Adds a record in a transaction of its own, which commits, and returns its id.
    #[allow(clippy::must_use_candidate, reason = "it writes")]
    pub fn add(&self, key: impl Into<String>, payload: impl Into<String>) -> i64 {
        let mut transaction = self.begin();
        let id = transaction.add(key, payload);
        transaction.commit();
        id
    }

    /// Returns the settings of a cursor with this name, as [`Outbox::cursor`](crate::durable::Outbox::cursor) does. Those that are about sessions,
    /// notifications and the interval have no effect: a commit wakes the cursor.
    pub fn cursor(&self, name: impl Into<String>) -> CursorBuilder {
        CursorBuilder::new(Target::Memory(self.clone()), name.into())
    }

    /// Deletes a cursor and its position. Its reader gets [`ErrorKind::Schema`](crate::ErrorKind::Schema). Returns false if there was none.
    #[allow(clippy::must_use_candidate, reason = "it deletes")]
    pub fn drop_cursor(&self, name: &str) -> bool {
        let is_deleted = self.shared.lock().cursors.delete(name);
        self.shared.wake();
        is_deleted
    }
}

impl Default for MemoryOutbox {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryShared {
    fn lock(&self) -> MutexGuard<'_, MemoryLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everything that waits. The lock is not held, since wakers are code of the user.
    fn wake(&self) {
        self.changes.add();
    }
}

/// Shows no records, because these are data of the application.
impl fmt::Debug for MemoryOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.shared.lock();
        f.debug_struct("MemoryOutbox")
            .field("records", &log.store.iter().count())
            .field("cursors", &log.cursors.len())
            .finish()
    }
}

//! [`MemoryTransaction`]: a transaction that writes a log in memory.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::MemoryShared;
use super::record::Content;
use super::stored_cursors::{AckRefusal, StoredPosition};
use crate::durable::batch::Receipt;
use crate::error::Error;

/// A transaction of a [`MemoryOutbox`](super::MemoryOutbox).
///
/// Dropping it is a rollback.
///
/// ```
/// use pgbell::durable::MemoryOutbox;
///
/// let log = MemoryOutbox::new();
/// let mut transaction = log.begin();
/// transaction.add("order 1", "created");
/// transaction.rollback();
/// // The id of a record that was rolled back is not used again.
/// assert_eq!(log.add("order 2", "created"), 2);
/// ```
#[must_use = "dropping a transaction is a rollback"]
pub struct MemoryTransaction {
    shared: Arc<MemoryShared>,
    /// Assigned by the first write.
    xid: Option<u64>,
    /// It has ended.
    is_over: bool,
}

impl MemoryTransaction {
    pub(super) fn new(shared: Arc<MemoryShared>) -> Self {
        Self { shared, xid: None, is_over: false }
    }

    /// Adds a record, and returns its id. It is visible after [`commit`](Self::commit).
    #[allow(clippy::must_use_candidate, reason = "it writes")]
    pub fn add(&mut self, key: impl Into<String>, payload: impl Into<String>) -> i64 {
        self.insert(key.into(), payload.into(), None)
    }

    /// Adds a record with headers, JSON as text, which is not checked.
    #[allow(clippy::must_use_candidate, reason = "it writes")]
    pub fn add_with_headers(
        &mut self,
        key: impl Into<String>,
        payload: impl Into<String>,
        headers: impl Into<String>,
    ) -> i64 {
        self.insert(key.into(), payload.into(), Some(headers.into()))
    }

    fn insert(&mut self, key: String, payload: String, headers: Option<String>) -> i64 {
        let content = Content { key, payload, headers, written_at: SystemTime::now() };
        let mut log = self.shared.lock();
        let xid = *self.xid.get_or_insert_with(|| log.store.assign_xid());
        log.store.insert(xid, content)
    }

    /// Acknowledges a batch in this transaction, as the function `…_ack` of a log does: it is acknowledged when the transaction commits, and received
    /// again if it does not. Waits while another transaction that has acknowledged for this cursor is open.
    ///
    /// # Errors
    /// - [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if another reader has taken over the cursor, or if the position of the cursor has changed.
    /// - [`ErrorKind::Schema`](crate::ErrorKind::Schema) if the cursor was deleted.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing is acknowledged.
    pub async fn ack(&mut self, receipt: &Receipt) -> Result<(), Error> {
        Ok(self.store_ack(receipt.cursor, &receipt.into()).await?)
    }

    pub(super) async fn store_ack(
        &mut self,
        cursor: i64,
        after: &StoredPosition,
    ) -> Result<(), AckRefusal> {
        // Before the first look, so that no change is missed.
        let mut seen = self.shared.changes.count();
        loop {
            {
                let mut log = self.shared.lock();
                let xid = *self.xid.get_or_insert_with(|| log.store.assign_xid());
                if let Some(answer) = log.cursors.ack(cursor, after, Some(xid)) {
                    return answer;
                }
            }
            seen = self.shared.changes.wait(seen).await;
        }
    }

    /// Ends the transaction. Its records are visible, and wake the readers that wait.
    pub fn commit(mut self) {
        self.end(true);
    }

    /// Ends the transaction without its records.
    pub fn rollback(mut self) {
        self.end(false);
    }

    fn end(&mut self, is_commit: bool) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let Some(xid) = self.xid else { return };
        {
            let mut log = self.shared.lock();
            if is_commit {
                log.store.commit(xid);
            } else {
                log.store.abort(xid);
            }
            log.cursors.end(xid, is_commit);
        }
        self.shared.wake();
    }
}

impl Drop for MemoryTransaction {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl fmt::Debug for MemoryTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransaction").field("xid", &self.xid).finish_non_exhaustive()
    }
}

//! [`MemoryCursor`]: the part of a cursor that reads a log in memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::record::{Content, MemoryRecord};
use super::store::Store;
use super::stored_cursors::{AckRefusal, StoredPosition, Take};
use super::{MemoryOutbox, MemoryShared};
use crate::durable::position::{Position, Upper, Window};
use crate::durable::start::Start;

/// Returns where a new cursor begins.
fn position(start: Start, store: &mut Store<Content>) -> Position {
    let beginning = Position::beginning();
    if start == Start::Beginning {
        return beginning;
    }
    let snapshot = store.snapshot();
    let mut visible = store.iter().filter(|(_, xid, _)| snapshot.contains(*xid));
    let first = match start {
        Start::At(time) => visible.find(|(_, _, content)| time <= content.written_at),
        _ => None,
    };
    let first = first.map(|(id, ..)| id);
    drop(visible);
    let upper = store.upper(&beginning, snapshot);
    match first {
        // The records before are in the window, and acknowledged.
        Some(first) => {
            Position { window: Some(Window { last: first - 1, ..upper.into() }), ..beginning }
        }
        None => Position::at(upper),
    }
}

/// What one read returns.
#[derive(Debug)]
pub(in crate::durable) struct MemoryPage {
    /// The current position of the cursor.
    pub(in crate::durable) newest: StoredPosition,
    /// Up to where records were read. None if the place is at rest and there are none.
    pub(in crate::durable) upper: Option<Upper>,
    pub(in crate::durable) records: Arc<[MemoryRecord]>,
}

/// The part of a cursor that reads a log in memory.
pub(in crate::durable) struct MemoryCursor {
    shared: Arc<MemoryShared>,
    /// The number of the cursor in its log.
    pub(in crate::durable) id: i64,
    /// The changes before the last read.
    seen: u64,
}

impl MemoryOutbox {
    /// Takes a cursor, which is created if there is none, and returns it with the token of this reader. Returns none if another reader has it whose
    /// lease has not passed; `steal` takes it in any case. Waits for a transaction that has acknowledged for the cursor.
    ///
    /// # Cancel safety
    /// If the future is dropped, the cursor is not taken.
    pub(in crate::durable) async fn take(
        &self,
        name: &str,
        start: Start,
        lease: Duration,
        steal: bool,
    ) -> Option<(MemoryCursor, i64)> {
        // Before the first look, so that no change is missed.
        let mut seen = self.shared.changes.count();
        loop {
            let taken = {
                let mut log = self.shared.lock();
                if !log.cursors.has(name) {
                    let position = position(start, &mut log.store);
                    log.cursors.create(name, position);
                }
                log.cursors.take(name, lease, steal)
            };
            match taken {
                Take::Taken { cursor: id, token } => {
                    // The reader before this one is fenced.
                    self.shared.wake();
                    return Some((MemoryCursor { shared: self.shared.clone(), id, seen }, token));
                }
                Take::Leased => return None,
                Take::Locked => seen = self.shared.changes.wait(seen).await,
            }
        }
    }
}

impl MemoryCursor {
    /// Reads the first records after a place, which is the current position of the cursor or one after it. Returns none if the cursor was deleted.
    pub(in crate::durable) fn read(
        &mut self,
        place: &Position,
        limit: usize,
    ) -> Option<MemoryPage> {
        // Before the read, so that a change after it ends the next wait.
        self.seen = self.shared.changes.count();
        let mut log = self.shared.lock();
        let newest = log.cursors.newest(self.id)?.clone();
        let page = log.store.read(place, limit);
        let records = page.rows.into_iter().map(MemoryRecord::from).collect();
        Some(MemoryPage { newest, upper: page.upper, records })
    }

    /// Returns the stored position. Returns none if the cursor was deleted.
    pub(in crate::durable) fn newest(&self) -> Option<StoredPosition> {
        self.shared.lock().cursors.newest(self.id).cloned()
    }

    /// Acknowledges a batch. `after` has the position after it, and the numbers of the position from which it was read. Waits while a transaction is
    /// open that has acknowledged for this cursor.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing is acknowledged.
    pub(in crate::durable) async fn ack(&self, after: &StoredPosition) -> Result<(), AckRefusal> {
        let mut seen = self.shared.changes.count();
        loop {
            if let Some(answer) = self.shared.lock().cursors.ack(self.id, after, None) {
                return answer;
            }
            seen = self.shared.changes.wait(seen).await;
        }
    }

    /// Extends the lease. Returns false if another reader has the cursor, or if it was deleted.
    pub(in crate::durable) fn renew(&self, token: i64) -> bool {
        self.shared.lock().cursors.renew(self.id, token)
    }

    /// Ends the lease, so that another reader can take the cursor at once.
    pub(in crate::durable) fn release(&self, token: i64) {
        self.shared.lock().cursors.release(self.id, token);
        self.shared.wake();
    }

    /// Waits until something has changed since the last read: a commit, another reader, the end of the cursor.
    ///
    /// # Cancel safety
    /// If the future is dropped, the change is not lost.
    pub(in crate::durable) async fn wait(&mut self) {
        self.seen = self.shared.changes.wait(self.seen).await;
    }
}

impl fmt::Debug for MemoryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCursor").field("id", &self.id).finish_non_exhaustive()
    }
}

//! [`StoredCursors`]: the cursors of a log in memory, and the rules of their positions.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::durable::position::Position;

/// A position with its two numbers: as it is stored, or as a receipt has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::durable) struct StoredPosition {
    /// Each change of the position or of the token has the next number. In a receipt it is that of the position from which was read.
    pub(in crate::durable) seq: i64,
    /// Each reader that takes the cursor has the next number.
    pub(in crate::durable) token: i64,
    pub(in crate::durable) position: Position,
}

/// Why an acknowledgement is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::durable) enum AckRefusal {
    /// Another reader has taken the cursor.
    Fenced,
    /// The position has changed since the batch was read.
    Stale,
    /// The cursor was deleted.
    NoCursor,
}

#[derive(Debug)]
struct StoredCursor {
    name: String,
    newest: StoredPosition,
    /// An acknowledgement in a transaction that is open, with its xid.
    open: Option<(u64, StoredPosition)>,
    lease: Duration,
    /// None if no reader has the cursor.
    leased_until: Option<Instant>,
}

/// The cursors, by their numbers.
#[derive(Debug, Default)]
pub(super) struct StoredCursors {
    cursors: BTreeMap<i64, StoredCursor>,
    last: i64,
}

/// The outcome of an attempt to take a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    Taken {
        cursor: i64,
        token: i64,
    },
    /// Another reader has it.
    Leased,
    /// A transaction that has acknowledged for it is open.
    Locked,
}

impl StoredCursors {
    pub(super) fn len(&self) -> usize {
        self.cursors.len()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.cursors.values().any(|cursor| cursor.name == name)
    }

    /// Creates a cursor, which no reader has.
    pub(super) fn create(&mut self, name: &str, position: Position) {
        self.last += 1;
        let newest = StoredPosition { seq: 1, token: 0, position };
        let name = name.to_owned();
        let cursor =
            StoredCursor { name, newest, open: None, lease: Duration::ZERO, leased_until: None };
        self.cursors.insert(self.last, cursor);
    }

    pub(super) fn delete(&mut self, name: &str) -> bool {
        let before = self.cursors.len();
        self.cursors.retain(|_, cursor| cursor.name != name);
        self.cursors.len() < before
    }

    /// Gives a cursor to a reader, unless another one has it whose lease has not passed. `steal` takes it in any case.
    pub(super) fn take(&mut self, name: &str, lease: Duration, steal: bool) -> Take {
        let mut cursors = self.cursors.iter_mut();
        let Some((number, cursor)) = cursors.find(|(_, cursor)| cursor.name == name) else {
            return Take::Leased;
        };
        let now = Instant::now();
        if !steal && cursor.leased_until.is_some_and(|until| now < until) {
            return Take::Leased;
        }
        if cursor.open.is_some() {
            return Take::Locked;
        }
        cursor.newest.seq += 1;
        cursor.newest.token += 1;
        cursor.lease = lease;
        cursor.leased_until = Some(now + lease);
        Take::Taken { cursor: *number, token: cursor.newest.token }
    }

    /// Extends the lease of a reader. Returns false if the cursor is not its own any more.
    pub(super) fn renew(&mut self, cursor: i64, token: i64) -> bool {
        let cursor = self.cursors.get_mut(&cursor).filter(|cursor| cursor.newest.token == token);
        cursor.map(|cursor| cursor.leased_until = Some(Instant::now() + cursor.lease)).is_some()
    }

    /// Ends the lease of a reader.
    pub(super) fn release(&mut self, cursor: i64, token: i64) {
        let cursor = self.cursors.get_mut(&cursor).filter(|cursor| cursor.newest.token == token);
        if let Some(cursor) = cursor {
            cursor.leased_until = None;
        }
    }

    pub(super) fn newest(&self, cursor: i64) -> Option<&StoredPosition> {
        self.cursors.get(&cursor).map(|cursor| &cursor.newest)
    }

    /// Stores the position after a batch, or, in a transaction, when it commits. Returns none if the answer depends on another transaction, which is
    /// open.
    pub(super) fn ack(
        &mut self,
        cursor: i64,
        after: &StoredPosition,
        xid: Option<u64>,
    ) -> Option<Result<(), AckRefusal>> {
        let Some(cursor) = self.cursors.get_mut(&cursor) else {
            return Some(Err(AckRefusal::NoCursor));
        };
        let own = cursor.open.as_ref().filter(|(open, _)| Some(*open) == xid);
        let newest = own.map_or(&cursor.newest, |(_, position)| position);
        if newest.token != after.token {
            return Some(Err(AckRefusal::Fenced));
        } else if newest.seq != after.seq {
            return Some(Err(AckRefusal::Stale));
        } else if own.is_none() && cursor.open.is_some() {
            return None;
        }
        let stored = StoredPosition { seq: after.seq + 1, ..after.clone() };
        match xid {
            Some(xid) => cursor.open = Some((xid, stored)),
            None => cursor.newest = stored,
        }
        Some(Ok(()))
    }

    /// Ends a transaction, with its acknowledgements or without.
    pub(super) fn end(&mut self, xid: u64, is_commit: bool) {
        for cursor in self.cursors.values_mut() {
            let open = cursor.open.take_if(|(open, _)| *open == xid);
            if let Some((_, stored)) = open.filter(|_| is_commit) {
                cursor.newest = stored;
            }
        }
    }
}

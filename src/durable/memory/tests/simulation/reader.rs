//! [`SimulatedReader`]: a cursor with its acknowledged position, and the wrong ways to have one.

use super::cases::CursorCases;
use super::journal::Acknowledged;
use super::writers::{Content, Written};
use crate::durable::memory::store::Store;
use crate::durable::position::{Position, Upper};
use crate::durable::snapshot::Snapshot;

/// How a reader finds what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// That of this crate.
    Position,
    /// A rival: `WHERE id > last ORDER BY id`.
    LastId,
    /// A rival: `WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) AND (xid, id) > (last_xid, last_id) ORDER BY xid, id`.
    XminBarrier,
    /// A rival: a position whose snapshot is used as if it listed every transaction in progress.
    WithoutNext,
    /// A rival: a position that forgets the transactions that its snapshot lists.
    WithoutListed,
    /// A rival: a position that continues a window with what is visible now.
    MovingUpper,
}

/// A page that is not acknowledged.
#[derive(Debug, Clone)]
pub(super) struct PendingPage {
    pub(super) after: Position,
    pub(super) records: Vec<Written>,
    /// The records of transactions that the lower snapshot lists, and of those between its xmax and `next`.
    pub(super) late: [u64; 2],
}

#[derive(Debug)]
pub(super) struct SimulatedReader {
    pub(super) method: Method,
    /// The acknowledged position.
    pub(super) position: Position,
    pub(super) acknowledged: Acknowledged,
    pub(super) pending: Vec<PendingPage>,
}

/// A page before its `next` is assigned.
#[derive(Debug)]
pub(super) struct OpenPage {
    place: Position,
    snapshot: Snapshot,
    high: i64,
    rows: Vec<(i64, Content)>,
    limit: usize,
    late: [u64; 2],
}

impl OpenPage {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The position after the page needs a `next`: it has a snapshot that no position had.
    pub(super) fn needs_next(&self) -> bool {
        self.place.window.is_none() && (!self.rows.is_empty() || self.high > self.place.high)
    }
}

impl SimulatedReader {
    pub(super) fn new(method: Method) -> Self {
        let (position, acknowledged) = (Position::beginning(), Acknowledged::default());
        Self { method, position, acknowledged, pending: Vec::new() }
    }

    /// The position after what was read, acknowledged or not.
    pub(super) fn place(&self) -> &Position {
        self.pending.last().map_or(&self.position, |page| &page.after)
    }

    /// The statement takes its snapshot, and returns what is visible in it.
    pub(super) fn read(
        &self,
        store: &Store<Content>,
        limit: usize,
        cases: &mut CursorCases,
    ) -> OpenPage {
        let mut place = self.place().clone();
        cases.read_ahead += u64::from(!self.pending.is_empty());
        if let Some(window) = place.window.as_mut().filter(|_| self.method == Method::MovingUpper) {
            window.upper = store.snapshot();
            window.high = store.last_id();
            window.next = window.next.max(window.upper.xmax());
        }
        let snapshot = match &place.window {
            Some(window) => window.upper.clone(),
            None => store.snapshot(),
        };
        let high = store.last_id();
        let rows = match self.method {
            Method::LastId => {
                let rows = store.iter().filter(|(_, xid, _)| snapshot.contains(*xid));
                let rows = rows.filter(|(id, ..)| *id > place.high).take(limit);
                rows.map(|(id, _, content)| (id, *content)).collect()
            }
            Method::XminBarrier => {
                let rows = store.iter().filter(|(_, xid, _)| *xid < snapshot.xmin());
                let rows = rows.filter(|(id, xid, _)| (*xid, *id) > (place.next, place.high));
                let mut rows: Vec<_> = rows.map(|(id, _, content)| (id, *content)).collect();
                rows.sort_by_key(|(id, (xid, _))| (*xid, *id));
                rows.truncate(limit);
                rows
            }
            _ => store.rows(&place, &snapshot, limit),
        };
        cases.further_pages += u64::from(place.window.is_some());
        cases.empty_pages += u64::from(place.window.is_some() && rows.is_empty());
        let late = late(&place, &rows);
        OpenPage { place, snapshot, high, rows, limit, late }
    }

    /// Adds a page to those that are not acknowledged. `next` is of the statement that has read it.
    pub(super) fn take(&mut self, page: OpenPage, next: u64) {
        let needs_next = page.needs_next();
        let OpenPage { place, snapshot, high, rows, limit, late } = page;
        let is_full = rows.len() == limit;
        let last = rows.last().copied();
        let next = if self.method == Method::WithoutNext { snapshot.xmax() } else { next };
        let upper = Upper { snapshot, high, next };
        let mut after = match self.method {
            // Their positions are the last id, and the last xid and id.
            Method::LastId | Method::XminBarrier => match last {
                Some((id, (xid, _))) => Position { high: id, next: xid, ..place },
                None => place,
            },
            _ if place.window.is_none() && !needs_next => place,
            _ => place.after_page(&upper, last.map(|(id, _)| id), is_full),
        };
        if self.method == Method::WithoutListed {
            let xmax = after.lower.xmax();
            after.lower = Snapshot::new(xmax, xmax, Vec::new()).unwrap();
        }
        let records = rows.into_iter().map(|(id, (_, key))| Written { id, key }).collect();
        self.pending.push(PendingPage { after, records, late });
    }
}

/// How many rows are of transactions that the lower snapshot lists, and of those between its xmax and `next`.
fn late(place: &Position, rows: &[(i64, Content)]) -> [u64; 2] {
    let mut late = [0, 0];
    for (_, (xid, _)) in rows.iter().take_while(|(id, _)| *id <= place.high) {
        late[usize::from(!place.lower.was_in_progress(*xid))] += 1;
    }
    late
}

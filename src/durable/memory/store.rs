//! [`Store`]: a table in memory with the visibility of PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};

use crate::durable::position::{Position, Upper};
use crate::durable::snapshot::Snapshot;

/// The first xid that a cluster assigns to a transaction of a user (`FirstNormalTransactionId`).
pub(super) const FIRST_XID: u64 = 3;

/// The rows of a table, each with the xid of its transaction, and which transactions are in progress.
///
/// As in PostgreSQL, a transaction gets its xid at its first write, an id is allocated when a row is written, transactions end in any order, and the
/// xmax of a snapshot is the xid after the last one that has *ended*: the snapshot does not list a transaction with a higher one that is in progress.
#[derive(Debug)]
pub(super) struct Store<T> {
    next_xid: u64,
    latest_completed: u64,
    in_progress: BTreeSet<u64>,
    last_id: i64,
    /// By id. Rows of aborted transactions are removed.
    rows: BTreeMap<i64, (u64, T)>,
    /// The ids of each transaction that has rows, in ascending order.
    ids: BTreeMap<u64, Vec<i64>>,
}

/// What one statement reads.
#[derive(Debug)]
pub(super) struct StorePage<T> {
    /// Up to where it was read. None if the position is at rest, and there is neither a row nor a higher id.
    pub(super) upper: Option<Upper>,
    /// In the order of their ids.
    pub(super) rows: Vec<(i64, T)>,
}

impl<T: Clone> Store<T> {
    /// Makes an empty table in a cluster that has assigned the xids below this one.
    pub(super) fn new(next_xid: u64) -> Self {
        Self {
            next_xid,
            latest_completed: next_xid.saturating_sub(1),
            in_progress: BTreeSet::new(),
            last_id: 0,
            rows: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }

    // ---- writing ----

    /// Gives a transaction its xid.
    pub(super) fn assign_xid(&mut self) -> u64 {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.in_progress.insert(xid);
        xid
    }

    /// Writes a row in a transaction that is in progress, and returns its id.
    pub(super) fn insert(&mut self, xid: u64, content: T) -> i64 {
        self.last_id += 1;
        self.rows.insert(self.last_id, (xid, content));
        self.ids.entry(xid).or_default().push(self.last_id);
        self.last_id
    }

    /// Ends a transaction. Its rows are visible in later snapshots.
    pub(super) fn commit(&mut self, xid: u64) {
        self.in_progress.remove(&xid);
        self.latest_completed = self.latest_completed.max(xid);
    }

    /// Ends a transaction without its rows. Their ids are not used again.
    pub(super) fn abort(&mut self, xid: u64) {
        for id in self.ids.remove(&xid).unwrap_or_default() {
            self.rows.remove(&id);
        }
        self.commit(xid);
    }

    // ---- reading ----

    pub(super) fn snapshot(&self) -> Snapshot {
        let xmax = self.latest_completed + 1;
        let xip: Vec<u64> = self.in_progress.range(..xmax).copied().collect();
        let xmin = xip.first().copied().unwrap_or(xmax);
        // There are never as many transactions as a snapshot cannot list.
        Snapshot::new(xmin, xmax, xip).unwrap_or_else(Snapshot::empty)
    }

    /// Returns the highest id that was allocated, or zero.
    #[cfg(all(test, feature = "testing"))]
    pub(super) fn last_id(&self) -> i64 {
        self.last_id
    }

    /// Returns the first rows after a position, up to what is visible in a snapshot.
    pub(super) fn rows(
        &self,
        position: &Position,
        snapshot: &Snapshot,
        limit: usize,
    ) -> Vec<(i64, T)> {
        let last = position.window.as_ref().map_or(0, |window| window.last);
        let listed = position.lower.xip().iter().filter_map(|xid| self.ids.get(xid));
        let unlisted = self.ids.range(position.lower.xmax()..position.next).map(|(_, ids)| ids);
        let mut late: Vec<i64> = listed.chain(unlisted).flatten().copied().collect();
        late.retain(|id| *id <= position.high);
        late.sort_unstable();
        let late = late.iter().filter_map(|id| Some((id, self.rows.get(id)?)));
        let from = position.high.max(last).saturating_add(1);
        late.chain(self.rows.range(from..))
            .filter(|(id, (xid, _))| position.candidate(**id, *xid) && snapshot.contains(*xid))
            .map(|(id, (_, content))| (*id, content.clone()))
            .take(limit)
            .collect()
    }

    /// Reads the first rows after a position in one statement.
    pub(super) fn read(&mut self, position: &Position, limit: usize) -> StorePage<T> {
        if let Some(window) = &position.window {
            let rows = self.rows(position, &window.upper, limit);
            return StorePage { upper: Some(window.clone().into()), rows };
        }
        let snapshot = self.snapshot();
        let rows = self.rows(position, &snapshot, limit);
        let is_above = !rows.is_empty() || self.last_id > position.high;
        let upper = is_above.then(|| self.upper(position, snapshot));
        StorePage { upper, rows }
    }

    /// Adds its two numbers to a snapshot that was just taken: the transaction that reads gets an xid, and ends.
    pub(super) fn upper(&mut self, position: &Position, snapshot: Snapshot) -> Upper {
        let high = self.last_id.max(position.high);
        let next = self.assign_xid();
        self.commit(next);
        Upper { snapshot, high, next }
    }

    /// Removes the rows with lower ids, as the TRUNCATE of a partition.
    #[cfg(all(test, feature = "testing"))]
    pub(super) fn truncate(&mut self, below: i64) {
        self.rows = self.rows.split_off(&below);
    }

    /// The rows, with their ids and xids, also of transactions in progress.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, u64, &T)> {
        self.rows.iter().map(|(id, (xid, content))| (*id, *xid, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<T>(rows: &[(i64, T)]) -> Vec<i64> {
        rows.iter().map(|(id, _)| *id).collect()
    }

    /// `ProcArrayEndTransaction` moves `latestCompletedXid`, and a snapshot is taken up to it.
    #[test]
    fn a_snapshot_does_not_list_a_transaction_above_the_last_that_has_ended() {
        let mut store = Store::<()>::new(FIRST_XID);
        assert_eq!(store.snapshot().to_string(), "3:3:");
        let (a, b, c) = (store.assign_xid(), store.assign_xid(), store.assign_xid());
        assert_eq!([a, b, c], [3, 4, 5]);
        assert_eq!(store.snapshot().to_string(), "3:3:");
        store.commit(b);
        assert_eq!(store.snapshot().to_string(), "3:5:3");
        store.abort(a);
        assert_eq!(store.snapshot().to_string(), "5:5:");
        store.commit(c);
        assert_eq!(store.snapshot().to_string(), "6:6:");
    }

    #[test]
    fn a_transaction_that_commits_late_is_read_late_and_an_aborted_one_never() {
        let mut store = Store::new(FIRST_XID);
        let (late, aborted, early) = (store.assign_xid(), store.assign_xid(), store.assign_xid());
        assert_eq!(store.insert(late, "a"), 1);
        assert_eq!(store.insert(aborted, "b"), 2);
        assert_eq!(store.insert(early, "c"), 3);
        store.commit(early);
        let start = Position::beginning();
        let page = store.read(&start, 10);
        assert_eq!(page.rows, [(3, "c")]);
        let position = start.after_page(&page.upper.unwrap(), Some(3), false);
        assert_eq!(position.to_string(), "3:6:3,4 3 6 - - - -");

        let page = store.read(&position, 10);
        assert!(page.upper.is_none() && page.rows.is_empty());
        store.abort(aborted);
        store.commit(late);
        assert_eq!(store.read(&position, 10).rows, [(1, "a")]);
    }

    /// The case for which a position has `next`.
    #[test]
    fn a_row_with_a_lower_id_and_an_xid_above_the_snapshot_is_read_late() {
        let mut store = Store::new(FIRST_XID);
        let (early, late) = (store.assign_xid(), store.assign_xid());
        store.insert(late, "a");
        store.insert(early, "b");
        store.commit(early);
        let page = store.read(&Position::beginning(), 10);
        let upper = page.upper.unwrap();
        assert_eq!((upper.snapshot.to_string(), upper.high, upper.next), ("4:4:".to_owned(), 2, 5));
        let position = Position::beginning().after_page(&upper, Some(2), false);
        store.commit(late);
        assert_eq!(store.read(&position, 10).rows, [(1, "a")]);
    }

    #[test]
    fn the_pages_of_a_window_are_those_of_its_snapshot() {
        let mut store = Store::new(FIRST_XID);
        let late = store.assign_xid();
        store.insert(late, ());
        let early = store.assign_xid();
        for _ in 0..3 {
            store.insert(early, ());
        }
        store.commit(early);
        let start = Position::beginning();
        let page = store.read(&start, 2);
        assert_eq!(ids(&page.rows), [2, 3]);
        let window = start.after_page(&page.upper.unwrap(), Some(3), true);
        // Committed after the window was opened.
        store.commit(late);
        let page = store.read(&window, 2);
        assert_eq!(ids(&page.rows), [4]);
        let rest = window.after_page(&page.upper.unwrap(), Some(4), false);
        assert_eq!(ids(&store.read(&rest, 2).rows), [1]);
    }
}

//! [`ModelLog`] and [`ModelCursor`]: what must be delivered. They have sets of records in the place of snapshots, xids and highest ids.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::{Fault, RunFailure};

/// The number of keys. There are few, so that transactions meet.
pub(super) const KEYS: usize = 5;

/// A record that a transaction has written, and has not undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) id: i64,
    pub(super) xid: u64,
    pub(super) key: usize,
    pub(super) payload: String,
}

/// The committed records.
#[derive(Debug, Default)]
pub(super) struct ModelLog {
    committed: BTreeMap<i64, Written>,
    /// The ids of each key, in the order of their commits.
    by_key: [Vec<i64>; KEYS],
}

impl ModelLog {
    pub(super) fn commit(&mut self, records: Vec<Written>) {
        for record in records {
            self.by_key[record.key].push(record.id);
            self.committed.insert(record.id, record);
        }
    }

    pub(super) fn get(&self, id: i64) -> Option<&Written> {
        self.committed.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Written> {
        self.committed.values()
    }

    fn ids(&self) -> BTreeSet<i64> {
        self.committed.keys().copied().collect()
    }
}

/// A cursor. The records of a window are those that were committed when its first page was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModelCursor {
    /// The records that are acknowledged, without those of the window.
    lower: BTreeSet<i64>,
    /// All that was committed when the window was opened, and the id up to which its records are acknowledged.
    window: Option<(BTreeSet<i64>, i64)>,
    /// The records that were acknowledged, of each key, in their order.
    acknowledged: [Vec<i64>; KEYS],
    /// The records that were committed before the cursor began.
    skipped: BTreeSet<i64>,
}

/// What one read must return.
#[derive(Debug)]
pub(super) struct ModelPage {
    pub(super) ids: Vec<i64>,
    /// The cursor after an acknowledgement.
    pub(super) after: ModelCursor,
}

impl ModelCursor {
    /// A cursor that begins with what is committed from now on.
    pub(super) fn now(log: &ModelLog) -> Self {
        Self { lower: log.ids(), skipped: log.ids(), ..Self::default() }
    }

    /// Returns the records that are visible up to which the position reads.
    pub(super) fn upper(&self) -> &BTreeSet<i64> {
        self.window.as_ref().map_or(&self.lower, |(upper, _)| upper)
    }

    pub(super) fn is_in_window(&self) -> bool {
        self.window.is_some()
    }

    /// Returns what is delivered now, or none if there is nothing.
    pub(super) fn page(&self, log: &ModelLog, limit: usize) -> Option<ModelPage> {
        let (upper, last) = self.window.clone().unwrap_or_else(|| (log.ids(), 0));
        let found = upper.iter().filter(|id| **id > last && !self.lower.contains(id));
        let ids: Vec<i64> = found.take(limit).copied().collect();
        let Some(last) = ids.last() else {
            // A window without further records is followed by the next one.
            let next = Self { lower: upper, window: None, ..self.clone() };
            return if self.is_in_window() { next.page(log, limit) } else { None };
        };
        let mut after = self.clone();
        for id in &ids {
            let key = log.get(*id).expect("a committed record").key;
            after.acknowledged[key].push(*id);
        }
        if ids.len() == limit {
            after.window = Some((upper, *last));
        } else {
            (after.lower, after.window) = (upper, None);
        }
        Some(ModelPage { ids, after })
    }

    /// Checks that what was acknowledged is the beginning of what was committed, in the order of each key.
    pub(super) fn check_order(&self, log: &ModelLog) -> Result<(), RunFailure> {
        for (key, acknowledged) in self.acknowledged.iter().enumerate() {
            let committed = log.by_key[key].iter().filter(|id| !self.skipped.contains(id));
            let committed: Vec<i64> = committed.copied().collect();
            if !committed.starts_with(acknowledged) {
                let text =
                    format!("key {key}: {acknowledged:?} acknowledged of {committed:?} committed");
                return Err(RunFailure::new(Fault::Unordered, text));
            }
        }
        Ok(())
    }

    /// Returns a committed record that was never acknowledged.
    pub(super) fn missing(&self, log: &ModelLog) -> Option<i64> {
        let is_missing = |id: &&i64| {
            !self.skipped.contains(id) && !self.acknowledged.iter().flatten().any(|one| one == *id)
        };
        log.committed.keys().find(is_missing).copied()
    }

    /// Compares a page with what it must be.
    pub(super) fn compare(
        &self,
        log: &ModelLog,
        expected: &[i64],
        found: &[i64],
    ) -> Result<(), RunFailure> {
        if expected == found {
            return Ok(());
        }
        let text = format!("expected {expected:?}, found {found:?}");
        let fail = |fault| Err(RunFailure::new(fault, text.clone()));
        let other = found.iter().find(|id| !expected.contains(id));
        if found.iter().zip(&found[found.len().min(1)..]).any(|(id, next)| id >= next) {
            fail(Fault::Unordered)
        } else if let Some(id) = other {
            let before = self.window.as_ref().map_or(0, |(_, last)| *last);
            let is_acknowledged =
                self.lower.contains(id) || *id <= before && self.upper().contains(id);
            match log.committed.contains_key(id) {
                false => fail(Fault::Uncommitted),
                true if is_acknowledged => fail(Fault::Repeated),
                // The other one is there because an earlier one is not.
                true if expected
                    .iter()
                    .any(|one| Some(one) < found.last() && !found.contains(one)) =>
                {
                    fail(Fault::Missed)
                }
                true => fail(Fault::Early),
            }
        } else {
            fail(Fault::Missed)
        }
    }
}

//! [`Draft`]: the rows of a load, before they replace those of the store. [`Changes`]: those of a refresh.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::refusal::{duplicate_key, too_many_rows};
use super::rules::{Change, Compared, Rules};
use super::store::{Entry, Store, Table};
use crate::error::Error;
use crate::proto::session::Rows;

/// Rows that were not decoded.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    pub(super) count: u64,
    /// The error of the last one.
    pub(super) error: Option<Error>,
}

impl LeftOut {
    fn add(&mut self, error: Option<Error>) {
        if error.is_some() {
            self.count += 1;
            self.error = error;
        }
    }
}

pub(super) struct Draft<'a, V> {
    rules: &'a Rules<V>,
    store: &'a Store<V>,
    rows: Table<V>,
    unchanged: usize,
    changed: usize,
    left_out: LeftOut,
}

impl<'a, V> Draft<'a, V> {
    pub(super) fn new(rules: &'a Rules<V>, store: &'a Store<V>) -> Self {
        let rows = HashMap::with_capacity(store.rows());
        Self { rules, store, rows, unchanged: 0, changed: 0, left_out: LeftOut::default() }
    }

    /// Adds the rows of one answer. Returns the bytes of their values.
    pub(super) fn add(&mut self, rows: &Rows) -> Result<usize, Error> {
        let answer = self.rules.answer(self.store, rows)?;
        let mut total = 0;
        for row in rows.iter() {
            if self.rows.len() >= self.rules.max_rows {
                return Err(too_many_rows(self.rules.max_rows));
            }
            let compared = self.rules.compare(self.store, answer, row)?;
            let Compared { key, entry, change, error, bytes } = compared;
            total += bytes;
            self.unchanged += usize::from(change == Change::Unchanged);
            self.changed += usize::from(change == Change::Changed);
            self.left_out.add(error);
            if self.rows.contains_key(&key) {
                return Err(duplicate_key(&key));
            }
            self.rows.insert(key, entry);
        }
        Ok(total)
    }

    /// Returns the error of a row that was not decoded.
    pub(super) fn error(&self) -> Option<&Error> {
        self.left_out.error.as_ref()
    }

    /// Replaces the rows of the store. Returns the numbers of rows and of changes.
    pub(super) fn replace(self) -> (usize, usize, LeftOut) {
        let Self { store, rows, unchanged, changed, left_out, .. } = self;
        let count = rows.len();
        (count, store.replace(rows, unchanged, changed), left_out)
    }
}

/// The rows of some keys.
#[derive(Debug)]
pub(super) struct Changes<V> {
    changed: Vec<(Arc<str>, Entry<V>)>,
    appeared: usize,
    /// The keys of all rows that were found.
    found: HashSet<Arc<str>>,
    pub(super) rows: usize,
    left_out: LeftOut,
}

impl<V> Changes<V> {
    /// Compares answers with the store.
    pub(super) fn new(rules: &Rules<V>, store: &Store<V>, answers: &[Rows]) -> Result<Self, Error> {
        let mut changes = Self {
            changed: Vec::new(),
            appeared: 0,
            found: HashSet::new(),
            rows: 0,
            left_out: LeftOut::default(),
        };
        for rows in answers {
            let answer = rules.answer(store, rows)?;
            let mut keys = HashSet::with_capacity(rows.len());
            for row in rows.iter() {
                let Compared { key, entry, change, error, .. } =
                    rules.compare(store, answer, row)?;
                if !keys.insert(key.clone()) {
                    return Err(duplicate_key(&key));
                }
                // Two keys may be different texts of the same one: then the row is in two answers.
                if !changes.found.insert(key.clone()) {
                    continue;
                }
                changes.rows += 1;
                changes.left_out.add(error);
                changes.appeared += usize::from(change == Change::Appeared);
                if change != Change::Unchanged {
                    changes.changed.push((key, entry));
                }
            }
        }
        if store.rows() + changes.appeared > rules.max_rows {
            return Err(too_many_rows(rules.max_rows));
        }
        Ok(changes)
    }

    /// Returns the keys for which there is no row: those that the store has, which have vanished, and those that it does not have, which may be
    /// another text of a key that it has.
    pub(super) fn missing(
        &self,
        store: &Store<V>,
        asked: &BTreeSet<String>,
    ) -> (Vec<String>, Vec<String>) {
        let missing = asked.iter().filter(|key| !self.found.contains(key.as_str())).cloned();
        missing.partition(|key| store.has(key))
    }

    /// Shows the changes. Returns their number.
    pub(super) fn show(self, store: &Store<V>, vanished: &[String]) -> (usize, LeftOut) {
        (store.change(self.changed, vanished), self.left_out)
    }
}

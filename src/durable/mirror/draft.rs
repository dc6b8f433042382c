//! [`Draft`]: the rows of a load, before they replace those of the store. [`Changes`]: those of a refresh.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use super::refusal::{duplicate_key, too_many_rows};
use super::rules::{Change, Compared, Rules};
use super::store::{Entry, Store, Table};
use crate::error::{Error, contain};
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
    pub(super) fn replace(mut self) -> (usize, usize, LeftOut) {
        let (rows, left_out) = (mem::take(&mut self.rows), mem::take(&mut self.left_out));
        let count = rows.len();
        (count, self.store.replace(rows, self.unchanged, self.changed), left_out)
    }
}

/// A load that fails or is given up drops values of the user, which may panic.
impl<V> Drop for Draft<'_, V> {
    fn drop(&mut self) {
        let rows = mem::take(&mut self.rows);
        let _ = contain(|| drop(rows));
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
    pub(super) fn show(mut self, store: &Store<V>, vanished: &[String]) -> (usize, LeftOut) {
        let (changed, left_out) = (mem::take(&mut self.changed), mem::take(&mut self.left_out));
        (store.change(changed, vanished), left_out)
    }
}

/// As that of a [`Draft`].
impl<V> Drop for Changes<V> {
    fn drop(&mut self) {
        let changed = mem::take(&mut self.changed);
        let _ = contain(|| drop(changed));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::ErrorKind;

    const COLUMNS: [&str; 2] = ["id", "note"];

    /// Counts what it decodes. A note `bad` is not decoded.
    fn rules(max_rows: usize) -> (Rules<String>, Arc<AtomicUsize>) {
        let decoded = Arc::new(AtomicUsize::new(0));
        let counted = decoded.clone();
        let decode = move |row: crate::durable::MirrorRow<'_>| {
            counted.fetch_add(1, Ordering::Relaxed);
            match row.get("note") {
                Some("bad") => Err("bad".into()),
                note => Ok(format!("{note:?}")),
            }
        };
        (Rules { decode: Box::new(decode), key: "id".to_owned(), max_rows }, decoded)
    }

    /// Reads all rows of a result.
    fn load(rules: &Rules<String>, store: &Store<String>, rows: &Rows) -> Result<usize, Error> {
        let mut draft = Draft::new(rules, store);
        draft.add(rows)?;
        Ok(draft.replace().1)
    }

    /// Reads the rows of these keys. Returns the number of changes, or the keys that are unknown.
    fn refresh(
        rules: &Rules<String>,
        store: &Store<String>,
        asked: &[&str],
        rows: &Rows,
    ) -> Result<(usize, Vec<String>), Error> {
        let changes = Changes::new(rules, store, std::slice::from_ref(rows))?;
        let asked = asked.iter().map(|&key| key.to_owned()).collect();
        let (vanished, unknown) = changes.missing(store, &asked);
        Ok((changes.show(store, &vanished).0, unknown))
    }

    #[test]
    fn only_a_row_that_has_changed_is_decoded_and_a_null_is_not_an_empty_text() {
        let ((rules, decoded), store) = (rules(9), Store::new());
        let rows = Rows::of(&COLUMNS, &[&[Some("1"), Some("")], &[Some("2"), Some("b")]]);
        assert_eq!(load(&rules, &store, &rows).unwrap(), 2);
        assert_eq!(load(&rules, &store, &rows).unwrap(), 0);
        assert_eq!(refresh(&rules, &store, &["1", "2"], &rows).unwrap(), (0, vec![]));
        assert_eq!((decoded.load(Ordering::Relaxed), store.counts()), (2, (2, 0, 1)));
        let rows = Rows::of(&COLUMNS, &[&[Some("1"), None]]);
        assert_eq!(refresh(&rules, &store, &["1"], &rows).unwrap(), (1, vec![]));
        assert_eq!(*store.get("1").unwrap(), "None");
        assert_eq!((decoded.load(Ordering::Relaxed), store.counts()), (3, (2, 0, 2)));
    }

    #[test]
    fn a_row_that_a_read_does_not_find_vanishes_and_others_stay() {
        let ((rules, _), store) = (rules(9), Store::new());
        let all = Rows::of(&COLUMNS, &[&[Some("1"), None], &[Some("2"), None], &[Some("3"), None]]);
        load(&rules, &store, &all).unwrap();
        let rows = Rows::of(&COLUMNS, &[&[Some("1"), None]]);
        // `02` may be another text of a key that the store has.
        let unknown = vec!["02".to_owned()];
        assert_eq!(refresh(&rules, &store, &["1", "02", "3"], &rows).unwrap(), (1, unknown));
        assert!(store.get("3").is_none() && store.get("2").is_some());
        assert_eq!(load(&rules, &store, &rows).unwrap(), 1);
        assert_eq!(store.counts(), (1, 0, 3));
    }

    #[test]
    fn a_row_that_is_not_decoded_loses_its_value_until_it_changes() {
        let ((rules, decoded), store) = (rules(9), Store::new());
        let good = Rows::of(&COLUMNS, &[&[Some("1"), Some("a")]]);
        let bad = Rows::of(&COLUMNS, &[&[Some("1"), Some("bad")]]);
        load(&rules, &store, &good).unwrap();
        assert_eq!(refresh(&rules, &store, &["1"], &bad).unwrap().0, 1);
        assert_eq!(refresh(&rules, &store, &["1"], &bad).unwrap().0, 0);
        assert_eq!((store.get("1"), store.counts()), (None, (0, 1, 2)));
        assert_eq!(decoded.load(Ordering::Relaxed), 2);
        assert_eq!(load(&rules, &store, &good).unwrap(), 1);
        assert_eq!(store.counts(), (1, 0, 3));
    }

    #[test]
    fn results_without_one_key_for_each_row_and_too_many_rows_are_refused() {
        let ((rules, _), store) = (rules(2), Store::new());
        let one = |key, note| [Some(key), Some(note)];
        for (rows, kind) in [
            (Rows::of(&["note"], &[&[Some("1")]]), ErrorKind::Schema),
            (Rows::of(&["id", "id"], &[&one("1", "1")]), ErrorKind::Schema),
            (Rows::of(&COLUMNS, &[&[None, Some("a")]]), ErrorKind::Schema),
            (Rows::of(&COLUMNS, &[&one("1", "a"), &one("1", "b")]), ErrorKind::Schema),
            (
                Rows::of(&COLUMNS, &[&one("1", "a"), &one("2", "b"), &one("3", "c")]),
                ErrorKind::Unsupported,
            ),
        ] {
            assert_eq!(load(&rules, &store, &rows).unwrap_err().kind(), kind);
            assert_eq!(refresh(&rules, &store, &["1"], &rows).unwrap_err().kind(), kind);
        }
        assert_eq!(store.counts(), (0, 0, 0));
        // Rows that the store has are counted.
        load(&rules, &store, &Rows::of(&COLUMNS, &[&one("1", "a"), &one("2", "b")])).unwrap();
        let error =
            refresh(&rules, &store, &["3"], &Rows::of(&COLUMNS, &[&one("3", "c")])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let again = Rows::of(&COLUMNS, &[&one("1", "b")]);
        assert_eq!(refresh(&rules, &store, &["1"], &again).unwrap().0, 1);
    }

    /// A load can fail, or be given up, when some rows are decoded.
    #[test]
    fn a_value_that_panics_when_it_is_dropped_does_not_end_the_task() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let decode = |_: crate::durable::MirrorRow<'_>| Ok(Panics);
        let rules = Rules { decode: Box::new(decode), key: "id".to_owned(), max_rows: 9 };
        let store = Store::new();
        let rows = Rows::of(&COLUMNS, &[&[Some("1"), None]]);
        let mut draft = Draft::new(&rules, &store);
        draft.add(&rows).unwrap();
        drop(draft);
        drop(Changes::new(&rules, &store, &[rows]).unwrap());
    }
}

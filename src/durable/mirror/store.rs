//! [`Store`]: the rows in memory, and what waits for their changes.
//!
//! Only the task of a mirror writes. A reader never sees half of a read: what one read has changed is shown under one lock. Code of the user (its
//! decoder, its wakers, and the drop of its values) is never called while a lock is held.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::error::contain;
use crate::proto::session::{Row, Rows};

/// The hash of a row, by two keyed hash functions of 64 bits: rows with the same one are equal.
pub(super) type Mark = (u64, u64);

/// A row that was read.
#[derive(Debug)]
pub(super) struct Entry<V> {
    /// `None` if it was not decoded.
    pub(super) value: Option<Arc<V>>,
    pub(super) mark: Mark,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), mark: self.mark }
    }
}

/// Keys with their values.
pub(super) type Values<V> = Vec<(Arc<str>, Arc<V>)>;

/// The rows by their keys.
pub(super) type Table<V> = HashMap<Arc<str>, Entry<V>>;

#[derive(Debug)]
struct Contents<V> {
    rows: Table<V>,
    /// Each read that changes something makes the next one.
    version: u64,
    /// Rows without a value.
    left_out: usize,
}

type KeySender<V> = Arc<watch::Sender<Option<Arc<V>>>>;

#[derive(Debug)]
pub(super) struct Store<V> {
    contents: RwLock<Contents<V>>,
    /// The keys that are watched. Locked after `contents`.
    watched: Mutex<HashMap<Arc<str>, KeySender<V>>>,
    version: watch::Sender<u64>,
    hashers: (RandomState, RandomState),
}

impl<V> Store<V> {
    pub(super) fn new() -> Self {
        Self {
            contents: RwLock::new(Contents { rows: HashMap::new(), version: 0, left_out: 0 }),
            watched: Mutex::default(),
            version: watch::Sender::new(0),
            hashers: (RandomState::new(), RandomState::new()),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Contents<V>> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents<V>> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<Arc<str>, KeySender<V>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- reading ----

    pub(super) fn get(&self, key: &str) -> Option<Arc<V>> {
        self.read().rows.get(key)?.value.clone()
    }

    /// Returns the number of values, of rows that are left out, and the version.
    pub(super) fn counts(&self) -> (usize, usize, u64) {
        let contents = self.read();
        (contents.rows.len() - contents.left_out, contents.left_out, contents.version)
    }

    /// Returns all values with their keys, and the version.
    pub(super) fn values(&self) -> (Values<V>, u64) {
        let contents = self.read();
        let mut values = Vec::with_capacity(contents.rows.len());
        for (key, entry) in &contents.rows {
            if let Some(value) = &entry.value {
                values.push((key.clone(), value.clone()));
            }
        }
        (values, contents.version)
    }

    // ---- watching ----

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Watches a key. Returns its text, which is shared.
    pub(super) fn watch_key(&self, key: &str) -> (Arc<str>, watch::Receiver<Option<Arc<V>>>) {
        // Before the lock of the watched keys is released, no later change is shown.
        let contents = self.read();
        let mut watched = self.watched();
        if let Some((key, sender)) = watched.get_key_value(key) {
            return (key.clone(), sender.subscribe());
        }
        let entry = contents.rows.get_key_value(key);
        let value = entry.and_then(|(_, entry)| entry.value.clone());
        let key: Arc<str> = entry.map_or_else(|| key.into(), |(key, _)| key.clone());
        let (sender, receiver) = watch::channel(value);
        watched.insert(key.clone(), Arc::new(sender));
        (key, receiver)
    }

    /// Forgets a watched key, if its last receiver was dropped.
    pub(super) fn unwatch(&self, key: &str) {
        let unused = {
            let mut watched = self.watched();
            match watched.get(key) {
                Some(sender) if sender.receiver_count() == 0 => watched.remove(key),
                _ => None,
            }
        };
        let _ = contain(|| drop(unused));
    }

    #[cfg(test)]
    pub(super) fn watched_keys(&self) -> usize {
        self.watched().len()
    }

    // ---- writing ----

    /// Returns the hash of the columns of a result, which is part of that of each of its rows: a row whose columns have other names is another one.
    pub(super) fn mark_of_columns(&self, rows: &Rows) -> Mark {
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            for column in rows.columns() {
                hasher.write_u32(column.type_oid());
                hasher.write_usize(column.name().len());
                hasher.write(column.name().as_bytes());
            }
            hasher.finish()
        };
        (hash(&self.hashers.0), hash(&self.hashers.1))
    }

    /// Returns the hash of a row.
    pub(super) fn mark(&self, columns: Mark, row: Row<'_>) -> Mark {
        let hash = |state: &RandomState, columns| {
            let mut hasher = state.build_hasher();
            hasher.write_u64(columns);
            for column in 0..row.len() {
                match row.get_bytes(column) {
                    Some(value) => {
                        hasher.write_usize(value.len());
                        hasher.write(value);
                    }
                    // No value is as long.
                    None => hasher.write_usize(usize::MAX),
                }
            }
            hasher.finish()
        };
        (hash(&self.hashers.0, columns.0), hash(&self.hashers.1, columns.1))
    }

    /// Returns a row as it is now, with its key.
    pub(super) fn entry(&self, key: &str) -> Option<(Arc<str>, Entry<V>)> {
        let contents = self.read();
        let (key, entry) = contents.rows.get_key_value(key)?;
        Some((key.clone(), entry.clone()))
    }

    /// Returns whether there is a row with this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.read().rows.contains_key(key)
    }

    /// Returns the number of rows, with those that are left out.
    pub(super) fn rows(&self) -> usize {
        self.read().rows.len()
    }

    /// Replaces all rows. `unchanged`: how many of them are the same as before; `changed`: how many have the key of another one. Returns the number of
    /// rows that have appeared, changed or vanished.
    pub(super) fn replace(&self, rows: Table<V>, unchanged: usize, changed: usize) -> usize {
        let left_out = rows.values().filter(|entry| entry.value.is_none()).count();
        let mut sends = Vec::new();
        let (old, version, changes) = {
            let mut contents = self.write();
            let kept = unchanged + changed;
            let vanished = contents.rows.len().saturating_sub(kept);
            let appeared = rows.len().saturating_sub(kept);
            let changes = vanished + appeared + changed;
            contents.version += u64::from(changes > 0);
            contents.left_out = left_out;
            let old = std::mem::replace(&mut contents.rows, rows);
            for (key, sender) in &*self.watched() {
                let value = |rows: &Table<V>| rows.get(key).and_then(|entry| entry.value.clone());
                let (before, now) = (value(&old), value(&contents.rows));
                if !is_same(before.as_ref(), now.as_ref()) {
                    sends.push((sender.clone(), now));
                }
            }
            (old, contents.version, changes)
        };
        self.send(sends, version, changes);
        let _ = contain(|| drop(old));
        changes
    }

    /// Changes and removes some rows. Returns the number of changes.
    pub(super) fn change(&self, changed: Vec<(Arc<str>, Entry<V>)>, vanished: &[String]) -> usize {
        let mut sends = Vec::new();
        let mut unused = Vec::with_capacity(changed.len() + vanished.len());
        let mut changes = changed.len();
        let version = {
            let mut contents = self.write();
            let contents = &mut *contents;
            let watched = self.watched();
            for (key, entry) in changed {
                let (is_left_out, value) = (entry.value.is_none(), entry.value.clone());
                let old = contents.rows.insert(key.clone(), entry);
                let was_left_out = old.as_ref().is_some_and(|old| old.value.is_none());
                contents.left_out += usize::from(is_left_out);
                contents.left_out -= usize::from(was_left_out);
                if let Some(sender) = watched.get(&key) {
                    sends.push((sender.clone(), value));
                }
                unused.extend(old);
            }
            for key in vanished {
                let Some(old) = contents.rows.remove(key.as_str()) else { continue };
                changes += 1;
                contents.left_out -= usize::from(old.value.is_none());
                if let Some(sender) = watched.get(key.as_str()) {
                    sends.push((sender.clone(), None));
                }
                unused.push(old);
            }
            contents.version += u64::from(changes > 0);
            contents.version
        };
        self.send(sends, version, changes);
        for entry in unused {
            let _ = contain(|| drop(entry));
        }
        changes
    }

    /// Reports changes that are shown already.
    fn send(&self, sends: Vec<(KeySender<V>, Option<Arc<V>>)>, version: u64, changes: usize) {
        for (sender, value) in sends {
            let _ = contain(|| {
                let mut unused = None;
                sender.send_if_modified(|old| {
                    // A row that was left out, and is left out again, has no value before and after.
                    let is_other = !is_same(old.as_ref(), value.as_ref());
                    unused = std::mem::replace(old, value);
                    is_other
                });
                drop(unused);
            });
        }
        if changes > 0 {
            let _ = contain(|| self.version.send_replace(version));
        }
    }
}

fn is_same<V>(one: Option<&Arc<V>>, other: Option<&Arc<V>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

//! [`Rules`]: how a row becomes an entry of the store.

use std::sync::Arc;

use super::refusal::{no_key_column, null_key, undecodable};
use super::row::MirrorRow;
use super::store::{Entry, Mark, Store};
use crate::error::{Error, contain};
use crate::proto::session::{Row, Rows};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The function of the user that decodes a row.
pub(super) type Decode<V> = Box<dyn Fn(MirrorRow<'_>) -> Result<V, Cause> + Send + Sync>;

pub(super) struct Rules<V> {
    pub(super) decode: Decode<V>,
    /// The name of the key column.
    pub(super) key: String,
    pub(super) max_rows: usize,
}

/// A result, with what all of its rows have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    rows: &'a Rows,
    key_column: usize,
    mark: Mark,
}

/// A row beside the one that the store has.
#[derive(Debug)]
pub(super) struct Compared<V> {
    pub(super) key: Arc<str>,
    pub(super) entry: Entry<V>,
    pub(super) change: Change,
    /// Why there is no value.
    pub(super) error: Option<Error>,
    pub(super) bytes: usize,
}

/// How a row differs from the one that the store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Unchanged,
    Changed,
    Appeared,
}

impl<V> Rules<V> {
    /// Looks for the key column of a result.
    pub(super) fn answer<'a>(&self, store: &Store<V>, rows: &'a Rows) -> Result<Answer<'a>, Error> {
        let is_key = |index: &usize| {
            rows.columns().get(*index).is_some_and(|column| column.name() == self.key)
        };
        let mut found = (0..rows.columns().len()).filter(is_key);
        match (found.next(), found.count()) {
            (Some(key_column), 0) => {
                Ok(Answer { rows, key_column, mark: store.mark_of_columns(rows) })
            }
            (first, more) => Err(no_key_column(&self.key, usize::from(first.is_some()) + more)),
        }
    }

    /// Compares a row with the one in the store, and decodes it if it is another one.
    pub(super) fn compare(
        &self,
        store: &Store<V>,
        answer: Answer<'_>,
        row: Row<'_>,
    ) -> Result<Compared<V>, Error> {
        let key = row.get(answer.key_column).ok_or_else(|| null_key(&self.key))?;
        let mark = store.mark(answer.mark, row);
        let bytes =
            (0..row.len()).filter_map(|column| row.get_bytes(column)).map(<[u8]>::len).sum();
        let (key, change) = match store.entry(key) {
            Some((key, entry)) if entry.mark == mark => {
                return Ok(Compared { key, entry, change: Change::Unchanged, error: None, bytes });
            }
            Some((key, _)) => (key, Change::Changed),
            None => (key.into(), Change::Appeared),
        };
        let decoded = contain(|| (self.decode)(MirrorRow::new(&key, answer.rows.columns(), row)));
        let (value, error) = match decoded {
            Ok(Ok(value)) => (Some(Arc::new(value)), None),
            Ok(Err(cause)) => (None, Some(undecodable(&key, cause))),
            Err(panic) => {
                let cause = Error::panicked("the function that decodes a row", &panic);
                (None, Some(undecodable(&key, cause.into())))
            }
        };
        Ok(Compared { key, entry: Entry { value, mark }, change, error, bytes })
    }
}

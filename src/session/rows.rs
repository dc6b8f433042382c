//! What a query returned, in text format.

use std::fmt;

use crate::wire::escape::Escaped;
use crate::wire::{Columns, Values};

/// Most columns that `Debug` of a result shows.
const SHOWN_MAX: usize = 16;

/// A column of a result.
#[derive(Clone, PartialEq, Eq)]
pub struct Column {
    name: String,
    type_oid: u32,
}

impl Column {
    /// Its name. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Object id of its type in `pg_type`.
    #[must_use]
    pub fn type_oid(&self) -> u32 {
        self.type_oid
    }
}

/// Its name is escaped and cut.
impl fmt::Debug for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column")
            .field("name", &format_args!("\"{}\"", Escaped(&self.name)))
            .field("type_oid", &self.type_oid)
            .finish()
    }
}

/// The rows that one statement returned, and its command tag. Values are in text format.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Rows {
    columns: Vec<Column>,
    /// All values one after the other.
    bytes: Vec<u8>,
    /// Where each value ends in `bytes`, row by row; `None` for NULL.
    ends: Vec<Option<usize>>,
    tag: String,
}

impl Rows {
    pub(super) fn new(columns: Columns<'_>) -> Self {
        let columns = columns
            .iter()
            .map(|column| Column {
                name: String::from_utf8_lossy(column.name).into_owned(),
                type_oid: column.type_oid,
            })
            .collect();
        Self { columns, ..Self::default() }
    }

    /// Whether the row has as many values as there are columns, and then takes it in.
    pub(super) fn push(&mut self, values: Values<'_>) -> bool {
        if values.len() != self.columns.len() {
            return false;
        }
        for value in values.iter() {
            self.ends.push(value.map(|value| {
                self.bytes.extend_from_slice(value);
                self.bytes.len()
            }));
        }
        true
    }

    /// The values are given up.
    pub(super) fn clear(&mut self) {
        (self.bytes, self.ends) = (Vec::new(), Vec::new());
    }

    pub(super) fn complete(mut self, tag: &[u8]) -> Self {
        self.tag = String::from_utf8_lossy(tag).into_owned();
        self
    }

    /// Bytes that the columns take in memory, roughly.
    pub(super) fn size_of_columns(&self) -> usize {
        let names: usize = self.columns.iter().map(|column| column.name.len()).sum();
        names.saturating_add(self.columns.len().saturating_mul(size_of::<Column>()))
    }

    /// Bytes that the values take in memory, roughly.
    pub(super) fn size(&self) -> usize {
        self.bytes.len().saturating_add(self.ends.len().saturating_mul(size_of::<Option<usize>>()))
    }

    /// The columns. None for a statement that returns no rows.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len().checked_div(self.columns.len()).unwrap_or(0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row number `index`, from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Row<'_>> {
        (index < self.len()).then_some(Row { rows: self, index })
    }

    /// The rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).map(|index| Row { rows: self, index })
    }

    /// The command tag, for example `SELECT 3` or `LISTEN`. Empty for an empty statement.
    #[must_use]
    pub fn command_tag(&self) -> &str {
        &self.tag
    }

    /// The last number of the command tag: rows selected, inserted, updated or deleted.
    #[must_use]
    pub fn rows_affected(&self) -> Option<u64> {
        self.tag.rsplit(' ').next()?.parse().ok()
    }

    fn value(&self, row: usize, column: usize) -> Option<&[u8]> {
        if column >= self.columns.len() {
            return None;
        }
        let index = row.checked_mul(self.columns.len())?.checked_add(column)?;
        let end = (*self.ends.get(index)?)?;
        let before = self.ends.get(..index)?;
        let start = before.iter().rev().flatten().next().copied().unwrap_or(0);
        self.bytes.get(start..end)
    }
}

/// Values are the application's data: their number only. Of many columns the first 16.
impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Shown<'a>(&'a [Column]);
        impl fmt::Debug for Shown<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut list = f.debug_list();
                list.entries(self.0.iter().take(SHOWN_MAX));
                if self.0.len() > SHOWN_MAX { list.finish_non_exhaustive() } else { list.finish() }
            }
        }
        f.debug_struct("Rows")
            .field("columns", &Shown(&self.columns))
            .field("len", &self.len())
            .field("command_tag", &format_args!("\"{}\"", Escaped(&self.tag)))
            .finish_non_exhaustive()
    }
}

/// One row of a result.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    rows: &'a Rows,
    index: usize,
}

impl<'a> Row<'a> {
    /// Value of column number `column`, from 0, as text. `None` for NULL, for a column that is not
    /// there, and for bytes that are not UTF-8.
    #[must_use]
    pub fn get(&self, column: usize) -> Option<&'a str> {
        std::str::from_utf8(self.get_bytes(column)?).ok()
    }

    /// Value of column number `column`, from 0, as it arrived. `None` for NULL, and for a column
    /// that is not there.
    #[must_use]
    pub fn get_bytes(&self, column: usize) -> Option<&'a [u8]> {
        self.rows.value(self.index, column)
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.columns.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("len", &self.len()).finish_non_exhaustive()
    }
}

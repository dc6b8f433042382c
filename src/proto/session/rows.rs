//! The result of a query, in text format.

use std::fmt;

use crate::proto::wire::escape::Escaped;
use crate::proto::wire::{Columns, Values};

/// The highest number of columns that `Debug` of a result shows.
const SHOWN_COLUMNS_MAX: usize = 16;

/// How many rows like the first one find space when the second one is added.
const ROWS_AHEAD: usize = 8;

/// The most values, and bytes of values, that find space before they have arrived.
const VALUES_AHEAD_MAX: usize = 1_024;
const BYTES_AHEAD_MAX: usize = 16 * 1024;

/// A column of a result.
///
/// ```no_run
/// # async fn example(mut connection: pgbell::Connection) -> Result<(), pgbell::Error> {
/// let orders = connection.query("SELECT * FROM orders", &[]).await?;
/// let id = orders.columns().iter().position(|column| column.name() == "id");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Column {
    name: String,
    type_oid: u32,
}

impl Column {
    /// Returns the name. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the object id of the type in `pg_type`.
    #[must_use]
    pub fn type_oid(&self) -> u32 {
        self.type_oid
    }
}

/// Shows the name escaped and cut.
impl fmt::Debug for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column")
            .field("name", &format_args!("\"{}\"", Escaped(&self.name)))
            .field("type_oid", &self.type_oid)
            .finish()
    }
}

/// The rows that one statement returned, and its command tag. Values are in text format.
///
/// ```no_run
/// # async fn example(mut connection: pgbell::Connection) -> Result<(), pgbell::Error> {
/// let orders = connection.query("SELECT id, note FROM orders WHERE done = $1", &[Some("f")]).await?;
/// for column in orders.columns() {
///     println!("{} has the type {}", column.name(), column.type_oid());
/// }
/// for order in orders.iter() {
///     // `None` is NULL.
///     println!("{}: {}", order.get(0).unwrap_or("?"), order.get(1).unwrap_or("no note"));
/// }
/// println!("{} rows", orders.len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Rows {
    columns: Vec<Column>,
    /// All values, one after the other.
    bytes: Vec<u8>,
    /// The end of each value in `bytes`, row by row; `None` for NULL.
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

    /// Creates a result, for tests.
    #[cfg(all(test, feature = "durable"))]
    pub(crate) fn of(columns: &[&str], rows: &[&[Option<&str>]]) -> Self {
        let column = |name: &&str| Column { name: (*name).to_owned(), type_oid: 25 };
        let mut result = Self { columns: columns.iter().map(column).collect(), ..Self::default() };
        for value in rows.iter().copied().flatten() {
            result.bytes.extend_from_slice(value.unwrap_or_default().as_bytes());
            result.ends.push(value.map(|_| result.bytes.len()));
        }
        result
    }

    /// Adds a row. Returns false if it does not have one value for each column.
    pub(super) fn push(&mut self, values: Values<'_>) -> bool {
        if values.len() != self.columns.len() {
            return false;
        }
        if self.ends.len() == self.columns.len() {
            // A second row: there may be more.
            self.ends.reserve(ROWS_AHEAD.saturating_mul(self.columns.len()).min(VALUES_AHEAD_MAX));
            self.bytes.reserve(ROWS_AHEAD.saturating_mul(self.bytes.len()).min(BYTES_AHEAD_MAX));
        }
        for value in values.iter() {
            self.ends.push(value.map(|value| {
                self.bytes.extend_from_slice(value);
                self.bytes.len()
            }));
        }
        true
    }

    /// Discards the values.
    pub(super) fn clear(&mut self) {
        (self.bytes, self.ends) = (Vec::new(), Vec::new());
    }

    pub(super) fn complete(mut self, tag: &[u8]) -> Self {
        self.tag = String::from_utf8_lossy(tag).into_owned();
        self
    }

    /// Returns the approximate size of the columns in memory, in bytes.
    pub(super) fn size_of_columns(&self) -> usize {
        let names: usize = self.columns.iter().map(|column| column.name.len()).sum();
        names.saturating_add(self.columns.len().saturating_mul(size_of::<Column>()))
    }

    /// Returns the approximate size of the values in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len().saturating_add(self.ends.len().saturating_mul(size_of::<Option<usize>>()))
    }

    /// Returns the columns. It is empty for a statement that returns no rows.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len().checked_div(self.columns.len()).unwrap_or(0)
    }

    /// Returns true if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns row number `index`, from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Row<'_>> {
        (index < self.len()).then_some(Row { rows: self, index })
    }

    /// Returns the rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).map(|index| Row { rows: self, index })
    }

    /// Returns the command tag, for example `SELECT 3` or `LISTEN`. It is empty for an empty statement.
    #[must_use]
    pub fn command_tag(&self) -> &str {
        &self.tag
    }

    /// Returns the last number of the command tag: the rows selected, inserted, updated or deleted.
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

/// Shows the number of rows, because values are data of the application, and at most 16 columns.
impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct ShownColumns<'a>(&'a [Column]);
        impl fmt::Debug for ShownColumns<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut list = f.debug_list();
                list.entries(self.0.iter().take(SHOWN_COLUMNS_MAX));
                if self.0.len() > SHOWN_COLUMNS_MAX {
                    list.finish_non_exhaustive()
                } else {
                    list.finish()
                }
            }
        }
        f.debug_struct("Rows")
            .field("columns", &ShownColumns(&self.columns))
            .field("len", &self.len())
            .field("command_tag", &format_args!("\"{}\"", Escaped(&self.tag)))
            .finish_non_exhaustive()
    }
}

/// One row of a result.
///
/// ```no_run
/// # async fn example(mut connection: pgbell::Connection) -> Result<(), pgbell::Error> {
/// let orders = connection.query("SELECT id, pieces FROM orders", &[]).await?;
/// for order in orders.iter() {
///     let pieces: u32 = order.get(1).and_then(|text| text.parse().ok()).unwrap_or_default();
///     println!("{}: {pieces}", order.get(0).unwrap_or("NULL"));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Row<'a> {
    rows: &'a Rows,
    index: usize,
}

impl<'a> Row<'a> {
    /// Returns the value of column number `column`, from 0, as text. `None` for NULL, for a column that does not
    /// exist, and for bytes that are not UTF-8.
    #[must_use]
    pub fn get(&self, column: usize) -> Option<&'a str> {
        std::str::from_utf8(self.get_bytes(column)?).ok()
    }

    /// Returns the value of column number `column`, from 0, as it arrived. `None` for NULL, and for a column
    /// that does not exist.
    #[must_use]
    pub fn get_bytes(&self, column: usize) -> Option<&'a [u8]> {
        self.rows.value(self.index, column)
    }

    /// Returns the number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.columns.len()
    }

    /// Returns true if there is none.
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

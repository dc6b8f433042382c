//! [`MirrorRow`]: a row that is decoded to a value of the user.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};
use crate::proto::session::{Column, Row};

/// A row of the table or query of a [`Mirror`](crate::durable::Mirror), as its decoder gets it. Values are in text format.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::durable::{Mirror, MirrorRow, MirrorSource};
///
/// struct Order {
///     pieces: u32,
///     note: Option<String>,
/// }
///
/// let orders = Mirror::builder("postgres://localhost/shop", MirrorSource::table("orders", "id"))
///     .channel("orders")
///     .load(|row: MirrorRow<'_>| -> Result<Order, pgbell::Error> {
///         Ok(Order { pieces: row.parse("pieces")?, note: row.get("note").map(str::to_owned) })
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct MirrorRow<'a> {
    key: &'a str,
    columns: &'a [Column],
    row: Row<'a>,
}

impl<'a> MirrorRow<'a> {
    pub(super) fn new(key: &'a str, columns: &'a [Column], row: Row<'a>) -> Self {
        Self { key, columns, row }
    }

    /// Returns the text of the key column.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// Returns the value of the first column with this name. `None` for NULL, for a column that does not exist, and for bytes that are not UTF-8.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<&'a str> {
        self.row.get(self.columns.iter().position(|one| one.name() == column)?)
    }

    /// Parses the value of the first column with this name, such as a number. PostgreSQL writes a boolean as `t` or `f`, which `bool` does not parse.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] with the name of the column if there is none, if it is NULL, or if its value is not parsed. The text has nothing of the
    /// value, unless the error of its type has.
    pub fn parse<T>(&self, column: &str) -> Result<T, Error>
    where
        T: FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let text = self.get(column).ok_or_else(|| {
            let message = format!("the column {column:?} is missing or NULL");
            Error::new(ErrorKind::Decode, message)
        })?;
        text.parse().map_err(|error| {
            Error::caused(ErrorKind::Decode, format!("the column {column:?} is not parsed"), error)
        })
    }

    /// Returns the columns.
    #[must_use]
    pub fn columns(&self) -> &'a [Column] {
        self.columns
    }

    /// Returns the values by the numbers of their columns.
    #[must_use]
    pub fn values(&self) -> Row<'a> {
        self.row
    }
}

/// Shows the columns, because values are data of the application.
impl fmt::Debug for MirrorRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorRow").field("columns", &self.columns).finish_non_exhaustive()
    }
}

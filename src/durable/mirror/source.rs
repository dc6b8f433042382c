//! [`MirrorSource`]: what a mirror reads. [`Statements`]: its SQL.

use crate::error::{Error, ErrorKind};
use crate::proto::wire::quote_identifier;

/// The table or the query whose rows a [`Mirror`](crate::durable::Mirror) has, and the column that names a row.
///
/// ```
/// use pgbell::durable::MirrorSource;
///
/// let orders = MirrorSource::table("shop.orders", "id").columns(["id", "status"]);
/// let open = MirrorSource::query("SELECT id, status FROM orders WHERE closed IS NULL", "id");
/// ```
///
/// Each row must have a value in the key column, and no two the same. The column should have an index: a changed row is read with
/// `WHERE key = ANY($1)` around the query. For a query with GROUP BY, DISTINCT or window functions, the server uses the index only if the key is a
/// column of each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it does nothing before it is given to a mirror"]
pub struct MirrorSource {
    rows: Rows,
    key: String,
}

/// Where the rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rows {
    Table {
        /// `table`, or `schema.table`.
        name: String,
        /// All, if it is empty.
        columns: Vec<String>,
    },
    Query(String),
}

impl MirrorSource {
    /// The rows of a table or a view: `table`, which is found in the `search_path`, or `schema.table`. `key` is the column that names a row. Names are
    /// quoted: they have the case in which they are stored.
    pub fn table(name: impl Into<String>, key: impl Into<String>) -> Self {
        Self { rows: Rows::Table { name: name.into(), columns: Vec::new() }, key: key.into() }
    }

    /// The rows of a query: one SELECT without a semicolon and without parameters. `key` is the column of its result that names a row.
    ///
    /// The query is part of the text of statements: never put values of other origin into it.
    pub fn query(sql: impl Into<String>, key: impl Into<String>) -> Self {
        Self { rows: Rows::Query(sql.into()), key: key.into() }
    }

    /// Sets which columns of a table are read, by default all. The key column is read in any case. A row whose other columns change does not
    /// change the mirror. It has no effect on a query, which lists its columns itself.
    pub fn columns(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        if let Rows::Table { columns, .. } = &mut self.rows {
            *columns = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        }
        self
    }

    /// Returns a name for logs.
    pub(super) fn name(&self) -> &str {
        match &self.rows {
            Rows::Table { name, .. } => name,
            Rows::Query(_) => "query",
        }
    }

    /// Returns the key column.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the statements.
    pub(super) fn statements(&self) -> Result<Statements, Error> {
        let key = quoted(&self.key)?;
        let rows = match &self.rows {
            Rows::Query(sql) if sql.contains('\0') => return Err(refused("query", sql)),
            Rows::Query(sql) => sql.clone(),
            Rows::Table { name, columns } => {
                let table = match name.split_once('.') {
                    Some((schema, table)) => format!("{}.{}", quoted(schema)?, quoted(table)?),
                    None => quoted(name)?,
                };
                let mut list = vec![key.clone()];
                for name in columns.iter().filter(|name| **name != self.key) {
                    list.push(quoted(name)?);
                }
                let list = if columns.is_empty() { "*".to_owned() } else { list.join(", ") };
                format!("SELECT {list} FROM {table}")
            }
        };
        Ok(Statements::new(&rows, &key))
    }
}

/// The statements of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statements {
    /// Declares the cursor of a load.
    pub(super) declare: String,
    /// Reads the rows of some keys, which are an array as text: the server gives it the type of the column, so that an index is used.
    pub(super) refresh: String,
    /// Returns these keys as the server writes them.
    pub(super) canonical: String,
    /// Parses the refresh, and does not execute it: it fails only if the source itself is wrong.
    pub(super) check: String,
}

/// The name of the cursor in the server, and of the statement that is only parsed.
pub(super) const CURSOR: &str = "pgbell_mirror";

impl Statements {
    fn new(rows: &str, key: &str) -> Self {
        // A query may end with a comment.
        let from = format!("FROM (\n{rows}\n) AS q");
        let refresh = format!("SELECT q.* {from} WHERE q.{key} = ANY($1)");
        Self {
            declare: format!("DECLARE {CURSOR} NO SCROLL CURSOR FOR SELECT q.* {from}"),
            check: format!("PREPARE {CURSOR} AS {refresh}; DEALLOCATE {CURSOR}"),
            refresh,
            // The first branch is never executed: it only has the type.
            canonical: format!(
                "SELECT k FROM unnest(CASE WHEN false THEN ARRAY(SELECT q.{key} {from}) ELSE $1 END) AS k"
            ),
        }
    }
}

fn quoted(name: &str) -> Result<String, Error> {
    if name.is_empty() || name.contains('\0') {
        return Err(refused("name of a table or a column", name));
    }
    let mut text = String::with_capacity(name.len() + 2);
    quote_identifier(name, &mut text);
    Ok(text)
}

#[cold]
fn refused(what: &str, text: &str) -> Error {
    let message = format!("the {what} of a mirror is empty or contains a NUL: {text:?}");
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_the_key_is_read_in_any_case() {
        let source = MirrorSource::table("Shop.or\"ders", "Id").columns(["status", "Id"]);
        let refresh = source.statements().unwrap().refresh;
        let expected = "SELECT q.* FROM (\nSELECT \"Id\", \"status\" FROM \"Shop\".\"or\"\"ders\"\n) AS q WHERE q.\"Id\" = ANY($1)";
        assert_eq!(refresh, expected);
        let all = MirrorSource::table("orders", "id").statements().unwrap().declare;
        assert!(all.contains("SELECT * FROM \"orders\"\n"), "{all}");
    }

    #[test]
    fn a_query_that_ends_with_a_comment_does_not_hide_what_follows() {
        let source = MirrorSource::query("SELECT 1 AS id -- the only one", "id");
        assert!(source.statements().unwrap().declare.ends_with("-- the only one\n) AS q"));
    }

    #[test]
    fn names_and_queries_that_no_statement_can_have_are_refused() {
        for source in [
            MirrorSource::table("", "id"),
            MirrorSource::table("a.", "id"),
            MirrorSource::table("a", ""),
            MirrorSource::table("a", "i\0d"),
            MirrorSource::table("a", "id").columns([""]),
            MirrorSource::query("SELECT 1\0", "id"),
        ] {
            let error = source.statements().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{source:?}");
        }
    }
}

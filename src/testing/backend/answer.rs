//! The answer of a test to a query.

use super::field::Field;
use super::refusal::Refusal;
use super::select::Value;
use super::types::Type;

/// The answer of a [`Backend`](super::Backend) to a query that it does not support itself:
/// rows, a command tag, or an error. Setters take and return self.
///
/// ```
/// use pgbell::testing::Answer;
///
/// let rows = Answer::rows(["id", "name"]).row(["1", "ink"]).row([Some("2"), None]);
/// let updated = Answer::command("UPDATE 2").notify("orders", "1");
/// let error = Answer::error("42P01", "relation \"orders\" does not exist");
/// # let _ = (rows, updated, error);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `None` for a statement that returns no rows.
    pub(super) fields: Option<Vec<Field>>,
    pub(super) rows: Vec<Vec<Value>>,
    tag: Option<String>,
    pub(super) notifications: Vec<(String, String)>,
    pub(super) refusal: Option<Refusal>,
    pub(super) parameter_types: Vec<Type>,
}

impl Answer {
    /// Returns a result with these columns and without rows. The values are of the type `text`, unless
    /// [`types`](Self::types) sets other types. The command tag is `SELECT` and the number of rows.
    #[must_use]
    pub fn rows(columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let fields = columns.into_iter().map(|name| Field::new(name, Type::TEXT));
        Self { fields: Some(fields.collect()), ..Self::empty() }
    }

    /// Adds a row: a value for each column, in text format. `None` is NULL.
    ///
    /// # Panics
    /// There are more or fewer values than columns.
    #[must_use]
    pub fn row<'a>(mut self, values: impl IntoIterator<Item = impl Into<Option<&'a str>>>) -> Self {
        let row: Vec<Value> =
            values.into_iter().map(|value| value.into().map(str::to_owned)).collect();
        let columns = self.fields.as_ref().map_or(0, Vec::len);
        assert!(row.len() == columns, "{} values for {columns} columns", row.len());
        self.rows.push(row);
        self
    }

    /// Sets the types of the columns, as object ids of `pg_type`: 23 is `int4`, 20 is `int8`, 25 is `text`.
    ///
    /// A driver that wants results in binary format gets them for 16 (`bool`), 17 (`bytea`), 19 (`name`), 20, 21 and 23 (`int8`, `int2`,
    /// `int4`), 25 (`text`), 26 (`oid`), 114 and 3802 (`json`, `jsonb`), 700 and 701 (`float4`, `float8`), 1042 and 1043 (`bpchar`,
    /// `varchar`), 2950 (`uuid`) and their arrays. A value of another type, or an invalid value, is an error in binary format.
    ///
    /// # Panics
    /// There are more or fewer types than columns.
    #[must_use]
    pub fn types(mut self, oids: impl IntoIterator<Item = u32>) -> Self {
        let fields = self.fields.as_deref_mut().unwrap_or_default();
        let oids: Vec<u32> = oids.into_iter().collect();
        assert!(oids.len() == fields.len(), "{} types for {} columns", oids.len(), fields.len());
        for (field, oid) in fields.iter_mut().zip(oids) {
            field.of = Type(oid);
        }
        self
    }

    /// Sets the types of the statement's parameters `$1`, `$2` and so on, as object ids, for drivers that ask for them. Other
    /// parameters have the type that the driver declares, or `text`.
    #[must_use]
    pub fn parameter_types(mut self, oids: impl IntoIterator<Item = u32>) -> Self {
        self.parameter_types = oids.into_iter().map(Type).collect();
        self
    }

    /// Returns the answer of a statement that returns no rows, with its command tag: `UPDATE 3`.
    #[must_use]
    pub fn command(tag: impl Into<String>) -> Self {
        Self { tag: Some(tag.into()), ..Self::empty() }
    }

    /// Returns an ERROR with its SQLSTATE. As on a server it aborts the transaction, and the session continues.
    ///
    /// # Panics
    /// The SQLSTATE is not five digits and capital letters.
    #[must_use]
    pub fn error(sqlstate: &str, message: impl Into<String>) -> Self {
        let valid = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
        assert!(
            sqlstate.len() == 5 && sqlstate.bytes().all(valid),
            "an SQLSTATE is five digits and capital letters: {sqlstate:?}"
        );
        let refusal = Refusal::new(sqlstate.to_owned(), message);
        Self { refusal: Some(refusal), ..Self::empty() }
    }

    /// Sets another command tag, for example `INSERT 0 1` with the rows of a RETURNING.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Adds a notification, as by a trigger or a function: it is sent with the transaction, from the session of the statement.
    #[must_use]
    pub fn notify(mut self, channel: impl Into<String>, payload: impl Into<String>) -> Self {
        self.notifications.push((channel.into(), payload.into()));
        self
    }

    /// Returns the command tag.
    pub(super) fn command_tag(&self) -> String {
        self.tag.clone().unwrap_or_else(|| format!("SELECT {}", self.rows.len()))
    }

    const fn empty() -> Self {
        Self {
            fields: None,
            rows: Vec::new(),
            tag: None,
            notifications: Vec::new(),
            refusal: None,
            parameter_types: Vec::new(),
        }
    }
}

//! The errors of a mirror, and their hints.

use crate::error::{Error, ErrorKind};
use crate::proto::wire::escape::Escaped;

/// Returns an error of the server with the kind and the hint that it has for a user of a mirror.
pub(super) fn explained(error: Error) -> Error {
    if error.kind() == ErrorKind::Standby && error.sqlstate().is_none() {
        return error
            .with_hint("a mirror reads from the primary: name it, or all hosts of the cluster");
    }
    let (kind, hint) = match error.sqlstate() {
        Some("25006") => (
            ErrorKind::Schema,
            "the query of a mirror must not write: its transaction is read-only",
        ),
        Some("42501") => (error.kind(), "grant the role SELECT on what the mirror reads"),
        _ => return error,
    };
    error.with_kind(kind).with_hint(hint)
}

/// Returns whether the table, the query or the key column may be the cause. Code of the database that they use can have the same errors.
pub(super) fn may_be_of_source(error: &Error) -> bool {
    source_hint(error).is_some()
}

/// Returns an error of which the source is the cause.
pub(super) fn of_source(error: Error) -> Error {
    match source_hint(&error) {
        Some(hint) => error.with_kind(ErrorKind::Schema).with_hint(hint),
        None => error,
    }
}

/// Returns an error of which code in the database is the cause.
pub(super) fn of_inner_code(error: Error) -> Error {
    error.with_hint(
        "the table and the key column exist: correct the view, function or policy that they use",
    )
}

fn source_hint(error: &Error) -> Option<&'static str> {
    Some(match error.sqlstate()? {
        // Undefined table, schema.
        "42P01" | "3F000" => "create the table, or correct its name in the source of the mirror",
        // Undefined or ambiguous column.
        "42703" | "42702" => KEY_HINT,
        // Undefined function, which is that of an operator.
        "42883" => "the key column needs a type with an operator =, such as bigint, text or uuid",
        "42601" => "the query of a mirror must be one SELECT without a semicolon",
        _ => return None,
    })
}

const KEY_HINT: &str =
    "the key of a mirror must be one column of its table or of the result of its query";

/// Returns whether the keys of a refresh may be the cause: a value that the type of the column does not have, or that the constraint of a domain refuses.
/// Some types, such as ltree, report it as a syntax error.
pub(super) fn may_be_of_keys(error: &Error) -> bool {
    let may_be = |code: &str| code.starts_with("22") || matches!(code, "23514" | "42601");
    error.sqlstate().is_some_and(may_be)
}

/// The error for a result in which not exactly one column has the name of the key.
#[cold]
pub(super) fn no_key_column(key: &str, found: usize) -> Error {
    let message = format!("{found} columns of a mirror have the name {key:?}, expected one");
    Error::new(ErrorKind::Schema, message).with_hint(KEY_HINT)
}

/// The error for a row without a key.
#[cold]
pub(super) fn null_key(key: &str) -> Error {
    let message = format!("the key column {key:?} of a row is NULL, or not UTF-8");
    let hint = "exclude such rows in the query of the mirror, or declare the column NOT NULL";
    Error::new(ErrorKind::Schema, message).with_hint(hint)
}

/// The error for two rows with the same key.
#[cold]
pub(super) fn duplicate_key(key: &str) -> Error {
    let message = format!("two rows of a mirror have the key \"{}\"", Escaped(key));
    let hint = "choose a key column that is unique, such as the primary key";
    Error::new(ErrorKind::Schema, message).with_hint(hint)
}

/// The error for more rows than the limit.
#[cold]
pub(super) fn too_many_rows(limit: usize) -> Error {
    let message = format!("a mirror would have more than {limit} rows");
    let hint = "raise MirrorBuilder::max_rows, or mirror a query that has fewer rows";
    Error::new(ErrorKind::Unsupported, message).with_hint(hint)
}

/// The error for a row that the function of the user does not decode.
#[cold]
pub(super) fn undecodable(key: &str, cause: Box<dyn std::error::Error + Send + Sync>) -> Error {
    let message = format!("the row with the key \"{}\" was not decoded", Escaped(key));
    Error::caused(ErrorKind::Decode, message, cause)
}

/// The error of a call after the end.
#[cold]
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the mirror is closed")
}

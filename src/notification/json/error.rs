//! [`JsonError`]: a payload that cannot be decoded.

use std::fmt;
use std::sync::Arc;

use serde_json::error::Category;

use super::super::Notification;
use crate::error::{Error, ErrorKind};
use crate::proto::wire::escape::Escaped;

/// A payload that is not JSON, or is not what the type of the consumer expects. It contains the notification.
///
/// As an [`Error`] it has the kind [`Decode`](ErrorKind::Decode), and [`Error::reason`] returns it.
///
/// Its texts contain the channel, the length of the payload, what was expected, and usually the position, but no value of the payload: it is
/// the application's data. The text of serde_json, which [`cause`](Self::cause) returns, can contain values. Therefore it is not a
/// [`source`](std::error::Error::source), which reporters print.
///
/// ```
/// # fn example(notification: &pgbell::Notification) {
/// if let Err(error) = notification.json::<u64>() {
///     // the payload on channel orders, 12 bytes, cannot be decoded: found a string, expected u64, line 1 column 12
///     eprintln!("{error}");
///     // It is printed with its value only if the program asks for it.
///     eprintln!("{}", error.notification().payload());
/// }
/// # }
/// ```
#[derive(Clone)]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub struct JsonError(
    // Shared, so that a clone is cheap and a `Result` is small.
    Arc<Details>,
);

struct Details {
    notification: Notification,
    cause: serde_json::Error,
}

impl JsonError {
    #[cold]
    pub(super) fn new(notification: Notification, cause: serde_json::Error) -> Self {
        Self(Arc::new(Details { notification, cause }))
    }

    /// Returns the notification.
    #[must_use]
    pub fn notification(&self) -> &Notification {
        &self.0.notification
    }

    /// Returns the notification by value.
    #[must_use]
    pub fn into_notification(self) -> Notification {
        match Arc::try_unwrap(self.0) {
            Ok(details) => details.notification,
            Err(shared) => shared.notification.clone(),
        }
    }

    /// Returns the error of serde_json, with its position. Its text can contain values of the payload.
    #[must_use]
    pub fn cause(&self) -> &serde_json::Error {
        &self.0.cause
    }

    /// Returns a text that says what to change, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.is_empty().then_some(
            "a NOTIFY without a payload sends an empty one: send JSON, or do not decode a notification whose payload is empty",
        )
    }

    fn is_empty(&self) -> bool {
        self.notification().payload_bytes().is_empty()
    }
}

impl std::error::Error for JsonError {}

/// Writes one line without values of the payload: see [`JsonError`].
impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channel = Escaped(self.notification().channel());
        if self.is_empty() {
            return write!(f, "the payload on channel {channel} is empty, expected JSON");
        }
        let (bytes, cause) = (self.notification().payload_bytes().len(), self.cause());
        let plural = if bytes == 1 { "" } else { "s" };
        write!(f, "the payload on channel {channel}, {bytes} byte{plural}, cannot be decoded: ")?;
        write_cause(f, cause)?;
        let (line, column) = (cause.line(), cause.column());
        if is_position(self.notification().payload_bytes(), line, column) {
            write!(f, ", line {line} column {column}")?;
        }
        Ok(())
    }
}

/// Writes the same as `Display`: the error of serde_json contains values.
impl fmt::Debug for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<JsonError> for Error {
    #[cold]
    fn from(error: JsonError) -> Self {
        let hint = error.hint();
        let error = Self::because(ErrorKind::Decode, error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// Returns whether the payload has this position. serde_json takes one out of the text of an error of the type too, where it can be anything.
fn is_position(payload: &[u8], line: usize, column: usize) -> bool {
    let mut lines = payload.split(|byte| *byte == b'\n');
    let length = line.checked_sub(1).and_then(|before| lines.nth(before)).map(<[u8]>::len);
    length.is_some_and(|length| column <= length)
}

/// How the texts of serde and serde_json about a value begin, each with what is shown instead.
const VALUES: [(&str, &str); 18] = [
    ("boolean `", "a boolean"),
    ("integer `", "an integer"),
    ("floating point `", "a floating-point number"),
    // With the feature `arbitrary_precision` of serde_json.
    ("number", "a number"),
    ("character `", "a character"),
    ("string \"", "a string"),
    ("byte array", "bytes"),
    ("null", "null"),
    ("unit value", "null"),
    ("Option value", "an option"),
    ("newtype struct", "a newtype struct"),
    ("sequence", "an array"),
    ("map", "an object"),
    ("enum", "an enum"),
    ("unit variant", "a unit variant"),
    ("newtype variant", "a newtype variant"),
    ("tuple variant", "a tuple variant"),
    ("struct variant", "a struct variant"),
];

/// The same for the other texts about what was found.
const OTHERS: [(&str, &str); 3] = [
    ("unknown variant `", "an unknown variant"),
    (UNKNOWN_FIELD, "an unknown field"),
    ("invalid length ", "another length"),
];

const UNKNOWN_FIELD: &str = "unknown field `";

/// Writes what is wrong, without values of the payload: the texts of serde without the value, and none of a type's own texts, unless it imitates
/// those of serde.
fn write_cause(f: &mut fmt::Formatter<'_>, cause: &serde_json::Error) -> fmt::Result {
    let text = cause.to_string();
    let position = format!(" at line {} column {}", cause.line(), cause.column());
    let text = text.strip_suffix(&position).unwrap_or(&text);
    // The texts about the syntax are constants.
    if cause.classify() != Category::Data {
        return f.write_str(text);
    }
    if let Some(found) = found(text) {
        return match expected(text) {
            Some(expected) => write!(f, "found {found}, expected {expected}"),
            None => write!(f, "found {found}"),
        };
    }
    // The names are those of the type.
    for start in ["missing field `", "duplicate field `"] {
        let name = text.strip_prefix(start).and_then(|rest| rest.strip_suffix('`'));
        if let Some(name) = name.filter(|name| !name.contains('`')) {
            return write!(f, "{start}{}`", Escaped(name));
        }
    }
    f.write_str(match text.starts_with("data did not match any variant of untagged enum ") {
        true => "no variant of the enum matches",
        false => "the type refuses a value",
    })
}

/// Returns what was found, without its value.
fn found(text: &str) -> Option<&'static str> {
    let value = ["invalid type: ", "invalid value: "].iter().find_map(|at| text.strip_prefix(at));
    let (text, known) = match value {
        Some(value) => (value, &VALUES[..]),
        None => (text, &OTHERS[..]),
    };
    known.iter().find(|(start, _)| text.starts_with(start)).map(|(_, found)| *found)
}

/// Returns what was expected, from a text that ends with it. Only the last of these words are those of serde: the value is before them, and can
/// contain them. After an unknown field there is none: if the type has a flattened field, the text ends with the name in the payload.
fn expected(text: &str) -> Option<Escaped<'_>> {
    if text.starts_with(UNKNOWN_FIELD) {
        return None;
    }
    let is_none = [", there are no variants", ", there are no fields"];
    if is_none.iter().any(|end| text.ends_with(end)) {
        return None;
    }
    text.rsplit_once(", expected ").map(|(_, expected)| Escaped(expected))
}

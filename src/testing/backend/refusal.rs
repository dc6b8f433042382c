//! The ERROR of a statement that is not executed.

use std::borrow::Cow;

use crate::proto::wire::{DbError, Severity};

/// The longest message of an error.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// An ERROR for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    code: Cow<'static, str>,
    message: String,
    position: Option<usize>,
}

impl Refusal {
    pub(super) fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), position: None }
    }

    pub(super) fn not_utf8() -> Self {
        Self::new("22021", "invalid byte sequence for encoding \"UTF8\"")
    }

    /// A limit of this backend is exceeded.
    pub(super) fn limit_exceeded(what: &str) -> Self {
        Self::new("53200", format!("{what}: too much for the testing backend"))
    }

    /// The backend lacks many parameters that a server has. A name with a dot is a custom parameter of the client.
    pub(super) fn unknown_setting(name: &str) -> Self {
        if !name.contains('.') {
            return Self::unsupported(&format!("the parameter {name}"));
        }
        Self::new("42704", format!("unrecognized configuration parameter \"{name}\""))
    }

    pub(super) fn syntax(message: impl Into<String>) -> Self {
        Self::new("42601", message)
    }

    /// The backend does not support what PostgreSQL may support.
    pub(super) fn unsupported(what: &str) -> Self {
        Self::new("0A000", format!("{what} is not understood by the testing backend"))
    }

    /// Adds the position in the query, in characters counted from 1.
    pub(super) fn at(mut self, position: usize) -> Self {
        self.position.get_or_insert(position);
        self
    }

    /// Returns the error message. A message that quotes a very long statement is cut, so that it can be sent.
    pub(super) fn to_error(&self) -> DbError {
        let mut end = self.message.len().min(MESSAGE_BYTES_MAX);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        let message = self.message.get(..end).unwrap_or_default();
        let error = DbError::new(Severity::Error, &self.code, message);
        match self.position {
            Some(position) => error.with_field(b'P', &position.to_string()),
            None => error,
        }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &str {
        &self.code
    }

    #[cfg(test)]
    pub(super) fn position(&self) -> Option<usize> {
        self.position
    }
}

//! A statement of a client, as it is passed to the functions of a test.

use super::select::Value;

/// A statement of a client, as it is passed to a function of [`Backend::answer_with`](super::Backend::answer_with).
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub(super) sql: &'a str,
    pub(super) parameters: Option<&'a [Value]>,
    pub(super) process_id: i32,
}

impl<'a> Query<'a> {
    /// The text, without blanks and comments around it and without the semicolon.
    #[must_use]
    pub const fn sql(&self) -> &'a str {
        self.sql
    }

    /// Whether it is carried out now. Each statement is prepared first, and then carried out any number of times.
    #[must_use]
    pub const fn is_executed(&self) -> bool {
        self.parameters.is_some()
    }

    /// The bound parameters in text format; `None` is NULL. There are none while it is prepared.
    #[must_use]
    pub fn parameters(&self) -> &'a [Option<String>] {
        self.parameters.unwrap_or_default()
    }

    /// Process id of the session.
    #[must_use]
    pub const fn process_id(&self) -> i32 {
        self.process_id
    }
}

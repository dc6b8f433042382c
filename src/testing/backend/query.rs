//! A statement of a client, as the functions of a test receive it.

use super::select::Value;

/// A statement of a client, as a function of [`Backend::answer_with`](super::Backend::answer_with) receives it.
///
/// ```no_run
/// # fn example(server: &pgbell::testing::Server) {
/// use pgbell::testing::Answer;
///
/// server.answer_with(|query| {
///     let id = query.sql().strip_prefix("SELECT name FROM users WHERE id = ")?;
///     Some(Answer::rows(["name"]).row([if id == "7" { "ann" } else { "bob" }]))
/// });
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub(super) sql: &'a str,
    pub(super) parameters: Option<&'a [Value]>,
    pub(super) process_id: i32,
}

impl<'a> Query<'a> {
    /// Returns the text, without blanks and comments around it and without the semicolon.
    #[must_use]
    pub const fn sql(&self) -> &'a str {
        self.sql
    }

    /// Returns whether the statement is executed now. Each statement is first prepared, and then executed any number of times.
    #[must_use]
    pub const fn is_executed(&self) -> bool {
        self.parameters.is_some()
    }

    /// Returns the bound parameters in text format; `None` is NULL. There are none while the statement is prepared.
    #[must_use]
    pub fn parameters(&self) -> &'a [Option<String>] {
        self.parameters.unwrap_or_default()
    }

    /// Returns the process id of the session.
    #[must_use]
    pub const fn process_id(&self) -> i32 {
        self.process_id
    }
}

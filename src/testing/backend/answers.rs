//! The answers that a test has set.

use std::collections::BTreeMap;
use std::fmt;

use super::answer::Answer;
use super::query::Query;
use super::token::{self, Kind};

/// A function that answers queries.
type Answering = Box<dyn FnMut(&Query<'_>) -> Option<Answer> + Send>;

/// The answers that a test has set: by text, and by functions.
#[derive(Default)]
pub(super) struct Answers {
    texts: BTreeMap<String, Answer>,
    functions: Vec<Answering>,
}

impl Answers {
    /// Sets the answer to exactly this text, and replaces an earlier one.
    pub(super) fn set(&mut self, sql: &str, answer: Answer) {
        self.texts.insert(text(sql).to_owned(), answer);
    }

    /// Adds a function, which is called before the earlier ones.
    pub(super) fn add(&mut self, function: Answering) {
        self.functions.push(function);
    }

    pub(super) fn clear(&mut self) {
        self.texts.clear();
        self.functions.clear();
    }

    /// Returns the answer to this query, if the test has set one.
    pub(super) fn find(&mut self, query: &Query<'_>) -> Option<Answer> {
        let found = self.texts.get(query.sql).cloned();
        found.or_else(|| self.functions.iter_mut().rev().find_map(|function| function(query)))
    }
}

/// Removes blanks and comments around the text, and semicolons at its end.
fn text(sql: &str) -> &str {
    let Ok(tokens) = token::tokens(sql, &mut Vec::new()) else { return trimmed(sql) };
    let end = tokens.iter().rposition(|token| token.kind != Kind::Symbol(';'));
    let inside = end.and_then(|end| tokens.get(..=end)).unwrap_or_default();
    token::span(sql, inside)
}

/// Removes blanks around the text, and semicolons at its end.
pub(super) fn trimmed(sql: &str) -> &str {
    sql.trim_end_matches(|c: char| c == ';' || c.is_ascii_whitespace()).trim_ascii_start()
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("texts", &self.texts)
            .field("functions", &self.functions.len())
            .finish()
    }
}

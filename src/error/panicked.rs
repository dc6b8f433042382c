//! The error for a panic of a task.

use std::any::Any;

use super::{Error, ErrorKind};

/// The maximum length of a panic message in an error, because such a message may have any length.
#[allow(dead_code, reason = "as for `panicked`")]
const MESSAGE_CHARS_MAX: usize = 200;

#[allow(dead_code, reason = "only drivers have tasks, and a build may have no driver")]
impl Error {
    /// Creates the error for a panic of `what`. The payload is shown if it is a text.
    #[cold]
    pub(crate) fn panicked(what: &str, payload: &(dyn Any + Send)) -> Self {
        let message = payload.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
        let mut words = format!("{what} panicked");
        if let Some(message) = message {
            words.push_str(": ");
            words.extend(message.chars().take(MESSAGE_CHARS_MAX));
        }
        Self::new(ErrorKind::Other, words)
    }
}

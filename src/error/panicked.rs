//! A panic of a task, as an error.

use std::any::Any;

use super::{Error, ErrorKind};

/// Most characters of a panic's message that are shown. A message may hold anything.
#[allow(dead_code, reason = "as for `panicked`")]
const MESSAGE_CHARS_MAX: usize = 200;

#[allow(dead_code, reason = "only shells have tasks, and a build may have none")]
impl Error {
    /// `what` has panicked with this payload: a text, or something that is not shown.
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

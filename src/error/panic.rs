//! [`contain`]: calls code of the user, whose panics must not leave it.
#![allow(dead_code, reason = "only drivers call code of the user, and a build may have none")]

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Error, ErrorKind};

/// The maximum length of a panic message in an error, because such a message may have any length.
const MESSAGE_CHARS_MAX: usize = 200;

/// A panic that was caught.
#[derive(Debug)]
pub(crate) struct Panic {
    /// Its text, if its payload is one.
    pub(crate) message: Option<String>,
}

impl Panic {
    /// Reads the text of a panic, and drops its payload. That drop is code of the user, and may panic too.
    #[cold]
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let message = text.map(str::to_owned);
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(second);
        }
        Self { message }
    }
}

/// Calls `call`, and returns the panic that it ends with. No other panic is possible.
pub(crate) fn contain<T>(call: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(call)).map_err(Panic::new)
}

impl Error {
    /// Creates the error for a panic of `what`.
    #[cold]
    pub(crate) fn panicked(what: &str, panic: &Panic) -> Self {
        let mut words = format!("{what} panicked");
        if let Some(message) = &panic.message {
            words.push_str(": ");
            words.extend(message.chars().take(MESSAGE_CHARS_MAX));
        }
        Self::new(ErrorKind::Other, words)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct PanicsInDrop;

    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("in the drop of a payload");
        }
    }

    fn message(call: impl FnOnce()) -> Option<String> {
        contain(call).unwrap_err().message
    }

    #[test]
    fn a_text_is_the_message_of_a_panic_and_another_payload_has_none() {
        assert_eq!(message(|| panic!("gone")).as_deref(), Some("gone"));
        assert_eq!(message(|| panic!("gone {}", 7)).as_deref(), Some("gone 7"));
        assert_eq!(message(|| panic_any(404)), None);
        assert_eq!(contain(|| 5).unwrap(), 5);
    }

    /// An earlier version dropped the payload outside, and that panic ended the task.
    #[test]
    fn a_panic_in_the_drop_of_the_payload_of_a_panic_is_contained() {
        assert_eq!(message(|| panic_any(PanicsInDrop)), None);
    }
}

//! [`End`]: the cause of the end of a listener, and the errors of calls after the end.

use std::sync::OnceLock;

use crate::error::{Error, ErrorKind};

/// The cause of the end of a listener. It is set by the task, at most once, and read by everything that belongs to the listener.
#[derive(Debug)]
pub(crate) struct End {
    /// `listener` or `hub`.
    what: &'static str,
    /// The error that the listener ended with, unless it was closed.
    cause: OnceLock<Error>,
}

impl End {
    /// Creates it for a `listener` or a `hub`, the word in the texts of errors.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, cause: OnceLock::new() }
    }

    /// Sets the cause. A later one changes nothing.
    pub(crate) fn set(&self, cause: Error) {
        let _ = self.cause.set(cause);
    }

    pub(crate) fn cause(&self) -> Option<&Error> {
        self.cause.get()
    }

    /// Returns the error of a call after the end.
    pub(crate) fn closed(&self) -> Error {
        let what = self.what;
        match self.cause() {
            Some(cause) => {
                Error::caused(ErrorKind::Closed, format!("the {what} has ended"), cause.clone())
            }
            None => Error::new(ErrorKind::Closed, format!("the {what} is closed")),
        }
    }
}

//! Errors that came from outside of the call: the next attempt reads the same again, and may find something else.

use super::{Error, Inner};

impl Error {
    /// The same error, marked: its cause is something outside that was read for the call, as a file, or that was asked,
    /// as the operating system, a password provider or a pool. Parameters that are right stay right, so a later attempt
    /// with the same ones may succeed. The kind stays as it is.
    #[cold]
    pub(crate) fn passing(self) -> Self {
        if self.is_passing() {
            return self;
        }
        Self::build(Inner { passing: true, ..self.into_inner() })
    }

    /// Whether a later attempt may find something else outside: see [`Error::passing`].
    pub(crate) fn is_passing(&self) -> bool {
        self.0.passing
    }
}

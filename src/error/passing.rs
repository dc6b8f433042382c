//! Errors whose cause is outside of the parameters, such as a file. The cause may be gone at the next attempt.

use super::{Error, ErrorInner};

impl Error {
    /// Marks the error: its cause is outside of the parameters, such as a file, the operating system, a password provider or
    /// a pool. A later attempt with the same parameters may succeed. The kind does not change.
    #[cold]
    pub(crate) fn passing(self) -> Self {
        if self.is_passing() {
            return self;
        }
        Self::build(ErrorInner { passing: true, ..self.into_inner() })
    }

    /// Returns whether the error is marked with [`Error::passing`].
    pub(crate) fn is_passing(&self) -> bool {
        self.0.passing
    }
}

//! Marks of an error, which say what may follow it: an attempt without TLS, or a later attempt with the same parameters.

use super::{Error, ErrorInner};

impl Error {
    /// Marks the error: the server declined TLS, or the connection ended before the server's identity was checked. If TLS is
    /// only preferred, an unencrypted connection may follow. An error of the client's own checks is never marked.
    #[allow(dead_code, reason = "only the driver with TLS marks errors, and a build may have none")]
    #[cold]
    pub(crate) fn declined(self) -> Self {
        Self::build(ErrorInner { declined: true, ..self.into_inner() })
    }

    /// Returns whether the error is marked with [`Error::declined`].
    pub(crate) fn is_declined(&self) -> bool {
        self.0.declined
    }

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

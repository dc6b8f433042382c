//! Errors after which an attempt without TLS may follow.

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
}

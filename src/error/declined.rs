//! Errors of a server that did not take up TLS.

use super::{Error, Inner};

impl Error {
    /// The same error, marked: the server declined TLS, or the connection ended before anything was decided about the
    /// server. Where TLS is only preferred, a connection in the clear may follow. A refusal of ours is never marked.
    #[allow(dead_code, reason = "only the shell with TLS marks, and a build may have none")]
    #[cold]
    pub(crate) fn declined(self) -> Self {
        Self::build(Inner { declined: true, ..self.into_inner() })
    }

    /// Whether it was the server that declined TLS: see [`Error::declined`].
    pub(crate) fn is_declined(&self) -> bool {
        self.0.declined
    }
}

//! Errors that came from outside of the call: the next attempt reads the same again, and may find something else.

use std::sync::Arc;

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
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Self::build(Inner { passing: true, ..inner }),
            // As it is with a hint.
            Err(shared) => Self::build(Inner {
                kind: shared.kind,
                message: shared.message.clone(),
                hint: shared.hint.clone(),
                db_error: shared.db_error.clone(),
                source: shared.source.as_ref().map(|source| source.to_string().into()),
                passing: true,
                declined: shared.declined,
            }),
        }
    }

    /// Whether a later attempt may find something else outside: see [`Error::passing`].
    pub(crate) fn is_passing(&self) -> bool {
        self.0.passing
    }
}

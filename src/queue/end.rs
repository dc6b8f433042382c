//! [`End`]: the cause of the end of a listener or a hub, and the errors of calls after the end.

use std::sync::OnceLock;

use crate::error::{Error, ErrorKind};
use crate::proto::supervisor::Owner;

/// The cause of the end of a listener or a hub. It is set by the task, at most once, and read by everything that belongs to its owner.
#[derive(Debug)]
pub(crate) struct End {
    owner: Owner,
    /// The error that the listener ended with, unless it was closed.
    cause: OnceLock<Error>,
}

impl End {
    pub(crate) fn new(owner: Owner) -> Self {
        Self { owner, cause: OnceLock::new() }
    }

    /// Returns what ends, for the texts of errors.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
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
        let owner = self.owner;
        match self.cause() {
            Some(cause) => {
                Error::caused(ErrorKind::Closed, format!("the {owner} has ended"), cause.clone())
            }
            None => owner.closed(),
        }
    }
}

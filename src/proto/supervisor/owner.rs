//! [`Owner`]: what a supervisor belongs to, for the texts that a user reads.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// What a supervisor belongs to. Its words are in errors and log events, so that they name what the user has made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    #[default]
    Listener,
    #[allow(dead_code, reason = "only a build with sockets has a hub")]
    Hub,
    #[allow(dead_code, reason = "only a build with sockets has wake-ups")]
    Wakeups,
}

impl Owner {
    /// Returns the name of the hook's function in the builder.
    pub(crate) fn hook(self) -> &'static str {
        match self {
            Self::Listener => "on_live",
            Self::Hub => "on_resync",
            // Wake-ups use the hook of a listener for it.
            Self::Wakeups => "delivery proof",
        }
    }

    /// Returns the error after the end, if the user has closed it.
    #[cold]
    pub(crate) fn closed(self) -> Error {
        Error::new(ErrorKind::Closed, format!("the {self} is closed"))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "listener",
            Self::Hub => "hub",
            Self::Wakeups => "listener of the wake-ups",
        })
    }
}

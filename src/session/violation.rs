//! Messages that are well formed, and wrong at that moment.

use std::fmt;

use crate::wire::BackendMessage;
use crate::{Error, ErrorKind};

/// What the server must not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Violation {
    /// This message, in answer to that.
    Unexpected { message: &'static str, during: &'static str },
    /// A row with another number of values than its description has columns.
    RowShape { values: usize, columns: usize },
    /// ReadyForQuery before the answer was complete.
    Incomplete { command: &'static str },
    /// More copied data than anyone wants to skip.
    EndlessCopy,
    /// More messages or bytes before the first ReadyForQuery than a server has to say.
    EndlessStartup,
    /// A client encoding in which our quoting would not be safe.
    Encoding { found: String },
    /// An answer to the protocol version that does not follow from what was asked.
    Negotiation { why: &'static str },
    /// BackendKeyData with a key of another length than this protocol version has.
    KeyLength { found: usize, expected: &'static str },
}

impl Violation {
    #[cold]
    pub(super) fn unexpected(message: &BackendMessage<'_>, during: &'static str) -> Self {
        Self::Unexpected { message: message.name(), during }
    }

    #[cold]
    pub(super) fn row_shape(values: usize, columns: usize) -> Self {
        Self::RowShape { values, columns }
    }

    #[cold]
    pub(super) fn incomplete(command: &'static str) -> Self {
        Self::Incomplete { command }
    }

    #[cold]
    pub(super) fn endless_copy() -> Self {
        Self::EndlessCopy
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected { message, during } => {
                write!(f, "{message} does not belong to {during}")
            }
            Self::RowShape { values, columns } => {
                write!(f, "DataRow has {values} values, RowDescription {columns} columns")
            }
            Self::Incomplete { command } => {
                write!(f, "ReadyForQuery came before the answer to {command} was complete")
            }
            Self::EndlessCopy => f.write_str("COPY data without end"),
            Self::EndlessStartup => {
                f.write_str("more than 1,000 messages or 1 MiB before the first ReadyForQuery")
            }
            Self::Encoding { found } => {
                write!(f, "client_encoding is {}, UTF8 was asked for", found.escape_debug())
            }
            Self::Negotiation { why } => write!(f, "NegotiateProtocolVersion {why}"),
            Self::KeyLength { found, expected } => {
                write!(f, "BackendKeyData has a key of {found} bytes, expected {expected}")
            }
        }
    }
}

impl std::error::Error for Violation {}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        let hint = match &violation {
            Violation::Encoding { .. } => Some(
                "a pooler, ALTER ROLE or options has changed client_encoding; pgbell needs UTF8",
            ),
            _ => None,
        };
        let error = Self::caused(ErrorKind::Protocol, "the server broke the protocol", violation);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

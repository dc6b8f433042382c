//! Protocol violations: messages that are well formed, but not allowed in this state.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::proto::wire::escape::Escaped;
use crate::proto::wire::{BackendMessage, ProtocolVersion};

/// A violation of the protocol by the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Violation {
    /// A message that is not allowed in this state.
    Unexpected { message: &'static str, during: &'static str },
    /// A row whose number of values is not the number of columns.
    RowShape { values: usize, columns: usize },
    /// ReadyForQuery before the answer was complete.
    Incomplete { command: &'static str },
    /// An open transaction after a command that is a transaction of its own.
    Uncommitted { command: &'static str },
    /// More messages than the answer to this statement can have.
    Endless { command: &'static str },
    /// Too many messages or bytes before the first ReadyForQuery.
    EndlessStartup,
    /// A client encoding in which quoting is not safe.
    Encoding { found: Option<String> },
    /// A NegotiateProtocolVersion that does not fit the request.
    Negotiation { offered: ProtocolVersion, why: &'static str },
    /// The acceptance of a protocol version that does not exist.
    Grease,
    /// BackendKeyData whose key has the wrong length for this protocol version.
    KeyLength { found: usize, expected: &'static str },
}

impl Violation {
    #[cold]
    pub(super) fn unexpected(message: &BackendMessage<'_>, during: &'static str) -> Self {
        Self::misplaced(message.name(), during)
    }

    /// As [`unexpected`](Self::unexpected), for a message of which only the name is known.
    #[cold]
    pub(super) fn misplaced(message: &'static str, during: &'static str) -> Self {
        Self::Unexpected { message, during }
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
    pub(super) fn endless(command: &'static str) -> Self {
        Self::Endless { command }
    }

    #[cold]
    pub(super) fn uncommitted(command: &'static str) -> Self {
        Self::Uncommitted { command }
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
            Self::Uncommitted { command } => write!(
                f,
                "{command} was answered inside a transaction that this session did not begin"
            ),
            Self::Endless { command } => {
                write!(f, "the answer to {command} has more rows than this statement can return")
            }
            Self::EndlessStartup => {
                f.write_str("more than 1,000 messages or 1 MiB before the first ReadyForQuery")
            }
            Self::Encoding { found: Some(found) } => {
                write!(f, "client_encoding is {}, expected UTF8", Escaped(found))
            }
            Self::Encoding { found: None } => {
                f.write_str("client_encoding was not reported, expected UTF8")
            }
            Self::Negotiation { offered, why } => {
                write!(f, "NegotiateProtocolVersion {why} ({offered})")
            }
            Self::Grease => write!(
                f,
                "version {} was requested and not negotiated, but does not exist",
                ProtocolVersion::GREASE
            ),
            Self::KeyLength { found, expected } => {
                write!(f, "BackendKeyData has a key of {found} bytes, expected {expected}")
            }
        }
    }
}

impl std::error::Error for Violation {}

impl From<Violation> for Error {
    #[cold]
    fn from(violation: Violation) -> Self {
        match &violation {
            // This is no violation of the protocol, but pgbell does not support it.
            Violation::Encoding { .. } => Self::new(ErrorKind::Unsupported, violation.to_string()).with_hint(
                "a pooler, ALTER ROLE, options or a SET has changed client_encoding: leave it at UTF8",
            ),
            _ => Self::new(ErrorKind::Protocol, violation.to_string()),
        }
    }
}

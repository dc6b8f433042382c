//! Messages that are well formed, and wrong at that moment.

use std::fmt;

use crate::wire::escape::Escaped;
use crate::wire::{BackendMessage, ProtocolVersion};
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
    /// A transaction is open behind a command that is a transaction of its own.
    Uncommitted { command: &'static str },
    /// More messages than the answer to a statement of ours can have.
    Endless { command: &'static str },
    /// More messages or bytes before the first ReadyForQuery than a server has to say.
    EndlessStartup,
    /// A client encoding in which our quoting would not be safe.
    Encoding { found: Option<String> },
    /// An answer to the protocol version that does not follow from what was asked.
    Negotiation { offered: ProtocolVersion, why: &'static str },
    /// A version was agreed to that nobody speaks.
    Grease,
    /// BackendKeyData with a key of another length than this protocol version has.
    KeyLength { found: usize, expected: &'static str },
}

impl Violation {
    #[cold]
    pub(super) fn unexpected(message: &BackendMessage<'_>, during: &'static str) -> Self {
        Self::misplaced(message.name(), during)
    }

    /// As [`unexpected`](Self::unexpected), for a message that is known by its name alone.
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
                write!(f, "client_encoding is {}, UTF8 was asked for", Escaped(found))
            }
            Self::Encoding { found: None } => {
                f.write_str("client_encoding was not reported, UTF8 was asked for")
            }
            Self::Negotiation { offered, why } => {
                write!(f, "NegotiateProtocolVersion {why} ({offered})")
            }
            Self::Grease => write!(
                f,
                "version {} was asked for and not negotiated, but nobody speaks it",
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
            // Nobody has broken the protocol: it is allowed, and we cannot live with it.
            Violation::Encoding { .. } => Self::because(ErrorKind::Unsupported, violation).with_hint(
                "a pooler, ALTER ROLE, options or a SET has changed client_encoding: leave it at UTF8",
            ),
            _ => Self::because(ErrorKind::Protocol, violation),
        }
    }
}

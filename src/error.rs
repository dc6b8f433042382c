//! The error of the public interface: one opaque, cheaply cloned type with a kind.

mod declined;
mod panicked;
mod passing;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use crate::wire::escape::Escaped;
use crate::wire::{ChannelError, DbError, DecodeError, Diagnostic, EncodeError, PayloadError};

/// What went wrong, coarsely enough to decide what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The connection parameters are wrong: nothing was sent.
    Config,
    /// No server could be reached, or the connection to it broke.
    Connect,
    /// TLS could not be established.
    Tls,
    /// Authentication failed, or was not what the client insists on.
    Auth,
    /// The server refused: [`Error::db_error`] has its words.
    Server,
    /// The peer sent bytes that are not PostgreSQL's protocol, or not at that moment.
    Protocol,
    /// A deadline passed.
    Timeout,
    /// The connection or the listener is over.
    Closed,
    /// The call cannot be carried out as asked. Nothing was sent, with one exception: a query that left a transaction open on
    /// the session of a listener was carried out, and the transaction was rolled back. Then the error of the query itself,
    /// if there was one, is the [`source`](std::error::Error::source).
    Misuse,
    /// The server asks for something that this build or this crate does not do.
    Unsupported,
    /// The connection goes through a pooler that does not deliver notifications, or it could not be proven that it does. See
    /// [`DeliveryProof`](crate::DeliveryProof).
    Pooler,
    /// The server is a standby, where LISTEN is refused.
    Standby,
    /// The server may have carried out the command: the connection broke after it was sent, or the error that came may be
    /// no answer to it.
    InDoubt,
    /// An error of the user's own code, or a panic in it: [`Error::other`].
    Other,
}

/// As in the text of an error: `connection`, `timeout`, `in doubt`.
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl ErrorKind {
    fn label(self) -> &'static str {
        match self {
            Self::Config => "configuration",
            Self::Connect => "connection",
            Self::Tls => "TLS",
            Self::Auth => "authentication",
            Self::Server => "server error",
            Self::Protocol => "protocol violation",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Misuse => "misuse",
            Self::Unsupported => "unsupported",
            Self::Pooler => "pooler",
            Self::Standby => "standby",
            Self::InDoubt => "in doubt",
            Self::Other => "other",
        }
    }
}

/// Why an operation failed. Cloning is one reference count.
///
/// No text of it holds a secret. What a server sent is escaped in `Display` and `Debug`, and cut there after 2,048 bytes
/// of each of its fields; [`db_error`](Self::db_error) and [`hint`](Self::hint) return it whole and as it came.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    db_error: Option<Box<DbError>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// See [`Error::passing`].
    passing: bool,
    /// See [`Error::declined`].
    declined: bool,
}

impl Error {
    /// An error of the caller's, for what must return one of this type: a hook for example.
    #[cold]
    pub fn other(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::caused(ErrorKind::Other, "in code of the caller", source)
    }

    /// An error of our own words: lower case, no full stop, what was expected and found.
    #[cold]
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::build(Inner {
            kind,
            message: message.into(),
            hint: None,
            db_error: None,
            source: None,
            passing: false,
            declined: false,
        })
    }

    /// As [`Error::new`], caused by another error whose text is shown after ours. What caused that one causes this one
    /// too: a fault that came from outside stays one.
    #[cold]
    pub(crate) fn caused(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        Self::build(Inner {
            kind,
            message: message.into(),
            hint: None,
            db_error: None,
            passing: source.downcast_ref().is_some_and(Self::is_passing),
            declined: false,
            source: Some(source),
        })
    }

    /// What the server answered. The kind follows from the SQLSTATE.
    #[cold]
    pub(crate) fn server(context: impl Into<Cow<'static, str>>, error: DbError) -> Self {
        let (kind, hint) = match error.code() {
            "28P01" | "28000" => (ErrorKind::Auth, None),
            "25006" => (
                ErrorKind::Standby,
                Some("LISTEN and NOTIFY need the primary: connect to it, or promote this server"),
            ),
            "53300" => (
                ErrorKind::Server,
                Some(
                    "the server has no free connection slot: raise max_connections or close idle ones",
                ),
            ),
            "57P05" => {
                (ErrorKind::Server, Some("set idle_session_timeout = 0 for the role that listens"))
            }
            "22021" | "22P05" if error.is_fatal() => (
                ErrorKind::Server,
                Some(
                    "a notification cannot be told in UTF-8: is the database's encoding SQL_ASCII?",
                ),
            ),
            _ => (ErrorKind::Server, None),
        };
        Self::build(Inner {
            kind,
            message: context.into(),
            hint: hint.map(Cow::Borrowed),
            db_error: Some(Box::new(error)),
            source: None,
            passing: false,
            declined: false,
        })
    }

    /// The same error with a line that says how to get out of it.
    #[cold]
    pub(crate) fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::build(Inner { hint: Some(hint.into()), ..self.into_inner() })
    }

    /// Its parts. Those of an error that is shared are copied, and its cause, which cannot be copied, as text.
    fn into_inner(self) -> Inner {
        Arc::try_unwrap(self.0).unwrap_or_else(|shared| Inner {
            kind: shared.kind,
            message: shared.message.clone(),
            hint: shared.hint.clone(),
            db_error: shared.db_error.clone(),
            source: shared.source.as_ref().map(|source| source.to_string().into()),
            passing: shared.passing,
            declined: shared.declined,
        })
    }

    /// The same error with something before its message: what else was tried.
    #[cold]
    pub(crate) fn preceded_by(self, earlier: &str) -> Self {
        let message = format!("{earlier}{}", self.0.message).into();
        let hint = self.0.hint.clone();
        let db_error = self.0.db_error.clone();
        let source = self.0.source.as_ref().map(|source| source.to_string().into());
        let Inner { kind, passing, declined, .. } = *self.0;
        Self::build(Inner { kind, message, hint, db_error, source, passing, declined })
    }

    /// The same error with the server's words cut to what may be kept: for one that outlives its call.
    #[cold]
    pub(crate) fn brief(self) -> Self {
        self.shortened().unwrap_or(self)
    }

    /// `None` when it is brief.
    fn shortened(&self) -> Option<Self> {
        let words = self.db_error().map(DbError::diagnostic).filter(Diagnostic::is_long);
        let cause = self.0.source.as_ref().and_then(|cause| cause.downcast_ref::<Self>());
        let cause = cause.and_then(Self::shortened);
        if words.is_none() && cause.is_none() {
            return None;
        }
        let source = cause.map(Into::into);
        let as_text = || self.0.source.as_ref().map(|source| source.to_string().into());
        Some(Self::build(Inner {
            kind: self.0.kind,
            message: self.0.message.clone(),
            hint: self.0.hint.clone(),
            db_error: match words {
                Some(words) => Some(Box::new(DbError::brief(words))),
                None => self.0.db_error.clone(),
            },
            source: source.or_else(as_text),
            passing: self.0.passing,
            declined: self.0.declined,
        }))
    }

    /// Whether the text of its cause is bounded and fit for a line, or is the user's own.
    fn is_safe(&self, cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
        cause.is::<Self>() || self.0.kind == ErrorKind::Other
    }

    fn build(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// What went wrong, to be matched on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The server's own error, when there is one.
    #[must_use]
    pub fn db_error(&self) -> Option<&DbError> {
        self.0.db_error.as_deref()
    }

    /// The five characters of the server's SQLSTATE, when there is one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.db_error().map(DbError::code).filter(|code| !code.is_empty())
    }

    /// A line that says what to change, when we know one. The server's own hint comes second: whole, and as it came.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref().or_else(|| self.db_error().and_then(DbError::hint))
    }

    /// Whether the same call may succeed later although nothing in it is changed.
    ///
    /// It may after a broken connection, after a timeout, and with a server that starts, stops or is full. It may also
    /// when the fault came from something outside of the call that was read for it: a file of certificates, of a key, of
    /// passwords or of services that is missing, cannot be read, or is being replaced; a password provider that
    /// returned an error. It may also when a pool had no free slot for the second session that proves delivery. It does not
    /// after a parameter that is wrong by itself, a password that the server refuses, an unknown database, a protocol
    /// violation, misuse, a panic.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.0.kind {
            ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Standby | ErrorKind::InDoubt => {
                true
            }
            ErrorKind::Server => self.sqlstate().is_some_and(|code| {
                // Class 08 connection, 40 rollback, 53 resources, 57P operator intervention
                // (57P04: the database was dropped, and stays so). N31.
                code.starts_with("08")
                    || code.starts_with("40")
                    || code.starts_with("53")
                    || (code.starts_with("57P") && code != "57P04")
            }),
            ErrorKind::Config | ErrorKind::Auth | ErrorKind::Unsupported | ErrorKind::Pooler => {
                self.is_passing()
            }
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.label(), self.0.message)?;
        if let Some(error) = &self.0.db_error {
            write!(f, ": {error}")?;
        }
        match &self.0.source {
            None => {}
            Some(source) if self.is_safe(&**source) => write!(f, ": {source}")?,
            // A library's words may repeat what the peer sent: the names of a certificate for example.
            Some(source) => write!(f, ": {}", Escaped(&source.to_string()))?,
        }
        match self.hint() {
            Some(hint) => write!(f, " (hint: {})", Escaped(hint)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Error");
        shown
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("hint", &self.0.hint)
            .field("db_error", &self.0.db_error);
        match &self.0.source {
            Some(source) if !self.is_safe(&**source) => {
                let text = format!("{source:?}");
                shown.field("source", &format_args!("{}", Escaped(&text)))
            }
            source => shown.field("source", source),
        };
        shown.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

impl From<DecodeError> for Error {
    #[cold]
    fn from(error: DecodeError) -> Self {
        let hint = error.hint();
        let error = Self::caused(ErrorKind::Protocol, "the server sent something malformed", error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl From<EncodeError> for Error {
    #[cold]
    fn from(error: EncodeError) -> Self {
        Self::caused(ErrorKind::Misuse, "the message cannot be sent", error)
    }
}

impl From<ChannelError> for Error {
    #[cold]
    fn from(error: ChannelError) -> Self {
        Self::caused(ErrorKind::Misuse, "the channel name is refused", error)
    }
}

impl From<PayloadError> for Error {
    #[cold]
    fn from(error: PayloadError) -> Self {
        Self::caused(ErrorKind::Misuse, "the payload is refused", error)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

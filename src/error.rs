//! The error of the public interface: one opaque, cheaply cloned type with a kind.

mod declined;
mod panicked;
mod passing;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use crate::proto::wire::{
    ChannelError, DbError, DecodeError, Diagnostic, EncodeError, PayloadError,
};

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
/// # Texts
/// `{}` is the kind, what went wrong, the server's own words and the hint. It has nothing of the causes, which
/// [`source`](std::error::Error::source) returns: what prints an error and then its sources prints each fact once. `{:#}`
/// is the same chain in one line, and `{:?}` too, because `fn main() -> Result<(), pgbell::Error>` prints that. `{:#?}` shows
/// the parts.
///
/// ```
/// use pgbell::{Error, wire};
///
/// let error = Error::from(wire::check_channel("").unwrap_err());
/// assert_eq!(error.to_string(), "misuse: channel name is empty: 1 to 63 bytes");
///
/// let error = Error::other("the cache is cold");
/// assert_eq!(error.to_string(), "other: in code of the caller");
/// assert_eq!(format!("{error:#}"), "other: in code of the caller: the cache is cold");
/// ```
///
/// No text of it holds a secret. What a server sent is escaped in these texts, and cut there after 2,048 bytes of each of its
/// fields; [`db_error`](Self::db_error) and [`hint`](Self::hint) return it whole and as it came. A cause that is an error of
/// another crate is returned by `source` as it is, and escaped in `{:#}` and `{:?}`. The error of the caller's own code that
/// [`Error::other`] contains is not escaped there; its causes are.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

/// Another error: what this one reports, or its cause.
type Other = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    db_error: Option<Box<DbError>>,
    /// Its text is the message, or the end of it.
    reason: Option<Other>,
    /// Its text is not part of the message.
    source: Option<Other>,
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
        Self::build(Inner::new(kind, message.into()))
    }

    /// An error of a part of this crate, in its own words: it has no cause but its own.
    #[cold]
    pub(crate) fn because(
        kind: ErrorKind,
        reason: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner::new(kind, reason.to_string().into());
        Self::build(Inner { reason: Some(Arc::new(reason)), ..inner })
    }

    /// As [`Error::new`], caused by another error, whose text is not repeated. What caused that one causes this one
    /// too: a fault that came from outside stays one.
    #[cold]
    pub(crate) fn caused(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        Self::build(Inner {
            passing: source.downcast_ref().is_some_and(Self::is_passing),
            source: Some(source.into()),
            ..Inner::new(kind, message.into())
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
            hint: hint.map(Cow::Borrowed),
            db_error: Some(Box::new(error)),
            ..Inner::new(kind, context.into())
        })
    }

    /// The same error with a line that says how to get out of it.
    #[cold]
    pub(crate) fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::build(Inner { hint: Some(hint.into()), ..self.into_inner() })
    }

    /// Its parts, which are copied if the error is shared.
    fn into_inner(self) -> Inner {
        Arc::unwrap_or_clone(self.0)
    }

    /// The same error with something before its message: what else was tried.
    #[cold]
    pub(crate) fn preceded_by(self, earlier: &str) -> Self {
        let inner = self.into_inner();
        Self::build(Inner { message: format!("{earlier}{}", inner.message).into(), ..inner })
    }

    /// The same error with the step that failed before its message. Unlike [`Error::caused`], it names the kind once.
    #[cold]
    pub(crate) fn within(self, step: &str) -> Self {
        self.preceded_by(&format!("{step}: "))
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
        let brief = cause.map(|cause| Arc::new(cause) as Other);
        let inner = Inner::clone(&self.0);
        Some(Self::build(Inner {
            db_error: match words {
                Some(words) => Some(Box::new(DbError::brief(words))),
                None => inner.db_error,
            },
            source: brief.or(inner.source),
            ..inner
        }))
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

    /// The error of a part of this crate that this one reports, to be matched on with `downcast_ref`: a
    /// [`ConfigError`](crate::config::ConfigError), [`AuthError`](crate::proto::auth::AuthError), [`ChannelError`], [`PayloadError`],
    /// [`EncodeError`] or [`DecodeError`]. Its text is part of that of this error, and therefore it is no
    /// [`source`](std::error::Error::source).
    ///
    /// ```
    /// use pgbell::{Error, wire};
    ///
    /// let error = Error::from(wire::check_channel("").unwrap_err());
    /// let reason = error.reason().and_then(|reason| reason.downcast_ref());
    /// assert_eq!(reason, Some(&wire::ChannelError::Empty));
    /// ```
    #[must_use]
    pub fn reason(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.0.reason.as_deref()
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

impl Inner {
    fn new(kind: ErrorKind, message: Cow<'static, str>) -> Self {
        Self {
            kind,
            message,
            hint: None,
            db_error: None,
            reason: None,
            source: None,
            passing: false,
            declined: false,
        }
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
        let error = Self::because(ErrorKind::Protocol, error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl From<EncodeError> for Error {
    #[cold]
    fn from(error: EncodeError) -> Self {
        Self::because(ErrorKind::Misuse, error)
    }
}

impl From<ChannelError> for Error {
    #[cold]
    fn from(error: ChannelError) -> Self {
        Self::because(ErrorKind::Misuse, error)
    }
}

impl From<PayloadError> for Error {
    #[cold]
    fn from(error: PayloadError) -> Self {
        Self::because(ErrorKind::Misuse, error)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

//! The error type of the public interface: opaque, cheap to clone, with a kind.

mod marks;
mod panic;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

#[allow(
    unused_imports,
    reason = "only drivers call code of the user, and a build may have none"
)]
pub(crate) use self::panic::{Panic, contain};
use crate::proto::wire::{
    ChannelError, DbError, DecodeError, Diagnostic, EncodeError, PayloadError,
};

/// The kind of an error, by which a program can decide how to handle it.
///
/// | kind | usual cause | cure |
/// |---|---|---|
/// | [`Config`](Self::Config) | a connection string, a variable or a file with a mistake | correct it: the text names the parameter |
/// | [`Connect`](Self::Connect) | the server does not run, or the network is down | start it, or wait: a listener reconnects |
/// | [`Tls`](Self::Tls) | a certificate that is not trusted, or TLS that the server does not have | [`hint`](Error::hint) names the parameter or the certificate |
/// | [`Auth`](Self::Auth) | a wrong password, or a line of `pg_hba.conf` | correct the password, `pg_hba.conf` or `require_auth` |
/// | [`Server`](Self::Server) | SQL that the server refuses | see [`sqlstate`](Error::sqlstate) |
/// | [`Protocol`](Self::Protocol) | the peer is not PostgreSQL, or the bytes are damaged | check host and port |
/// | [`Timeout`](Self::Timeout) | a server or a network that is too slow | wait, or raise the timeout |
/// | [`Closed`](Self::Closed) | a call after the end | make a new listener; look for the first error |
/// | [`Misuse`](Self::Misuse) | an argument that no server accepts | correct the program |
/// | [`Unsupported`](Self::Unsupported) | something that pgbell or this build does not have | use another method, or another feature |
/// | [`Pooler`](Self::Pooler) | a pooler in transaction mode | connect directly to the server |
/// | [`Standby`](Self::Standby) | a standby, or a failover that is not complete | connect to the primary |
/// | [`InDoubt`](Self::InDoubt) | a connection that broke before the answer | repeat only what does no harm twice |
/// | [`Decode`](Self::Decode) | a payload of another form than the type of the consumer | correct the sender or the type |
/// | [`Fenced`](Self::Fenced) | two readers of one cursor of a log | receive again, or open the cursor again |
/// | [`Schema`](Self::Schema) | the tables of a log are missing or changed; pgmq or a queue of it is missing; what a mirror reads has no such key | `Outbox::init`, `Queue::create`; the text names what is wrong |
/// | [`Other`](Self::Other) | code of the application | see [`source`](std::error::Error::source) |
///
/// ```
/// use pgbell::{Error, ErrorKind};
///
/// /// What a service does after an error of a call.
/// fn advice(error: &Error) -> &'static str {
///     match error.kind() {
///         ErrorKind::InDoubt => "look whether it was done",
///         _ if error.is_transient() => "try again later",
///         ErrorKind::Config | ErrorKind::Auth | ErrorKind::Tls => "call the operator",
///         _ => "stop",
///     }
/// }
///
/// let error = Error::from("port=x".parse::<pgbell::Config>().unwrap_err());
/// assert_eq!(advice(&error), "call the operator");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The connection parameters are not valid. Nothing was sent.
    ///
    /// Cause: a mistake in a connection string, a `PG*` variable, a service file or a setter, or a file that cannot be read.
    /// Cure: correct the parameter that the text names. For a mistake in a text, [`Error::reason`] returns it as a
    /// [`ConfigError`](crate::config::ConfigError).
    Config,
    /// No server could be reached, or the connection to it broke.
    ///
    /// Cause: the server does not run or does not listen at this address, a name is not known, a firewall, or the end of a session.
    /// Cure: check `host`, `port` and `listen_addresses`. It is transient: a `Listener` reconnects, and its `retry_first_connect` waits for a
    /// server that is not up yet.
    Connect,
    /// TLS could not be established.
    ///
    /// Cause: a certificate that no trusted authority has signed, that has expired or that is for another host; a server without TLS; no version
    /// in common. Cure: [`Error::hint`] says which parameter or which certificate. `sslrootcert` names the authority.
    Tls,
    /// Authentication failed, or the server did not use a method that the client requires.
    ///
    /// Cause: a wrong or missing password, no line for the role in `pg_hba.conf`, `require_auth` or `channel_binding` that the server does not
    /// meet, or a password provider that failed. Cure: correct what the text names. For passwords that change, use
    /// `Config::password_provider`.
    Auth,
    /// The server answered with an error, which [`Error::db_error`] returns.
    ///
    /// Cause: see its [SQLSTATE](Error::sqlstate), for example `53300` for too many connections. Cure: that of PostgreSQL's manual.
    /// [`Error::is_transient`] returns whether the same call may succeed later.
    Server,
    /// The peer sent bytes that PostgreSQL's protocol does not allow, or not in this state.
    ///
    /// Cause: another service at this port, a proxy that changes the bytes, or an attacker. Cure: check `host` and `port`. If the peer is PostgreSQL,
    /// it is a defect to be reported.
    Protocol,
    /// A deadline passed.
    ///
    /// Cause: a server, a network or a lookup of a name that is too slow, or a server that hangs. Cure: it is transient, so try again; or raise
    /// the timeout: `connect_timeout` for an attempt to connect, that of the call otherwise.
    Timeout,
    /// The connection or the listener has ended.
    ///
    /// Cause: a close, a drain, or an earlier error, which an earlier call has returned and `last_error` still returns. Cure: make a new one, after
    /// the cure of the first error.
    Closed,
    /// The call is not allowed, or an argument is not valid. Nothing was sent, with one exception: a query that left a
    /// transaction open on the session of a listener was executed, and the transaction was rolled back. Then the error of
    /// the query itself, if there was one, is the [`source`](std::error::Error::source).
    ///
    /// Cause: for example a channel of more than 63 bytes, a payload of more than 7,999 bytes, or LISTEN inside a transaction. Cure: correct
    /// the program. Store a long payload in a table, and send its key.
    Misuse,
    /// The server requires something that this build or this crate does not support.
    ///
    /// Cause: GSSAPI, SSPI or OAuth in `pg_hba.conf`, TLS in a build without it, a result that is larger than
    /// [`result_limit_bytes`](crate::Config::result_limit_bytes), or COPY. Cure: give the role `scram-sha-256`, build with the feature, or use another
    /// client for the query.
    Unsupported,
    /// The connection goes through a pooler that does not deliver notifications, or the delivery proof was not possible. See
    /// [`DeliveryProof`](crate::DeliveryProof).
    ///
    /// Cause: a pooler in transaction mode, or a pool without a second connection for the proof. Cure: connect directly to the server, or to a pool in
    /// session mode, or give the pool one more connection.
    Pooler,
    /// The server is a standby, which refuses LISTEN.
    ///
    /// Cause: the wrong host, or a failover that is not complete. Cure: name the primary, or all hosts: the primary is chosen. It is transient,
    /// because a standby can be promoted.
    Standby,
    /// The server may have executed the command, or not: the connection broke after the command was sent, or the error that
    /// arrived may not be the answer to it.
    ///
    /// Cause: a session that was lost at that moment. Cure: look whether it was done, or repeat it if that does no harm twice. A notification that only
    /// says that something has changed can be repeated.
    InDoubt,
    /// A payload is not what the consumer expects. With the feature `json`, [`Error::reason`] is a `JsonError`, which contains the
    /// notification. A message of the server that is malformed is [`Protocol`](Self::Protocol).
    ///
    /// Cause: a sender that writes another form, or a type that does not fit it. Cure: correct the sender or the type; the consumer can continue with
    /// the next notification.
    Decode,
    /// Another reader has taken over the cursor of a log, or its position has changed. What this call would have acknowledged was not acknowledged. Or another
    /// reader has taken a job of a queue.
    ///
    /// Cause: the lease of the cursor has passed while a batch was handled, and another reader waited; or the batch was acknowledged before. Cure: roll
    /// the transaction back, and receive the next batch, or open the cursor again.
    Fenced,
    /// The tables of a log are missing, are not as expected, or were copied from another cluster. Or there is no pgmq, its version is not known, or it has no such
    /// queue. Or the table or the query of a mirror cannot be mirrored.
    ///
    /// Cause: `init` was not run, another version of pgbell has created the log, it was changed by hand, the cursor was deleted, or the database was
    /// restored from a dump; or a mirror has no table, no key column, or two rows with one key. Cure: [`Error::hint`] names it: `Outbox::init`,
    /// `Outbox::rebase`, `CREATE EXTENSION pgmq`, `Queue::create`, or another source of the mirror.
    Schema,
    /// An error or a panic in the user's own code: [`Error::other`].
    ///
    /// Cause: the [`source`](std::error::Error::source), or the message of the panic in the text. Cure: correct that code.
    Other,
}

/// Writes the words that begin the text of an error: `connection`, `timeout`, `in doubt`.
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
            Self::Decode => "decoding",
            Self::Fenced => "fenced",
            Self::Schema => "schema",
            Self::Other => "other",
        }
    }
}

/// The error of an operation. A clone shares the error, and costs one reference count.
///
/// # Texts
/// `{}` contains the kind, the message, the server's error and the hint, but not the causes, which
/// [`source`](std::error::Error::source) returns. So a reporter that prints an error and then its sources prints each fact
/// once. `{:#}` contains the causes too, in one line. `{:?}` is the same text, because
/// `fn main() -> Result<(), pgbell::Error>` prints it. `{:#?}` shows the fields.
///
/// ```
/// use pgbell::{Config, Error};
///
/// let error = Error::from("port=x".parse::<Config>().unwrap_err());
/// println!("{error}");
///
/// let error = Error::other("the cache is cold");
/// assert_eq!(error.to_string(), "other: in code of the caller");
/// assert_eq!(format!("{error:#}"), "other: in code of the caller: the cache is cold");
/// ```
///
/// No text of an error contains a secret. In these texts, each field that a server sent is escaped, and cut after 2,048
/// bytes; [`db_error`](Self::db_error) and [`hint`](Self::hint) return the fields complete and unchanged. If a cause is an
/// error of another crate, `source` returns it unchanged, and `{:#}` and `{:?}` escape it. They do not escape the error of
/// the caller's own code that [`Error::other`] contains, but they escape its causes.
#[derive(Clone)]
pub struct Error(Arc<ErrorInner>);

/// Another error that an [`Error`] contains.
type Other = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct ErrorInner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    db_error: Option<Box<DbError>>,
    /// An error of this crate whose text is the message, or the end of it.
    reason: Option<Other>,
    /// The cause, whose text is not part of the message.
    source: Option<Other>,
    /// See [`Error::passing`].
    passing: bool,
    /// See [`Error::declined`].
    declined: bool,
}

impl Error {
    /// Creates an error from an error of the caller's own code, for a function that must return this type, such as a hook.
    #[cold]
    pub fn other(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::caused(ErrorKind::Other, "in code of the caller", source)
    }

    /// Creates an error with a message: in lower case, without a full stop, with what was expected and what was found.
    #[cold]
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::build(ErrorInner::new(kind, message.into()))
    }

    /// Creates an error from a more specific error of this crate, whose text becomes the message. It has no source.
    #[cold]
    pub(crate) fn because(
        kind: ErrorKind,
        reason: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let inner = ErrorInner::new(kind, reason.to_string().into());
        Self::build(ErrorInner { reason: Some(Arc::new(reason)), ..inner })
    }

    /// Like [`Error::new`], with another error as the cause, whose text is not part of the message. If the cause is marked
    /// with [`Error::passing`], the new error is too.
    #[cold]
    pub(crate) fn caused(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        Self::build(ErrorInner {
            passing: source.downcast_ref().is_some_and(Self::is_passing),
            source: Some(source.into()),
            ..ErrorInner::new(kind, message.into())
        })
    }

    /// Creates an error from an error of the server. The kind depends on the SQLSTATE.
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
                    "the server cannot send a notification as UTF-8: is the database's encoding SQL_ASCII?",
                ),
            ),
            _ => (ErrorKind::Server, None),
        };
        Self::build(ErrorInner {
            hint: hint.map(Cow::Borrowed),
            db_error: Some(Box::new(error)),
            ..ErrorInner::new(kind, context.into())
        })
    }

    /// Sets the hint, which says how the error can be avoided.
    #[cold]
    pub(crate) fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::build(ErrorInner { hint: Some(hint.into()), ..self.into_inner() })
    }

    /// Changes the kind.
    #[cold]
    #[cfg(feature = "durable")]
    pub(crate) fn with_kind(self, kind: ErrorKind) -> Self {
        Self::build(ErrorInner { kind, ..self.into_inner() })
    }

    /// Returns its fields, which are copied if the error is shared.
    fn into_inner(self) -> ErrorInner {
        Arc::unwrap_or_clone(self.0)
    }

    /// Adds a text before the message, such as the failures of earlier attempts.
    #[cold]
    pub(crate) fn preceded_by(self, earlier: &str) -> Self {
        let inner = self.into_inner();
        Self::build(ErrorInner { message: format!("{earlier}{}", inner.message).into(), ..inner })
    }

    /// Adds the step that failed before the message. Unlike [`Error::caused`], the text contains the kind only once.
    #[cold]
    pub(crate) fn within(self, step: &str) -> Self {
        self.preceded_by(&format!("{step}: "))
    }

    /// Cuts the fields of the server's error to a bounded length, for an error that is stored after its call.
    #[cold]
    pub(crate) fn brief(self) -> Self {
        self.shortened().unwrap_or(self)
    }

    /// Returns the shortened error, or `None` if it is short already.
    fn shortened(&self) -> Option<Self> {
        let words = self.db_error().map(Diagnostic::from).filter(Diagnostic::is_long);
        let cause = self.0.source.as_ref().and_then(|cause| cause.downcast_ref::<Self>());
        let cause = cause.and_then(Self::shortened);
        if words.is_none() && cause.is_none() {
            return None;
        }
        let brief = cause.map(|cause| Arc::new(cause) as Other);
        let inner = ErrorInner::clone(&self.0);
        Some(Self::build(ErrorInner {
            db_error: match words {
                Some(words) => Some(Box::new(DbError::brief(words))),
                None => inner.db_error,
            },
            source: brief.or(inner.source),
            ..inner
        }))
    }

    fn build(inner: ErrorInner) -> Self {
        Self(Arc::new(inner))
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the error that the server sent, if there is one.
    #[must_use]
    pub fn db_error(&self) -> Option<&DbError> {
        self.0.db_error.as_deref()
    }

    /// Returns the SQLSTATE of the server's error, five characters, if there is one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.db_error().map(DbError::code).filter(|code| !code.is_empty())
    }

    /// Returns a text that says what to change, if there is one: pgbell's hint, else the server's hint, complete and
    /// not escaped.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref().or_else(|| self.db_error().and_then(DbError::hint))
    }

    /// Returns the more specific error that this error was created from, for `downcast_ref`: a
    /// [`ConfigError`](crate::config::ConfigError), with the feature `json` a `JsonError`, or with the feature `proto` also `AuthError`,
    /// `ChannelError`, `PayloadError`, `EncodeError` or `DecodeError` of [`pgbell::proto`](crate#features). Its text is part of the text of
    /// this error. Therefore it is not a [`source`](std::error::Error::source).
    ///
    /// ```
    /// use pgbell::config::ConfigError;
    /// use pgbell::{Config, Error};
    ///
    /// let error = Error::from("postgres://localhost:x".parse::<Config>().unwrap_err());
    /// let reason = error.reason().and_then(|reason| reason.downcast_ref::<ConfigError>());
    /// assert!(reason.is_some());
    /// ```
    #[must_use]
    pub fn reason(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.0.reason.as_deref()
    }

    /// Returns whether the same call may succeed later, without a change.
    ///
    /// True for: a broken connection; a timeout; a server that starts, stops, is full or is a standby; a file of
    /// certificates, of a key, of passwords or of services that is missing, cannot be read, or is being replaced; a password
    /// provider that returned an error; a pool without a free slot for the second session of the delivery proof; a full
    /// notification queue that a [`Notifier`](crate::Notifier) reports.
    ///
    /// True for [`InDoubt`](ErrorKind::InDoubt) too: the next call may succeed, but what the first one did may be there already. Repeat it only
    /// if that does no harm.
    ///
    /// False for: a parameter that is not valid in itself, a password that the server refuses, an unknown database, a
    /// protocol violation, misuse, a payload that cannot be decoded, a panic.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.0.kind {
            ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Standby | ErrorKind::InDoubt => {
                true
            }
            ErrorKind::Server if self.is_passing() => true,
            ErrorKind::Server => self.sqlstate().is_some_and(|code| {
                // Class 08 connection, 40 rollback, 53 resources, 57P operator intervention.
                // 57P04 is not transient: the database was dropped. N31.
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

impl ErrorInner {
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
        let is_long = matches!(error, PayloadError::TooLong { .. });
        let error = Self::because(ErrorKind::Misuse, error);
        match is_long {
            true => error.with_hint("store the payload in a table, and send its key"),
            false => error,
        }
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

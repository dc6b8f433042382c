//! What went wrong: one error type for everything, and the one case that callers act on.

use std::fmt;
use std::io;
use std::path::Path;

/// How to get a server, for the end of every message that says that there is none.
const HOW_TO_GET_ONE: &str = "run `apt-get install postgresql`, or set PGBELL_POSTGRES to the directory that holds `postgres`";

/// How to get all of them.
const HOW_TO_GET_THE_MATRIX: &str = "run `testkit/servers/fetch.sh` (`npm ci --prefix testkit/servers`), or set \
     PGBELL_MATRIX_DIR to the directory that holds pg13 to pg18";

/// How to get what pools connections.
const HOW_TO_GET_PGBOUNCER: &str =
    "run `apt-get install pgbouncer`, or set PGBELL_PGBOUNCER to the program";

/// How to get what makes certificates.
const HOW_TO_GET_OPENSSL: &str =
    "run `apt-get install openssl`, or set PGBELL_OPENSSL to the program";

/// A program that must be installed was not found. Its `Display` is one line that says how to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    what: String,
    missing: Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Server,
    Matrix,
    PgBouncer,
    OpenSsl,
}

impl NotFound {
    pub(crate) fn server(what: impl Into<String>) -> Self {
        Self { what: what.into(), missing: Missing::Server }
    }

    pub(crate) fn matrix(what: impl Into<String>) -> Self {
        Self { what: what.into(), missing: Missing::Matrix }
    }

    pub(crate) fn pgbouncer(what: impl Into<String>) -> Self {
        Self { what: what.into(), missing: Missing::PgBouncer }
    }

    pub(crate) fn openssl(what: impl Into<String>) -> Self {
        Self { what: what.into(), missing: Missing::OpenSsl }
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match self.missing {
            Missing::Server => write!(
                f,
                "{what}: {HOW_TO_GET_ONE}, or run `testkit/servers/fetch.sh` and set PGBELL_MATRIX_DIR to its node_modules"
            ),
            Missing::Matrix => write!(f, "{what}: {HOW_TO_GET_THE_MATRIX}"),
            Missing::PgBouncer => write!(f, "{what}: {HOW_TO_GET_PGBOUNCER}"),
            Missing::OpenSsl => write!(f, "{what}: {HOW_TO_GET_OPENSSL}"),
        }
    }
}

impl std::error::Error for NotFound {}

/// Why a server or a certificate could not be made, or a server not be stopped or changed.
///
/// When the server itself is to blame, the end of its log follows the message. No password is shown.
#[derive(Debug)]
pub struct Error {
    message: String,
    log: Option<String>,
    cause: Option<Cause>,
}

#[derive(Debug)]
enum Cause {
    Io(io::Error),
    NotFound(NotFound),
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), log: None, cause: None }
    }

    pub(crate) fn io(message: impl Into<String>, cause: io::Error) -> Self {
        Self { message: message.into(), log: None, cause: Some(Cause::Io(cause)) }
    }

    /// For `map_err`: what was attempted, and with which file.
    pub(crate) fn on(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let message = format!("cannot {what} {}", path.display());
        move |cause| Self::io(message, cause)
    }

    pub(crate) fn with_log(self, log: impl Into<String>) -> Self {
        Self { log: Some(log.into()), ..self }
    }

    /// Whether the reason is that a program is not installed: the case in which a demo does without it.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.cause, Some(Cause::NotFound(_)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.cause {
            Some(Cause::Io(cause)) => write!(f, ": {cause}")?,
            Some(Cause::NotFound(cause)) => write!(f, ": {cause}")?,
            None => {}
        }
        if let Some(log) = &self.log {
            write!(f, "\n--- end of the server's log ---\n{log}\n---")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.cause.as_ref()? {
            Cause::Io(cause) => Some(cause),
            Cause::NotFound(cause) => Some(cause),
        }
    }
}

impl From<NotFound> for Error {
    fn from(cause: NotFound) -> Self {
        let message = match cause.missing {
            Missing::Server | Missing::Matrix => "no PostgreSQL cluster can be started",
            Missing::PgBouncer => "no PgBouncer can be started",
            Missing::OpenSsl => "no certificate can be made",
        };
        Self { message: message.to_owned(), log: None, cause: Some(Cause::NotFound(cause)) }
    }
}

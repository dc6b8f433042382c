//! One error type for everything, and the one case that callers handle.

use std::fmt;
use std::io;
use std::path::Path;

/// How to install a server, for the end of every message that says that there is none.
const HOW_TO_GET_ONE: &str = "run `apt-get install postgresql`, or set PGBELL_POSTGRES to the directory that holds `postgres`";

/// How to install the servers of all versions.
const HOW_TO_GET_THE_MATRIX: &str = "run `testkit/servers/fetch.sh` (`npm ci --prefix testkit/servers`), or set \
     PGBELL_MATRIX_DIR to the directory that holds pg13 to pg18";

/// How to install PgBouncer.
const HOW_TO_GET_PGBOUNCER: &str =
    "run `apt-get install pgbouncer`, or set PGBELL_PGBOUNCER to the program";

/// How to install OpenSSL.
const HOW_TO_GET_OPENSSL: &str =
    "run `apt-get install openssl`, or set PGBELL_OPENSSL to the program";

/// A program that must be installed was not found. Its `Display` is one line that says how to install it.
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

/// An error of making a server or a certificate, or of stopping or changing a server.
///
/// `{}` does not repeat the [`source`](std::error::Error::source); `{:#}` and `{:?}` are one text with it. If the server
/// itself failed, the end of its log follows the message. No password is shown.
pub struct Error {
    message: String,
    log: Option<String>,
    cause: Option<io::Error>,
    is_not_found: bool,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), log: None, cause: None, is_not_found: false }
    }

    pub(crate) fn io(message: impl Into<String>, cause: io::Error) -> Self {
        Self { cause: Some(cause), ..Self::new(message) }
    }

    /// Returns a function for `map_err` that says what was attempted, and with which file.
    pub(crate) fn on(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let message = format!("cannot {what} {}", path.display());
        move |cause| Self::io(message, cause)
    }

    pub(crate) fn with_log(self, log: impl Into<String>) -> Self {
        Self { log: Some(log.into()), ..self }
    }

    /// Returns whether the cause is that a program is not installed. The demo then works without it.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.is_not_found
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(log) = &self.log {
            write!(f, "\n--- end of the server's log ---\n{log}\n---")?;
        }
        match &self.cause {
            Some(cause) if f.alternate() => write!(f, ": {cause}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

/// The message contains the text, which says how to install the program.
impl From<NotFound> for Error {
    fn from(cause: NotFound) -> Self {
        let what = match cause.missing {
            Missing::Server | Missing::Matrix => "no PostgreSQL cluster can be started",
            Missing::PgBouncer => "no PgBouncer can be started",
            Missing::OpenSsl => "no certificate can be made",
        };
        Self { is_not_found: true, ..Self::new(format!("{what}: {cause}")) }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_reporter_that_prints_the_causes_too_prints_each_of_them_once() {
        let cause = io::Error::other("the disk is full");
        let error = Error::on("write", Path::new("/x"))(cause);
        assert_eq!(error.to_string(), "cannot write /x");
        assert_eq!(error.source().unwrap().to_string(), "the disk is full");
        assert_eq!(format!("{error:#}"), "cannot write /x: the disk is full");
        assert_eq!(format!("{error:?}"), "cannot write /x: the disk is full");
        let missing = Error::from(NotFound::server("no server"));
        let text = missing.to_string();
        assert!(
            text.starts_with("no PostgreSQL cluster can be started: no server: run "),
            "{text}"
        );
        assert!(missing.source().is_none() && missing.is_not_found());
        let log = Error::new("the server ended").with_log("FATAL: no");
        assert_eq!(log.to_string().matches("FATAL").count(), 1);
    }
}

//! The end of the program: one table of exit codes, and the failure that leads to one.

use std::fmt::Write;
use std::process::ExitCode;

use pgbell::{Error, ErrorKind};

use crate::console;

/// The ways in which the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    Runtime,
    Usage,
    Connect,
    Auth,
    Timeout,
    Loss,
    Check,
    InDoubt,
    Interrupted,
    Terminated,
    /// The exit code of a monitoring plugin: see `pgbell doctor --help`.
    Monitor(u8),
}

/// The SQLSTATE of a schema that does not exist.
const NO_SCHEMA: &str = "3F000";

/// Every way to end, its code and its text in `--help`.
const TABLE: [(Exit, u8, &str); 11] = [
    (Exit::Ok, 0, "done; the wanted number arrived; the reader of the output closed it"),
    (Exit::Runtime, 1, "a later error: the session was lost, the output could not be written"),
    (Exit::Usage, 2, "wrong arguments, connection string, channel name or payload"),
    (Exit::Connect, 3, "cannot connect, or the server refuses the session"),
    (Exit::Auth, 4, "authentication failed"),
    (Exit::Timeout, 5, "the time of --wait passed without the wanted notifications"),
    (Exit::Loss, 6, "a gap or a loss was found (demo, --fail-on-loss)"),
    (
        Exit::Check,
        7,
        "a check failed: the log or a cursor is not as expected, or exceeds a limit (outbox)",
    ),
    (Exit::InDoubt, 8, "a session was lost, and it is not known whether all was sent (notify)"),
    (Exit::Interrupted, 130, "ended by Ctrl-C (SIGINT)"),
    (Exit::Terminated, 143, "ended by SIGTERM"),
];

impl Exit {
    pub(crate) fn code(self) -> u8 {
        if let Self::Monitor(code) = self {
            return code;
        }
        TABLE.iter().find(|(exit, ..)| *exit == self).map_or(1, |(_, code, _)| *code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Returns the table as text for the end of `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes, except of doctor:");
    for (_, code, meaning) in TABLE {
        let _ = write!(text, "\n  {code:>3}  {meaning}");
    }
    text
}

/// An error that ends the program.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// An error before there is a session.
    pub(crate) fn connecting(error: &Error) -> Self {
        Self::of(error, Exit::Connect)
    }

    /// An error after a session was established.
    pub(crate) fn running(error: &Error) -> Self {
        Self::of(error, Exit::Runtime)
    }

    /// An error of a log, whose commands open a session for themselves.
    pub(crate) fn of_log(error: &Error) -> Self {
        let is_fatal = || error.db_error().is_some_and(pgbell::DbError::is_fatal);
        let otherwise = match error.kind() {
            // `init` has checked nothing yet.
            ErrorKind::Schema if error.sqlstate() == Some(NO_SCHEMA) => Exit::Runtime,
            ErrorKind::Schema => Exit::Check,
            ErrorKind::Connect
            | ErrorKind::Tls
            | ErrorKind::Timeout
            | ErrorKind::Pooler
            | ErrorKind::Standby => Exit::Connect,
            ErrorKind::Server if is_fatal() => Exit::Connect,
            _ => Exit::Runtime,
        };
        Self::of(error, otherwise)
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Lets the program end with the exit code of a monitoring plugin that could not be used.
    pub(crate) fn unknown(mut self) -> Self {
        self.exit = Exit::Monitor(3);
        self
    }

    fn of(error: &Error, otherwise: Exit) -> Self {
        let exit = match error.kind() {
            ErrorKind::Config | ErrorKind::Misuse => Exit::Usage,
            ErrorKind::Auth => Exit::Auth,
            _ => otherwise,
        };
        let (message, hint) = split_hint(error);
        Self { exit, message, hint }
    }

    /// Prints the error on stderr, one line and one for the hint, and returns the exit code.
    pub(crate) fn report(&self) -> Exit {
        console::line(&format!("pgbell: {}", self.message));
        if let Some(hint) = &self.hint {
            console::line(&format!("hint: {hint}"));
        }
        self.exit
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

/// Returns the text of an error and its causes, without the hint at the end of its `Display`, and the hint.
fn split_hint(error: &Error) -> (String, Option<String>) {
    let (text, chain) = (error.to_string(), format!("{error:#}"));
    // Taken from the text of the error, where it is escaped and shortened: a hint from the server may have any length.
    let split = || text.strip_suffix(')')?.rsplit_once(" (hint: ");
    match error.hint().and_then(|_| split()) {
        Some((message, hint)) => {
            let causes = chain.strip_prefix(&text).unwrap_or_default();
            (format!("{message}{causes}"), Some(hint.to_owned()))
        }
        None => (chain, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_help_once() {
        let help = help();
        for (exit, code, meaning) in TABLE {
            assert_eq!(exit.code(), code);
            assert_eq!(help.matches(meaning).count(), 1, "{meaning}");
            assert_eq!(TABLE.iter().filter(|(_, other, _)| *other == code).count(), 1, "{code}");
        }
    }

    #[test]
    fn a_wrong_connection_string_is_a_usage_error_in_every_phase() {
        let error: Error = "postgres://h:port/".parse::<pgbell::Config>().unwrap_err().into();
        assert_eq!(Failure::connecting(&error).exit, Exit::Usage);
        assert_eq!(Failure::running(&error).exit, Exit::Usage);
    }
}

//! Stray errors.
//!
//! Before 18.2, 17.8, 16.12, 15.16 and 14.21 a server that drops a notification reports it with an ERROR at any time,
//! and goes on. That error may be taken for the answer to a command, and the true answer for the answer to the next
//! command.

use super::Session;
use crate::error::{Error, ErrorKind};
use crate::proto::wire::TransactionStatus;

/// The classes of internal errors of a server: no memory, a file that cannot be read, corrupted data.
const INTERNAL_ERROR_CLASSES: [&str; 3] = ["53", "58", "XX"];

/// The errors if the text of a notification cannot be converted to UTF-8.
const CONVERSION_ERRORS: [&str; 2] = ["22021", "22P05"];

impl Session {
    /// Returns true if the server may send stray errors, also if its version is not known.
    pub(crate) fn may_send_stray_errors(&self) -> bool {
        self.parameter("server_version").is_none_or(is_before_fix)
    }

    /// Returns true if the answer to a command may be the report of a dropped notification. `status` is that of the
    /// ReadyForQuery after it: inside a transaction a server drops no notification.
    pub(crate) fn may_report_a_drop(&self, error: &Error, status: TransactionStatus) -> bool {
        // The error of a session that has ended is no answer.
        let is_answer = error.kind() == ErrorKind::Server
            && error.db_error().is_some_and(|error| !error.is_fatal());
        let codes = || {
            // A database in UTF-8 needs no conversion.
            let conversion: &[&str] =
                if self.parameters.is_database_utf8() { &[] } else { &CONVERSION_ERRORS };
            INTERNAL_ERROR_CLASSES.iter().chain(conversion)
        };
        is_answer
            && status == TransactionStatus::Idle
            && self.may_send_stray_errors()
            && error.sqlstate().is_some_and(|code| codes().any(|start| code.starts_with(start)))
    }
}

/// Returns the error of a command whose answer may be a stray error: the server may have carried it out.
#[cold]
pub(crate) fn in_doubt(answer: Error) -> Error {
    let message =
        "the server may have carried out the command, because this error may not be its answer";
    Error::caused(ErrorKind::InDoubt, message, answer).with_hint(
        "a server of this version sends this error when it drops a notification, and it cannot be distinguished from an answer",
    )
}

/// Returns true before 18.2, 17.8, 16.12, 15.16 and 14.21. Since then the error ends the session.
fn is_before_fix(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let Some(Ok(major)) = numbers.next() else { return true };
    let minor = numbers.next().and_then(Result::ok).unwrap_or(0);
    match major {
        ..14 => true,
        14 => minor < 21,
        15 => minor < 16,
        16 => minor < 12,
        17 => minor < 8,
        18 => minor < 2,
        19.. => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_versions_send_stray_errors() {
        for old in [
            "9.6.24",
            "13.23",
            "14.20 (Debian 14.20-1)",
            "17.7",
            "18.1",
            "18beta1",
            "18.0 (testing)",
            "?",
            "",
        ] {
            assert!(is_before_fix(old), "{old}");
        }
        for new in
            ["14.21", "15.18 (Debian 15.18-0+deb12u1)", "16.12", "17.8", "18.2", "18.7", "19devel"]
        {
            assert!(!is_before_fix(new), "{new}");
        }
    }
}

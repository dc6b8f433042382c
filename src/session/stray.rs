//! Errors that may answer no command.
//!
//! Before 18.2, 17.8, 16.12, 15.16 and 14.21 a server that drops a notification reports it with an ERROR at any moment,
//! and goes on. N38. That error may be taken for the answer to a command, and the true answer for that to the next
//! one. N144.

use super::Session;
use crate::wire::TransactionStatus;
use crate::{Error, ErrorKind};

/// Classes of errors of the server itself: no memory, a file that cannot be read, data that is wrong.
const TROUBLE: [&str; 3] = ["53", "58", "XX"];

/// The text of a notification cannot be converted to UTF-8.
const CONVERSION: [&str; 2] = ["22021", "22P05"];

impl Session {
    /// Whether the server reports errors that are no answers. True if its version is not known.
    pub(crate) fn errors_may_stray(&self) -> bool {
        self.parameter("server_version").is_none_or(is_before_the_cure)
    }

    /// Whether the answer to a command, with this status in the ReadyForQuery behind it, may be the report of a dropped
    /// notification. Inside a transaction a server drops nothing.
    pub(crate) fn may_report_a_drop(&self, error: &Error, status: TransactionStatus) -> bool {
        // Not a session that has ended: that is no answer.
        let is_answer = error.kind() == ErrorKind::Server
            && error.db_error().is_some_and(|error| !error.is_fatal());
        let codes = || {
            // From UTF-8 to UTF-8 nothing is converted.
            let conversion: &[&str] =
                if self.parameters.is_database_utf8() { &[] } else { &CONVERSION };
            TROUBLE.iter().chain(conversion)
        };
        is_answer
            && status == TransactionStatus::Idle
            && self.errors_may_stray()
            && error.sqlstate().is_some_and(|code| codes().any(|start| code.starts_with(start)))
    }
}

/// The error of a command whose answer may be none: the server may carry it out, or has done so.
#[cold]
pub(crate) fn in_doubt(answer: Error) -> Error {
    let message =
        "the server may have carried out the command, because this error may be no answer to it";
    Error::caused(ErrorKind::InDoubt, message, answer).with_hint(
        "a server of this version reports so when it drops a notification, and the report cannot be told from an answer",
    )
}

/// From 18.2, 17.8, 16.12, 15.16 and 14.21 on the error ends the session.
fn is_before_the_cure(version: &str) -> bool {
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
    fn the_versions_whose_errors_stray() {
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
            assert!(is_before_the_cure(old), "{old}");
        }
        for new in
            ["14.21", "15.18 (Debian 15.18-0+deb12u1)", "16.12", "17.8", "18.2", "18.7", "19devel"]
        {
            assert!(!is_before_the_cure(new), "{new}");
        }
    }
}

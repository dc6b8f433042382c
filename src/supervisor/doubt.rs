//! Whether an answer is one.
//!
//! Some servers report in the middle of anything that they have dropped a notification. Such an error may be taken for the
//! answer to a command, and the true answer for that to the next one. N38, N144.

use super::commands::Purpose;
use super::link::Link;
use crate::Error;
use crate::session::{Answer, Session};

impl Link {
    /// The answer to a command. If it may be none, no later one is believed either.
    pub(super) fn believe(&mut self, purpose: &Purpose, answer: Answer) -> Answer {
        if let Some(doubt) = &self.doubt {
            return Err(doubt.clone());
        }
        match answer {
            Err(error) if self.errors_may_stray() && is_stray(purpose, &error) => {
                let error = error.with_hint(
                    "this may be no answer: a server of this version says so when it drops a notification",
                );
                self.doubt = Some(error.clone());
                Err(error)
            }
            answer => answer,
        }
    }

    /// Whether its server reports errors that are no answers.
    pub(super) fn errors_may_stray(&self) -> bool {
        let version =
            self.session().and_then(|session: &Session| session.parameter("server_version"));
        version.is_none_or(is_before_the_cure)
    }
}

/// Whether the answer to a query tells of trouble of the server itself. It may be the query's, or tell of a notification
/// that was dropped right behind it, ahead of the ReadyForQuery: nothing tells them apart.
pub(super) fn is_trouble(purpose: &Purpose, error: &Error) -> bool {
    (purpose.is_query() || matches!(purpose, Purpose::Rollback { .. }))
        && is_of(error, &["53", "58", "XX"])
}

/// Whether it cannot be the answer to this command. No name of a channel makes a server report trouble of its own, and
/// a proof names no channel at all. A query may have any answer.
fn is_stray(purpose: &Purpose, error: &Error) -> bool {
    let is_of = |classes| is_of(error, classes);
    match purpose {
        Purpose::User { change, .. } => change.is_wish() && is_of(&["53", "58", "XX"]),
        Purpose::Restore(_)
        | Purpose::Private
        | Purpose::PrivateAgain
        | Purpose::Fence
        | Purpose::Forget { .. } => is_of(&["53", "58", "XX"]),
        Purpose::Proof { .. } | Purpose::Sign => is_of(&["22", "53", "58", "XX"]),
        Purpose::Rollback { .. } | Purpose::Leave => false,
    }
}

fn is_of(error: &Error, classes: &[&str]) -> bool {
    error.sqlstate().is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
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

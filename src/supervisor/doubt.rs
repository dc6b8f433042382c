//! Whether an answer is one.
//!
//! Some servers report in the middle of anything that they have dropped a notification. Such an error may be taken for the
//! answer to a command, and the true answer for that to the next one. N38, N144.

use super::commands::Purpose;
use super::link::Link;
use crate::Error;
use crate::session::{self, Answer, Session};
use crate::wire::TransactionStatus;

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
        self.session().is_none_or(Session::errors_may_stray)
    }

    /// The error in answer to a command if it may be the report of a dropped notification, which crossed the command, or
    /// follows its answer ahead of the ReadyForQuery. The two cannot be distinguished.
    pub(super) fn possible_drop(
        &self,
        purpose: &Purpose,
        answer: &Answer,
        status: TransactionStatus,
    ) -> Option<Error> {
        let error = answer.as_ref().err().filter(|_| purpose.may_get_a_stray())?;
        let is_possible = self.session()?.may_report_a_drop(error, status);
        is_possible.then(|| error.clone())
    }
}

/// The answer to a query that may be the report of this `drop`: the query may be carried out.
pub(super) fn doubted(purpose: &Purpose, answer: Answer, drop: Option<&Error>) -> Answer {
    match drop {
        Some(drop) if purpose.is_query() => Err(session::in_doubt(drop.clone())),
        _ => answer,
    }
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

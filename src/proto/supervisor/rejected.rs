//! Detects stray errors, which are not answers to a command, and rejects the answers after them.
//!
//! Old servers report a dropped notification with an error at any time. Such an error can be mistaken for the answer to a
//! command, and the true answer for the answer to the next command.

use super::link::ListenerLink;
use super::purpose::CommandPurpose;
use crate::error::Error;
use crate::proto::session::{self, Answer, Session};
use crate::proto::wire::TransactionStatus;

impl ListenerLink {
    /// Checks the answer to a command. If it must be a stray error, this answer and all later ones are rejected.
    pub(super) fn validate_reply(&mut self, purpose: &CommandPurpose, answer: Answer) -> Answer {
        if let Some(rejection) = &self.rejection {
            return Err(rejection.clone());
        }
        match answer {
            Err(error) if self.may_send_stray_errors() && must_be_stray(purpose, &error) => {
                let error = error.with_hint(
                    "this error may be unrelated to the command: a server of this version sends it when it drops a notification",
                );
                self.rejection = Some(error.clone());
                Err(error)
            }
            answer => answer,
        }
    }

    /// Returns true if the server may send stray errors.
    pub(super) fn may_send_stray_errors(&self) -> bool {
        self.session().is_none_or(Session::may_send_stray_errors)
    }

    /// Returns the error in answer to a command, if it may be the report of a dropped notification.
    ///
    /// Such a report can arrive while the command is on its way, or between the answer and ReadyForQuery. It cannot be
    /// distinguished from an answer.
    pub(super) fn possible_drop(
        &self,
        purpose: &CommandPurpose,
        answer: &Answer,
        status: TransactionStatus,
    ) -> Option<Error> {
        let error = answer.as_ref().err().filter(|_| purpose.may_get_stray_error())?;
        let is_possible = self.session()?.may_report_a_drop(error, status);
        is_possible.then(|| error.clone())
    }
}

/// Returns the answer, or "in doubt" for a query whose answer may be the report of a dropped notification (`drop`).
pub(super) fn in_doubt_if_dropped(
    purpose: &CommandPurpose,
    answer: Answer,
    drop: Option<&Error>,
) -> Answer {
    match drop {
        Some(drop) if purpose.is_query() => Err(session::in_doubt(drop.clone())),
        _ => answer,
    }
}

/// Returns true if the error cannot be the answer to this command. No channel name makes a server report an error of
/// class 53, 58 or XX, and a heartbeat query contains no channel name, so class 22 is impossible too. A query can fail
/// with any error.
fn must_be_stray(purpose: &CommandPurpose, error: &Error) -> bool {
    let is_of = |classes| is_of(error, classes);
    match purpose {
        CommandPurpose::User { change, .. } => {
            change.may_be_pending() && is_of(&["53", "58", "XX"])
        }
        CommandPurpose::Restore
        | CommandPurpose::ListenPrivate
        | CommandPurpose::RelistenPrivate
        | CommandPurpose::Fence
        | CommandPurpose::UnlistenPrivate { .. } => is_of(&["53", "58", "XX"]),
        CommandPurpose::Heartbeat { .. } | CommandPurpose::SelfNotify => {
            is_of(&["22", "53", "58", "XX"])
        }
        CommandPurpose::Rollback { .. } | CommandPurpose::LeaveTransaction => false,
    }
}

/// Returns true if the SQLSTATE of the error is in one of these classes.
fn is_of(error: &Error, classes: &[&str]) -> bool {
    error.sqlstate().is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
}

//! The detection of stray errors among the answers to commands.
//!
//! The report of a dropped notification looks like the answer to a command. The real answer would then be taken for the
//! answer to the next command.
// N38, N144.

use super::Connection;
use crate::error::{Error, ErrorKind};
use crate::net::NotificationSink;
use crate::proto::session::{self, Answer};
use crate::proto::wire::TransactionStatus;

const HINT: &str = "a server of this version sends such an error when it drops a notification, and it looks like the \
    answer to a command: open another connection";

impl Connection {
    /// Returns the answer to a command. If it may be a stray error, the connection ends, and this answer and all later ones
    /// are rejected.
    pub(super) fn check_answer(&mut self, answer: Answer, status: TransactionStatus) -> Answer {
        match (answer, &self.stray_error) {
            // The end of the connection gives these to unanswered commands.
            (Err(error), Some(_))
                if matches!(error.kind(), ErrorKind::InDoubt | ErrorKind::Connect) =>
            {
                Err(error)
            }
            (_, Some(stray)) => Err(in_doubt(stray.clone())),
            (Err(error), None) if self.may_report_a_drop(&error, status) => {
                Err(self.end_in_doubt(error))
            }
            (answer, None) => answer,
        }
    }

    /// Returns whether this error may be the report of a dropped notification. It can be one only on a connection that
    /// has listened, and outside a transaction: a server delivers no notification inside one.
    pub(super) fn may_report_a_drop(&self, error: &Error, status: TransactionStatus) -> bool {
        let session = &self.established.driver.session;
        (self.listens || session.has_listened() || self.arrivals.arrived() > 0)
            && session.may_report_a_drop(error, status)
    }

    /// Records a loss, and ends the connection. Returns the error of the command.
    #[cold]
    pub(super) fn end_in_doubt(&mut self, error: Error) -> Error {
        self.arrivals.miss(&self.established.driver, error.clone());
        let message =
            "the connection was closed, because an error may not be the answer to its command";
        let end = Error::caused(ErrorKind::Connect, message, error.clone()).with_hint(HINT);
        self.established.driver.session.fail(end.clone());
        self.failed = Some(end);
        self.stray_error = Some(error.clone());
        in_doubt(error)
    }
}

#[cold]
fn in_doubt(error: Error) -> Error {
    session::in_doubt(error).with_hint(HINT)
}

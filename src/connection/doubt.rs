//! Whether an answer is one.
//!
//! The report of a dropped notification may be taken for the answer to a command, and the true answer for that to the
//! next one. N38, N144.

use super::Connection;
use crate::net::Meanwhile;
use crate::session::{self, Answer};
use crate::wire::TransactionStatus;
use crate::{Error, ErrorKind};

const HINT: &str = "a server of this version reports so when it drops a notification, and the report cannot be told \
    from an answer: open another connection";

impl Connection {
    /// The answer to a command. If it may be none, the connection ends, and no later one is believed either.
    pub(super) fn believe(&mut self, answer: Answer, status: TransactionStatus) -> Answer {
        match (answer, &self.doubt) {
            // The end of the connection gives these to what had no answer yet.
            (Err(error), Some(_))
                if matches!(error.kind(), ErrorKind::InDoubt | ErrorKind::Connect) =>
            {
                Err(error)
            }
            (_, Some(doubt)) => Err(in_doubt(doubt.clone())),
            (Err(error), None) if self.may_report_a_drop(&error, status) => Err(self.doubt(error)),
            (answer, None) => answer,
        }
    }

    /// Whether this error may be the report of a dropped notification: on a connection that has listened, and
    /// outside a transaction, inside which a server drops nothing.
    pub(super) fn may_report_a_drop(&self, error: &Error, status: TransactionStatus) -> bool {
        let session = &self.established.driver.session;
        (self.listens || session.has_listened() || self.arrivals.arrived() > 0)
            && session.may_report_a_drop(error, status)
    }

    /// Reports a loss, and ends the connection. Returns the error of the command.
    #[cold]
    pub(super) fn doubt(&mut self, error: Error) -> Error {
        self.arrivals.miss(&self.established.driver, error.clone());
        let message = "the connection was ended, because its answers cannot be told apart";
        let end = Error::caused(ErrorKind::Connect, message, error.clone()).with_hint(HINT);
        self.established.driver.session.fail(end.clone());
        self.failed = Some(end);
        self.doubt = Some(error.clone());
        in_doubt(error)
    }
}

#[cold]
fn in_doubt(error: Error) -> Error {
    session::in_doubt(error).with_hint(HINT)
}

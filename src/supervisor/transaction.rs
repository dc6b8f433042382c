//! A session that is inside a transaction.
//!
//! Nothing is delivered there, and nothing that is confirmed there lasts. A user's query may begin one, which is rolled
//! back. If anything else is answered from inside a transaction, it is not ours: a pooler or a proxy has begun it. Then the
//! session is rolled back too, because what it is notified of until then comes behind that, and another one takes its place.

use std::time::Instant;

use super::commands::Purpose;
use super::{CommandId, LinkId, Role, Sink, Supervisor};
use crate::session::{self, Answer, Session};
use crate::{Error, ErrorKind};

impl Supervisor {
    /// A user's query left a transaction open: its answer waits until that is rolled back.
    pub(super) fn roll_back(&mut self, now: Instant, id: CommandId) {
        let Some(link) = &mut self.current else { return };
        let rollback = |session: &mut Session| send_rollback(session, now);
        if let Err(error) = link.start(now, Purpose::Rollback { id }, rollback) {
            self.reply(id, Err(error));
        }
    }

    /// This was answered from inside a transaction. Nothing of it is believed, nor anything that follows on this link. A
    /// user gets an answer when the session is over: until then it may bring what an UNLISTEN was to end.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        id: LinkId,
        purpose: Purpose,
        result: Answer,
        sink: &mut impl Sink,
    ) {
        let error = is_in_transaction(result.err());
        let was_rolled_back = matches!(purpose, Purpose::Rollback { .. });
        // A drain has a deadline of its own, and ends with the session.
        let may_stay = self.role(id) == Some(Role::Current) && self.draining.is_none();
        let Some(link) = Self::find(&mut self.current, &mut self.next, id) else { return };
        link.doubt = Some(error.clone());
        link.undone.push(purpose);
        let rollback = |session: &mut Session| send_rollback(session, now);
        // Once. A session that is not live yet has delivered nothing.
        let is_leaving = !was_rolled_back
            && may_stay
            && link.is_live()
            && link.start(now, Purpose::Leave, rollback).is_ok();
        if !is_leaving {
            self.fail(now, id, error, sink);
        }
    }
}

fn send_rollback(session: &mut Session, now: Instant) -> Result<session::CommandId, Error> {
    let id = session.simple_query(now, "ROLLBACK")?;
    session.limit_rows(id, 0);
    Ok(id)
}

fn is_in_transaction(refusal: Option<Error>) -> Error {
    let message = "the session is inside a transaction that the listener has not begun: nothing is delivered there";
    match refusal {
        Some(refusal) => Error::caused(ErrorKind::Pooler, message, refusal),
        None => Error::new(ErrorKind::Pooler, message),
    }
    .with_hint("a pooler or a proxy may have begun it: connect to the server itself")
}

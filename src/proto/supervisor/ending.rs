//! The end of a listener: what it waits for, and what commands are answered then.
//!
//! ```text
//!             close, error                  Terminate sent       the server closes, or the timeout
//! running ─────────────────────▶ ending ──────────────────────────────────────────────────────▶ closed
//!    │                             ▲  │ there is no session                                      ▲
//!    │ drain                       │  └──────────────────────────────────────────────────────────┘
//!    └────────▶ draining ──────────┘
//!               heartbeat and UNLISTEN answered, the deadline, or the session lost
//! ```

use std::time::Instant;

use super::action::{CommandNumber, LinkId, Reply};
use super::owner::Owner;
use crate::error::{Error, ErrorKind};

#[derive(Debug)]
pub(super) struct Ending {
    owner: Owner,
    draining: Option<Draining>,
    is_ending: bool,
    /// The cause of the end, if the user did not ask for it. It is reported when the session is closed.
    cause: Option<Error>,
}

/// A drain that is in progress.
#[derive(Debug)]
struct Draining {
    id: CommandNumber,
    deadline: Option<Instant>,
    /// The link on which the last heartbeat was sent.
    heartbeat_link: Option<LinkId>,
    /// The error of the server, if it refused every heartbeat query.
    refusal: Option<Error>,
}

/// The answer to a drain.
pub(super) type DrainAnswer = (CommandNumber, Result<Reply, Error>);

impl Ending {
    pub(super) fn new(owner: Owner) -> Self {
        Self { owner, draining: None, is_ending: false, cause: None }
    }

    /// Returns true if the listener is ending.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Begins the end. Returns true if commands were accepted until now.
    pub(super) fn begin(&mut self) -> bool {
        let was_accepting = !self.is_refusing();
        self.is_ending = true;
        was_accepting
    }

    /// Returns true if no further command is accepted.
    pub(super) fn is_refusing(&self) -> bool {
        self.is_ending || self.is_draining()
    }

    /// Begins the end with this cause, unless there is an earlier one.
    pub(super) fn because(&mut self, cause: Error) {
        self.cause.get_or_insert(cause);
    }

    /// Returns `result`, or the cause of the end.
    pub(super) fn result(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        self.cause.take().map_or(result, Err)
    }

    /// Begins a drain.
    pub(super) fn drain(&mut self, id: CommandNumber, deadline: Option<Instant>) {
        self.draining = Some(Draining { id, deadline, heartbeat_link: None, refusal: None });
    }

    /// Returns the deadline of the drain.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.draining.as_ref()?.deadline
    }

    /// Returns true if the heartbeat of the drain was sent on this link.
    pub(super) fn has_sent_heartbeat(&self, link: LinkId) -> bool {
        self.draining.as_ref().is_some_and(|one| one.heartbeat_link == Some(link))
    }

    /// Handles that the heartbeat of the drain is sent on this link.
    pub(super) fn heartbeat_is_sent(&mut self, link: LinkId) {
        if let Some(draining) = &mut self.draining {
            (draining.heartbeat_link, draining.refusal) = (Some(link), None);
        }
    }

    /// Handles that the server has refused every heartbeat query.
    pub(super) fn heartbeat_is_refused(&mut self, error: Error) {
        if let Some(draining) = &mut self.draining {
            draining.refusal = Some(error);
        }
    }

    /// Returns the answer to a drain whose heartbeat was sent: the cause of the end.
    pub(super) fn fail_drain(&mut self, cause: &Error) -> Option<DrainAnswer> {
        self.draining.as_ref()?.heartbeat_link?;
        self.answer_drain(Err(cause.clone()))
    }

    /// Returns the answer to the drain, at most once. With any result the listener is ending.
    pub(super) fn answer_drain(&mut self, result: Result<Reply, Error>) -> Option<DrainAnswer> {
        let draining = self.draining.take()?;
        let result = match draining.refusal {
            Some(refusal) => result.and_then(|_| Err(unconfirmed(refusal))),
            None => result,
        };
        self.is_ending = true;
        Some((draining.id, result))
    }

    /// Returns the answer to every further command except `Close`, if there is no use in sending it.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.is_refusing().then(|| self.unsent())
    }

    /// Returns the answer to a command that was not sent.
    pub(super) fn unsent(&self) -> Error {
        unsent(self.owner, self.cause.as_ref())
    }
}

/// Returns the answer to a command that was not sent before the listener ended with this cause.
pub(super) fn unsent(owner: Owner, cause: Option<&Error>) -> Error {
    match cause {
        None => owner.closed(),
        Some(cause) => Error::caused(
            ErrorKind::Closed,
            format!("the {owner} has ended before this was sent"),
            cause.clone(),
        ),
    }
}

/// Returns the answer to a drain at its deadline.
#[cold]
pub(super) fn drained_too_late() -> Error {
    let message = "not everything that was committed before could be delivered in time";
    Error::new(ErrorKind::Timeout, message)
}

/// Returns the answer to a drain after the server refused every heartbeat query.
#[cold]
fn unconfirmed(refusal: Error) -> Error {
    let message = "what arrived was delivered, but the server refused every heartbeat query, so it is unknown \
         whether the session listened to its channels until the drain";
    refusal.within(message)
}

//! One socket of a listener, and how far it has come.

use std::time::Instant;

use super::LinkId;
use crate::session::Session;
use crate::wire::Run;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) stage: Stage,
    /// What is left of a run for which there was no room. It stands at the head of the input. To measure
    /// it again whenever the consumer has taken one would cost the square of its length.
    pub(super) measured: Run,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The shell opens the socket.
    Opening { deadline: Instant },
    /// A session is on it.
    Open(Box<Session>),
    /// Terminate was sent.
    Closing { session: Box<Session>, deadline: Instant },
}

impl Link {
    pub(super) fn new(id: LinkId, stage: Stage) -> Self {
        Self { id, stage, measured: Run::default() }
    }
}

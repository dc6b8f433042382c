//! One connection of a listener, and how far it has come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::commands::Purpose;
use super::echo::Echo;
use super::proof::Question;
use super::rest::Rest;
use super::{LinkEvent, LinkId};
use crate::Error;
use crate::session::{self, Session};
use crate::wire::Run;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    /// Number of its session, from 1. 0 before there is one.
    pub(super) epoch: u32,
    pub(super) stage: Stage,
    /// Its session took commands.
    pub(super) was_ready: bool,
    /// A part of a message has come, and the rest has not.
    pub(super) has_part: bool,
    /// When bytes came last.
    pub(super) alive_at: Instant,
    /// What was sent on it and not answered.
    pub(super) in_flight: BTreeMap<session::CommandId, Purpose>,
    /// Since when the answer to the oldest of these is due.
    owed_since: Instant,
    /// The channel on which its session notifies itself. Nothing that arrives on it is the user's.
    pub(super) private: Option<String>,
    /// A notification of its own that is to come back.
    pub(super) echo: Option<Echo>,
    /// Channels that the server refuses to this session.
    pub(super) refused: BTreeMap<String, Error>,
    /// Why its answers may be those of other commands.
    pub(super) doubt: Option<Error>,
    /// What it is asked to prove, of what the server does not refuse to answer.
    pub(super) question: Question,
    /// What was answered inside a transaction that is not ours, and so is not done.
    pub(super) undone: Vec<Purpose>,
    /// Since when every wanted channel is active or refused.
    pub(super) live_since: Option<Instant>,
    /// What is left of a run for which there was no room. It is at the head of the input, and holds notifications of the user only.
    /// To measure or search it again each time the consumer has taken one would cost the square of its length.
    pub(super) measured: Run,
    /// How it ended, while it was not read. That is looked at behind what was read before.
    pub(super) end: Option<LinkEvent>,
}

/// An answer that is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owed {
    pub(super) is_proof: bool,
    /// For so long the server may be silent beyond the usual time.
    pub(super) quiet_time: Duration,
    pub(super) since: Instant,
    pub(super) silent_since: Instant,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The shell opens the socket.
    Opening { deadline: Instant },
    /// A session is on it.
    Open(Box<Session>),
    /// Terminate was sent.
    Closing { session: Box<Session>, deadline: Instant, rest: Rest },
}

impl Link {
    pub(super) fn opening(now: Instant, id: LinkId, deadline: Instant) -> Self {
        Self {
            id,
            epoch: 0,
            stage: Stage::Opening { deadline },
            was_ready: false,
            has_part: false,
            alive_at: now,
            in_flight: BTreeMap::new(),
            owed_since: now,
            private: None,
            echo: None,
            refused: BTreeMap::new(),
            doubt: None,
            question: Question::default(),
            undone: Vec::new(),
            live_since: None,
            measured: Run::default(),
            end: None,
        }
    }

    /// The session, as long as there is one.
    pub(super) fn session(&self) -> Option<&Session> {
        match &self.stage {
            Stage::Open(session) | Stage::Closing { session, .. } => Some(session),
            Stage::Opening { .. } => None,
        }
    }

    /// From now on the session is being ended: at `deadline` it must be over.
    pub(super) fn close(&mut self, deadline: Instant, rest: Rest) {
        let stage = std::mem::replace(&mut self.stage, Stage::Opening { deadline });
        self.stage = match stage {
            Stage::Open(mut session) => {
                session.terminate();
                Stage::Closing { session, deadline, rest }
            }
            stage => stage,
        };
    }

    /// The session, if commands can be sent on it.
    pub(super) fn ready(&mut self) -> Option<&mut Session> {
        match &mut self.stage {
            Stage::Open(session) if session.is_ready() => Some(session),
            _ => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    pub(super) fn is_live(&self) -> bool {
        self.live_since.is_some() && self.is_open()
    }

    /// Sends what `send` says, for this purpose.
    pub(super) fn start(
        &mut self,
        now: Instant,
        purpose: Purpose,
        send: impl FnOnce(&mut Session) -> Result<session::CommandId, Error>,
    ) -> Result<(), Error> {
        let Some(session) = self.ready() else { return Err(super::closed()) };
        let id = send(session)?;
        if self.in_flight.is_empty() {
            self.owed_since = now;
        }
        self.in_flight.insert(id, purpose);
        Ok(())
    }

    /// A command is answered: what it was for.
    pub(super) fn answered(&mut self, now: Instant, id: session::CommandId) -> Option<Purpose> {
        self.owed_since = now;
        let purpose = self.in_flight.remove(&id);
        if let Some(echo) =
            self.echo.as_mut().filter(|_| purpose.as_ref().is_some_and(Purpose::is_query))
        {
            // While it ran nothing was delivered.
            echo.waits_from(now);
        }
        purpose
    }

    /// Whether it is being taken out of a transaction.
    pub(super) fn is_leaving(&self) -> bool {
        self.in_flight.values().any(|sent| matches!(sent, Purpose::Leave))
    }

    /// What the proofs in flight should say is not known any more.
    pub(super) fn void_proofs(&mut self) {
        for sent in self.in_flight.values_mut() {
            if let Purpose::Proof { expected, .. } = sent {
                *expected = None;
            }
        }
    }

    /// Since when a live session owes an answer, and since when nothing came while it did. A user's query may take
    /// as long as it likes, and the first LISTEN of a session reads the whole queue: it has the session's deadline.
    pub(super) fn owes(&self) -> Option<Owed> {
        let (_, oldest) = self.in_flight.first_key_value()?;
        let listens_to_nothing =
            self.session().is_some_and(|session| session.channels().next().is_none());
        if !self.is_live() || oldest.is_query() || oldest.listens() && listens_to_nothing {
            return None;
        }
        Some(Owed {
            is_proof: matches!(oldest, Purpose::Proof { .. } | Purpose::Sign),
            quiet_time: self.session().map(Session::quiet_time).unwrap_or_default(),
            since: self.owed_since,
            silent_since: self.owed_since.max(self.alive_at),
        })
    }

    /// Whatever it owes, its time begins now.
    pub(super) fn owes_from(&mut self, now: Instant) {
        (self.alive_at, self.owed_since) = (now, now);
        if let Some(echo) = &mut self.echo {
            echo.waits_from(now);
        }
    }

    /// For so long it was not read: nothing could come.
    pub(super) fn was_unread(&mut self, now: Instant, time: Duration) {
        for moment in [&mut self.alive_at, &mut self.owed_since] {
            // What was sent meanwhile was not waited for as long.
            *moment = moment.checked_add(time).map_or(now, |later| later.min(now));
        }
        if let Some(echo) = &mut self.echo {
            echo.was_unread(now, time);
        }
        if let Stage::Open(session) = &mut self.stage {
            session.extend(time);
        }
    }

    /// When something on it must have happened, whatever it owes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Opening { deadline } | Stage::Closing { deadline, .. } => Some(*deadline),
            Stage::Open(_) if self.owes().is_some() => None,
            Stage::Open(session) => session.poll_timeout(),
        }
    }
}

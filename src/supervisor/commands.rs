//! Commands of users: when each is sent, and how it is answered.

use std::time::Instant;

use super::action::Action;
use super::{Command, CommandId, Link, Listening, Reply, Stage, State, Supervisor, closed};
use crate::session::{self, Answer, Rows, Session, SessionEvent};
use crate::wire::{self, TransactionStatus};
use crate::{Error, ErrorKind};

/// Why a command was sent.
#[derive(Debug)]
pub(super) enum Purpose {
    /// The first subscription: the listener is connected when it is active.
    Subscribe,
    /// A user's command.
    User { id: CommandId, change: Change },
    /// A user's query left a transaction open, in which nothing is delivered: its answer is held back
    /// until the transaction is rolled back.
    Rollback { id: CommandId },
}

/// What a user's command changes when the server agrees.
#[derive(Debug)]
pub(super) enum Change {
    Listen(Vec<String>),
    Unlisten(Vec<String>),
    UnlistenAll,
    Query,
}

impl Supervisor {
    /// Starts the commands whose turn it is, in their order.
    pub(super) fn start_waiting(&mut self, now: Instant) {
        while let Some((_, next)) = self.waiting.front()
            && !self.must_wait(next)
            && let Some((id, command)) = self.waiting.pop_front()
        {
            if let Err(error) = self.start(now, id, command) {
                self.reply(id, Err(error));
            }
        }
    }

    fn must_wait(&self, command: &Command) -> bool {
        match self.in_flight.first_key_value() {
            None => false,
            Some((_, Purpose::Rollback { .. } | Purpose::User { change: Change::Query, .. })) => {
                true
            }
            Some(_) => matches!(command, Command::SimpleQuery(_)),
        }
    }

    fn start(&mut self, now: Instant, id: CommandId, command: Command) -> Result<(), Error> {
        let Some(Link { stage: Stage::Open(session), .. }) = &mut self.link else {
            return self.wish(id, command);
        };
        if !session.is_ready() {
            return self.wish(id, command);
        }
        let (sent, change) = match command {
            Command::Listen(channels) => {
                (session.listen(now, &channels)?, Change::Listen(channels))
            }
            Command::Unlisten(channels) => {
                (session.unlisten(now, &channels)?, Change::Unlisten(channels))
            }
            Command::UnlistenAll => (session.unlisten_all(now)?, Change::UnlistenAll),
            Command::SimpleQuery(sql) => (session.simple_query(now, &sql)?, Change::Query),
            Command::Close => return Ok(()),
        };
        self.in_flight.insert(sent, Purpose::User { id, change });
        Ok(())
    }

    /// No session is up: a wish is kept, anything else cannot be done.
    fn wish(&mut self, id: CommandId, command: Command) -> Result<(), Error> {
        if self.state == State::Closed
            || matches!(self.link, None | Some(Link { stage: Stage::Closing { .. }, .. }))
        {
            return Err(closed());
        }
        let reply = match command {
            Command::Listen(channels) => {
                check(&channels)?;
                self.wanted.extend(channels);
                Reply::Listening(Listening::Pending)
            }
            Command::Unlisten(channels) => {
                check(&channels)?;
                for channel in &channels {
                    self.wanted.remove(channel);
                }
                Reply::Unlistened
            }
            Command::UnlistenAll => {
                self.wanted.clear();
                Reply::Unlistened
            }
            Command::SimpleQuery(_) | Command::Close => {
                return Err(Error::new(ErrorKind::Closed, "no session is up"));
            }
        };
        self.actions.push_back(Action::Reply { id, result: Ok(reply) });
        Ok(())
    }

    pub(super) fn done(&mut self, now: Instant, id: session::CommandId, result: Answer) {
        let Some(purpose) = self.in_flight.remove(&id) else { return };
        match (purpose, result) {
            // What was wished for since then was sent behind it, as a command of its own.
            (Purpose::Subscribe, Ok(_)) => self.enter(State::Connected),
            (Purpose::Subscribe, Err(error)) => self.finish(Err(error)),
            (Purpose::User { id, change: Change::Query }, _) if self.in_transaction() => {
                self.roll_back(now, id);
            }
            (purpose, result) => self.settle(purpose, result),
        }
        // A session that has failed starts nothing: what waits gets its error when the link is given up.
        if self.session().is_some_and(Session::is_ready) {
            self.start_waiting(now);
        }
    }

    fn in_transaction(&self) -> bool {
        self.session().is_some_and(|session| {
            session.is_ready() && session.transaction_status() != TransactionStatus::Idle
        })
    }

    fn roll_back(&mut self, now: Instant, id: CommandId) {
        let Some(Link { stage: Stage::Open(session), .. }) = &mut self.link else { return };
        match session.simple_query(now, "ROLLBACK") {
            Ok(sent) => drop(self.in_flight.insert(sent, Purpose::Rollback { id })),
            Err(error) => self.reply(id, Err(error)),
        }
    }

    /// Answers the user whose command is complete.
    fn settle(&mut self, purpose: Purpose, result: Answer) {
        match (purpose, result) {
            (Purpose::Subscribe, _) => {}
            (Purpose::User { id, change }, Ok(rows)) => {
                let reply = self.apply(change, rows);
                self.reply(id, Ok(reply));
            }
            (Purpose::User { id, .. }, Err(error)) => self.reply(id, Err(error)),
            (Purpose::Rollback { id }, rolled_back) => self.reply(
                id,
                Err(rolled_back.err().unwrap_or_else(|| {
                    Error::new(
                        ErrorKind::Misuse,
                        "the query left a transaction open on the listening session, it was rolled back",
                    )
                    .with_hint("nothing is delivered inside a transaction: use a connection of its own")
                })),
            ),
        }
    }

    fn apply(&mut self, change: Change, rows: Vec<Rows>) -> Reply {
        match change {
            Change::Listen(channels) => {
                self.wanted.extend(channels);
                Reply::Listening(Listening::Active)
            }
            Change::Unlisten(channels) => {
                for channel in &channels {
                    self.wanted.remove(channel);
                }
                Reply::Unlistened
            }
            Change::UnlistenAll => {
                self.wanted.clear();
                Reply::Unlistened
            }
            Change::Query => Reply::Rows(rows),
        }
    }

    /// The session is over: every command gets its answer, or the error that the session gave it;
    /// what was not sent yet gets `unsent`.
    pub(super) fn answer_all(&mut self, session: &mut Session, unsent: &Error) {
        while let Some(event) = session.poll_event() {
            if let SessionEvent::Done { id, result } = event
                && let Some(purpose) = self.in_flight.remove(&id)
            {
                self.settle(purpose, result);
            }
        }
        for (id, _) in std::mem::take(&mut self.waiting) {
            self.reply(id, Err(unsent.clone()));
        }
    }

    fn reply(&mut self, id: CommandId, result: Result<Reply, Error>) {
        self.actions.push_back(Action::Reply { id, result });
    }
}

fn check(channels: &[String]) -> Result<(), Error> {
    if channels.is_empty() {
        return Err(Error::new(ErrorKind::Misuse, "no channel was named"));
    }
    for channel in channels {
        wire::check_channel(channel)?;
    }
    Ok(())
}

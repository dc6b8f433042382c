//! Commands: when each is sent, and how it is answered.

use std::time::Instant;

use super::action::{Action, CHANNELS_WARNED, Incident};
use super::close::unsent;
use super::link::{Link, Stage};
use super::proof::{Expected, Question};
use super::{
    Command, CommandId, LinkId, Listening, Reply, Sink, Supervisor, closed, doubt, transaction,
};
use crate::session::{self, Answer, Rows, Session, SessionEvent};
use crate::wire::{self, TransactionStatus};
use crate::{Error, ErrorKind};

/// Why a command was sent.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Some of the wanted channels, on a new session.
    Restore(Vec<String>),
    /// To listen to the private channel of a handover.
    Private,
    /// The one notification on it.
    Fence,
    /// To be off it again. How often it may still be tried.
    Forget { channel: String, tries: u32 },
    /// To prove the subscription: what the answer must be. `None` when that cannot be said.
    Proof { question: Question, expected: Option<Expected> },
    /// The notification that the session sends to itself, where the server cannot name its channels.
    Sign,
    /// To listen to the private channel of the session again, after UNLISTEN of everything.
    PrivateAgain,
    /// A user's command.
    User { id: CommandId, change: Change },
    /// A user's query left a transaction open, in which nothing is delivered: its answer is held back
    /// until the transaction is rolled back. `refusal` is that of the query itself.
    Rollback { id: CommandId, refusal: Option<Error> },
    /// To end a transaction that is not ours. Then the session is replaced.
    Leave,
}

/// What a user's command changes when the server agrees.
#[derive(Debug)]
pub(super) enum Change {
    Listen(Vec<String>),
    Unlisten(Vec<String>),
    UnlistenAll,
    Query,
    Drain,
}

impl Purpose {
    /// Whether a user's SQL decides how long it takes.
    pub(super) fn is_query(&self) -> bool {
        matches!(self, Self::User { change: Change::Query, .. })
    }

    /// Whether an error in answer to it is followed by a proof where errors may be no answers. Behind the others a proof
    /// comes anyway, or the end of the session.
    pub(super) fn may_get_a_stray(&self) -> bool {
        matches!(self, Self::User { .. } | Self::Rollback { .. } | Self::Forget { .. })
    }

    /// Whether it is a LISTEN on a session that is live.
    pub(super) fn listens(&self) -> bool {
        matches!(
            self,
            Self::Private | Self::PrivateAgain | Self::User { change: Change::Listen(_), .. }
        )
    }
}

/// Qualified, so that no function of that name in a user's `search_path` comes before the server's. N37.
const QUEUE_USAGE_SQL: &str = "SELECT pg_catalog.pg_notification_queue_usage()";

impl Change {
    fn of(command: &Command) -> Self {
        match command {
            Command::Listen(channels) => Self::Listen(channels.clone()),
            Command::Unlisten(channels) => Self::Unlisten(channels.clone()),
            Command::UnlistenAll => Self::UnlistenAll,
            Command::Drain { .. } => Self::Drain,
            Command::SimpleQuery(_) | Command::QueueUsage | Command::Rotate | Command::Close => {
                Self::Query
            }
        }
    }

    /// Whether it may be carried out on a later session too.
    pub(super) fn is_wish(&self) -> bool {
        matches!(self, Self::Listen(_) | Self::Unlisten(_) | Self::UnlistenAll)
    }
}

impl Supervisor {
    /// A user wants something. The answer is an [`Action::Reply`], except to `Close`, whose answer is
    /// [`Action::Done`].
    pub fn handle_command(&mut self, now: Instant, id: CommandId, command: Command) {
        match command {
            Command::Close => return self.close(now),
            _ if self.ending || self.draining.is_some() => {
                return self.reply(id, Err(unsent(self.cause.as_ref())));
            }
            Command::Drain { within } => {
                let deadline = now.checked_add(within);
                let (asked, refusal) = (None, None);
                self.draining = Some(super::close::Draining { id, deadline, asked, refusal });
            }
            _ => {}
        }
        self.waiting.push_back((id, command));
        // The answer will lie behind unread notifications: read on.
        self.resume(now);
        self.start_waiting(now);
    }

    /// Something is over, and what waited for it may go on.
    pub(super) fn proceed(&mut self, now: Instant, sink: &mut impl Sink) {
        // First, or commands without end would never let it.
        self.prove(now, sink);
        self.start_waiting(now);
        self.prepare_handover(now, sink);
    }

    /// Starts the commands whose turn it is, in their order.
    pub(super) fn start_waiting(&mut self, now: Instant) {
        while let Some((_, next)) = self.waiting.front()
            && !self.must_wait(next)
            && let Some((id, command)) = self.waiting.pop_front()
        {
            let drains = matches!(command, Command::Drain { .. });
            match self.start(now, id, command) {
                Ok(()) => {}
                Err(error) if drains => {
                    self.answer_drain(Err(error));
                    self.close(now);
                }
                Err(error) => self.reply(id, Err(error)),
            }
        }
    }

    fn must_wait(&self, command: &Command) -> bool {
        let is_ready = |link: &&Link| link.session().is_some_and(Session::is_ready);
        let Some(link) = self.current.as_ref().filter(is_ready) else { return false };
        // Two sessions with one set of subscriptions, or one that has yet to get them: it must not change.
        let is_asked = self.draining.as_ref().is_some_and(|one| one.asked == Some(link.id));
        // A drain that has asked for its proof does not wait for a session that was opened since.
        let is_changing = self.handover.is_running()
            || !is_asked && self.next.as_ref().is_some_and(Link::is_open);
        if link.live_since.is_none()
            || link.doubt.is_some()
            || is_changing
            || self.probe.must_come_first()
        {
            return true;
        }
        // UNLISTEN could be carried out before it comes back, and query after query would put its end off.
        let must_come_back = link.echo.is_some()
            && matches!(
                command,
                Command::SimpleQuery(_)
                    | Command::QueueUsage
                    | Command::UnlistenAll
                    | Command::Drain { .. }
            );
        match link.in_flight.first_key_value() {
            _ if must_come_back => true,
            None => false,
            Some((_, Purpose::Rollback { .. } | Purpose::User { change: Change::Query, .. })) => {
                true
            }
            // The proof in front of a drain names what is listened to when it is carried out.
            Some(_) => matches!(
                command,
                Command::SimpleQuery(_) | Command::QueueUsage | Command::Drain { .. }
            ),
        }
    }

    fn start(&mut self, now: Instant, id: CommandId, command: Command) -> Result<(), Error> {
        let is_ready = self.current.as_mut().is_some_and(|link| link.ready().is_some());
        if !is_ready {
            return self.wish(now, id, command);
        }
        match command {
            Command::Rotate => {
                self.rotate(now);
                self.reply(id, Ok(Reply::Rotating));
                return Ok(());
            }
            // First a proof that everything until then was heard.
            Command::Drain { .. } => {
                let link = self.current.as_ref().map(|link| link.id);
                let Some(draining) = &mut self.draining else { return Err(closed()) };
                if std::mem::replace(&mut draining.asked, link) != link {
                    draining.refusal = None;
                    self.send_proof(now, None)?;
                    // It goes on when that is answered. After a refusal a simpler proof comes first.
                    self.waiting.push_front((id, command));
                    return Ok(());
                }
            }
            _ => {}
        }
        let Some(link) = &mut self.current else { return Err(closed()) };
        let purpose = Purpose::User { id, change: Change::of(&command) };
        link.start(now, purpose, |session| match &command {
            Command::Listen(channels) => session.listen(now, channels),
            Command::Unlisten(channels) => session.unlisten(now, channels),
            Command::SimpleQuery(sql) => session.simple_query(now, sql),
            Command::QueueUsage => {
                let id = session.simple_query(now, QUEUE_USAGE_SQL)?;
                session.limit_rows(id, 1);
                Ok(id)
            }
            Command::UnlistenAll | Command::Drain { .. } => session.unlisten_all(now),
            Command::Rotate | Command::Close => Err(closed()),
        })?;
        match (command, link.private.clone()) {
            (Command::UnlistenAll, Some(private)) => {
                link.start(now, Purpose::PrivateAgain, |session| session.listen(now, &[private]))
            }
            _ => Ok(()),
        }
    }

    /// No session is up: a wish is kept, anything else cannot be done.
    fn wish(&mut self, now: Instant, id: CommandId, command: Command) -> Result<(), Error> {
        if self.ending {
            return Err(closed());
        }
        let change = match command {
            Command::Listen(channels) => {
                check(&channels)?;
                Change::Listen(channels)
            }
            Command::Unlisten(channels) => {
                check(&channels)?;
                Change::Unlisten(channels)
            }
            Command::UnlistenAll => Change::UnlistenAll,
            // What it would wait for is lost, and that is told.
            Command::Drain { .. } => {
                self.answer_drain(Ok(Reply::Drained));
                self.finish(Ok(()));
                return Ok(());
            }
            Command::Rotate => {
                self.rotate(now);
                self.reply(id, Ok(Reply::Rotating));
                return Ok(());
            }
            Command::SimpleQuery(_) | Command::QueueUsage | Command::Close => {
                return Err(Error::new(ErrorKind::Connect, "no session is up").with_hint(
                    "the listener comes back by itself: ask again when its state is Connected",
                ));
            }
        };
        let reply = self.apply(change, Vec::new(), Listening::Pending);
        self.reply(id, Ok(reply));
        Ok(())
    }

    /// A command on a session is complete.
    pub(super) fn done(
        &mut self,
        now: Instant,
        link: LinkId,
        id: session::CommandId,
        (result, status): (Answer, TransactionStatus),
        sink: &mut impl Sink,
    ) {
        let Some(found) = Self::find(&mut self.current, &mut self.next, link) else { return };
        let Some(purpose) = found.answered(now, id) else { return };
        let result = found.believe(&purpose, result);
        let is_suspect = result.is_err() && purpose.may_get_a_stray() && found.errors_may_stray();
        let loss = found.possible_drop(&purpose, &result, status);
        let result = doubt::doubted(&purpose, result, loss.as_ref());
        let doubt = found.doubt.clone();
        if found.is_leaving() {
            // Answered in the order in which they were sent: an UNLISTEN ends what a LISTEN before it has begun.
            return found.undone.push(purpose);
        }
        if found.ready().is_none() {
            // The session has failed, and with it the command.
            let (purpose, result) = transaction::undone(purpose, result, status, found.session());
            return self.outlive(purpose, result);
        }
        let is_idle = status == TransactionStatus::Idle;
        if !is_idle && doubt.is_none() && !purpose.is_query() {
            return self.leave(now, link, purpose, result, sink);
        }
        if let Some(doubt) = doubt {
            self.outlive(purpose, result);
            return self.fail(now, link, doubt, sink);
        }
        if is_suspect {
            self.probe.demand(now);
        }
        if let Some(cause) = loss {
            self.drop_noticed(now, link, cause, sink);
        }
        match purpose {
            Purpose::Restore(channels) => self.restore_answered(now, link, channels, result, sink),
            Purpose::Private | Purpose::Fence | Purpose::Forget { .. } => {
                self.handover_answered(now, purpose, result, sink);
            }
            Purpose::Proof { question, expected } => {
                self.proof_answered(now, question, expected, result, sink);
            }
            Purpose::Sign => self.sign_answered(now, result, sink),
            Purpose::PrivateAgain => self.private_again(now, link, result, sink),
            // Its answer waits for that of the ROLLBACK.
            Purpose::User { id, change: Change::Query } if !is_idle => {
                self.roll_back(now, id, result.err());
            }
            Purpose::User { id, change } => self.user_answered(now, id, change, result),
            Purpose::Rollback { .. } | Purpose::Leave => self.settle(purpose, result),
        }
        self.check_restored(now, link, sink);
        self.proceed(now, sink);
    }

    fn user_answered(&mut self, now: Instant, id: CommandId, change: Change, result: Answer) {
        match (change, result) {
            (Change::Drain, result) => {
                self.answer_drain(result.map(|_| Reply::Drained));
                self.close(now);
            }
            (change, result) => self.settle(Purpose::User { id, change }, result),
        }
    }

    /// Answers the user whose command is complete.
    fn settle(&mut self, purpose: Purpose, result: Answer) {
        match (purpose, result) {
            (Purpose::User { id, change }, Ok(rows)) => {
                let reply = self.apply(change, rows, Listening::Active);
                self.reply(id, Ok(reply));
            }
            (Purpose::User { id, .. }, Err(error)) => self.reply(id, Err(error)),
            (Purpose::Rollback { id, refusal }, _) => {
                self.reply(id, Err(transaction::left_open(refusal)));
            }
            (
                Purpose::Restore(_)
                | Purpose::Private
                | Purpose::Fence
                | Purpose::Forget { .. }
                | Purpose::Proof { .. }
                | Purpose::Leave
                | Purpose::Sign
                | Purpose::PrivateAgain,
                _,
            ) => {}
        }
    }

    /// The session was lost before the command was complete. Wishes outlive it, if there will be another one:
    /// that one begins with what is wanted then.
    pub(super) fn outlive(&mut self, purpose: Purpose, result: Answer) {
        match (purpose, result) {
            (Purpose::User { change: Change::Drain, .. }, result) => {
                self.answer_drain(result.map(|_| Reply::Drained));
            }
            (Purpose::User { id, change }, Err(_)) if change.is_wish() && self.goes_on() => {
                let reply = self.apply(change, Vec::new(), Listening::Pending);
                self.reply(id, Ok(reply));
            }
            (Purpose::Rollback { id, refusal }, Err(error)) => {
                self.reply(id, Err(transaction::not_rolled_back(refusal, error)));
            }
            (purpose, result) => self.settle(purpose, result),
        }
    }

    fn apply(&mut self, change: Change, rows: Vec<Rows>, listening: Listening) -> Reply {
        match change {
            Change::Listen(channels) => {
                self.forget_refusals(&channels);
                let before = self.wanted.len();
                self.wanted.extend(channels);
                self.warn_of_channels(before);
                Reply::Listening(listening)
            }
            Change::Unlisten(channels) => {
                self.forget_refusals(&channels);
                for channel in &channels {
                    self.wanted.remove(channel);
                }
                Reply::Unlistened
            }
            Change::UnlistenAll => {
                if let Some(link) = &mut self.current {
                    link.refused.clear();
                }
                self.wanted.clear();
                Reply::Unlistened
            }
            Change::Query => Reply::Rows(rows),
            Change::Drain => Reply::Drained,
        }
    }

    /// Says so when the number of wanted channels, which was `before`, has become very large.
    pub(super) fn warn_of_channels(&mut self, before: usize) {
        let channels = self.wanted.len();
        if before <= CHANNELS_WARNED && channels > CHANNELS_WARNED {
            self.actions.push_back(Action::Tell(Incident::ManyChannels { channels }));
        }
    }

    /// The server has changed its mind about them, or they are wanted no more.
    fn forget_refusals(&mut self, channels: &[String]) {
        if let Some(link) = &mut self.current {
            channels.iter().for_each(|channel| drop(link.refused.remove(channel)));
        }
    }

    /// A link is given up: what was sent on it gets its answer, or the error of its end.
    pub(super) fn settle_all(&mut self, mut link: Link, error: Error) {
        if let Stage::Open(session) = &mut link.stage {
            session.fail(error);
        }
        self.settle_events(&mut link);
    }

    /// Answers what its session has answers for.
    pub(super) fn settle_events(&mut self, link: &mut Link) {
        let Link { stage, in_flight, doubt, undone, .. } = link;
        for purpose in undone.drain(..) {
            self.outlive(purpose, Err(doubt.clone().unwrap_or_else(closed)));
        }
        let (Stage::Open(session) | Stage::Closing { session, .. }) = stage else { return };
        while let Some(event) = session.poll_event() {
            if let SessionEvent::Done { id, result, status } = event
                && let Some(purpose) = in_flight.remove(&id)
            {
                let result = doubt.clone().map_or(result, Err);
                let (purpose, result) = transaction::undone(purpose, result, status, Some(session));
                self.outlive(purpose, result);
            }
        }
    }

    /// Whether a lost session is followed by another one. The first one is not, before everything was in place.
    pub(super) fn goes_on(&self) -> bool {
        let is_wanted = !self.ending && self.draining.is_none();
        self.policy.reconnect.is_some() && self.has_begun && is_wanted
    }

    pub(super) fn reply(&mut self, id: CommandId, result: Result<Reply, Error>) {
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

//! Commands: when each one is sent, and how it is answered.

use std::time::Instant;

use super::action::{Action, CHANNELS_WARNED, LogEvent};
use super::close::unsent;
use super::heartbeat_query::{ExpectedChannels, HeartbeatQuery};
use super::link::{LinkStage, ListenerLink};
use super::{
    Command, CommandNumber, LinkId, Listening, Reply, Sink, Supervisor, closed, rejected,
    transaction,
};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{self, Answer, Rows, Session, SessionEvent};
use crate::proto::wire::{self, TransactionStatus};

/// The purpose of a command that was sent to the server.
#[derive(Debug)]
pub(super) enum CommandPurpose {
    /// LISTEN for some of the wanted channels on a new session.
    Restore(Vec<String>),
    /// LISTEN for the private channel of a handover.
    ListenPrivate,
    /// NOTIFY that sends the fence notification.
    Fence,
    /// UNLISTEN for the private channel of a handover. `tries` is the number of tries that are left.
    UnlistenPrivate { channel: String, tries: u32 },
    /// The query of a heartbeat with its expected answer. `None`: the expected answer is not known.
    Heartbeat { query: HeartbeatQuery, expected: Option<ExpectedChannels> },
    /// NOTIFY that sends a self-notification.
    SelfNotify,
    /// LISTEN for the channel of self-notifications, after UNLISTEN of all channels.
    RelistenPrivate,
    /// A user's command.
    User { id: CommandNumber, change: UserChange },
    /// ROLLBACK after a user's query that left a transaction open, in which nothing is delivered. The answer to the query
    /// waits for it. `refusal` is the error of the query itself.
    Rollback { id: CommandNumber, refusal: Option<Error> },
    /// ROLLBACK of a transaction that is not ours. Then the session is replaced.
    LeaveTransaction,
}

/// The change that a user's command makes when the server confirms it.
#[derive(Debug)]
pub(super) enum UserChange {
    Listen(Vec<String>),
    Unlisten(Vec<String>),
    UnlistenAll,
    Query,
    Drain,
}

impl CommandPurpose {
    /// Returns true for a user's query, which may take any time.
    pub(super) fn is_query(&self) -> bool {
        matches!(self, Self::User { change: UserChange::Query, .. })
    }

    /// Returns true if an error in answer to this command must be followed by a heartbeat on servers that send stray
    /// errors. After an error in answer to another command there is a heartbeat in any case, or the end of the session.
    pub(super) fn may_get_stray_error(&self) -> bool {
        matches!(self, Self::User { .. } | Self::Rollback { .. } | Self::UnlistenPrivate { .. })
    }

    /// Returns true for a LISTEN on a live session.
    pub(super) fn listens(&self) -> bool {
        matches!(
            self,
            Self::ListenPrivate
                | Self::RelistenPrivate
                | Self::User { change: UserChange::Listen(_), .. }
        )
    }
}

/// The schema is named, so that no function of this name in the user's `search_path` is called instead.
const QUEUE_USAGE_SQL: &str = "SELECT pg_catalog.pg_notification_queue_usage()";

impl UserChange {
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

    /// Returns true if the change can be made without a session, and is carried out by the next one.
    pub(super) fn may_be_pending(&self) -> bool {
        matches!(self, Self::Listen(_) | Self::Unlisten(_) | Self::UnlistenAll)
    }
}

impl Supervisor {
    /// Handles a command. The answer is an [`Action::Reply`], except for `Close`, whose answer is [`Action::Done`].
    pub fn handle_command(&mut self, now: Instant, id: CommandNumber, command: Command) {
        if command == Command::Close {
            return self.close(now);
        }
        if let Some(refusal) = self.refusal() {
            return self.reply(id, Err(refusal));
        }
        if let Command::Drain { timeout } = command {
            let deadline = now.checked_add(timeout);
            let (heartbeat_link, refusal) = (None, None);
            self.draining = Some(super::close::Draining { id, deadline, heartbeat_link, refusal });
        }
        self.waiting.push_back((id, command));
        // The answer follows the unread notifications, so the stall must end.
        self.resume(now);
        self.start_waiting(now);
    }

    /// Returns the answer to every further command except `Close`, if the listener drains or is ending. Such a command is
    /// not sent.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        (self.ending || self.draining.is_some()).then(|| unsent(self.cause.as_ref()))
    }

    /// Starts what waited for the end of a command or of a handover.
    pub(super) fn proceed(&mut self, now: Instant, sink: &mut impl Sink) {
        // First, because otherwise a constant flow of commands would delay the heartbeat without a limit.
        self.send_due_heartbeat(now, sink);
        self.start_waiting(now);
        self.prepare_handover(now, sink);
    }

    /// Starts the waiting commands in their order, up to the first one that must still wait.
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

    /// Returns true if the command must wait for others, for a heartbeat or for a handover.
    fn must_wait(&self, command: &Command) -> bool {
        let is_ready = |link: &&ListenerLink| link.session().is_some_and(Session::is_ready);
        let Some(link) = self.current.as_ref().filter(is_ready) else { return false };
        let was_sent =
            self.draining.as_ref().is_some_and(|one| one.heartbeat_link == Some(link.id));
        // While two sessions share the wanted channels, or a new one gets them, they must not change. A drain whose
        // heartbeat was sent does not wait for a session that was opened later.
        let is_changing = self.handover.is_running()
            || !was_sent && self.next.as_ref().is_some_and(ListenerLink::is_open);
        if link.live_since.is_none()
            || link.rejection.is_some()
            || is_changing
            || self.heartbeat.must_come_first()
        {
            return true;
        }
        // UNLISTEN could take effect before the self-notification comes back, and queries would delay its deadline again
        // and again.
        let must_come_back = link.self_notification.is_some()
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
            Some((
                _,
                CommandPurpose::Rollback { .. }
                | CommandPurpose::User { change: UserChange::Query, .. },
            )) => true,
            // The heartbeat before a drain names the channels at the time when the server carries it out.
            Some(_) => matches!(
                command,
                Command::SimpleQuery(_) | Command::QueueUsage | Command::Drain { .. }
            ),
        }
    }

    /// Sends a command, or makes its change if there is no session.
    fn start(&mut self, now: Instant, id: CommandNumber, command: Command) -> Result<(), Error> {
        let is_ready = self.current.as_mut().is_some_and(|link| link.ready().is_some());
        if !is_ready {
            return self.start_without_session(now, id, command);
        }
        match command {
            Command::Rotate => {
                self.rotate(now);
                self.reply(id, Ok(Reply::Rotating));
                return Ok(());
            }
            Command::Drain { .. } => {
                let link = self.current.as_ref().map(|link| link.id);
                let Some(draining) = &mut self.draining else { return Err(closed()) };
                if std::mem::replace(&mut draining.heartbeat_link, link) != link {
                    draining.refusal = None;
                    self.send_heartbeat(now, None)?;
                    // The drain goes on when the heartbeat is answered. After a refusal a simpler heartbeat comes first.
                    self.waiting.push_front((id, command));
                    return Ok(());
                }
            }
            _ => {}
        }
        let Some(link) = &mut self.current else { return Err(closed()) };
        let purpose = CommandPurpose::User { id, change: UserChange::of(&command) };
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
                link.start(now, CommandPurpose::RelistenPrivate, |session| {
                    session.listen(now, &[private])
                })
            }
            _ => Ok(()),
        }
    }

    /// Handles a command while there is no session: changes of the wanted channels are made, queries fail.
    fn start_without_session(
        &mut self,
        now: Instant,
        id: CommandNumber,
        command: Command,
    ) -> Result<(), Error> {
        if self.ending {
            return Err(closed());
        }
        let change = match command {
            Command::Listen(channels) => {
                check(&channels)?;
                UserChange::Listen(channels)
            }
            Command::Unlisten(channels) => {
                check(&channels)?;
                UserChange::Unlisten(channels)
            }
            Command::UnlistenAll => UserChange::UnlistenAll,
            // There is no session to wait for: what is missing is reported as a gap.
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
                    "the listener reconnects by itself: try again when its state is Connected",
                ));
            }
        };
        let reply = self.apply(change, Vec::new(), Listening::Pending);
        self.reply(id, Ok(reply));
        Ok(())
    }

    /// Handles the complete answer to a command.
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
        let result = found.validate_reply(&purpose, result);
        let may_be_stray =
            result.is_err() && purpose.may_get_stray_error() && found.may_send_stray_errors();
        let loss = found.possible_drop(&purpose, &result, status);
        let result = rejected::in_doubt_if_dropped(&purpose, result, loss.as_ref());
        let rejection = found.rejection.clone();
        if rejection.is_some() && found.is_leaving() {
            // All of them are answered later, in the order in which they were sent, so that an UNLISTEN cancels an earlier
            // LISTEN.
            return found.undone.push(purpose);
        }
        if found.ready().is_none() {
            // The session has failed.
            let (purpose, result) = transaction::undone(purpose, result, status, found.session());
            return self.resolve_on_loss(purpose, result);
        }
        let is_idle = status == TransactionStatus::Idle;
        if !is_idle && rejection.is_none() && !purpose.is_query() {
            return self.leave(now, link, purpose, result, sink);
        }
        if let Some(rejection) = rejection {
            self.resolve_on_loss(purpose, result);
            return self.fail(now, link, rejection, sink);
        }
        if may_be_stray {
            self.heartbeat.require(now);
        }
        if let Some(cause) = loss {
            self.notification_dropped(now, link, cause, sink);
        }
        match purpose {
            CommandPurpose::Restore(channels) => {
                self.restore_answered(now, link, channels, result, sink);
            }
            CommandPurpose::ListenPrivate
            | CommandPurpose::Fence
            | CommandPurpose::UnlistenPrivate { .. } => {
                self.handover_answered(now, purpose, result, sink);
            }
            CommandPurpose::Heartbeat { query, expected } => {
                self.heartbeat_answered(now, query, expected, result, sink);
            }
            CommandPurpose::SelfNotify => self.self_notification_answered(now, result, sink),
            CommandPurpose::RelistenPrivate => self.private_relistened(now, link, result, sink),
            // The answer to the query waits for the answer to ROLLBACK.
            CommandPurpose::User { id, change: UserChange::Query } if !is_idle => {
                self.roll_back(now, id, result.err());
            }
            CommandPurpose::User { id, change } => self.user_answered(now, id, change, result),
            CommandPurpose::Rollback { .. } | CommandPurpose::LeaveTransaction => {
                self.resolve(purpose, result);
            }
        }
        self.check_restored(now, link, sink);
        self.proceed(now, sink);
    }

    fn user_answered(
        &mut self,
        now: Instant,
        id: CommandNumber,
        change: UserChange,
        result: Answer,
    ) {
        match (change, result) {
            (UserChange::Drain, result) => {
                self.answer_drain(result.map(|_| Reply::Drained));
                self.close(now);
            }
            (change, result) => self.resolve(CommandPurpose::User { id, change }, result),
        }
    }

    /// Answers a command that is complete.
    fn resolve(&mut self, purpose: CommandPurpose, result: Answer) {
        match (purpose, result) {
            (CommandPurpose::User { id, change }, Ok(rows)) => {
                let reply = self.apply(change, rows, Listening::Active);
                self.reply(id, Ok(reply));
            }
            (CommandPurpose::User { id, .. }, Err(error)) => self.reply(id, Err(error)),
            (CommandPurpose::Rollback { id, refusal }, _) => {
                self.reply(id, Err(transaction::left_open(refusal)));
            }
            (
                CommandPurpose::Restore(_)
                | CommandPurpose::ListenPrivate
                | CommandPurpose::Fence
                | CommandPurpose::UnlistenPrivate { .. }
                | CommandPurpose::Heartbeat { .. }
                | CommandPurpose::LeaveTransaction
                | CommandPurpose::SelfNotify
                | CommandPurpose::RelistenPrivate,
                _,
            ) => {}
        }
    }

    /// Answers a command that was not complete when the session was lost. If the listener reconnects, changes of the wanted
    /// channels are made: the next session restores them.
    pub(super) fn resolve_on_loss(&mut self, purpose: CommandPurpose, result: Answer) {
        match (purpose, result) {
            (CommandPurpose::User { change: UserChange::Drain, .. }, result) => {
                self.answer_drain(result.map(|_| Reply::Drained));
            }
            (CommandPurpose::User { id, change }, Err(_))
                if change.may_be_pending() && self.goes_on() =>
            {
                let reply = self.apply(change, Vec::new(), Listening::Pending);
                self.reply(id, Ok(reply));
            }
            (CommandPurpose::Rollback { id, refusal }, Err(error)) => {
                self.reply(id, Err(transaction::not_rolled_back(refusal, error)));
            }
            (purpose, result) => self.resolve(purpose, result),
        }
    }

    fn apply(&mut self, change: UserChange, rows: Vec<Rows>, listening: Listening) -> Reply {
        match change {
            UserChange::Listen(channels) => {
                self.forget_refusals(&channels);
                let before = self.wanted.len();
                self.wanted.extend(channels);
                self.log_many_channels(before);
                Reply::Listening(listening)
            }
            UserChange::Unlisten(channels) => {
                self.forget_refusals(&channels);
                for channel in &channels {
                    self.wanted.remove(channel);
                }
                Reply::Unlistened
            }
            UserChange::UnlistenAll => {
                if let Some(link) = &mut self.current {
                    link.refused.clear();
                }
                self.wanted.clear();
                Reply::Unlistened
            }
            UserChange::Query => Reply::Rows(rows),
            UserChange::Drain => Reply::Drained,
        }
    }

    /// Makes a log event when the number of wanted channels, which was `before`, exceeds [`CHANNELS_WARNED`].
    pub(super) fn log_many_channels(&mut self, before: usize) {
        let channels = self.wanted.len();
        if before <= CHANNELS_WARNED && channels > CHANNELS_WARNED {
            self.actions.push_back(Action::Log(LogEvent::ManyChannels { channels }));
        }
    }

    /// Removes channels from the refused ones: the server now accepts them, or they are not wanted any more.
    fn forget_refusals(&mut self, channels: &[String]) {
        if let Some(link) = &mut self.current {
            channels.iter().for_each(|channel| drop(link.refused.remove(channel)));
        }
    }

    /// Answers every command of a link that is given up: with its answer if it has arrived, else with `error`.
    pub(super) fn resolve_all(&mut self, mut link: ListenerLink, error: Error) {
        if let LinkStage::Open(session) = &mut link.stage {
            session.fail(error);
        }
        self.resolve_answered(&mut link);
    }

    /// Answers the commands of a link whose answers its session has.
    pub(super) fn resolve_answered(&mut self, link: &mut ListenerLink) {
        let ListenerLink { stage, in_flight, rejection, undone, .. } = link;
        for purpose in undone.drain(..) {
            self.resolve_on_loss(purpose, Err(rejection.clone().unwrap_or_else(closed)));
        }
        let (LinkStage::Open(session) | LinkStage::Closing { session, .. }) = stage else { return };
        while let Some(event) = session.poll_event() {
            if let SessionEvent::Done { id, result, status } = event
                && let Some(purpose) = in_flight.remove(&id)
            {
                let result = rejection.clone().map_or(result, Err);
                let (purpose, result) = transaction::undone(purpose, result, status, Some(session));
                self.resolve_on_loss(purpose, result);
            }
        }
    }

    pub(super) fn reply(&mut self, id: CommandNumber, result: Result<Reply, Error>) {
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

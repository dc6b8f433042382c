//! The user's commands: when each one is sent.
//!
//! ```text
//!           nothing to wait for             answered
//! waiting ─────────────────────▶ in flight ──────────▶ reply
//!    │                              │ a query has left a transaction open ─▶ ROLLBACK ─▶ reply
//!    │                              │ session lost ─▶ reply: pending, in doubt, or the error
//!    └─ no session ─▶ reply at once: changes are pending, queries fail
//! ```
//! A drain first sends a heartbeat and waits again, until that is answered.

use std::collections::VecDeque;

use super::action::{Command, CommandNumber, Listening, Reply};
use super::link::ListenerLink;
use super::purpose::{Change, CommandPurpose};
use super::{Sink, Supervisor};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Session, check_channel_names};

/// Commands that are not sent yet. A query runs alone, because it may open a transaction, and LISTEN takes effect only when
/// a transaction is committed.
pub(super) type WaitingCommands = VecDeque<(CommandNumber, Command)>;

/// The schema is named, so that no function of this name in the user's `search_path` is called instead.
const QUEUE_USAGE_SQL: &str = "SELECT pg_catalog.pg_notification_queue_usage()";

impl<S: Sink> Supervisor<S> {
    /// Starts the waiting commands in their order, up to the first one that must still wait.
    pub(super) fn start_waiting(&mut self) {
        while let Some((_, next)) = self.waiting.front()
            && !self.must_wait(next)
            && let Some((id, command)) = self.waiting.pop_front()
        {
            let drains = matches!(command, Command::Drain { .. });
            match self.start(id, command) {
                Ok(()) => {}
                Err(error) if drains => {
                    self.answer_drain(Err(error));
                    self.close();
                }
                Err(error) => self.common.reply(id, Err(error)),
            }
        }
    }

    /// Returns true if the command must wait for others, for a heartbeat or for a handover.
    fn must_wait(&self, command: &Command) -> bool {
        let is_ready = |link: &&ListenerLink| link.session().is_some_and(Session::is_ready);
        let links = &self.common.links;
        let Some(link) = links.current.as_ref().filter(is_ready) else { return false };
        // While two sessions share the wanted channels, or a new one gets them, they must not change. A drain whose
        // heartbeat was sent does not wait for a session that was opened later.
        let is_changing = self.handover.is_running()
            || !self.ending.has_sent_heartbeat(link.id)
                && links.next.as_ref().is_some_and(ListenerLink::is_open);
        if link.live_since.is_none()
            || link.rejection.is_some()
            || is_changing
            || self.heartbeat.must_come_first()
        {
            return true;
        }
        let is_query_or_drain = matches!(
            command,
            Command::SimpleQuery(_) | Command::QueueUsage | Command::Drain { .. }
        );
        // UNLISTEN could take effect before the self-notification comes back, and queries would delay its deadline again
        // and again.
        if link.self_notification.is_some()
            && (is_query_or_drain || matches!(command, Command::UnlistenAll))
        {
            return true;
        }
        match link.in_flight.first_key_value() {
            None => false,
            Some((
                _,
                CommandPurpose::Rollback { .. }
                | CommandPurpose::User { change: Change::Query, .. },
            )) => true,
            // The heartbeat before a drain names the channels at the time when the server carries it out.
            Some(_) => is_query_or_drain,
        }
    }

    /// Sends a command, or makes its change if there is no session.
    fn start(&mut self, id: CommandNumber, command: Command) -> Result<(), Error> {
        let now = self.common.now;
        let Some(link) = self.common.links.current.as_mut().filter(|link| link.is_ready()) else {
            return self.start_without_session(id, command);
        };
        match command {
            Command::Rotate => return self.rotate(id),
            Command::Drain { .. } if !self.ending.has_sent_heartbeat(link.id) => {
                self.ending.heartbeat_is_sent(link.id);
                self.heartbeat.send(&mut self.common, None)?;
                // The drain goes on when the heartbeat is answered. After a refusal a simpler heartbeat comes first.
                self.waiting.push_front((id, command));
                return Ok(());
            }
            _ => {}
        }
        // The channel of self-notifications is listened to again.
        let private = link.private.clone().filter(|_| matches!(command, Command::UnlistenAll));
        let purpose = CommandPurpose::User { id, change: Change::of(&command) };
        link.start(now, purpose, |session| match command {
            Command::Listen(channels) => session.listen_owned(now, channels),
            Command::Unlisten(channels) => session.unlisten_owned(now, channels),
            Command::SimpleQuery(sql) => session.simple_query(now, &sql),
            Command::QueueUsage => {
                let id = session.simple_query(now, QUEUE_USAGE_SQL)?;
                session.limit_rows(id, 1);
                Ok(id)
            }
            Command::UnlistenAll | Command::Drain { .. } => session.unlisten_all(now),
            Command::Rotate | Command::Close => Err(self.common.owner.closed()),
        })?;
        match private {
            None => Ok(()),
            Some(private) => link.start(now, CommandPurpose::RelistenPrivate, |session| {
                session.listen_owned(now, vec![private])
            }),
        }
    }

    /// Handles a command while there is no session: changes of the wanted channels are made, queries fail.
    fn start_without_session(&mut self, id: CommandNumber, command: Command) -> Result<(), Error> {
        if self.ending.is_ending() {
            return Err(self.common.owner.closed());
        }
        let (change, names) = match command {
            Command::Listen(names) => (Change::Listen, names),
            Command::Unlisten(names) => (Change::Unlisten, names),
            Command::UnlistenAll => (Change::UnlistenAll, Vec::new()),
            // There is no session to wait for: what is missing is reported as a gap.
            Command::Drain { .. } => {
                self.answer_drain(Ok(Reply::Drained));
                self.finish(Ok(()));
                return Ok(());
            }
            Command::Rotate => return self.rotate(id),
            Command::SimpleQuery(_) | Command::QueueUsage | Command::Close => {
                return Err(Error::new(ErrorKind::Connect, "no session is up").with_hint(format!(
                    "the {} reconnects by itself: try again when its state is Connected",
                    self.common.owner
                )));
            }
        };
        if change != Change::UnlistenAll {
            check_channel_names(&names)?;
        }
        let (rows, pending) = (Vec::new(), Listening::Pending);
        let reply = self.channels.apply(&mut self.common, change, names, rows, pending);
        self.common.reply(id, Ok(reply));
        Ok(())
    }

    /// Begins a handover for the user.
    fn rotate(&mut self, id: CommandNumber) -> Result<(), Error> {
        self.handover.rotate(&self.common.links);
        self.begin_handover();
        self.common.reply(id, Ok(Reply::Rotating));
        Ok(())
    }
}

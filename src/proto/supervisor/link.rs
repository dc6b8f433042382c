//! One link of a listener and its state.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::action::{LinkEvent, LinkId};
use super::closing_delivery::ClosingDelivery;
use super::heartbeat_query::HeartbeatQuery;
use super::owner::Owner;
use super::purpose::CommandPurpose;
use super::self_notification::SelfNotification;
use crate::error::{Error, ErrorKind};
use crate::proto::session::{self, ReadDelay, Session};
use crate::proto::wire::Run;

#[derive(Debug)]
pub(super) struct ListenerLink {
    pub(super) id: LinkId,
    /// For the texts of errors.
    pub(super) owner: Owner,
    /// The number of its session, from 1. It is 0 before there is a session.
    pub(super) epoch: u32,
    pub(super) stage: LinkStage,
    /// True after the login.
    pub(super) was_ready: bool,
    /// True if the receive buffer ends with a part of a message.
    pub(super) has_part: bool,
    /// The time of the last read.
    pub(super) alive_at: Instant,
    /// The unanswered commands.
    pub(super) in_flight: BTreeMap<session::CommandId, CommandPurpose>,
    /// The later one of two times: the oldest of them was sent, the one before it was answered.
    waiting_since: Instant,
    /// The channel of the session's self-notifications. Notifications on it are not delivered.
    pub(super) private: Option<String>,
    /// The self-notification that has not come back.
    pub(super) self_notification: Option<SelfNotification>,
    /// The channels that the server refuses, each with its error.
    pub(super) refused: BTreeMap<String, Error>,
    /// If set, all further answers are rejected, because they may belong to other commands.
    pub(super) rejection: Option<Error>,
    /// The heartbeat query: the most exact one that the server does not refuse.
    pub(super) heartbeat_query: HeartbeatQuery,
    /// Commands that were answered inside a transaction that is not ours, and so have no effect, each with its channels.
    pub(super) undone: Vec<(CommandPurpose, Vec<String>)>,
    /// The time since when every wanted channel is active or refused.
    pub(super) live_since: Option<Instant>,
    /// The rest of a run for which there was no room. It is at the front of the receive buffer, and contains only the
    /// user's notifications. Without it the rest would be scanned again after each notification that the consumer takes,
    /// in quadratic time.
    pub(super) measured: Run,
    /// Decides whether the next read waits.
    pub(super) read_delay: ReadDelay,
    /// The end of the link, if it came during a stall. It is handled after what was read before.
    pub(super) end: Option<LinkEvent>,
}

/// The oldest unanswered command of a link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unanswered {
    pub(super) is_heartbeat: bool,
    /// The time that is added to the usual timeout.
    pub(super) quiet_time: Duration,
    pub(super) since: Instant,
    pub(super) silent_since: Instant,
}

#[derive(Debug)]
pub(super) enum LinkStage {
    /// The driver opens the socket.
    Opening { deadline: Instant },
    /// There is a session.
    Open(Box<Session>),
    /// Terminate was sent.
    Closing { session: Box<Session>, deadline: Instant, delivery: ClosingDelivery },
}

impl ListenerLink {
    pub(super) fn opening(
        owner: Owner,
        now: Instant,
        id: LinkId,
        deadline: Instant,
        read_delay: Duration,
    ) -> Self {
        Self {
            id,
            owner,
            epoch: 0,
            stage: LinkStage::Opening { deadline },
            was_ready: false,
            has_part: false,
            alive_at: now,
            in_flight: BTreeMap::new(),
            waiting_since: now,
            private: None,
            self_notification: None,
            refused: BTreeMap::new(),
            rejection: None,
            heartbeat_query: HeartbeatQuery::default(),
            undone: Vec::new(),
            live_since: None,
            measured: Run::default(),
            read_delay: ReadDelay::new(read_delay),
            end: None,
        }
    }

    /// Returns the session, if there is one.
    pub(super) fn session(&self) -> Option<&Session> {
        match &self.stage {
            LinkStage::Open(session) | LinkStage::Closing { session, .. } => Some(session),
            LinkStage::Opening { .. } => None,
        }
    }

    /// Closes the session. The link must be closed at `deadline`.
    pub(super) fn close(&mut self, deadline: Instant, delivery: ClosingDelivery) {
        let stage = std::mem::replace(&mut self.stage, LinkStage::Opening { deadline });
        self.stage = match stage {
            LinkStage::Open(mut session) => {
                session.terminate();
                LinkStage::Closing { session, deadline, delivery }
            }
            stage => stage,
        };
    }

    /// Returns the session, if commands can be sent on it.
    pub(super) fn ready(&mut self) -> Option<&mut Session> {
        match &mut self.stage {
            LinkStage::Open(session) if session.is_ready() => Some(session),
            _ => None,
        }
    }

    /// Returns true if commands can be sent on the session.
    pub(super) fn is_ready(&self) -> bool {
        matches!(&self.stage, LinkStage::Open(session) if session.is_ready())
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, LinkStage::Open(_))
    }

    pub(super) fn is_live(&self) -> bool {
        self.live_since.is_some() && self.is_open()
    }

    /// Sends a command with `send`, and stores its purpose.
    pub(super) fn start(
        &mut self,
        now: Instant,
        purpose: CommandPurpose,
        send: impl FnOnce(&mut Session) -> Result<session::CommandId, Error>,
    ) -> Result<(), Error> {
        let Some(session) = self.ready() else { return Err(self.owner.closed()) };
        let id = send(session)?;
        if self.in_flight.is_empty() {
            self.waiting_since = now;
        }
        self.in_flight.insert(id, purpose);
        Ok(())
    }

    /// Removes an answered command and returns its purpose.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        id: session::CommandId,
    ) -> Option<CommandPurpose> {
        self.waiting_since = now;
        let purpose = self.in_flight.remove(&id);
        let was_query = purpose.as_ref().is_some_and(CommandPurpose::is_query);
        if let Some(own) = self.self_notification.as_mut().filter(|_| was_query) {
            // The server sends no notifications while a query runs.
            own.restart_timeout(now);
        }
        purpose
    }

    /// Removes the notifications on the private channel from a run. Returns the rest of the run, and whether the
    /// self-notification has come back. With `is_searched` the run was searched before and contains none.
    pub(super) fn take_private_notifications(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        run: Run,
        is_searched: bool,
    ) -> (Run, bool) {
        let Some(private) = &self.private else { return (run, false) };
        if !is_searched {
            return SelfNotification::take(&mut self.self_notification, private, now, input, run);
        }
        if let Some(sent) = &mut self.self_notification {
            sent.notification_arrived(now);
        }
        (run, false)
    }

    /// Returns true while the session leaves a transaction that is not ours.
    pub(super) fn is_leaving(&self) -> bool {
        self.in_flight.values().any(|sent| matches!(sent, CommandPurpose::LeaveTransaction))
    }

    /// Accepts any answer to the heartbeats in flight, because the channels of the session are not known any more.
    pub(super) fn forget_expected_channels(&mut self) {
        for sent in self.in_flight.values_mut() {
            if let CommandPurpose::Heartbeat { expected, .. } = sent {
                *expected = None;
            }
        }
    }

    /// Returns the oldest unanswered command of a live session, if the heartbeat's timeout applies to it.
    ///
    /// A user's query has no timeout. The first LISTEN of a session has that of the session, because the server reads its
    /// whole notification queue for it.
    pub(super) fn unanswered(&self) -> Option<Unanswered> {
        let (_, oldest) = self.in_flight.first_key_value()?;
        let listens_to_nothing =
            self.session().is_some_and(|session| session.channels().next().is_none());
        if !self.is_live() || oldest.is_query() || oldest.listens() && listens_to_nothing {
            return None;
        }
        Some(Unanswered {
            is_heartbeat: matches!(
                oldest,
                CommandPurpose::Heartbeat { .. } | CommandPurpose::SelfNotify
            ),
            quiet_time: self.session().map(Session::quiet_time).unwrap_or_default(),
            since: self.waiting_since,
            silent_since: self.waiting_since.max(self.alive_at),
        })
    }

    /// Restarts the timeouts of all unanswered commands.
    pub(super) fn restart_timeouts(&mut self, now: Instant) {
        (self.alive_at, self.waiting_since) = (now, now);
        if let Some(own) = &mut self.self_notification {
            own.restart_timeout(now);
        }
    }

    /// Extends the timeouts by a time in which the link was not read.
    pub(super) fn add_unread_time(&mut self, now: Instant, time: Duration) {
        for moment in [&mut self.alive_at, &mut self.waiting_since] {
            // For a command that was sent in that time, the wait begins now.
            *moment = moment.checked_add(time).map_or(now, |later| later.min(now));
        }
        if let Some(own) = &mut self.self_notification {
            own.add_unread_time(now, time);
        }
        if let LinkStage::Open(session) = &mut self.stage {
            session.extend(time);
        }
    }

    /// Returns the deadline of the link, except that of [`unanswered`](Self::unanswered).
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            LinkStage::Opening { deadline } | LinkStage::Closing { deadline, .. } => {
                Some(*deadline)
            }
            LinkStage::Open(_) if self.unanswered().is_some() => None,
            LinkStage::Open(session) => session.poll_timeout(),
        }
    }

    /// Returns the cause of a gap at the end of the stream, if a link that is being closed has not delivered all that it should.
    #[cold]
    pub(super) fn missing_at_the_end(&self) -> Option<Error> {
        let LinkStage::Closing { session, delivery, .. } = &self.stage else { return None };
        if let Some(malformed) = session.malformed_after_terminate() {
            return Some(malformed.clone());
        }
        let message = || {
            format!(
                "the {} was closed during a handover, and the old session ended before it had brought what was read of \
                 the new one",
                self.owner
            )
        };
        delivery.is_missing().then(|| Error::new(ErrorKind::Closed, message()))
    }
}

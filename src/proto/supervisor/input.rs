//! The inputs from links: events, bytes, room and time.

use std::time::{Instant, SystemTime};

use bytes::BytesMut;

use super::action::{Action, Close};
use super::commands::CommandPurpose;
use super::handover::Passage;
use super::heartbeat_query::HeartbeatQuery;
use super::link::{LinkStage, ListenerLink};
use super::{LinkEvent, LinkId, ReceiveInfo, Role, Sink, Supervisor, closed};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Evidence, Progress, Session, SessionEvent};
use crate::proto::wire::Run;

impl Supervisor {
    /// Handles an event of a link. An event of a link that does not exist any more is ignored.
    pub fn handle_link(
        &mut self,
        now: Instant,
        link: LinkId,
        event: LinkEvent,
        sink: &mut impl Sink,
    ) {
        if self.role(link) == Some(Role::Old) {
            // Its session is replaced: only its end matters.
            return match event {
                LinkEvent::Opened(_) => {}
                _ => self.fail(now, link, closed(), sink),
            };
        }
        let is_end = !matches!(event, LinkEvent::Opened(_));
        if is_end && self.flow.is_stalled() && self.role(link) == Some(Role::Current) {
            return self.end_after_buffered(now, event);
        }
        let epoch = self.epoch.saturating_add(1);
        let Some(found) = Self::find(&mut self.current, &mut self.next, link) else { return };
        match event {
            LinkEvent::Opened(session) => {
                // A second event would replace a session whose commands wait for answers.
                if let LinkStage::Opening { .. } = found.stage {
                    match session.evidence() {
                        Evidence::Channels => {}
                        Evidence::SelfNotification(channel) => {
                            found.private = Some(channel.clone());
                        }
                        Evidence::Answer => found.heartbeat_query = HeartbeatQuery::Answer,
                    }
                    found.stage = LinkStage::Open(session);
                    found.epoch = epoch;
                    self.epoch = epoch;
                    self.counters.sessions = self.counters.sessions.saturating_add(1);
                    if self.role(link) == Some(Role::Current) {
                        self.actions.push_back(Action::Deliver { link });
                    }
                    self.session_is_ready(now, link, sink);
                }
            }
            LinkEvent::Failed(error) => self.fail(now, link, error, sink),
            LinkEvent::Eof => {
                let error = match &mut found.stage {
                    LinkStage::Open(session) => session.handle_eof(found.has_part),
                    LinkStage::Opening { .. } | LinkStage::Closing { .. } => closed(),
                };
                self.fail(now, link, error, sink);
            }
            LinkEvent::Closed => self.fail(now, link, closed(), sink),
        }
    }

    /// Restores the wanted channels on a link, or prepares the handover to it, if its session is ready.
    pub(super) fn session_is_ready(&mut self, now: Instant, id: LinkId, sink: &mut impl Sink) {
        let Some(link) = Self::find(&mut self.current, &mut self.next, id) else { return };
        if link.ready().is_none() || link.live_since.is_some() {
            return;
        }
        link.was_ready = true;
        match self.role(id) {
            Some(Role::Current) => self.restore(now, id, sink),
            _ => self.prepare_handover(now, sink),
        }
    }

    /// Handles bytes that arrived at `received_at`. `input` is everything that was read and not yet handled. What is
    /// handled is removed from it.
    pub fn handle_bytes(
        &mut self,
        now: Instant,
        received_at: SystemTime,
        link: LinkId,
        input: &mut BytesMut,
        sink: &mut impl Sink,
    ) {
        if let Some(link) = Self::find(&mut self.current, &mut self.next, link) {
            link.alive_at = now;
        }
        while self.handle_some(now, received_at, link, input, sink) {}
        sink.publish();
        let end =
            Self::find(&mut self.current, &mut self.next, link).and_then(|link| link.end.take());
        if let Some(end) = end {
            self.handle_link(now, link, end, sink);
        }
    }

    /// Handles one run of notifications, or the messages before it. Returns true if there may be more to handle.
    fn handle_some(
        &mut self,
        now: Instant,
        received_at: SystemTime,
        id: LinkId,
        input: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> bool {
        let must_wait = match self.role(id) {
            Some(Role::Current) => self.flow.is_stalled(),
            Some(Role::Next) => self.handover.is_waiting(),
            Some(Role::Old) | None => false,
        };
        if must_wait {
            return false;
        }
        let Some(link) = Self::find(&mut self.current, &mut self.next, id) else {
            input.clear();
            return false;
        };
        let measured = std::mem::take(&mut link.measured);
        // A measured run was searched before.
        let is_searched = measured.count > 0;
        let epoch = link.epoch;
        let (LinkStage::Open(session) | LinkStage::Closing { session, .. }) = &mut link.stage
        else {
            input.clear();
            return false;
        };
        let progress = match measured.count {
            0 => session.handle_input(now, input),
            _ => Ok(Progress::Notifications(measured)),
        };
        link.has_part = matches!(progress, Ok(Progress::NeedMore)) && !input.is_empty();
        self.handle_events(now, id, sink);
        match progress {
            Ok(Progress::NeedMore) => false,
            Ok(Progress::Notifications(run)) => match self.role(id) {
                Some(Role::Current) => {
                    let run = self.take_private_notifications(now, input, run, is_searched, sink);
                    if self.role(id) != Some(Role::Current) {
                        input.clear();
                        return false;
                    }
                    let stamp = ReceiveInfo { received_at, epoch };
                    run.count == 0 || self.handle_run(now, stamp, input, (run, is_searched), sink)
                }
                Some(Role::Next) => self.pass_next(input, run),
                Some(Role::Old) | None => {
                    input.clear();
                    false
                }
            },
            Err(error) => {
                self.fail(now, id, error, sink);
                false
            }
        }
    }

    /// Delivers a run of the current session: the part for which there is room, or all of it if it cannot wait. With
    /// `is_searched` the run was searched before, and contains only the user's notifications.
    fn handle_run(
        &mut self,
        now: Instant,
        stamp: ReceiveInfo,
        input: &mut BytesMut,
        (run, is_searched): (Run, bool),
        sink: &mut impl Sink,
    ) -> bool {
        let passage = match &mut self.current {
            Some(ListenerLink { stage: LinkStage::Closing { delivery, .. }, .. }) => {
                delivery.pass(input, run)
            }
            _ => self.pass_current(now, input, (run, is_searched), sink),
        };
        let run = match passage {
            Passage::Deliver(run) => run,
            Passage::Done(goes_on) => return goes_on,
        };
        let surplus = self.is_last_of_session() || self.awaits_answer();
        // Called for every run, because it also notices that the queue is empty.
        let may_stall = self.flow.may_stall(sink.is_empty());
        let fits = sink.fits(input, run, surplus);
        let take = if fits.count < run.count && !surplus && may_stall {
            self.stall(now, run, fits);
            fits
        } else {
            run
        };
        self.counters.received = self.counters.received.saturating_add(take.count as u64);
        if take.count > 0 {
            self.outages.followed_by(stamp.epoch);
            sink.notifications(input, take, stamp, surplus);
        }
        true
    }

    /// Stalls the socket. `taken` is the part of `run` that is delivered now; the rest stays in the receive buffer.
    fn stall(&mut self, now: Instant, run: Run, taken: Run) {
        self.flow.stall(now);
        if let Some(link) = &mut self.current {
            self.actions.push_back(Action::Read { link: link.id, on: false });
            link.measured = Run {
                count: run.count.saturating_sub(taken.count),
                bytes: run.bytes.saturating_sub(taken.bytes),
            };
        }
    }

    /// Returns true if the link has ended or is being closed, so that waiting for room has no use.
    fn is_last_of_session(&self) -> bool {
        let is_last = |link: &ListenerLink| {
            link.end.is_some() || matches!(link.stage, LinkStage::Closing { .. })
        };
        self.current.as_ref().is_some_and(is_last)
    }

    /// Returns true if the answer to a command that must not wait for room follows the notifications: to the login, the
    /// first LISTEN, or a user's command. Heartbeats and handovers can wait until the socket is read again.
    fn awaits_answer(&self) -> bool {
        let Some(link) = &self.current else { return false };
        // If the queue is held back, the consumer cannot make room before the answer to this UNLISTEN is read.
        let is_held = !self.outages.is_empty();
        let is_waited_for = |sent: &CommandPurpose| match sent {
            CommandPurpose::UnlistenPrivate { .. } => is_held,
            CommandPurpose::Restore(_)
            | CommandPurpose::User { .. }
            | CommandPurpose::Rollback { .. }
            | CommandPurpose::LeaveTransaction => true,
            CommandPurpose::ListenPrivate
            | CommandPurpose::Fence
            | CommandPurpose::Heartbeat { .. }
            | CommandPurpose::SelfNotify
            | CommandPurpose::RelistenPrivate => false,
        };
        !link.session().is_some_and(Session::is_ready)
            || !self.waiting.is_empty()
            || link.in_flight.values().any(is_waited_for)
    }

    fn handle_events(&mut self, now: Instant, id: LinkId, sink: &mut impl Sink) {
        while let Some(link) = Self::find(&mut self.current, &mut self.next, id)
            && let LinkStage::Open(session) = &mut link.stage
            && let Some(event) = session.poll_event()
        {
            match event {
                SessionEvent::Ready => self.session_is_ready(now, id, sink),
                SessionEvent::Done { id: command, result, status } => {
                    self.done(now, id, command, (result, status), sink);
                }
                SessionEvent::NotificationDropped(cause) => {
                    self.notification_dropped(now, id, cause, sink);
                }
            }
        }
    }

    /// Handles the report that the server dropped a notification in a session that goes on.
    pub(super) fn notification_dropped(
        &mut self,
        now: Instant,
        id: LinkId,
        cause: Error,
        sink: &mut impl Sink,
    ) {
        match self.role(id) {
            // It may have been the fence notification. Then everything that follows would be discarded.
            Some(Role::Current) if self.handover.is_following() => {
                let message = "the server dropped a notification while the handover waited for the fence notification";
                self.lose(now, cause.within(message), sink);
            }
            Some(Role::Current) => {
                self.hold_back(now, cause.clone(), 0, sink);
                let is_live = self.current.as_ref().is_some_and(ListenerLink::is_live);
                if is_live && !self.handover.is_running() {
                    return self.schedule_hook(now);
                }
                // It is reported with the outage or the handover that is in progress.
                self.catch_up();
                if self.handover.is_running() && self.next.is_some() {
                    // It may have been the fence notification, for which the old session would wait.
                    self.give_up_handover(now, cause, sink);
                }
            }
            // The new session may have missed other notifications too.
            _ => self.give_up_handover(now, cause, sink),
        }
    }

    /// Ends a stall, because the consumer has taken something or is gone.
    pub fn handle_room(&mut self, now: Instant) {
        self.resume(now);
    }

    /// Checks all deadlines.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.flow.deadline().is_some_and(|deadline| deadline <= now) {
            self.resume(now);
        }
        self.check_drain(now);
        self.retry(now);
        self.check_hook(now);
        if !self.flow.is_stalled() {
            self.check_link(now, Role::Current, sink);
            self.check_unanswered(now, sink);
            self.send_due_heartbeat(now, sink);
            self.check_handover(now, sink);
        }
        self.check_link(now, Role::Next, sink);
        self.check_link(now, Role::Old, sink);
    }

    fn check_link(&mut self, now: Instant, role: Role, sink: &mut impl Sink) {
        let link = match role {
            Role::Current => &mut self.current,
            Role::Next => &mut self.next,
            Role::Old => &mut self.old,
        };
        let Some(link) = link.as_mut() else { return };
        let (id, unanswered) = (link.id, link.unanswered().is_some());
        match &mut link.stage {
            LinkStage::Opening { deadline } if *deadline <= now => {
                let message = format!("no connection within {:?}", self.policy.connect_timeout);
                self.fail(now, id, Error::new(ErrorKind::Timeout, message), sink);
            }
            LinkStage::Closing { deadline, .. } if *deadline <= now => {
                self.fail(now, id, closed(), sink);
            }
            // If a command is unanswered, the timeout of the heartbeat applies.
            LinkStage::Open(session) if !unanswered => {
                if let Err(error) = session.handle_timeout(now) {
                    self.fail(now, id, error, sink);
                }
            }
            LinkStage::Opening { .. } | LinkStage::Open(_) | LinkStage::Closing { .. } => {}
        }
    }

    /// Handles the failure of a link, by its role.
    pub(super) fn fail(&mut self, now: Instant, id: LinkId, error: Error, sink: &mut impl Sink) {
        match self.role(id) {
            Some(Role::Current) => self.lose(now, error, sink),
            Some(Role::Next) => self.give_up_handover(now, error, sink),
            Some(Role::Old) => {
                self.old = None;
                self.actions.push_back(Action::Close { link: id, how: Close::Abort });
            }
            None => {}
        }
    }

    /// Returns true if a login waits for [`compute`](Self::compute).
    #[must_use]
    pub fn is_computing(&self) -> bool {
        let links = [&self.current, &self.next].into_iter().flatten();
        links.filter_map(ListenerLink::session).any(Session::is_computing)
    }

    /// Carries out one bounded step of a login's key derivation. The driver should yield to other tasks between the steps.
    pub fn compute(&mut self, now: Instant, sink: &mut impl Sink) {
        let failed = [&mut self.current, &mut self.next].into_iter().flatten().find_map(|link| {
            let LinkStage::Open(session) = &mut link.stage else { return None };
            Some((link.id, session.compute().err()?))
        });
        if let Some((id, error)) = failed {
            self.fail(now, id, error, sink);
        }
    }
}

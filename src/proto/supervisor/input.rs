//! The inputs: commands, events of links, bytes, room, time, and the hook.

use std::time::{Instant, SystemTime};

use bytes::BytesMut;

use super::action::{Action, Command, CommandNumber, LinkEvent, LinkId};
use super::effect::{Effect, Effects, NONE};
use super::fence::Passage;
use super::heartbeat_query::HeartbeatQuery;
use super::link::{LinkStage, ListenerLink};
use super::links::Role;
use super::{ReceiveInfo, Sink, Supervisor};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Evidence, Progress, Session, SessionEvent};
use crate::proto::wire::Run;

impl<S: Sink> Supervisor<S> {
    /// Sets the time. It must be called before an input, and can be called before each one.
    pub fn set_now(&mut self, now: Instant) {
        self.common.now = now;
    }

    /// Sets the time, and the time of day at it. Gaps contain the time of day.
    pub fn set_time(&mut self, now: Instant, time: SystemTime) {
        self.common.set_time(now, time);
    }

    /// Handles a command. The answer is an [`Action::Reply`], except for `Close`, whose answer is [`Action::Done`].
    pub fn handle_command(&mut self, id: CommandNumber, command: Command) {
        if command == Command::Close {
            return self.close();
        }
        if let Some(refusal) = self.ending.refusal() {
            return self.common.reply(id, Err(refusal));
        }
        if let Command::Drain { timeout } = command {
            self.ending.drain(id, self.common.now.checked_add(timeout));
            self.attempts.stop();
            self.common.act(Action::RefuseCommands(self.ending.unsent()));
        }
        self.waiting.push_back((id, command));
        // The answer follows the unread notifications, so the stall must end.
        self.resume();
        self.run(vec![Effect::StartWaiting]);
    }

    /// Handles an event of a link. An event of a link that does not exist any more is ignored.
    pub fn handle_link(&mut self, link: LinkId, event: LinkEvent) {
        let role = self.common.links.role(link);
        if role == Some(Role::Old) {
            // Its session is replaced: only its end matters.
            return match event {
                LinkEvent::Opened(_) => {}
                _ => self.run(vec![Effect::Fail(link, self.common.owner.closed())]),
            };
        }
        let is_end = !matches!(event, LinkEvent::Opened(_));
        if is_end && self.flow.is_stalled() && role == Some(Role::Current) {
            return self.end_after_buffered(event);
        }
        let Some(found) = self.common.links.find(link) else { return };
        let effect = match event {
            LinkEvent::Opened(session) => {
                // A second event would replace a session whose commands wait for answers.
                let LinkStage::Opening { .. } = found.stage else { return };
                match session.evidence() {
                    Evidence::Channels => {}
                    Evidence::SelfNotification(channel) => found.private = Some(channel.clone()),
                    Evidence::Answer => found.heartbeat_query = HeartbeatQuery::Answer,
                }
                self.epoch = self.epoch.saturating_add(1);
                (found.stage, found.epoch) = (LinkStage::Open(session), self.epoch);
                let sessions = &mut self.common.counters.sessions;
                *sessions = sessions.saturating_add(1);
                if role == Some(Role::Current) {
                    self.common.act(Action::Deliver { link });
                }
                Effect::SessionReady(link)
            }
            LinkEvent::Failed(error) => Effect::Fail(link, error),
            LinkEvent::Eof => {
                let error = match &mut found.stage {
                    LinkStage::Open(session) => session.handle_eof(found.has_part),
                    LinkStage::Opening { .. } | LinkStage::Closing { .. } => {
                        self.common.owner.closed()
                    }
                };
                Effect::Fail(link, error)
            }
            LinkEvent::Closed => Effect::Fail(link, self.common.owner.closed()),
        };
        self.run(vec![effect]);
    }

    /// Handles bytes that arrived at `received_at`. `input` is everything that was read and not yet handled. What is
    /// handled is removed from it.
    pub fn handle_bytes(&mut self, received_at: SystemTime, link: LinkId, input: &mut BytesMut) {
        let now = self.common.now;
        if let Some(link) = self.common.links.find(link) {
            link.alive_at = now;
        }
        while self.handle_some(received_at, link, input) {}
        self.sink.publish();
        if let Some(end) = self.common.links.find(link).and_then(|link| link.end.take()) {
            self.handle_link(link, end);
        }
    }

    /// Handles one run of notifications, or the messages before it. Returns true if there may be more to handle.
    fn handle_some(&mut self, received_at: SystemTime, id: LinkId, input: &mut BytesMut) -> bool {
        let now = self.common.now;
        let must_wait = match self.common.links.role(id) {
            Some(Role::Current) => self.flow.is_stalled(),
            Some(Role::Next) => self.handover.is_waiting(),
            Some(Role::Old) | None => false,
        };
        if must_wait {
            return false;
        }
        let Some(link) = self.common.links.find(id) else {
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
        self.handle_events(id);
        match progress {
            Ok(Progress::NeedMore) => false,
            Ok(Progress::Notifications(run)) => match self.common.links.role(id) {
                Some(Role::Current) => {
                    let info = ReceiveInfo { received_at, epoch };
                    self.handle_run(id, info, input, (run, is_searched))
                }
                Some(Role::Next) => self.handover.pass_next(&mut self.common, input, run),
                Some(Role::Old) | None => {
                    input.clear();
                    false
                }
            },
            Err(error) => {
                self.run(vec![Effect::Fail(id, error)]);
                false
            }
        }
    }

    fn handle_events(&mut self, id: LinkId) {
        while let Some(link) = self.common.links.find(id)
            && let LinkStage::Open(session) = &mut link.stage
            && let Some(event) = session.poll_event()
        {
            let effects = match event {
                SessionEvent::Ready => vec![Effect::SessionReady(id)],
                SessionEvent::Done { id: command, channels, result, status } => {
                    self.done(id, command, channels, (result, status))
                }
                SessionEvent::NotificationDropped(cause) => {
                    vec![Effect::NotificationDropped(id, cause)]
                }
            };
            self.run(effects);
        }
    }

    /// Handles a run of the current session. With `is_searched` the run was searched before, and contains only the user's
    /// notifications. Returns true if there may be more to handle.
    fn handle_run(
        &mut self,
        id: LinkId,
        info: ReceiveInfo,
        input: &mut BytesMut,
        (run, is_searched): (Run, bool),
    ) -> bool {
        let now = self.common.now;
        let Some(link) = &mut self.common.links.current else { return false };
        let (run, came_back) = link.take_private_notifications(now, input, run, is_searched);
        if came_back {
            self.run(vec![Effect::CheckSelfNotification]);
        }
        let links = &mut self.common.links;
        let is_alone = links.next.is_none();
        let Some(link) = links.current.as_mut().filter(|link| link.id == id) else {
            input.clear();
            return false;
        };
        if run.count == 0 {
            return true;
        }
        let passage = match &mut link.stage {
            LinkStage::Closing { delivery, .. } => delivery.pass(input, run),
            _ => self.handover.pass_current(input, (run, is_searched), is_alone),
        };
        match passage {
            Passage::Deliver(run) => self.deliver(info, input, run),
            Passage::Removed => {}
            Passage::OldPassed => self.run(vec![Effect::OldPassed]),
            Passage::NewPassed => self.run(vec![Effect::NewPassed]),
        }
        true
    }

    /// Delivers a run: the part for which there is room, or all of it if it cannot wait.
    fn deliver(&mut self, info: ReceiveInfo, input: &mut BytesMut, run: Run) {
        let surplus = self.is_last_of_session() || self.awaits_answer();
        // Called for every run, because it also notices that the queue is empty.
        let may_stall = self.flow.may_stall(self.sink.is_empty());
        let fits = self.sink.fits(input, run, surplus);
        let take = if fits.count < run.count && !surplus && may_stall {
            self.stall(run, fits);
            fits
        } else {
            run
        };
        let received = &mut self.common.counters.received;
        *received = received.saturating_add(take.count as u64);
        if take.count > 0 {
            self.outages.followed_by(info.epoch);
            self.sink.notifications(input, take, info, surplus);
        }
    }

    /// Stalls the socket. `taken` is the part of `run` that is delivered now; the rest stays in the receive buffer.
    fn stall(&mut self, run: Run, taken: Run) {
        self.flow.stall(self.common.now);
        if let Some(link) = &mut self.common.links.current {
            link.measured = Run {
                count: run.count.saturating_sub(taken.count),
                bytes: run.bytes.saturating_sub(taken.bytes),
            };
            let link = link.id;
            self.common.act(Action::Read { link, on: false });
        }
    }

    /// Returns true if the link has ended or is being closed, so that waiting for room has no use.
    fn is_last_of_session(&self) -> bool {
        let is_last = |link: &ListenerLink| {
            link.end.is_some() || matches!(link.stage, LinkStage::Closing { .. })
        };
        self.common.links.current.as_ref().is_some_and(is_last)
    }

    /// Returns true if the answer to a command that must not wait for room follows the notifications: to the login, the
    /// first LISTEN, or a user's command.
    fn awaits_answer(&self) -> bool {
        let Some(link) = &self.common.links.current else { return false };
        let is_held = !self.outages.is_empty();
        !link.session().is_some_and(Session::is_ready)
            || !self.waiting.is_empty()
            || link.in_flight.values().any(|sent| sent.is_urgent(is_held))
    }

    /// Ends a stall, because the consumer has taken something or is gone.
    pub fn handle_room(&mut self) {
        self.resume();
    }

    /// Handles the begin of a run of the hook, after the end of a cancelled run. Its timeout begins again.
    pub fn handle_hook_begun(&mut self) {
        self.hook.begun(self.common.now);
    }

    /// Handles the end of a run of the hook.
    pub fn handle_hook(&mut self, result: Result<(), Error>) {
        if let Some(end) = self.hook.done(self.common.now, result, self.outages.count()) {
            let effects = self.hook_ended(end);
            self.run(effects);
        }
    }

    /// Checks all deadlines.
    pub fn handle_timeout(&mut self) {
        let now = self.common.now;
        if self.flow.deadline().is_some_and(|deadline| deadline <= now) {
            self.resume();
        }
        self.check_drain();
        if let Some(deadline) = self.attempts.begin_due(now) {
            self.outages.count_attempt();
            self.common.links.current = Some(self.open(deadline));
        }
        let effects = self.check_hook();
        self.run(effects);
        if !self.flow.is_stalled() {
            let effects = self.check_link(Role::Current);
            self.run(effects);
            let effects = self.heartbeat.check(&mut self.common);
            self.run(effects);
            self.run(vec![Effect::SendDueHeartbeat]);
            if self.handover.due().is_some_and(|due| due <= now) {
                self.begin_handover();
            }
            self.run(self.handover.check(&self.common));
        }
        for role in [Role::Next, Role::Old] {
            let effects = self.check_link(role);
            self.run(effects);
        }
    }

    fn check_link(&mut self, role: Role) -> Effects {
        let now = self.common.now;
        let Some(link) = self.common.links.get(role) else { return NONE };
        let (id, unanswered) = (link.id, link.unanswered().is_some());
        let error = match &mut link.stage {
            LinkStage::Opening { deadline } if *deadline <= now => {
                let message = format!("no connection within {:?}", self.attempts.limit());
                Error::new(ErrorKind::Timeout, message)
            }
            LinkStage::Closing { deadline, .. } if *deadline <= now => self.common.owner.closed(),
            // If a command is unanswered, the timeout of the heartbeat applies.
            LinkStage::Open(session) if !unanswered => match session.handle_timeout(now) {
                Ok(()) => return NONE,
                Err(error) => error,
            },
            LinkStage::Opening { .. } | LinkStage::Open(_) | LinkStage::Closing { .. } => {
                return NONE;
            }
        };
        vec![Effect::Fail(id, error)]
    }

    /// Returns true if a login waits for [`compute`](Self::compute).
    #[must_use]
    pub fn is_computing(&self) -> bool {
        let links = &self.common.links;
        let links = [&links.current, &links.next].into_iter().flatten();
        links.filter_map(ListenerLink::session).any(Session::is_computing)
    }

    /// Carries out one bounded step of a login's key derivation. The driver should yield to other tasks between the steps.
    pub fn compute(&mut self) {
        let failed = self.common.links.all().find_map(|link| {
            let LinkStage::Open(session) = &mut link.stage else { return None };
            Some(Effect::Fail(link.id, session.compute().err()?))
        });
        self.run(failed.into_iter().collect());
    }
}

//! What comes from the links: events, bytes, room and time.

use std::time::{Instant, SystemTime};

use bytes::BytesMut;

use super::action::{Action, Close};
use super::commands::Purpose;
use super::handover::Passage;
use super::link::{Link, Stage};
use super::proof::Question;
use super::{LinkEvent, LinkId, Role, Sink, Stamp, Supervisor, closed};
use crate::session::{Evidence, Progress, Session, SessionEvent};
use crate::wire::Run;
use crate::{Error, ErrorKind};

impl Supervisor {
    /// Something happened to a link. A link that is gone is passed over.
    pub fn handle_link(
        &mut self,
        now: Instant,
        link: LinkId,
        event: LinkEvent,
        sink: &mut impl Sink,
    ) {
        if self.role(link) == Some(Role::Old) {
            // It has nothing to tell any more.
            return match event {
                LinkEvent::Opened(_) => {}
                _ => self.fail(now, link, closed(), sink),
            };
        }
        let is_end = !matches!(event, LinkEvent::Opened(_));
        if is_end && self.flow.is_stalled() && self.role(link) == Some(Role::Current) {
            return self.end_behind(now, event);
        }
        let epoch = self.epoch.saturating_add(1);
        let Some(found) = Self::find(&mut self.current, &mut self.next, link) else { return };
        match event {
            LinkEvent::Opened(session) => {
                // A second one would take the place of a session whose commands wait for answers.
                if let Stage::Opening { .. } = found.stage {
                    match session.evidence() {
                        Evidence::Channels => {}
                        Evidence::Echo(channel) => found.private = Some(channel.clone()),
                        Evidence::Answer => found.question = Question::Life,
                    }
                    found.stage = Stage::Open(session);
                    found.epoch = epoch;
                    self.epoch = epoch;
                    self.figures.sessions = self.figures.sessions.saturating_add(1);
                    if self.role(link) == Some(Role::Current) {
                        self.actions.push_back(Action::Deliver { link });
                    }
                    self.session_is_ready(now, link, sink);
                }
            }
            LinkEvent::Failed(error) => self.fail(now, link, error, sink),
            LinkEvent::Eof => {
                let error = match &mut found.stage {
                    // Of what there is, it only asks whether there is any.
                    Stage::Open(session) if found.has_part => session.handle_eof(b"part"),
                    Stage::Open(session) => session.handle_eof(b""),
                    Stage::Opening { .. } | Stage::Closing { .. } => closed(),
                };
                self.fail(now, link, error, sink);
            }
            LinkEvent::Closed => self.fail(now, link, closed(), sink),
        }
    }

    /// If its session is ready, it is subscribed to what is wanted.
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

    /// Bytes arrived at `received_at`: `input` is all that was read and not yet handled. What is handled is
    /// removed.
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

    /// Handles one run of notifications, or the messages before it. Returns whether to go on.
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
        // It was searched when it was measured.
        let is_searched = measured.count > 0;
        let epoch = link.epoch;
        let (Stage::Open(session) | Stage::Closing { session, .. }) = &mut link.stage else {
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
                    let run = self.hear_echo(now, input, run, is_searched, sink);
                    if self.role(id) != Some(Role::Current) {
                        input.clear();
                        return false;
                    }
                    let stamp = Stamp { received_at, epoch };
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

    /// Delivers a run of the current session, as much of it as has room or cannot wait. `is_searched` says that the run was
    /// searched before, and that all of it is the user's.
    fn handle_run(
        &mut self,
        now: Instant,
        stamp: Stamp,
        input: &mut BytesMut,
        (run, is_searched): (Run, bool),
        sink: &mut impl Sink,
    ) -> bool {
        let passage = match &mut self.current {
            Some(Link { stage: Stage::Closing { rest, .. }, .. }) => rest.pass(input, run),
            _ => self.pass_current(now, input, (run, is_searched), sink),
        };
        let run = match passage {
            Passage::Deliver(run) => run,
            Passage::Done(goes_on) => return goes_on,
        };
        let surplus = self.is_last_of_session() || self.awaits_answer();
        // Asked for every run: an empty queue that the run does not fill counts too.
        let may_stall = self.flow.may_stall(sink.is_empty());
        let fits = sink.fits(input, run, surplus);
        let take = if fits.count < run.count && !surplus && may_stall {
            self.stall(now, run, fits);
            fits
        } else {
            run
        };
        self.figures.received = self.figures.received.saturating_add(take.count as u64);
        if take.count > 0 {
            self.outages.followed_by(stamp.epoch);
            sink.notifications(input, take, stamp, surplus);
        }
        true
    }

    /// Of `run`, `taken` is taken off the input now; the rest stays at its head.
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

    /// Whether nothing comes any more that would make it worth while to wait for room.
    fn is_last_of_session(&self) -> bool {
        let is_last =
            |link: &Link| link.end.is_some() || matches!(link.stage, Stage::Closing { .. });
        self.current.as_ref().is_some_and(is_last)
    }

    /// Whether something that somebody waits for lies behind the notifications: the end of the login, the first
    /// subscription, or the answer to a user's command. A proof and a handover have time until they are read again.
    fn awaits_answer(&self) -> bool {
        let Some(link) = &self.current else { return false };
        // Until it has left the channel of a handover nothing is shown, and so nothing makes room.
        let is_held = !self.outages.is_empty();
        let is_waited_for = |sent: &Purpose| match sent {
            Purpose::Forget { .. } => is_held,
            Purpose::Restore(_)
            | Purpose::User { .. }
            | Purpose::Rollback { .. }
            | Purpose::Leave => true,
            Purpose::Private
            | Purpose::Fence
            | Purpose::Proof { .. }
            | Purpose::Sign
            | Purpose::PrivateAgain => false,
        };
        !link.session().is_some_and(Session::is_ready)
            || !self.waiting.is_empty()
            || link.in_flight.values().any(is_waited_for)
    }

    fn handle_events(&mut self, now: Instant, id: LinkId, sink: &mut impl Sink) {
        while let Some(link) = Self::find(&mut self.current, &mut self.next, id)
            && let Stage::Open(session) = &mut link.stage
            && let Some(event) = session.poll_event()
        {
            match event {
                SessionEvent::Ready => self.session_is_ready(now, id, sink),
                SessionEvent::Done { id: command, result, status } => {
                    self.done(now, id, command, (result, status), sink);
                }
                SessionEvent::NotificationDropped(cause) => self.drop_noticed(now, id, cause, sink),
            }
        }
    }

    /// The server says that it dropped a notification, in a session that goes on.
    pub(super) fn drop_noticed(
        &mut self,
        now: Instant,
        id: LinkId,
        cause: Error,
        sink: &mut impl Sink,
    ) {
        match self.role(id) {
            // It may have been the fence, and then all that comes would be discarded.
            Some(Role::Current) if self.handover.is_following() => {
                let message = "the server dropped a notification while the handover waited for the one \
                     at which the new session begins";
                self.lose(now, cause.within(message), sink);
            }
            Some(Role::Current) => {
                self.hold(now, cause.clone(), 0, sink);
                let is_live = self.current.as_ref().is_some_and(Link::is_live);
                if is_live && !self.handover.is_running() {
                    return self.run_hook_later(now);
                }
                // It is reported with what else is not over.
                self.catch_up();
                if self.handover.is_running() && self.next.is_some() {
                    // It may have been the fence too: the old session would wait for it.
                    self.give_up_handover(now, cause, sink);
                }
            }
            // What else it would not see, nobody knows.
            _ => self.give_up_handover(now, cause, sink),
        }
    }

    /// The consumer has taken something, or went away.
    pub fn handle_room(&mut self, now: Instant) {
        self.resume(now);
    }

    /// Time has come to look at the deadlines.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.flow.deadline().is_some_and(|deadline| deadline <= now) {
            self.resume(now);
        }
        self.check_drain(now);
        self.retry(now);
        self.check_hook(now);
        if !self.flow.is_stalled() {
            self.check_link(now, Role::Current, sink);
            self.check_owed(now, sink);
            self.prove(now, sink);
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
        let (id, owes) = (link.id, link.owes().is_some());
        match &mut link.stage {
            Stage::Opening { deadline } if *deadline <= now => {
                let message = format!("no connection within {:?}", self.policy.connect_timeout);
                self.fail(now, id, Error::new(ErrorKind::Timeout, message), sink);
            }
            // It had its time.
            Stage::Closing { deadline, .. } if *deadline <= now => {
                self.fail(now, id, closed(), sink);
            }
            // What it owes has a deadline that moves with what comes.
            Stage::Open(session) if !owes => {
                if let Err(error) = session.handle_timeout(now) {
                    self.fail(now, id, error, sink);
                }
            }
            Stage::Opening { .. } | Stage::Open(_) | Stage::Closing { .. } => {}
        }
    }

    /// A link has failed, whichever it is.
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

    /// Whether a login waits for [`compute`](Self::compute).
    #[must_use]
    pub fn is_computing(&self) -> bool {
        let links = [&self.current, &self.next].into_iter().flatten();
        links.filter_map(Link::session).any(Session::is_computing)
    }

    /// A bounded step of a login's key derivation. Let others run in between.
    pub fn compute(&mut self, now: Instant, sink: &mut impl Sink) {
        let failed = [&mut self.current, &mut self.next].into_iter().flatten().find_map(|link| {
            let Stage::Open(session) = &mut link.stage else { return None };
            Some((link.id, session.compute().err()?))
        });
        if let Some((id, error)) = failed {
            self.fail(now, id, error, sink);
        }
    }
}

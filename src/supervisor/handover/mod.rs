//! Planned handover: another session takes the place of the current one, and nothing is lost or told twice.
//!
//! ```text
//! old   ─ delivered ─────────────────▶│ fence │─ discarded, closed
//! new      LISTEN to everything ─ discarded ─▶│ fence │─ delivered ─▶
//! ```
//! Both listen to a private channel, on which the new one sends a single notification: the fence. Every
//! session of a database gets notifications in the same order, so what stands before the fence in one
//! stream stands before it in the other. Contents are never compared. N142.
//!
//! If the old session is lost on the way, there is a gap, and the new one is still discarded up to the fence:
//! what the old one has told stands before it.
//!
//! No step lasts without end. While both live, half a minute in all, or a silence, ends the handover and the old session
//! goes on. The new one alone has half a minute to come to the fence; then it is lost, and the gap covers what was
//! discarded. A server that says that it dropped a notification may have dropped the fence: that ends the handover at
//! once, or the session that is alone.

mod fence;

use std::time::{Duration, Instant};

pub(super) use self::fence::{Fence, Passage};

use super::action::{Action, Incident};
use super::commands::Purpose;
use super::link::Link;
use super::probe::SILENCE_MAX;
use super::rest::Rest;
use super::{Sink, Supervisor};
use crate::session::{Answer, Session};
use crate::{Error, ErrorKind};

/// How long a handover may take while both sessions live, and from then on how long the new one may take to come to the
/// fence: the commands of users wait for it.
const LIMIT: Duration = Duration::from_secs(30);

/// How often it is tried again to leave the private channel, if the server refuses that.
const FORGET_TRIES: u32 = 3;

/// Where a handover stands.
#[derive(Debug, Default)]
pub(super) struct Handover {
    step: Step,
    /// When the next one begins.
    pub(super) due: Option<Instant>,
    /// Another session was asked for while an attempt was under way, which may have read the old password: its session is
    /// to be replaced as soon as it is live.
    is_wanted: bool,
    /// Since when the fence is on its way.
    fenced_at: Option<Instant>,
    /// When it must be over, whatever comes.
    limit: Option<Instant>,
    /// How many notifications behind the fence were read from the new session while it waits for the old one.
    behind: usize,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    None,
    /// The new session is opened. The old one goes on as if nothing were.
    Opening,
    /// Both begin to listen to the private channel, and the new one to everything. Whether the old one does,
    /// or is gone. Commands of users wait.
    Preparing { channel: String, old_is_ready: bool },
    /// The fence was sent. Whether the new session has come to it: it waits there for the old one.
    Fenced { fence: Fence, new_passed: bool },
    /// The old session has come to the fence. The new one is the current one, and discards up to the fence.
    Following { fence: Fence },
    /// It was given up after the fence was sent: it may come to the old session until that has left the channel.
    Forgetting { fence: Fence },
}

impl Handover {
    /// The channel that the sessions of a handover share.
    pub(super) fn private_channel(&self) -> Option<&str> {
        match &self.step {
            Step::Preparing { channel, .. } => Some(channel),
            _ => None,
        }
    }

    /// Whether two sessions share the subscriptions: they must not change.
    pub(super) fn is_running(&self) -> bool {
        !matches!(self.step, Step::None | Step::Opening)
    }

    /// Whether it may still succeed.
    pub(super) fn is_under_way(&self) -> bool {
        self.is_running() && !matches!(self.step, Step::Forgetting { .. })
    }

    /// For so long the current session was not read: nothing could come.
    pub(super) fn was_unread(&mut self, now: Instant, time: Duration) {
        for (moment, most) in [(&mut self.fenced_at, Duration::ZERO), (&mut self.limit, LIMIT)] {
            *moment = moment.and_then(|at| Some(at.checked_add(time)?.min(now.checked_add(most)?)));
        }
    }

    /// The server has accepted or refused some channels of the new session. Very many of them take longer than the limit.
    pub(super) fn progresses(&mut self, now: Instant) {
        if let (Step::Preparing { .. }, Some(limit)) = (&self.step, &mut self.limit) {
            *limit = now.checked_add(LIMIT).unwrap_or(*limit);
        }
    }

    /// The old session is gone: the new one discards what comes until the fence. It has the time of a limit for that.
    pub(super) fn follow(&mut self, now: Instant, fence: Fence) {
        self.step = Step::Following { fence };
        self.limit = now.checked_add(LIMIT);
    }

    /// Whether what comes on the current session is discarded, and only the fence ends that.
    pub(super) fn is_following(&self) -> bool {
        matches!(self.step, Step::Following { .. })
    }

    /// An attempt begins: it reads everything anew.
    pub(super) fn attempt_begins(&mut self) {
        self.is_wanted = false;
    }

    /// The new session waits for the old one.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.step, Step::Fenced { new_passed: true, .. })
    }

    /// When the next one begins: not before the last one is forgotten.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !matches!(self.step, Step::Forgetting { .. }))
    }

    /// The current session is being ended: what is still delivered of it. Whether it `is_alone`: there is no other one.
    pub(super) fn rest(&mut self, is_alone: bool) -> Rest {
        match std::mem::take(&mut self.step) {
            Step::None | Step::Opening => Rest::All { private: None },
            // The fence will not be sent.
            Step::Preparing { .. } if is_alone => Rest::Nothing,
            Step::Preparing { channel, .. } => Rest::All { private: Some(channel) },
            Step::Fenced { fence, new_passed: true } => {
                Rest::Through { fence, has_come: false, behind: self.behind }
            }
            Step::Fenced { fence, .. } | Step::Forgetting { fence } => {
                Rest::All { private: Some(fence.channel) }
            }
            Step::Following { fence } => Rest::Behind(fence),
        }
    }

    pub(super) fn end(&mut self) {
        (self.step, self.fenced_at, self.limit) = (Step::None, None, None);
    }
}

impl Supervisor {
    /// The current session is live: when is it to be replaced?
    pub(super) fn plan_handover(&mut self, now: Instant) {
        if std::mem::take(&mut self.handover.is_wanted) {
            self.handover.due = Some(now);
            return;
        }
        self.handover.due = self.policy.max_lifetime.and_then(|lifetime| {
            let tenth = u64::try_from((lifetime / 10).as_nanos()).unwrap_or(u64::MAX);
            let early = Duration::from_nanos(self.random.number() % tenth.saturating_add(1).max(1));
            now.checked_add(lifetime.saturating_sub(early))
        });
    }

    /// A user asks for another session. Where none is live, the next one is another one anyway. An attempt that is under way
    /// may have read what the user has changed since: its session is replaced as soon as it is live.
    pub(super) fn rotate(&mut self, now: Instant) {
        let is_live = self.current.as_ref().is_some_and(Link::is_live);
        let attempt = if is_live { &self.next } else { &self.current };
        self.handover.is_wanted |= attempt.is_some();
        self.hand_over(now);
    }

    /// Begins a handover, if a live session is there and none is under way.
    pub(super) fn hand_over(&mut self, now: Instant) {
        self.handover.due = None;
        let is_live = self.current.as_ref().is_some_and(Link::is_live);
        if is_live && self.next.is_none() && !self.handover.is_running() && self.draining.is_none()
        {
            self.handover.step = Step::Opening;
            self.next = Some(self.open(now));
        }
    }

    /// The new session is there: both are prepared. Commands that are in flight on the old one come first,
    /// so that both know the same channels.
    pub(super) fn prepare_handover(&mut self, now: Instant, sink: &mut impl Sink) {
        let is_ready = self.next.as_mut().is_some_and(|link| link.ready().is_some());
        let Some(current) = self.current.as_mut().filter(|link| link.is_live()) else { return };
        if !matches!(self.handover.step, Step::Opening)
            || !is_ready
            || !current.in_flight.is_empty()
            || current.echo.is_some()
        {
            return;
        }
        let channel = format!("pgbell_{}", self.nonces.hex());
        let listen = |session: &mut Session| session.listen(now, &[&channel]);
        let private = current.start(now, Purpose::Private, listen);
        // And proves for the last time that it has listened until then: nobody could tell later.
        if let Err(error) = private.and_then(|()| self.send_proof(now, Some(&channel))) {
            return self.lose(now, error, sink);
        }
        self.handover.step = Step::Preparing { channel, old_is_ready: false };
        self.handover.limit = now.checked_add(LIMIT);
        if let Some(id) = self.next.as_ref().map(|link| link.id) {
            self.restore(now, id, sink);
        }
    }

    /// The old session has proven that it listens to everything, the private channel too.
    pub(super) fn old_is_proven(&mut self, now: Instant, sink: &mut impl Sink) {
        if let Step::Preparing { old_is_ready, .. } = &mut self.handover.step {
            *old_is_ready = true;
            self.send_fence(now, sink);
        }
    }

    /// One of both is prepared. When the other one is too, the new one sends the fence.
    pub(super) fn send_fence(&mut self, now: Instant, sink: &mut impl Sink) {
        let Step::Preparing { channel, old_is_ready: true } = &self.handover.step else { return };
        let channel = channel.clone();
        let (new, old) = match &mut self.next {
            Some(next) => (next, self.current.as_ref()),
            // The old one is gone.
            None => match &mut self.current {
                Some(current) => (current, None),
                None => return,
            },
        };
        if new.live_since.is_none() {
            return;
        }
        let (id, is_alone) = (new.id, old.is_none());
        let worse = |old: &Link| {
            new.refused.iter().find(|(channel, _)| !old.refused.contains_key(*channel))
        };
        if let Some((channel, error)) = old.and_then(worse) {
            let message = format!("the new session may not listen to {channel:?}");
            let error = error.clone().within(&message);
            return self.give_up_handover(now, error, sink);
        }
        let fence = Fence { channel, nonce: self.nonces.hex() };
        let send = |session: &mut Session| session.notify(now, &fence.channel, &fence.nonce);
        if let Err(error) = new.start(now, Purpose::Fence, send) {
            return self.fail(now, id, error, sink);
        }
        self.handover.fenced_at = Some(now);
        if is_alone {
            self.handover.follow(now, fence);
        } else {
            self.handover.step = Step::Fenced { fence, new_passed: false };
        }
    }

    /// The new session is the only one, and delivered.
    fn end_handover(&mut self, now: Instant, channel: &str, sink: &mut impl Sink) {
        self.handover.end();
        self.handover_backoff.reset();
        if let Err(error) = self.forget(now, channel.to_owned(), FORGET_TRIES) {
            return self.lose(now, error, sink);
        }
        if self.outages.is_empty() {
            self.figures.handovers = self.figures.handovers.saturating_add(1);
            self.actions.push_back(Action::Tell(Incident::HandedOver { epoch: self.epoch() }));
        }
        self.restored(now, sink);
    }

    /// The current session leaves the private channel.
    fn forget(&mut self, now: Instant, channel: String, tries: u32) -> Result<(), Error> {
        let Some(link) = &mut self.current else { return Ok(()) };
        let purpose = Purpose::Forget { channel: channel.clone(), tries };
        link.start(now, purpose, |session| session.unlisten(now, &[channel]))
    }

    /// The answer to a command of ours.
    pub(super) fn handover_answered(
        &mut self,
        now: Instant,
        purpose: Purpose,
        result: Answer,
        sink: &mut impl Sink,
    ) {
        match (purpose, result) {
            (Purpose::Forget { .. }, Ok(_)) => self.private_is_forgotten(now),
            // A time limit, as a rule. To be on it still does no harm, unless a fence may come.
            (Purpose::Forget { channel, tries }, Err(error)) => {
                let again = tries.checked_sub(1).map(|tries| self.forget(now, channel, tries));
                let must_leave = matches!(self.handover.step, Step::Forgetting { .. });
                if must_leave && !matches!(again, Some(Ok(()))) {
                    self.lose(now, error, sink);
                }
            }
            (_, Err(error)) if self.handover.is_under_way() => match self.next {
                Some(_) => self.give_up_handover(now, error, sink),
                None => self.lose(now, error, sink),
            },
            // Well, or given up.
            _ => {}
        }
    }

    /// The shell moves what it has read of the current session to where it can be delivered from.
    pub(super) fn deliver_current(&mut self, now: Instant) {
        if let Some(link) = &mut self.current {
            // It may have waited for the old one, unread.
            link.owes_from(now);
            self.actions.push_back(Action::Deliver { link: link.id });
            self.actions.push_back(Action::Read { link: link.id, on: true });
        }
    }

    /// The new session is of no use: the old one goes on, and it is tried again later.
    pub(super) fn give_up_handover(&mut self, now: Instant, error: Error, sink: &mut impl Sink) {
        let Some(next) = self.next.take() else { return };
        self.abandon(next, error.clone());
        let delay = self.handover_backoff.next();
        self.handover.due = now.checked_add(delay);
        self.actions.push_back(Action::Tell(Incident::HandoverFailed { error, delay }));
        let step = std::mem::take(&mut self.handover.step);
        self.handover.end();
        let channel = match step {
            // Following and forgetting are steps without a next session.
            Step::None | Step::Opening | Step::Following { .. } | Step::Forgetting { .. } => None,
            Step::Preparing { channel, .. } => Some(channel),
            Step::Fenced { fence, .. } => {
                let channel = fence.channel.clone();
                self.handover.step = Step::Forgetting { fence };
                Some(channel)
            }
        };
        if let Some(channel) = channel {
            // It may be that the server has refused the private channel, which the proof behind it counts on.
            if let Some(link) = &mut self.current {
                link.void_proofs();
            }
            if let Err(error) = self.forget(now, channel, FORGET_TRIES) {
                return self.lose(now, error, sink);
            }
        }
        self.tell_dropped(now);
        self.proceed(now, sink);
    }

    /// The current session has left the private channel.
    pub(super) fn private_is_forgotten(&mut self, now: Instant) {
        if let Step::Forgetting { .. } = self.handover.step {
            self.handover.end();
            self.tell_dropped(now);
        }
    }

    /// What the server dropped during a handover that came to nothing, in the session that goes on.
    fn tell_dropped(&mut self, now: Instant) {
        let is_live = self.current.as_ref().is_some_and(Link::is_live);
        if is_live && !self.outages.is_empty() && !self.handover.is_running() {
            self.run_hook_later(now);
        }
    }

    /// The current session was lost: if another one was to take its place, it does so now. Says whether.
    pub(super) fn succeed(&mut self, now: Instant, sink: &mut impl Sink) -> bool {
        self.current = self.next.take();
        let Some(id) = self.current.as_ref().map(|link| link.id) else {
            self.handover.end();
            return false;
        };
        self.outages.count_attempt();
        // There is no other one to go back to. Each of its commands has a deadline.
        self.handover.limit = None;
        self.deliver_current(now);
        match std::mem::take(&mut self.handover.step) {
            // Following and forgetting are steps without a next session.
            Step::None | Step::Opening | Step::Following { .. } | Step::Forgetting { .. } => {
                self.handover.end();
                self.session_is_ready(now, id, sink);
            }
            Step::Preparing { channel, .. } => {
                self.handover.step = Step::Preparing { channel, old_is_ready: true };
                self.send_fence(now, sink);
            }
            Step::Fenced { fence, new_passed: true } => {
                self.end_handover(now, &fence.channel, sink);
            }
            Step::Fenced { fence, .. } => self.handover.follow(now, fence),
        }
        true
    }

    /// When the fence must have come: after so long a silence, or in any case.
    pub(super) fn handover_deadline(&self) -> Option<Instant> {
        self.handover_silence().into_iter().chain(self.handover.limit).min()
    }

    /// Until when whoever is to bring the fence may be silent. Before it is sent, LISTEN and the proof have their own
    /// deadlines.
    fn handover_silence(&self) -> Option<Instant> {
        let fenced_at = self.handover.fenced_at?;
        let awaited = match self.handover.is_waiting() {
            true => [&self.current, &None],
            false => [&self.current, &self.next],
        };
        let alive_at = awaited.into_iter().flatten().map(|link| link.alive_at);
        let since = alive_at.chain([fenced_at]).max().unwrap_or(fenced_at);
        since.checked_add(self.policy.heartbeat.deadline.min(SILENCE_MAX))
    }

    /// Nothing has come for too long while a fence was awaited.
    pub(super) fn check_handover(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.handover.due().is_some_and(|due| due <= now) {
            self.hand_over(now);
        }
        if self.handover_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let is_silent = self.handover_silence().is_some_and(|deadline| deadline <= now);
        let missing = |whose: &str| {
            let message = format!(
                "a handover was not done in time: {whose} session does not bring the fence"
            );
            Error::new(ErrorKind::Timeout, message).with_hint(
                "its connection is dead without an end, or it is on another server than the other one",
            )
        };
        match &self.handover.step {
            Step::Fenced { new_passed: true, .. } if is_silent => {
                self.lose(now, missing("the old"), sink);
            }
            // An old one that lives is not given up, however slow it is.
            Step::Fenced { new_passed: true, .. } => {
                self.give_up_handover(now, missing("the old"), sink);
            }
            _ if self.next.is_some() => self.give_up_handover(now, missing("the new"), sink),
            Step::None | Step::Opening => {}
            _ => self.lose(now, missing("the new"), sink),
        }
    }
}

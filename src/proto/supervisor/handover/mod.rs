//! Handover: a new session replaces the current one, and no notification is lost or delivered twice.
//!
//! ```text
//! old   ─ delivered ─────────────────▶│ fence │─ discarded, closed
//! new      LISTEN to everything ─ discarded ─▶│ fence │─ delivered ─▶
//! ```
//! Both sessions listen to a private channel, and the new one sends the fence notification on it. The server sends
//! notifications to all sessions of a database in the same order. So what is before the fence in one stream is before it in
//! the other. Contents are never compared.
//!
//! If the old session is lost during the handover, there is a gap. The new session is still discarded up to the fence,
//! because the old one may have delivered what is before it.
//!
//! Every step has a timeout. If both sessions are alive, the handover is given up after half a minute, or after a time
//! without data, and the old session goes on. If the new session is alone, it has half a minute to reach the fence. Then it
//! is lost, and the gap covers what was discarded. If the server reports that it dropped a notification, that may have been
//! the fence: the handover is given up at once, or the new session is lost if it is alone.

mod fence;

use std::time::{Duration, Instant};

pub(super) use self::fence::{Fence, Passage};

use super::action::{Action, LogEvent};
use super::closing_delivery::ClosingDelivery;
use super::commands::CommandPurpose;
use super::heartbeat::SILENCE_TIME_MAX;
use super::link::ListenerLink;
use super::{Sink, Supervisor};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Answer, Session};

/// The timeout of a handover while both sessions are alive, and then of a new session that is alone to reach the fence.
/// Users' commands wait for it.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// How many times UNLISTEN for the private channel is tried again, if the server refuses it.
const UNLISTEN_TRIES_MAX: u32 = 3;

/// The state of a handover.
#[derive(Debug, Default)]
pub(super) struct Handover {
    step: HandoverStep,
    /// The time of the next handover.
    pub(super) due: Option<Instant>,
    /// True if `rotate` was called during an attempt. The attempt may have read the old password, so its session is
    /// replaced as soon as it is live.
    is_wanted: bool,
    /// The time when the fence was sent.
    fenced_at: Option<Instant>,
    /// The time when the handover must be done, even if data arrives.
    deadline: Option<Instant>,
    /// The number of notifications after the fence that were read from the new session while it waits for the old one.
    behind: usize,
}

/// The step of a handover.
#[derive(Debug, Default)]
enum HandoverStep {
    #[default]
    None,
    /// The new session is being opened. The old one works as usual.
    Opening,
    /// Both sessions send LISTEN for the private channel, and the new one also for every wanted channel. Users' commands
    /// wait. `old_is_ready` is true if the old session listens to the private channel, or is lost.
    Preparing { channel: String, old_is_ready: bool },
    /// The fence was sent. `new_passed` is true if the new session has received it, and waits for the old one.
    Fenced { fence: Fence, new_passed: bool },
    /// The new session is the current one, and everything up to the fence is discarded.
    Following { fence: Fence },
    /// The handover was given up after the fence was sent. The fence may arrive until the old session has left the channel.
    LeavingChannel { fence: Fence },
}

impl Handover {
    /// Returns the private channel while the sessions begin to listen to it.
    pub(super) fn private_channel(&self) -> Option<&str> {
        match &self.step {
            HandoverStep::Preparing { channel, .. } => Some(channel),
            _ => None,
        }
    }

    /// Returns true while both sessions listen to the wanted channels, which must not change then.
    pub(super) fn is_running(&self) -> bool {
        !matches!(self.step, HandoverStep::None | HandoverStep::Opening)
    }

    /// Returns true if the handover may still succeed.
    pub(super) fn is_under_way(&self) -> bool {
        self.is_running() && !matches!(self.step, HandoverStep::LeavingChannel { .. })
    }

    /// Extends the timeouts by a time in which the current session was not read.
    pub(super) fn add_unread_time(&mut self, now: Instant, time: Duration) {
        for (moment, most) in
            [(&mut self.fenced_at, Duration::ZERO), (&mut self.deadline, HANDOVER_TIMEOUT)]
        {
            *moment = moment.and_then(|at| Some(at.checked_add(time)?.min(now.checked_add(most)?)));
        }
    }

    /// Restarts the timeout after the server has accepted or refused channels of the new session, because very many
    /// channels take longer.
    pub(super) fn progresses(&mut self, now: Instant) {
        if let (HandoverStep::Preparing { .. }, Some(deadline)) = (&self.step, &mut self.deadline) {
            *deadline = now.checked_add(HANDOVER_TIMEOUT).unwrap_or(*deadline);
        }
    }

    /// Discards everything from the new session up to the fence, which must arrive within [`HANDOVER_TIMEOUT`].
    pub(super) fn follow(&mut self, now: Instant, fence: Fence) {
        self.step = HandoverStep::Following { fence };
        self.deadline = now.checked_add(HANDOVER_TIMEOUT);
    }

    /// Returns true while everything from the current session is discarded up to the fence.
    pub(super) fn is_following(&self) -> bool {
        matches!(self.step, HandoverStep::Following { .. })
    }

    /// Handles the begin of an attempt, which reads the password again.
    pub(super) fn attempt_begins(&mut self) {
        self.is_wanted = false;
    }

    /// Returns true while the new session waits for the old one.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.step, HandoverStep::Fenced { new_passed: true, .. })
    }

    /// Returns the time of the next handover. It does not begin before the old session has left the last private channel.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !matches!(self.step, HandoverStep::LeavingChannel { .. }))
    }

    /// Returns what is still delivered from the current session, which is being closed. `is_alone`: there is no other
    /// session.
    pub(super) fn closing_delivery(&mut self, is_alone: bool) -> ClosingDelivery {
        match std::mem::take(&mut self.step) {
            HandoverStep::None | HandoverStep::Opening => ClosingDelivery::All { private: None },
            // The fence will not be sent any more.
            HandoverStep::Preparing { .. } if is_alone => ClosingDelivery::Nothing,
            HandoverStep::Preparing { channel, .. } => {
                ClosingDelivery::All { private: Some(channel) }
            }
            HandoverStep::Fenced { fence, new_passed: true } => {
                ClosingDelivery::Through { fence, has_come: false, behind: self.behind }
            }
            HandoverStep::Fenced { fence, .. } | HandoverStep::LeavingChannel { fence } => {
                ClosingDelivery::All { private: Some(fence.channel) }
            }
            HandoverStep::Following { fence } => ClosingDelivery::Behind(fence),
        }
    }

    pub(super) fn end(&mut self) {
        (self.step, self.fenced_at, self.deadline) = (HandoverStep::None, None, None);
    }
}

impl Supervisor {
    /// Sets the time of the next handover for a session that has become live.
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

    /// Begins a handover for the user. An attempt in progress may have read a password that the user has changed since,
    /// so its session is replaced as soon as it is live.
    pub(super) fn rotate(&mut self, now: Instant) {
        let is_live = self.current.as_ref().is_some_and(ListenerLink::is_live);
        let attempt = if is_live { &self.next } else { &self.current };
        self.handover.is_wanted |= attempt.is_some();
        self.begin_handover(now);
    }

    /// Begins a handover, if there is a live session and no handover.
    pub(super) fn begin_handover(&mut self, now: Instant) {
        self.handover.due = None;
        let is_live = self.current.as_ref().is_some_and(ListenerLink::is_live);
        if is_live && self.next.is_none() && !self.handover.is_running() && self.draining.is_none()
        {
            self.handover.step = HandoverStep::Opening;
            self.next = Some(self.open(now));
        }
    }

    /// Prepares both sessions when the new one is ready. It waits for the commands in flight on the old one, so that both
    /// listen to the same channels.
    pub(super) fn prepare_handover(&mut self, now: Instant, sink: &mut impl Sink) {
        let is_ready = self.next.as_mut().is_some_and(|link| link.ready().is_some());
        let Some(current) = self.current.as_mut().filter(|link| link.is_live()) else { return };
        if !matches!(self.handover.step, HandoverStep::Opening)
            || !is_ready
            || !current.in_flight.is_empty()
            || current.self_notification.is_some()
        {
            return;
        }
        let channel = format!("pgbell_{}", self.nonces.hex());
        let listen = |session: &mut Session| session.listen(now, &[&channel]);
        let private = current.start(now, CommandPurpose::ListenPrivate, listen);
        // The last heartbeat of the old session: afterwards it could not be checked that it has listened until now.
        if let Err(error) = private.and_then(|()| self.send_heartbeat(now, Some(&channel))) {
            return self.lose(now, error, sink);
        }
        self.handover.step = HandoverStep::Preparing { channel, old_is_ready: false };
        self.handover.deadline = now.checked_add(HANDOVER_TIMEOUT);
        if let Some(id) = self.next.as_ref().map(|link| link.id) {
            self.restore(now, id, sink);
        }
    }

    /// Continues the handover after the heartbeat of the old session has shown that it listens to every channel, the
    /// private one too.
    pub(super) fn old_session_confirmed(&mut self, now: Instant, sink: &mut impl Sink) {
        if let HandoverStep::Preparing { old_is_ready, .. } = &mut self.handover.step {
            *old_is_ready = true;
            self.send_fence(now, sink);
        }
    }

    /// Sends the fence on the new session, if both sessions are prepared.
    pub(super) fn send_fence(&mut self, now: Instant, sink: &mut impl Sink) {
        let HandoverStep::Preparing { channel, old_is_ready: true } = &self.handover.step else {
            return;
        };
        let channel = channel.clone();
        let (new, old) = match &mut self.next {
            Some(next) => (next, self.current.as_ref()),
            // The old session is lost.
            None => match &mut self.current {
                Some(current) => (current, None),
                None => return,
            },
        };
        if new.live_since.is_none() {
            return;
        }
        let (id, is_alone) = (new.id, old.is_none());
        let worse = |old: &ListenerLink| {
            new.refused.iter().find(|(channel, _)| !old.refused.contains_key(*channel))
        };
        if let Some((channel, error)) = old.and_then(worse) {
            let message = format!("the server refuses the channel {channel:?} to the new session");
            let error = error.clone().within(&message);
            return self.give_up_handover(now, error, sink);
        }
        let fence = Fence { channel, nonce: self.nonces.hex() };
        let send = |session: &mut Session| session.notify(now, &fence.channel, &fence.nonce);
        if let Err(error) = new.start(now, CommandPurpose::Fence, send) {
            return self.fail(now, id, error, sink);
        }
        self.handover.fenced_at = Some(now);
        if is_alone {
            self.handover.follow(now, fence);
        } else {
            self.handover.step = HandoverStep::Fenced { fence, new_passed: false };
        }
    }

    /// Ends the handover: the new session is the only one, and is delivered.
    fn end_handover(&mut self, now: Instant, channel: &str, sink: &mut impl Sink) {
        self.handover.end();
        self.handover_backoff.reset();
        if let Err(error) = self.unlisten_private(now, channel.to_owned(), UNLISTEN_TRIES_MAX) {
            return self.lose(now, error, sink);
        }
        if self.outages.is_empty() {
            self.counters.handovers = self.counters.handovers.saturating_add(1);
            self.actions.push_back(Action::Log(LogEvent::HandedOver { epoch: self.epoch() }));
        }
        self.restored(now, sink);
    }

    /// Sends UNLISTEN for the private channel on the current session.
    fn unlisten_private(&mut self, now: Instant, channel: String, tries: u32) -> Result<(), Error> {
        let Some(link) = &mut self.current else { return Ok(()) };
        let purpose = CommandPurpose::UnlistenPrivate { channel: channel.clone(), tries };
        link.start(now, purpose, |session| session.unlisten(now, &[channel]))
    }

    /// Handles the answer to a command of the handover.
    pub(super) fn handover_answered(
        &mut self,
        now: Instant,
        purpose: CommandPurpose,
        result: Answer,
        sink: &mut impl Sink,
    ) {
        match (purpose, result) {
            (CommandPurpose::UnlistenPrivate { .. }, Ok(_)) => self.private_unlistened(now),
            // Usually a timeout. To listen to the channel does no harm, unless a fence may arrive.
            (CommandPurpose::UnlistenPrivate { channel, tries }, Err(error)) => {
                let again =
                    tries.checked_sub(1).map(|tries| self.unlisten_private(now, channel, tries));
                let must_leave = matches!(self.handover.step, HandoverStep::LeavingChannel { .. });
                if must_leave && !matches!(again, Some(Ok(()))) {
                    self.lose(now, error, sink);
                }
            }
            (_, Err(error)) if self.handover.is_under_way() => match self.next {
                Some(_) => self.give_up_handover(now, error, sink),
                None => self.lose(now, error, sink),
            },
            // The command has succeeded, or the handover was given up.
            _ => {}
        }
    }

    /// Makes the driver deliver the current session.
    pub(super) fn deliver_current(&mut self, now: Instant) {
        if let Some(link) = &mut self.current {
            // It may have waited for the old session without being read.
            link.restart_timeouts(now);
            self.actions.push_back(Action::Deliver { link: link.id });
            self.actions.push_back(Action::Read { link: link.id, on: true });
        }
    }

    /// Gives the handover up: the old session goes on, and the handover is tried again later.
    pub(super) fn give_up_handover(&mut self, now: Instant, error: Error, sink: &mut impl Sink) {
        let Some(next) = self.next.take() else { return };
        self.abandon(next, error.clone());
        let delay = self.handover_backoff.next();
        self.handover.due = now.checked_add(delay);
        self.actions.push_back(Action::Log(LogEvent::HandoverFailed { error, delay }));
        let step = std::mem::take(&mut self.handover.step);
        self.handover.end();
        let channel = match step {
            // While the old session is followed, and while the private channel is left, there is no next session.
            HandoverStep::None
            | HandoverStep::Opening
            | HandoverStep::Following { .. }
            | HandoverStep::LeavingChannel { .. } => None,
            HandoverStep::Preparing { channel, .. } => Some(channel),
            HandoverStep::Fenced { fence, .. } => {
                let channel = fence.channel.clone();
                self.handover.step = HandoverStep::LeavingChannel { fence };
                Some(channel)
            }
        };
        if let Some(channel) = channel {
            // The server may have refused the private channel, which the heartbeat expects.
            if let Some(link) = &mut self.current {
                link.forget_expected_channels();
            }
            if let Err(error) = self.unlisten_private(now, channel, UNLISTEN_TRIES_MAX) {
                return self.lose(now, error, sink);
            }
        }
        self.report_dropped(now);
        self.proceed(now, sink);
    }

    /// Handles the answer to UNLISTEN for the private channel.
    pub(super) fn private_unlistened(&mut self, now: Instant) {
        if let HandoverStep::LeavingChannel { .. } = self.handover.step {
            self.handover.end();
            self.report_dropped(now);
        }
    }

    /// Reports the notifications that the server dropped during a handover that was given up.
    fn report_dropped(&mut self, now: Instant) {
        let is_live = self.current.as_ref().is_some_and(ListenerLink::is_live);
        if is_live && !self.outages.is_empty() && !self.handover.is_running() {
            self.schedule_hook(now);
        }
    }

    /// Makes the new session of a handover the current one, because the old one is lost. Returns false if there is none.
    pub(super) fn promote_next(&mut self, now: Instant, sink: &mut impl Sink) -> bool {
        self.current = self.next.take();
        let Some(id) = self.current.as_ref().map(|link| link.id) else {
            self.handover.end();
            return false;
        };
        self.outages.count_attempt();
        // The handover cannot be given up any more. Each command of the session has a deadline.
        self.handover.deadline = None;
        self.deliver_current(now);
        match std::mem::take(&mut self.handover.step) {
            // While the old session is followed, and while the private channel is left, there is no next session.
            HandoverStep::None
            | HandoverStep::Opening
            | HandoverStep::Following { .. }
            | HandoverStep::LeavingChannel { .. } => {
                self.handover.end();
                self.session_is_ready(now, id, sink);
            }
            HandoverStep::Preparing { channel, .. } => {
                self.handover.step = HandoverStep::Preparing { channel, old_is_ready: true };
                self.send_fence(now, sink);
            }
            HandoverStep::Fenced { fence, new_passed: true } => {
                self.end_handover(now, &fence.channel, sink);
            }
            HandoverStep::Fenced { fence, .. } => self.handover.follow(now, fence),
        }
        true
    }

    /// Returns the deadline of the fence notification: the earlier one of the limit without data and the limit of the whole.
    pub(super) fn handover_deadline(&self) -> Option<Instant> {
        self.handover_silence().into_iter().chain(self.handover.deadline).min()
    }

    /// Returns the end of the longest time without data from the sessions that must bring the fence. Before it is sent, the
    /// unanswered commands have their own deadlines.
    fn handover_silence(&self) -> Option<Instant> {
        let fenced_at = self.handover.fenced_at?;
        let awaited = match self.handover.is_waiting() {
            true => [&self.current, &None],
            false => [&self.current, &self.next],
        };
        let alive_at = awaited.into_iter().flatten().map(|link| link.alive_at);
        let since = alive_at.chain([fenced_at]).max().unwrap_or(fenced_at);
        since.checked_add(self.policy.heartbeat.timeout.min(SILENCE_TIME_MAX))
    }

    /// Begins a handover that is due, and ends one whose deadline has passed.
    pub(super) fn check_handover(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.handover.due().is_some_and(|due| due <= now) {
            self.begin_handover(now);
        }
        if self.handover_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let is_silent = self.handover_silence().is_some_and(|deadline| deadline <= now);
        let missing = |whose: &str| {
            let message = format!(
                "handover timed out: {whose} session never received the fence notification"
            );
            Error::new(ErrorKind::Timeout, message).with_hint(
                "its connection is half-open, or it is on another server than the other session",
            )
        };
        match &self.handover.step {
            HandoverStep::Fenced { new_passed: true, .. } if is_silent => {
                self.lose(now, missing("the old"), sink);
            }
            // An old session that still sends is not given up, even if it is slow.
            HandoverStep::Fenced { new_passed: true, .. } => {
                self.give_up_handover(now, missing("the old"), sink);
            }
            _ if self.next.is_some() => self.give_up_handover(now, missing("the new"), sink),
            HandoverStep::None | HandoverStep::Opening => {}
            _ => self.lose(now, missing("the new"), sink),
        }
    }
}

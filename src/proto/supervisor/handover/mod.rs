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
//! | step | what happens | next step |
//! |---|---|---|
//! | `None` | it is due, or `rotate` | `Opening` |
//! | `Opening` | both sessions are ready | `Preparing` |
//! | | the new one fails, or the old one is lost | `None` |
//! | `Preparing` | both sessions are prepared, the fence is sent | `Fenced` |
//! | | the old one is lost: the new one is alone, and the fence is sent when it is live | `Following` |
//! | | given up | `None` |
//! | `Fenced` | the new session has passed the fence; it waits for the old one | `Fenced` |
//! | | the old one has passed too | `None` |
//! | | the old one has passed first, or is lost | `Following` |
//! | | the old one is lost after the new one has passed | `None` |
//! | | given up | `LeavingChannel` |
//! | `Following` | the new session has passed the fence | `None` |
//! | `LeavingChannel` | the old session has left the private channel | `None` |
//!
//! If the old session is lost during the handover, there is a gap. The new session is still discarded up to the fence,
//! because the old one may have delivered what is before it.
//!
//! Every step has a timeout. If both sessions are alive, the handover is given up after half a minute, or after a time
//! without data, and the old session goes on. If the new session is alone, it has half a minute to reach the fence. Then it
//! is lost, and the gap covers what was discarded. If the server reports that it dropped a notification, that may have been
//! the fence: the handover is given up at once, or the new session is lost if it is alone.

mod passing;

use std::time::{Duration, Instant};

use super::action::{Action, LogEvent};
use super::backoff::Backoff;
use super::closing_delivery::ClosingDelivery;
use super::common::Common;
use super::effect::{Effect, Effects, NONE};
use super::fence::Fence;
use super::links::Links;
use super::policy::{Policy, SILENCE_TIME_MAX};
use super::purpose::CommandPurpose;
use crate::error::{Error, ErrorKind};
use crate::proto::route::PseudoRandom;
use crate::proto::session::{Answer, Session};

/// The timeout of a handover while both sessions are alive, and then of a new session that is alone to reach the fence.
/// Users' commands wait for it.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// How many times UNLISTEN for the private channel is tried again, if the server refuses it.
const UNLISTEN_TRIES_MAX: u32 = 3;

/// The handovers of a listener.
#[derive(Debug)]
pub(super) struct Handover {
    /// The lifetime of a session.
    max_lifetime: Option<Duration>,
    /// The longest time without data while the fence is awaited.
    silence_max: Duration,
    /// The timeout of the clean close of an old session.
    close_timeout: Duration,
    /// For the time of the next handover.
    random: PseudoRandom,
    /// The delays after handovers that were given up.
    backoff: Backoff,
    step: HandoverStep,
    /// The time of the next handover.
    due: Option<Instant>,
    /// True if `rotate` was called during an attempt. The attempt may have read the old password, so its session is
    /// replaced as soon as it is live.
    is_wanted: bool,
    /// The time when the fence was sent.
    fenced_at: Option<Instant>,
    /// The time when the handover must be done, even if data arrives.
    deadline: Option<Instant>,
    /// The number of notifications after the fence that were read from the new session while it waits for the old one.
    behind: usize,
    /// The number of handovers that have succeeded.
    count: u64,
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
    pub(super) fn new(policy: &Policy, random: PseudoRandom, backoff: Backoff) -> Self {
        Self {
            max_lifetime: policy.max_lifetime,
            silence_max: policy.heartbeat.timeout.min(SILENCE_TIME_MAX),
            close_timeout: policy.close_timeout,
            random,
            backoff,
            step: HandoverStep::None,
            due: None,
            is_wanted: false,
            fenced_at: None,
            deadline: None,
            behind: 0,
            count: 0,
        }
    }

    /// Returns the number of handovers that have succeeded.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    // ---- getters ----

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

    /// Ends the handover, if there is one, and begins no further one.
    pub(super) fn stop(&mut self) {
        self.due = None;
        self.end();
    }

    /// Begins no handover until the next session is live.
    pub(super) fn unplan(&mut self) {
        self.due = None;
    }

    fn end(&mut self) {
        (self.step, self.fenced_at, self.deadline) = (HandoverStep::None, None, None);
    }

    // ---- when a handover begins ----

    /// Sets the time of the next handover for a session that has become live.
    pub(super) fn plan(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_wanted) {
            self.due = Some(now);
            return;
        }
        self.due = self.max_lifetime.and_then(|lifetime| {
            let tenth = u64::try_from((lifetime / 10).as_nanos()).unwrap_or(u64::MAX);
            let early = Duration::from_nanos(self.random.number() % tenth.saturating_add(1).max(1));
            now.checked_add(lifetime.saturating_sub(early))
        });
    }

    /// Handles a call of `rotate`: the user wants a new session. An attempt in progress may have read a password that the user has
    /// changed since, so its session is replaced as soon as it is live.
    pub(super) fn rotate(&mut self, links: &Links) {
        let attempt = if links.live().is_some() { &links.next } else { &links.current };
        self.is_wanted |= attempt.is_some();
    }

    /// Begins a handover, if it is allowed, and there is a live session and no handover. Returns true if a link must be
    /// opened.
    pub(super) fn begin(&mut self, links: &Links, is_allowed: bool) -> bool {
        self.due = None;
        let begins =
            is_allowed && links.live().is_some() && links.next.is_none() && !self.is_running();
        if begins {
            self.step = HandoverStep::Opening;
        }
        begins
    }

    // ---- both sessions are prepared ----

    /// Prepares both sessions when the new one is ready. It waits for the commands in flight on the old one, so that both
    /// listen to the same channels.
    pub(super) fn prepare(&mut self, common: &mut Common) -> Effects {
        let now = common.now;
        let Links { current: Some(current), next: Some(next), .. } = &mut common.links else {
            return NONE;
        };
        if !matches!(self.step, HandoverStep::Opening)
            || !current.is_live()
            || next.ready().is_none()
            || !current.in_flight.is_empty()
            || current.self_notification.is_some()
        {
            return NONE;
        }
        let channel = format!("pgbell_{}", common.nonces.hex());
        let listen = |session: &mut Session| session.listen(now, &[&channel]);
        if let Err(error) = current.start(now, CommandPurpose::ListenPrivate, listen) {
            return vec![Effect::Fail(current.id, error)];
        }
        let private = Some(channel.clone());
        self.step = HandoverStep::Preparing { channel, old_is_ready: false };
        self.deadline = now.checked_add(HANDOVER_TIMEOUT);
        vec![
            // The last heartbeat of the old session: afterwards it could not be checked that it has listened until now.
            Effect::SendHeartbeat { listening_to: private.clone() },
            Effect::Restore { link: next.id, private },
        ]
    }

    /// Continues the handover after the heartbeat of the old session has shown that it listens to every channel, the
    /// private one too.
    pub(super) fn old_confirmed(&mut self) -> Effects {
        match &mut self.step {
            HandoverStep::Preparing { old_is_ready, .. } => {
                *old_is_ready = true;
                vec![Effect::SendFence]
            }
            _ => NONE,
        }
    }

    /// Handles the answer to a command of the handover. `channels` are those of an UNLISTEN.
    pub(super) fn answered(
        &mut self,
        common: &mut Common,
        purpose: &CommandPurpose,
        channels: Vec<String>,
        result: Answer,
    ) -> Effects {
        let Some(current) = common.links.current_id() else { return NONE };
        match (purpose, result) {
            (CommandPurpose::UnlistenPrivate { .. }, Ok(_)) => {
                if !matches!(self.step, HandoverStep::LeavingChannel { .. }) {
                    return NONE;
                }
                self.end();
                vec![Effect::ReportDropped]
            }
            // Usually a timeout. To listen to the channel does no harm, unless a fence may arrive.
            (CommandPurpose::UnlistenPrivate { tries }, Err(error)) => {
                let again =
                    tries.checked_sub(1).map(|tries| unlisten_private(common, channels, tries));
                let must_leave = matches!(self.step, HandoverStep::LeavingChannel { .. });
                match again {
                    Some(Ok(())) => NONE,
                    _ if must_leave => vec![Effect::Fail(current, error)],
                    _ => NONE,
                }
            }
            (_, Err(error)) if self.is_under_way() => match common.links.next {
                Some(_) => vec![Effect::GiveUpHandover(error)],
                None => vec![Effect::Fail(current, error)],
            },
            // The command has succeeded, or the handover was given up.
            _ => NONE,
        }
    }

    // ---- the end ----

    /// Gives the handover up: the old session goes on, and the handover is tried again later. The new link was abandoned.
    pub(super) fn give_up(&mut self, common: &mut Common, error: Error) -> Effects {
        let delay = self.backoff.next();
        self.due = common.now.checked_add(delay);
        common.log(LogEvent::HandoverFailed { error, delay });
        let step = std::mem::take(&mut self.step);
        self.end();
        let channel = match step {
            // In `Following` and `LeavingChannel` there is no new session.
            HandoverStep::None
            | HandoverStep::Opening
            | HandoverStep::Following { .. }
            | HandoverStep::LeavingChannel { .. } => None,
            HandoverStep::Preparing { channel, .. } => Some(channel),
            HandoverStep::Fenced { fence, .. } => {
                let channel = fence.channel.clone();
                self.step = HandoverStep::LeavingChannel { fence };
                Some(channel)
            }
        };
        if let Some(channel) = channel
            && let Some(link) = &mut common.links.current
        {
            // The server may have refused the private channel, which the heartbeat expects.
            link.forget_expected_channels();
            let id = link.id;
            if let Err(error) = unlisten_private(common, vec![channel], UNLISTEN_TRIES_MAX) {
                return vec![Effect::Fail(id, error)];
            }
        }
        vec![Effect::ReportDropped, Effect::Proceed]
    }

    /// Makes the new session of a handover the current one, because the old one is lost. `None`: there is no new session.
    pub(super) fn promote_next(&mut self, common: &mut Common) -> Option<Effects> {
        common.links.current = common.links.next.take();
        let Some(id) = common.links.current_id() else {
            self.end();
            return None;
        };
        // The handover cannot be given up any more. Each command of the session has a deadline.
        self.deadline = None;
        common.deliver_current();
        Some(match std::mem::take(&mut self.step) {
            // In `Following` and `LeavingChannel` there is no new session.
            HandoverStep::None
            | HandoverStep::Opening
            | HandoverStep::Following { .. }
            | HandoverStep::LeavingChannel { .. } => {
                self.end();
                vec![Effect::SessionReady(id)]
            }
            HandoverStep::Preparing { channel, .. } => {
                self.step = HandoverStep::Preparing { channel, old_is_ready: true };
                vec![Effect::SendFence]
            }
            HandoverStep::Fenced { fence, new_passed: true } => {
                vec![Effect::EndHandover { private: fence.channel }]
            }
            HandoverStep::Fenced { fence, .. } => {
                self.follow(common.now, fence);
                NONE
            }
        })
    }

    /// Ends the handover: the new session is the only one, and is delivered. `is_complete`: without a gap.
    pub(super) fn finish(
        &mut self,
        common: &mut Common,
        private: String,
        is_complete: bool,
    ) -> Effects {
        self.end();
        self.backoff.reset();
        let Some(link) = &common.links.current else { return NONE };
        let (id, epoch) = (link.id, link.epoch);
        if let Err(error) = unlisten_private(common, vec![private], UNLISTEN_TRIES_MAX) {
            return vec![Effect::Fail(id, error)];
        }
        if is_complete {
            self.count = self.count.saturating_add(1);
            common.act(Action::Log(LogEvent::HandedOver { epoch }));
        }
        vec![Effect::Live]
    }

    // ---- deadlines ----

    /// Returns the deadline of the fence notification: the earlier one of the limit without data and the limit of the whole.
    pub(super) fn timeout(&self, links: &Links) -> Option<Instant> {
        self.silence(links).into_iter().chain(self.deadline).min()
    }

    /// Returns the end of the longest time without data from the sessions that must bring the fence. Before it is sent, the
    /// unanswered commands have their own deadlines.
    fn silence(&self, links: &Links) -> Option<Instant> {
        let fenced_at = self.fenced_at?;
        let awaited = match self.is_waiting() {
            true => [&links.current, &None],
            false => [&links.current, &links.next],
        };
        let alive_at = awaited.into_iter().flatten().map(|link| link.alive_at);
        let since = alive_at.chain([fenced_at]).max().unwrap_or(fenced_at);
        since.checked_add(self.silence_max)
    }

    /// Ends a handover whose deadline has passed.
    pub(super) fn check(&self, common: &Common) -> Effects {
        let (now, links) = (common.now, &common.links);
        let Some(current) = links.current_id() else { return NONE };
        if self.timeout(links).is_none_or(|deadline| now < deadline) {
            return NONE;
        }
        let is_silent = self.silence(links).is_some_and(|deadline| deadline <= now);
        match &self.step {
            HandoverStep::Fenced { new_passed: true, .. } if is_silent => {
                vec![Effect::Fail(current, never_passed("the old"))]
            }
            // An old session that still sends is not given up, even if it is slow.
            HandoverStep::Fenced { new_passed: true, .. } => {
                vec![Effect::GiveUpHandover(never_passed("the old"))]
            }
            _ if links.next.is_some() => vec![Effect::GiveUpHandover(never_passed("the new"))],
            HandoverStep::None | HandoverStep::Opening => NONE,
            _ => vec![Effect::Fail(current, never_passed("the new"))],
        }
    }
}

/// Sends UNLISTEN for the private channel on the current session.
fn unlisten_private(common: &mut Common, channel: Vec<String>, tries: u32) -> Result<(), Error> {
    let now = common.now;
    let Some(link) = &mut common.links.current else { return Ok(()) };
    link.start(now, CommandPurpose::UnlistenPrivate { tries }, |session| {
        session.unlisten_owned(now, channel)
    })
}

fn never_passed(whose: &str) -> Error {
    let message =
        format!("handover timed out: {whose} session never received the fence notification");
    Error::new(ErrorKind::Timeout, message)
        .with_hint("its connection is half-open, or it is on another server than the other session")
}

//! What is delivered before and after the fence notification.

use bytes::{Buf, BytesMut};

use super::super::action::{Action, Close};
use super::super::closing_delivery::ClosingDelivery;
use super::super::common::Common;
use super::super::effect::{Effect, Effects, NONE};
use super::super::fence::{Fence, Passage};
use super::super::link::ListenerLink;
use super::super::links::Links;
use super::super::purpose::CommandPurpose;
use super::super::sink::Scope;
use super::{Handover, HandoverStep};
use crate::proto::session::Session;
use crate::proto::wire::Run;

impl Handover {
    /// Sends the fence on the new session, if both sessions are prepared.
    pub(in crate::proto::supervisor) fn send_fence(&mut self, common: &mut Common) -> Effects {
        let now = common.now;
        let HandoverStep::Preparing { channel, old_is_ready: true } = &self.step else {
            return NONE;
        };
        let (new, old) = match &mut common.links {
            Links { next: Some(next), current, .. } => (next, current.as_ref()),
            // The old session is lost.
            Links { current: Some(current), .. } => (current, None),
            Links { .. } => return NONE,
        };
        if new.live_since.is_none() {
            return NONE;
        }
        let worse = |old: &ListenerLink| {
            new.refused.iter().find(|(channel, _)| !old.refused.contains_key(*channel))
        };
        if let Some((channel, error)) = old.and_then(worse) {
            let message = format!("the server refuses the channel {channel:?} to the new session");
            return vec![Effect::GiveUpHandover(error.clone().within(&message))];
        }
        let is_alone = old.is_none();
        let fence = Fence { channel: channel.clone(), nonce: common.nonces.hex() };
        let send = |session: &mut Session| session.notify(now, &fence.channel, &fence.nonce);
        if let Err(error) = new.start(now, CommandPurpose::Fence, send) {
            return vec![Effect::Fail(new.id, error)];
        }
        self.fenced_at = Some(now);
        if is_alone {
            self.follow(now, fence);
        } else {
            self.step = HandoverStep::Fenced { fence, new_passed: false };
        }
        NONE
    }

    /// Returns what to do with a run that arrived on the current session. A run that was searched before does not
    /// contain the fence. `is_alone`: there is no other session.
    pub(in crate::proto::supervisor) fn pass_current(
        &self,
        input: &mut BytesMut,
        (run, is_searched): (Run, bool),
        is_alone: bool,
    ) -> Passage {
        let (fence, is_following) = match &self.step {
            HandoverStep::Fenced { fence, .. } | HandoverStep::LeavingChannel { fence } => {
                (fence, false)
            }
            HandoverStep::Following { fence } => (fence, true),
            // The old session is lost. What it has delivered comes again, up to the fence, which is not sent yet.
            HandoverStep::Preparing { .. } if is_alone => {
                input.advance(run.bytes);
                return Passage::Removed;
            }
            HandoverStep::None | HandoverStep::Opening | HandoverStep::Preparing { .. } => {
                return Passage::Deliver(run);
            }
        };
        if is_searched && !is_following {
            return Passage::Deliver(run);
        }
        let Some((before, through)) = fence.find(input, run) else {
            if !is_following {
                return Passage::Deliver(run);
            }
            input.advance(run.bytes);
            return Passage::Removed;
        };
        if !is_following && before.count > 0 {
            return Passage::Deliver(before);
        }
        input.advance(through.bytes);
        match &self.step {
            HandoverStep::Following { .. } => Passage::NewPassed,
            HandoverStep::Fenced { .. } => {
                // What follows the fence comes from the new session too.
                input.clear();
                Passage::OldPassed
            }
            _ => Passage::Removed,
        }
    }

    /// Handles a run that arrived on the new session while the old one is the current one. Returns true if there may be
    /// more to handle.
    pub(in crate::proto::supervisor) fn pass_next(
        &mut self,
        common: &mut Common,
        input: &mut BytesMut,
        run: Run,
    ) -> bool {
        if let HandoverStep::Fenced { fence, new_passed } = &mut self.step
            && let Some((_, through)) = fence.find(input, run)
        {
            input.advance(through.bytes);
            *new_passed = true;
            self.behind = notifications(input);
            if let Some(link) = common.links.next.as_ref().map(|next| next.id) {
                common.act(Action::Read { link, on: false });
            }
            return false;
        }
        input.advance(run.bytes);
        true
    }

    /// Makes the new session the current one, after the old one was delivered up to the fence.
    pub(in crate::proto::supervisor) fn old_passed(&mut self, common: &mut Common) -> Effects {
        let HandoverStep::Fenced { fence, new_passed } = std::mem::take(&mut self.step) else {
            return NONE;
        };
        let mut effects = NONE;
        let now = common.now;
        if let Some(mut old) = common.links.current.take() {
            effects.extend(accepted_channels(&old, common.links.next.as_ref()));
            let deadline = now.checked_add(self.close_timeout).unwrap_or(now);
            old.close(deadline, ClosingDelivery::Nothing);
            common.close(old.id, Close::Graceful);
            if let Some(older) = common.links.old.replace(old) {
                // At most one old session is being closed.
                effects.push(Effect::Abandon(Box::new(older), common.owner.closed()));
            }
        }
        common.links.current = common.links.next.take();
        common.deliver_current();
        effects.push(Effect::CatchUp);
        if new_passed {
            effects.push(Effect::EndHandover { private: fence.channel });
        } else {
            // The old session is closed, so the handover cannot be given up any more.
            self.follow(now, fence);
        }
        effects
    }

    /// Handles that everything up to the fence was discarded from the new session.
    pub(in crate::proto::supervisor) fn new_passed(&mut self) -> Effects {
        match std::mem::take(&mut self.step) {
            HandoverStep::Following { fence } => {
                vec![Effect::EndHandover { private: fence.channel }]
            }
            step => {
                self.step = step;
                NONE
            }
        }
    }
}

/// Begins an outage of the channels to which the new session listens, and which were refused to the old one: earlier
/// notifications on them were not received.
fn accepted_channels(old: &ListenerLink, new: Option<&ListenerLink>) -> Option<Effect> {
    let refused = &new?.refused;
    let accepted = || old.refused.iter().filter(|(channel, _)| !refused.contains_key(*channel));
    let (_, error) = accepted().next()?;
    let channels = accepted().map(|(channel, _)| channel.clone()).collect();
    Some(Effect::Outage { cause: error.clone(), sessions: 0, scope: Scope::Channels(channels) })
}

/// Returns the number of complete notifications in these messages.
fn notifications(mut messages: &[u8]) -> usize {
    let mut count = 0_usize;
    while let [kind, a, b, c, d, ..] = *messages {
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let Some((_, rest)) = messages.split_at_checked(length.saturating_add(1)) else { break };
        count = count.saturating_add(usize::from(kind == b'A'));
        messages = rest;
    }
    count
}

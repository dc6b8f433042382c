//! The notification at which two sessions are exchanged, and what stands before and behind it.

use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::super::action::{Action, Close};
use super::super::link::Link;
use super::super::rest::Rest;
use super::super::{Sink, Supervisor, closed, search};
use super::Step;
use crate::Error;
use crate::wire::Run;

/// A notification that nobody else sends.
#[derive(Debug)]
pub(in crate::supervisor) struct Fence {
    pub(in crate::supervisor) channel: String,
    pub(super) nonce: String,
}

/// What is to be done with a run of notifications.
pub(in crate::supervisor) enum Passage {
    /// It is delivered: all of it, or the part before the fence.
    Deliver(Run),
    /// It was taken care of. Whether there is more to be handled now.
    Done(bool),
}

impl Supervisor {
    /// What is to be done with a run that arrived on the current session. A run that was searched before ends before the
    /// fence.
    pub(in crate::supervisor) fn pass_current(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        (run, is_searched): (Run, bool),
        sink: &mut impl Sink,
    ) -> Passage {
        let (fence, is_following) = match &self.handover.step {
            Step::Fenced { fence, .. } | Step::Forgetting { fence } => (fence, false),
            Step::Following { fence } => (fence, true),
            // The old session is gone. What it has told comes again, up to the fence that has yet to be sent.
            Step::Preparing { .. } if self.next.is_none() => {
                input.advance(run.bytes);
                return Passage::Done(true);
            }
            Step::None | Step::Opening | Step::Preparing { .. } => return Passage::Deliver(run),
        };
        if is_searched && !is_following {
            return Passage::Deliver(run);
        }
        let Some((before, through)) = fence.find(input, run) else {
            if !is_following {
                return Passage::Deliver(run);
            }
            input.advance(run.bytes);
            return Passage::Done(true);
        };
        if !is_following && before.count > 0 {
            return Passage::Deliver(before);
        }
        input.advance(through.bytes);
        if is_following {
            self.new_has_passed(now, sink);
        } else if let Step::Fenced { .. } = self.handover.step {
            // What stands behind it comes from the new session too.
            input.clear();
            self.old_has_passed(now, sink);
            return Passage::Done(false);
        }
        Passage::Done(true)
    }

    /// A run that arrived on the new session while the old one is the current one. Says whether to go on.
    pub(in crate::supervisor) fn pass_next(&mut self, input: &mut BytesMut, run: Run) -> bool {
        if let Step::Fenced { fence, new_passed } = &mut self.handover.step
            && let Some((_, through)) = fence.find(input, run)
        {
            input.advance(through.bytes);
            *new_passed = true;
            self.handover.behind = notifications(input);
            if let Some(next) = &self.next {
                self.actions.push_back(Action::Read { link: next.id, on: false });
            }
            return false;
        }
        input.advance(run.bytes);
        true
    }

    /// The old session is delivered up to the fence: the new one goes on.
    fn old_has_passed(&mut self, now: Instant, sink: &mut impl Sink) {
        let Step::Fenced { fence, new_passed } = std::mem::take(&mut self.handover.step) else {
            return;
        };
        if let Some(mut old) = self.current.take() {
            self.tell_healed(now, &old, sink);
            let deadline = now.checked_add(self.policy.close_timeout).unwrap_or(now);
            old.close(deadline, Rest::Nothing);
            self.actions.push_back(Action::Close { link: old.id, how: Close::Graceful });
            if let Some(older) = self.old.replace(old) {
                // It had its time: there is one that is being closed at most.
                self.abandon(older, closed());
            }
        }
        self.current = self.next.take();
        self.deliver_current(now);
        if !self.outages.is_empty() {
            self.catch_up();
        }
        let channel = fence.channel.clone();
        if new_passed {
            self.end_handover(now, &channel, sink);
        } else {
            // There is no other one to go back to.
            self.handover.follow(now, fence);
        }
    }

    /// A channel that was refused is listened to from here on: what was notified on it until now was not heard.
    fn tell_healed(&mut self, now: Instant, old: &Link, sink: &mut impl Sink) {
        let Some(new) = &self.next else { return };
        let healed = |(channel, _): &(&String, &Error)| !new.refused.contains_key(*channel);
        if let Some((_, error)) = old.refused.iter().find(healed) {
            self.hold(now, error.clone(), 0, sink);
        }
    }

    fn new_has_passed(&mut self, now: Instant, sink: &mut impl Sink) {
        if let Step::Following { fence } = std::mem::take(&mut self.handover.step) {
            self.end_handover(now, &fence.channel, sink);
        }
    }
}

/// How many whole notifications there are among these messages.
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

impl Fence {
    /// The run before the fence, and the run that ends with it.
    pub(in crate::supervisor) fn find(&self, frames: &[u8], run: Run) -> Option<(Run, Run)> {
        let found = search::position(frames.get(..run.bytes)?, |one| {
            one.channel == self.channel.as_bytes() && one.payload == self.nonce.as_bytes()
        })?;
        Some((Run::first(found, frames), Run::first(found.saturating_add(1), frames)))
    }
}

//! The fence notification, and what is delivered before and after it.

use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::super::action::{Action, Close};
use super::super::closing_delivery::ClosingDelivery;
use super::super::link::ListenerLink;
use super::super::{Sink, Supervisor, closed, search};
use super::HandoverStep;
use crate::error::Error;
use crate::proto::wire::Run;

/// The fence notification. No other client can guess its channel and payload.
#[derive(Debug)]
pub(in crate::proto::supervisor) struct Fence {
    pub(in crate::proto::supervisor) channel: String,
    pub(super) nonce: String,
}

/// The result of passing a run of notifications to a handover.
pub(in crate::proto::supervisor) enum Passage {
    /// Deliver this run: all of it, or the part before the fence.
    Deliver(Run),
    /// The run is handled. True if there may be more to handle now.
    Done(bool),
}

impl Supervisor {
    /// Returns what to do with a run that arrived on the current session. A run that was searched before does not
    /// contain the fence.
    pub(in crate::proto::supervisor) fn pass_current(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        (run, is_searched): (Run, bool),
        sink: &mut impl Sink,
    ) -> Passage {
        let (fence, is_following) = match &self.handover.step {
            HandoverStep::Fenced { fence, .. } | HandoverStep::LeavingChannel { fence } => {
                (fence, false)
            }
            HandoverStep::Following { fence } => (fence, true),
            // The old session is lost. What it has delivered comes again, up to the fence, which is not sent yet.
            HandoverStep::Preparing { .. } if self.next.is_none() => {
                input.advance(run.bytes);
                return Passage::Done(true);
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
            return Passage::Done(true);
        };
        if !is_following && before.count > 0 {
            return Passage::Deliver(before);
        }
        input.advance(through.bytes);
        if is_following {
            self.new_has_passed(now, sink);
        } else if let HandoverStep::Fenced { .. } = self.handover.step {
            // What follows the fence comes from the new session too.
            input.clear();
            self.old_has_passed(now, sink);
            return Passage::Done(false);
        }
        Passage::Done(true)
    }

    /// Handles a run that arrived on the new session while the old one is the current one. Returns true if there may be
    /// more to handle.
    pub(in crate::proto::supervisor) fn pass_next(
        &mut self,
        input: &mut BytesMut,
        run: Run,
    ) -> bool {
        if let HandoverStep::Fenced { fence, new_passed } = &mut self.handover.step
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

    /// Makes the new session the current one, after the old one was delivered up to the fence.
    fn old_has_passed(&mut self, now: Instant, sink: &mut impl Sink) {
        let HandoverStep::Fenced { fence, new_passed } = std::mem::take(&mut self.handover.step)
        else {
            return;
        };
        if let Some(mut old) = self.current.take() {
            self.report_accepted_channels(now, &old, sink);
            let deadline = now.checked_add(self.policy.close_timeout).unwrap_or(now);
            old.close(deadline, ClosingDelivery::Nothing);
            self.actions.push_back(Action::Close { link: old.id, how: Close::Graceful });
            if let Some(older) = self.old.replace(old) {
                // At most one old session is being closed.
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
            // The old session is closed, so the handover cannot be given up any more.
            self.handover.follow(now, fence);
        }
    }

    /// Begins an outage if the new session listens to a channel that was refused to the old one: earlier notifications
    /// on it were not received.
    fn report_accepted_channels(&mut self, now: Instant, old: &ListenerLink, sink: &mut impl Sink) {
        let Some(new) = &self.next else { return };
        let healed = |(channel, _): &(&String, &Error)| !new.refused.contains_key(*channel);
        if let Some((_, error)) = old.refused.iter().find(healed) {
            self.hold_back(now, error.clone(), 0, sink);
        }
    }

    fn new_has_passed(&mut self, now: Instant, sink: &mut impl Sink) {
        if let HandoverStep::Following { fence } = std::mem::take(&mut self.handover.step) {
            self.end_handover(now, &fence.channel, sink);
        }
    }
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

impl Fence {
    /// Searches a run for the fence. Returns the run before it, and the run that ends with it.
    pub(in crate::proto::supervisor) fn find(&self, frames: &[u8], run: Run) -> Option<(Run, Run)> {
        let found = search::position(frames.get(..run.bytes)?, |one| {
            one.channel == self.channel.as_bytes() && one.payload == self.nonce.as_bytes()
        })?;
        Some((Run::first(found, frames), Run::first(found.saturating_add(1), frames)))
    }
}

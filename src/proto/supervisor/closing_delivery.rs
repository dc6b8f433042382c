//! The notifications that are still delivered from a session that is being closed.
//!
//! Notifications arrive until the server has read Terminate, and after a stall some were read and not yet delivered. They
//! go to the queue. During a handover there are two exceptions: the notifications on its private channel, and what the
//! old session has already delivered.
//!
//! A new session that waits for the old one has been read beyond the fence notification. A close ends the new session,
//! and the old session then brings the same notifications. If it ends before it has brought all of them, there is a gap.

use bytes::{Buf, BytesMut};

use super::fence::{Fence, Passage};
use super::search;
use crate::proto::wire::Run;

/// Decides which notifications of a closing session are delivered.
#[derive(Debug)]
pub(super) enum ClosingDelivery {
    /// Everything except the notifications on the private channel of a handover, if there is one.
    All { private: Option<String> },
    /// As `All`, for an old session while the new one has reached the fence notification. `has_come` is true after the
    /// fence has arrived here too; `behind` is the number of notifications that must follow it.
    Through { fence: Fence, has_come: bool, behind: usize },
    /// Only what follows the fence notification. Everything before it was delivered from the old session.
    Behind(Fence),
    /// Nothing: another session brings the same notifications, or the end of the repetition cannot be found.
    Nothing,
}

impl ClosingDelivery {
    /// Returns what to do with a run at the front of `input`.
    pub(super) fn pass(&mut self, input: &mut BytesMut, run: Run) -> Passage {
        match self {
            Self::All { private: None } => return Passage::Deliver(run),
            Self::All { private: Some(channel) } => return without(channel, input, run, |_| {}),
            Self::Through { fence, has_come, behind } => {
                let passage = without(&fence.channel, input, run, |private| {
                    *has_come |= fence.find(private, Run::first(1, private)).is_some();
                });
                if let Passage::Deliver(run) = &passage
                    && *has_come
                {
                    *behind = behind.saturating_sub(run.count);
                }
                return passage;
            }
            Self::Behind(fence) => match fence.find(input, run) {
                None => input.advance(run.bytes),
                Some((_, through)) => {
                    input.advance(through.bytes);
                    *self = Self::All { private: Some(std::mem::take(&mut fence.channel)) };
                }
            },
            Self::Nothing => input.advance(run.bytes),
        }
        Passage::Removed
    }

    /// Returns true if the new session has received notifications that this old session has not brought yet.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Through { has_come, behind, .. } if !has_come || *behind > 0)
    }
}

/// Returns the part of the run before the next notification on the private channel. If the run begins with one, it is
/// passed to `seen` and removed.
fn without(channel: &str, input: &mut BytesMut, run: Run, seen: impl FnOnce(&[u8])) -> Passage {
    let frames = input.get(..run.bytes).unwrap_or_default();
    match search::position(frames, |one| one.channel == channel.as_bytes()) {
        None => Passage::Deliver(run),
        Some(0) => {
            let bytes = Run::first(1, frames).bytes;
            seen(frames.get(..bytes).unwrap_or_default());
            input.advance(bytes);
            Passage::Removed
        }
        Some(before) => Passage::Deliver(Run::first(before, frames)),
    }
}

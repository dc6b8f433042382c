//! What is still delivered of a session that is being ended.
//!
//! Until the server has read Terminate, notifications arrive, and those of a stall were read and not yet delivered. They go
//! to the queue as all others do. During a handover two things do not: the notifications of its private channel, and
//! what the session before has delivered already.
//!
//! A new session that waits for the old one has been read beyond the fence. Close ends it, and the old session brings the
//! same notifications. If it ends before it has, there is a gap.

use bytes::{Buf, BytesMut};

use super::handover::{Fence, Passage};
use super::search;
use crate::wire::Run;

#[derive(Debug)]
pub(super) enum Rest {
    /// All of it, but for what comes on the private channel of a handover, if there is one.
    All { private: Option<String> },
    /// All of it, of an old session whose successor has come to the fence: the fence, if it `has_come` or not, and so many
    /// notifications `behind` it have yet to come.
    Through { fence: Fence, has_come: bool, behind: usize },
    /// What follows this notification: all before it was delivered from the session before.
    Behind(Fence),
    /// Nothing: it comes from another session, or where the repetitions end cannot be told any more.
    Nothing,
}

impl Rest {
    /// What is to be done with a run at the head of `input`.
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
        Passage::Done(true)
    }

    /// Whether something is missing that its successor has brought already.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Through { has_come, behind, .. } if !has_come || *behind > 0)
    }
}

/// The run up to the next notification of the private channel. One that is at its head is shown to `seen`, and removed.
fn without(channel: &str, input: &mut BytesMut, run: Run, seen: impl FnOnce(&[u8])) -> Passage {
    let frames = input.get(..run.bytes).unwrap_or_default();
    match search::position(frames, |one| one.channel == channel.as_bytes()) {
        None => Passage::Deliver(run),
        Some(0) => {
            let bytes = Run::first(1, frames).bytes;
            seen(frames.get(..bytes).unwrap_or_default());
            input.advance(bytes);
            Passage::Done(true)
        }
        Some(before) => Passage::Deliver(Run::first(before, frames)),
    }
}

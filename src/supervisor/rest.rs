//! What is still delivered of a session that is being ended.
//!
//! Until the server has read Terminate, notifications arrive, and those of a stall were read and not yet delivered. They go
//! to the queue as all others do. During a handover two things do not: the notifications of its private channel, and
//! what the session before has delivered already.

use bytes::{Buf, BytesMut};

use super::handover::{Fence, Passage};
use super::search;
use crate::wire::Run;

#[derive(Debug)]
pub(super) enum Rest {
    /// All of it, but for what comes on the private channel of a handover, if there is one.
    All { private: Option<String> },
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
            Self::All { private: Some(channel) } => {
                let frames = input.get(..run.bytes).unwrap_or_default();
                match search::position(frames, |one| one.channel == channel.as_bytes()) {
                    None => return Passage::Deliver(run),
                    Some(0) => input.advance(Run::first(1, frames).bytes),
                    Some(before) => return Passage::Deliver(Run::first(before, frames)),
                }
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
}

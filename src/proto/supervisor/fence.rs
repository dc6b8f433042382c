//! The fence notification of a handover, and the result of looking for it in a run.

use super::search;
use crate::proto::wire::Run;

/// The fence notification. No other client can guess its channel and payload.
#[derive(Debug)]
pub(super) struct Fence {
    pub(super) channel: String,
    pub(super) nonce: String,
}

/// The result of passing a run of notifications to a handover.
pub(super) enum Passage {
    /// Deliver this run: all of it, or the part before the fence.
    Deliver(Run),
    /// The run, or a part of it, was removed.
    Removed,
    /// The fence was removed from the current session, which is the old one. What follows it was removed too.
    OldPassed,
    /// The fence was removed from the current session, which is the new one.
    NewPassed,
}

impl Fence {
    /// Searches a run for the fence. Returns the run before it, and the run that ends with it.
    pub(super) fn find(&self, frames: &[u8], run: Run) -> Option<(Run, Run)> {
        let found = search::position(frames.get(..run.bytes)?, |one| {
            one.channel == self.channel.as_bytes() && one.payload == self.nonce.as_bytes()
        })?;
        Some((Run::first(found, frames), Run::first(found.saturating_add(1), frames)))
    }
}

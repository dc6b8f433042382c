//! Notifications that arrive while a command waits for its answer.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

use crate::notification::ReceiveInfo;
use crate::wire::Run;

/// Bytes that one kept run costs besides its frames.
const RUN_BYTES: usize = size_of::<KeptRun>();

/// A bounded queue of runs, each with its place in the stream.
#[derive(Debug)]
pub(super) struct Kept {
    /// The frames of all runs, one after the other.
    frames: BytesMut,
    runs: VecDeque<KeptRun>,
    /// Most bytes of frames and runs together.
    limit: usize,
}

/// An unbroken run that was kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptRun {
    pub(super) run: Run,
    /// Sequence number of its first notification.
    pub(super) first: u64,
    pub(super) stamp: ReceiveInfo,
}

impl Kept {
    pub(super) fn new(limit: usize) -> Self {
        Self { frames: BytesMut::new(), runs: VecDeque::new(), limit }
    }

    /// Copies the run that stands at the head of `input`, or the part of it that there is room for.
    pub(super) fn push(&mut self, input: &[u8], run: Run, first: u64, stamp: ReceiveInfo) {
        let used = self.frames.len().saturating_add(self.runs.len().saturating_mul(RUN_BYTES));
        let room = self.limit.saturating_sub(used).saturating_sub(RUN_BYTES);
        let run = if run.bytes <= room { run } else { Run::within(room, input) };
        let Some(frames) = input.get(..run.bytes).filter(|_| run.count > 0) else { return };
        self.frames.extend_from_slice(frames);
        self.runs.push_back(KeptRun { run, first, stamp });
    }

    /// The oldest run.
    pub(super) fn front(&self) -> Option<KeptRun> {
        self.runs.front().copied()
    }

    /// The frames of the oldest run.
    pub(super) fn frames(&self) -> &[u8] {
        self.front().and_then(|kept| self.frames.get(..kept.run.bytes)).unwrap_or_default()
    }

    /// Removes the oldest run.
    pub(super) fn pop(&mut self) {
        if let Some(kept) = self.runs.pop_front() {
            self.frames.advance(kept.run.bytes.min(self.frames.len()));
        }
        if self.runs.is_empty() {
            // A burst must not stay in memory for ever.
            *self = Self::new(self.limit);
        }
    }
}

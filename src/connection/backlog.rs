//! Notifications that arrive while a command runs.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

use crate::notification::ReceiveInfo;
use crate::proto::wire::Run;

/// The bytes that one run takes in addition to its frames.
const RUN_BYTES: usize = size_of::<BacklogRun>();

/// A bounded queue of runs, each with its position in the stream.
#[derive(Debug)]
pub(super) struct Backlog {
    /// The frames of all runs, in order.
    frames: BytesMut,
    runs: VecDeque<BacklogRun>,
    /// The largest size of frames and runs together.
    bytes_max: usize,
}

/// A run of the backlog.
#[derive(Debug, Clone, Copy)]
pub(super) struct BacklogRun {
    pub(super) run: Run,
    /// Sequence number of its first notification.
    pub(super) first: u64,
    pub(super) stamp: ReceiveInfo,
}

impl Backlog {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { frames: BytesMut::new(), runs: VecDeque::new(), bytes_max }
    }

    /// Copies the run at the front of `input`, or the part of it that fits.
    pub(super) fn push(&mut self, input: &[u8], run: Run, first: u64, stamp: ReceiveInfo) {
        let used = self.frames.len().saturating_add(self.runs.len().saturating_mul(RUN_BYTES));
        let room = self.bytes_max.saturating_sub(used).saturating_sub(RUN_BYTES);
        let run = if run.bytes <= room { run } else { Run::within(room, input) };
        let Some(frames) = input.get(..run.bytes).filter(|_| run.count > 0) else { return };
        self.frames.extend_from_slice(frames);
        self.runs.push_back(BacklogRun { run, first, stamp });
    }

    /// Returns the oldest run.
    pub(super) fn front(&self) -> Option<BacklogRun> {
        self.runs.front().copied()
    }

    /// Returns the frames of the oldest run.
    pub(super) fn frames(&self) -> &[u8] {
        self.front().and_then(|front| self.frames.get(..front.run.bytes)).unwrap_or_default()
    }

    /// Removes the oldest run.
    pub(super) fn pop(&mut self) {
        if let Some(front) = self.runs.pop_front() {
            self.frames.advance(front.run.bytes.min(self.frames.len()));
        }
        if self.runs.is_empty() {
            // The memory of a burst is released.
            *self = Self::new(self.bytes_max);
        }
    }
}

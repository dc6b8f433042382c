//! The run that is being handed out.

use std::time::SystemTime;

use super::sink::{BUFFER_BYTES, Chunk};
use crate::notification::{Batch, Notification, NotificationRef, Stamp};
use crate::ring::{Lender, Pins};
use crate::wire::{self, Run};

/// What the consumer has in hand: at most one run, and so at most one buffer.
pub(super) struct Current {
    lender: Lender,
    stamp: Stamp,
    /// Bytes that were handed out, and notifications that were not.
    offset: usize,
    left: usize,
    /// Sequence number of the next.
    next: u64,
}

impl Current {
    pub(super) fn new(pins: Pins) -> Self {
        Self {
            lender: Lender::new(pins, BUFFER_BYTES),
            stamp: Stamp { received_at: SystemTime::UNIX_EPOCH, epoch: 1 },
            offset: 0,
            left: 0,
            next: 0,
        }
    }

    /// Takes a run in hand whose first notification has sequence number `first`. The first `skip` of them are
    /// not handed out.
    pub(super) fn take(&mut self, chunk: Chunk, first: u64, skip: u64) {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let run = Run::first(skip, &chunk.frames);
        (self.offset, self.left, self.next) = (0, chunk.count, first);
        self.stamp = chunk.stamp;
        self.lender.lend(chunk.frames, chunk.buffer);
        self.advance(run);
    }

    /// Lets go of the run, and so of its buffer.
    pub(super) fn let_go(&mut self) {
        self.left = 0;
        self.lender.let_go();
    }

    /// Whether all of it was handed out.
    #[inline(always)]
    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// The next notification, if it can be had for less than a [copy](Self::next_copied).
    #[inline(always)]
    pub(super) fn next_inline(&mut self) -> Option<Notification> {
        if self.left == 0 {
            return None;
        }
        let rest = self.lender.lent().bytes().get(self.offset..)?;
        let (raw, bytes) = wire::first(rest)?;
        let notification = Notification::from_frame(rest, raw, self.next, &self.stamp)?;
        self.advance(Run { count: 1, bytes });
        Some(notification)
    }

    /// The next notification.
    pub(super) fn next_copied(&mut self) -> Option<Notification> {
        if self.left == 0 {
            return None;
        }
        let (raw, bytes) = wire::first(self.lender.lent().bytes().get(self.offset..)?)?;
        let notification = NotificationRef::new(raw, self.next, &self.stamp, None).to_owned();
        self.advance(Run { count: 1, bytes });
        Some(notification)
    }

    /// The next notifications: all that are left, or the first `max` of them.
    pub(super) fn batch(&mut self, max: usize) -> Batch<'_> {
        let (start, first) = (self.offset, self.next);
        let rest = self.lender.lent().bytes().get(start..).unwrap_or_default();
        let run = if self.left <= max {
            Run { count: self.left, bytes: rest.len() }
        } else {
            Run::first(max.max(1), rest)
        };
        self.advance(run);
        let lent = self.lender.lent();
        let frames = lent.bytes().get(start..self.offset).unwrap_or_default();
        Batch::new(frames, run.count, first, &self.stamp).lent_by(lent)
    }

    #[inline(always)]
    fn advance(&mut self, run: Run) {
        self.offset = self.offset.saturating_add(run.bytes);
        self.left = self.left.saturating_sub(run.count);
        self.next = self.next.saturating_add(run.count as u64);
    }
}

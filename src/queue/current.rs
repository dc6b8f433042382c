//! [`CurrentRun`]: the run that the consumer receives from at the moment.

use std::time::SystemTime;

use super::chunk::Chunk;
use super::intake::BUFFER_BYTES;
use crate::notification::owned_info::OwnedInfo;
use crate::notification::{Batch, Notification, NotificationRef, ReceiveInfo};
use crate::proto::ring::{CurrentBytes, Pins};
use crate::proto::wire::{self, Run, ShortFrame};

/// The run that the consumer receives from. There is at most one, and so at most one receive buffer.
pub(crate) struct CurrentRun {
    bytes: CurrentBytes,
    info: ReceiveInfo,
    /// The same for owned notifications.
    owned_info: OwnedInfo,
    /// Bytes that were delivered.
    offset: usize,
    /// Notifications that were not delivered.
    left: usize,
    /// The sequence number of the next notification.
    next: u64,
}

impl CurrentRun {
    /// Creates it for runs in receive buffers, whose pins count in `pins`.
    pub(crate) fn in_buffers(pins: Pins) -> Self {
        Self::new(CurrentBytes::new(pins, BUFFER_BYTES))
    }

    /// Creates it for runs that several consumers share, and that are in no receive buffer.
    pub(crate) fn of_shared() -> Self {
        Self::new(CurrentBytes::shared())
    }

    fn new(bytes: CurrentBytes) -> Self {
        let info = ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 1 };
        Self {
            bytes,
            info,
            owned_info: info.into(),
            offset: 0,
            left: 0,
            next: 0,
        }
    }

    /// Replaces the run. The first notification of the new one has sequence number `first`. The first `skip` of them are
    /// not delivered.
    pub(super) fn replace(&mut self, chunk: Chunk, first: u64, skip: u64) {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let run = Run::first(skip, &chunk.frames);
        (self.offset, self.left, self.next) = (0, chunk.count, first);
        (self.info, self.owned_info) = (chunk.info, chunk.info.into());
        self.bytes.replace(chunk.frames, chunk.buffer);
        self.advance(run);
    }

    /// Drops the run, and with it the view of its buffer.
    pub(super) fn clear(&mut self) {
        self.left = 0;
        self.bytes.clear();
    }

    /// Returns true if all of it was delivered.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Returns the next notification, if it is a [`ShortFrame`].
    #[inline(always)]
    pub(super) fn next_short(&mut self) -> Option<Notification> {
        let left = self.left.checked_sub(1)?;
        let frame = ShortFrame::first(self.bytes.part().bytes().get(self.offset..)?)?;
        let notification = Notification::from_short(&frame, self.next, self.owned_info);
        (self.left, self.offset, self.next) = (left, self.offset + frame.bytes(), self.next + 1);
        Some(notification)
    }

    /// Returns a copy of the next notification. A long one in a run that several consumers share is shared too.
    pub(super) fn next_copied(&mut self) -> Option<Notification> {
        if self.left == 0 {
            return None;
        }
        let part = self.bytes.part();
        let (raw, bytes) = wire::first(part.bytes().get(self.offset..)?)?;
        let part = Some(part).filter(|part| part.is_shared());
        let notification = NotificationRef::new(raw, self.next, &self.info, part).retain();
        self.advance(Run { count: 1, bytes });
        Some(notification)
    }

    /// Returns the next notifications: all that are left, or the first `max` of them.
    pub(super) fn batch(&mut self, max: usize) -> Batch<'_> {
        let (start, first) = (self.offset, self.next);
        let rest = self.bytes.part().bytes().get(start..).unwrap_or_default();
        let run = if self.left <= max {
            Run { count: self.left, bytes: rest.len() }
        } else {
            Run::first(max.max(1), rest)
        };
        self.advance(run);
        let part = self.bytes.part();
        let frames = part.bytes().get(start..self.offset).unwrap_or_default();
        Batch::new(frames, run.count, first, &self.info).in_part(part)
    }

    #[inline(always)]
    fn advance(&mut self, run: Run) {
        self.offset = self.offset.saturating_add(run.bytes);
        self.left = self.left.saturating_sub(run.count);
        self.next = self.next.saturating_add(run.count as u64);
    }
}

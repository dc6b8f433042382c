//! [`CurrentRun`]: the run that the consumer receives from at the moment.

use std::time::SystemTime;

use super::chunk::Chunk;
use super::intake::BUFFER_BYTES;
use crate::notification::owned_info::OwnedInfo;
use crate::notification::{Batch, Notification, NotificationRef, ReceiveInfo};
use crate::proto::ring::{CurrentBytes, Pins};
use crate::proto::wire::{self, Run, ShortFrame};

/// The run that the consumer receives from. There is at most one, and so at most one receive buffer.
pub(super) struct CurrentRun {
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
    pub(super) fn new(pins: Pins) -> Self {
        let info = ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 1 };
        Self {
            bytes: CurrentBytes::new(pins, BUFFER_BYTES),
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

    /// Returns a copy of the next notification.
    pub(super) fn next_copied(&mut self) -> Option<Notification> {
        if self.left == 0 {
            return None;
        }
        let (raw, bytes) = wire::first(self.bytes.part().bytes().get(self.offset..)?)?;
        let notification = NotificationRef::new(raw, self.next, &self.info, None).to_owned();
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

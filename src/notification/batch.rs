//! A run of notifications, lent.

use std::fmt;
use std::time::SystemTime;

use super::{Loss, NotificationRef, SharedBatch};
use crate::ring::Lent;
use crate::wire::Notifications;

/// When and where notifications were read: what all of one read have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The wall clock, read once.
    pub received_at: SystemTime,
    /// Number of the session, from 1.
    pub epoch: u32,
}

/// Notifications that arrived together, borrowed from the receive buffer, and at most one loss that
/// lies before the first of them.
///
/// A batch counts as delivered when it is returned. It may be empty: then it carries a loss only.
#[derive(Clone, Copy)]
#[must_use = "a batch counts as delivered: what is not looked at is gone"]
pub struct Batch<'a> {
    frames: &'a [u8],
    count: usize,
    first: u64,
    stamp: &'a Stamp,
    loss: Option<&'a Loss>,
    /// Where the frames lie, when that may be pinned.
    lent: Option<&'a Lent>,
}

impl<'a> Batch<'a> {
    /// A batch over `frames`: `count` whole NotificationResponse messages, as
    /// [`scan`](crate::wire::scan) accepted them, the first with sequence number `first`. For shells of
    /// other runtimes.
    pub fn new(frames: &'a [u8], count: usize, first: u64, stamp: &'a Stamp) -> Self {
        Self { frames, count, first, stamp, loss: None, lent: None }
    }

    /// The same batch with a loss before its first notification.
    pub fn after(self, loss: &'a Loss) -> Self {
        Self { loss: Some(loss), ..self }
    }

    /// The same batch, whose frames lie in `lent`: to share it and to retain its notifications then need not
    /// copy.
    pub fn lent_by(self, lent: &'a Lent) -> Self {
        Self { lent: Some(lent), ..self }
    }

    /// The notifications, in the order in which the server sent them.
    #[inline]
    #[must_use]
    pub fn iter(&self) -> Iter<'a> {
        Iter {
            frames: crate::wire::frames(self.frames),
            sequence: self.first,
            left: self.count,
            stamp: self.stamp,
            lent: self.lent,
        }
    }

    /// How many notifications there are. Zero when the batch carries a loss only.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What was lost before the first notification of this batch, if anything.
    #[must_use]
    pub fn loss(&self) -> Option<&'a Loss> {
        self.loss
    }

    /// The same batch for as long as somebody wants it, on any thread.
    ///
    /// Of a [`Listener`](crate::Listener), it pins the receive buffer and copies nothing, unless it fills less
    /// than an eighth of the buffer, or would exceed
    /// [`pin_limit_bytes`](crate::ListenerBuilder::pin_limit_bytes): then it is copied once, as always that of a
    /// [`Connection`](crate::Connection), whose one buffer is read into again. One allocation, and one more for
    /// a copy; none for each clone. To hand on what is shared already, clone that.
    #[must_use]
    pub fn share(&self) -> SharedBatch {
        SharedBatch::new(self)
    }

    pub(super) fn frames(&self) -> &'a [u8] {
        self.frames
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn stamp(&self) -> &'a Stamp {
        self.stamp
    }

    pub(super) fn lent(&self) -> Option<&'a Lent> {
        self.lent
    }
}

impl<'a> IntoIterator for Batch<'a> {
    type Item = NotificationRef<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = NotificationRef<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("first", &self.first)
            .field("len", &self.count)
            .field("loss", &self.loss)
            .finish()
    }
}

/// The notifications of a [`Batch`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    frames: Notifications<'a>,
    sequence: u64,
    left: usize,
    stamp: &'a Stamp,
    lent: Option<&'a Lent>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = NotificationRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<NotificationRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        let raw = self.frames.next()?;
        let sequence = self.sequence;
        self.sequence += 1;
        Some(NotificationRef::new(raw, sequence, self.stamp, self.lent))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

//! [`Batch`]: the notifications of one call, borrowed from the receive buffer.

use std::fmt;
use std::time::SystemTime;

use super::{Loss, NotificationRef, SharedBatch};
use crate::proto::ring::BufferPart;
use crate::proto::wire::Notifications;

/// The time and the session in which notifications were received. All notifications of one read share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "proto"), allow(unreachable_pub, reason = "`proto` exports it"))]
#[non_exhaustive]
pub struct ReceiveInfo {
    /// The wall clock after the read.
    pub received_at: SystemTime,
    /// The number of the session, from 1.
    pub epoch: u32,
}

impl ReceiveInfo {
    /// Returns the time `received_at` and the number of the session, `epoch`.
    #[cfg_attr(
        not(feature = "proto"),
        allow(dead_code, unreachable_pub, reason = "`proto` exports it")
    )]
    #[must_use]
    pub fn new(received_at: SystemTime, epoch: u32) -> Self {
        Self { received_at, epoch }
    }
}

/// Notifications that arrived together, borrowed from the receive buffer, and at most one loss before the
/// first of them.
///
/// A batch counts as delivered when it is returned. It can be empty: then it contains only a loss.
///
/// ```no_run
/// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
/// let batch = listener.recv_batch().await?;
/// if let Some(loss) = batch.loss() {
///     println!("before these {}: {loss}", batch.len());
/// }
/// for notification in &batch {
///     println!("{}", notification.payload());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
#[must_use = "a batch counts as delivered: notifications that are not read are lost"]
pub struct Batch<'a> {
    frames: &'a [u8],
    count: usize,
    first: u64,
    info: &'a ReceiveInfo,
    loss: Option<&'a Loss>,
    /// The part of the receive buffer that contains the frames, if it can be pinned.
    part: Option<&'a BufferPart>,
}

impl<'a> Batch<'a> {
    /// Creates a batch of `count` whole NotificationResponse messages, as [`scan`](crate::proto::wire::scan)
    /// accepted them. The first one has the sequence number `first`. For drivers of other runtimes.
    pub(crate) fn new(frames: &'a [u8], count: usize, first: u64, info: &'a ReceiveInfo) -> Self {
        Self { frames, count, first, info, loss: None, part: None }
    }

    /// Returns the same batch with a loss before its first notification.
    pub(crate) fn after(self, loss: &'a Loss) -> Self {
        Self { loss: Some(loss), ..self }
    }

    /// Returns the same batch, with the part of the receive buffer that contains its frames. With it, the batch
    /// can be shared and its notifications can be retained without a copy.
    pub(crate) fn in_part(self, part: &'a BufferPart) -> Self {
        Self { part: Some(part), ..self }
    }

    /// Returns the notifications, in the order in which the server sent them.
    #[inline]
    #[must_use]
    pub fn iter(&self) -> BatchIter<'a> {
        BatchIter {
            frames: crate::proto::wire::frames(self.frames),
            sequence: self.first,
            left: self.count,
            info: self.info,
            part: self.part,
        }
    }

    /// Returns the number of notifications. Zero if the batch contains only a loss.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns true if there are no notifications.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the loss before the first notification of this batch, if there is one.
    #[must_use]
    pub fn loss(&self) -> Option<&'a Loss> {
        self.loss
    }

    /// Returns the same batch without a lifetime, for use on any thread.
    ///
    /// A batch of a [`Listener`](crate::Listener) pins its receive buffer and is not copied. It is copied once if
    /// it fills less than an eighth of the buffer, or if the buffer would exceed
    /// [`pin_limit_bytes`](crate::ListenerBuilder::pin_limit_bytes). A batch of a
    /// [`Connection`](crate::Connection) is always copied: a connection reads into its only buffer again.
    ///
    /// This takes one allocation, and one more for a copy. A clone of the result takes none.
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

    pub(super) fn info(&self) -> &'a ReceiveInfo {
        self.info
    }

    pub(super) fn part(&self) -> Option<&'a BufferPart> {
        self.part
    }
}

impl<'a> IntoIterator for Batch<'a> {
    type Item = NotificationRef<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = NotificationRef<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
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

/// An iterator over the notifications of a [`Batch`].
///
/// ```no_run
/// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
/// let batch = listener.recv_batch().await?;
/// let payloads: Vec<&str> = batch.iter().map(|notification| notification.payload()).collect();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct BatchIter<'a> {
    frames: Notifications<'a>,
    sequence: u64,
    left: usize,
    info: &'a ReceiveInfo,
    part: Option<&'a BufferPart>,
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = NotificationRef<'a>;

    // Not inlined, the notification would be written to memory before its payload can be read.
    #[inline(always)]
    fn next(&mut self) -> Option<NotificationRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        let raw = self.frames.next()?;
        let sequence = self.sequence;
        self.sequence += 1;
        Some(NotificationRef::new(raw, sequence, self.info, self.part))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for BatchIter<'_> {}

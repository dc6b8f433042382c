//! [`Chunk`]: a run of notifications that was cut off the receive buffer.

use std::num::NonZeroU64;

use bytes::Bytes;

use crate::notification::ReceiveInfo;

/// The value of an item: a run of NotificationResponse messages, as they were read.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(super) frames: Bytes,
    pub(super) count: usize,
    pub(super) info: ReceiveInfo,
    /// The number of the buffer that contains the frames. `None` if they were copied, or if the buffer is not pinned.
    pub(super) buffer: Option<NonZeroU64>,
}

impl Chunk {
    /// Creates a run whose frames are in no receive buffer.
    pub(crate) fn shared(frames: Bytes, count: usize, info: ReceiveInfo) -> Self {
        Self { frames, count, info, buffer: None }
    }

    /// Returns the number of notifications.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

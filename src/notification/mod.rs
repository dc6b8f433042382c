//! The types that a consumer receives: notifications, one by one or in batches, and losses.
//!
//! - [`Batch`] contains [`NotificationRef`]s, which borrow from the receive buffer.
//! - [`Notification`] owns its bytes: inline up to 79 bytes, otherwise in one allocation.
//! - [`SharedBatch`] and a [retained](NotificationRef::retain) notification pin the receive buffer. The bytes of
//!   pinned buffers are counted and limited.
//! - [`Gap`] and [`Lagged`] report what is missing, at the position in the stream where it is missing.
//! - `json` decodes payloads.

mod batch;
#[cfg(feature = "json")]
mod json;
mod loss;
mod owned;
pub(crate) mod owned_info;
mod owned_text;
mod shared;
#[cfg(feature = "tokio")]
pub(crate) mod topic;

use std::fmt;
use std::time::SystemTime;

#[cfg_attr(not(feature = "proto"), allow(unreachable_pub, reason = "`proto` exports it"))]
pub use batch::ReceiveInfo;
pub use batch::{Batch, BatchIter};
#[cfg(feature = "json")]
pub use json::{JsonError, JsonEvent};
#[cfg(all(feature = "json", feature = "tokio"))]
pub use json::{JsonStream, TryRecv};
pub(crate) use loss::Refusals;
pub use loss::{Event, Gap, Lagged, Loss};
pub use owned::Notification;
pub use shared::SharedBatch;
#[cfg(feature = "tokio")]
pub use topic::{TopicFunction, TopicOf};

use crate::proto::ring::BufferPart;
use crate::proto::wire::RawNotification;

/// A notification that borrows from the receive buffer.
///
/// To keep it longer than its batch, make a [`Notification`] of it: with [`to_owned`](Self::to_owned), which
/// copies, or with [`retain`](Self::retain), which does not copy a long payload.
///
/// ```no_run
/// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
/// let mut kept = Vec::new();
/// for notification in listener.recv_batch().await? {
///     if notification.channel() == "orders" {
///         // Valid after the batch.
///         kept.push(notification.to_owned());
///     }
/// }
/// # drop(kept);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct NotificationRef<'a> {
    raw: RawNotification<'a>,
    sequence: u64,
    info: &'a ReceiveInfo,
    /// The part of the receive buffer that contains it, if it can be pinned.
    part: Option<&'a BufferPart>,
}

impl<'a> NotificationRef<'a> {
    #[inline]
    pub(crate) fn new(
        raw: RawNotification<'a>,
        sequence: u64,
        info: &'a ReceiveInfo,
        part: Option<&'a BufferPart>,
    ) -> Self {
        Self { raw, sequence, info, part }
    }

    /// Returns the channel.
    ///
    /// The name was checked when it was received. This checks again that it is UTF-8, about a nanosecond for a short name;
    /// [`channel_bytes`](Self::channel_bytes) costs nothing.
    #[must_use]
    pub fn channel(&self) -> &'a str {
        text(self.raw.channel)
    }

    /// Returns the bytes of the channel, at least one.
    #[inline]
    #[must_use]
    pub fn channel_bytes(&self) -> &'a [u8] {
        self.raw.channel
    }

    /// Returns the payload. It is empty if NOTIFY had none.
    ///
    /// A payload that is not UTF-8 is never delivered: it ends the session with an error, because PostgreSQL does not send one.
    /// This checks again that it is UTF-8, in a time that grows with its length;
    /// [`payload_bytes`](Self::payload_bytes) costs nothing.
    #[must_use]
    pub fn payload(&self) -> &'a str {
        text(self.raw.payload)
    }

    /// Returns the bytes of the payload.
    #[inline]
    #[must_use]
    pub fn payload_bytes(&self) -> &'a [u8] {
        self.raw.payload
    }

    /// Returns the process id of the server process that sent it, as the server reports it.
    #[inline]
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.raw.process_id
    }

    /// Returns the time at which the bytes were read from the socket. All notifications of one read have the same.
    #[inline]
    #[must_use]
    pub fn received_at(&self) -> SystemTime {
        self.info.received_at
    }

    /// Returns the position in the stream of this listener or connection, from 0. Lost notifications are counted.
    #[inline]
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the number of the session in which it arrived, from 1.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.info.epoch
    }

    /// Returns a copy that owns its bytes and pins no buffer. Up to 79 bytes of channel and payload together need no
    /// allocation.
    // Not `ToOwned`: for a `Clone` type it returns another reference.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn to_owned(&self) -> Notification {
        Notification::copy(self)
    }

    /// Returns the notification without a copy of its bytes: they stay in the receive buffer, and the whole buffer,
    /// 256 KiB, is pinned until the last clone is dropped.
    ///
    /// Use it for long payloads that are needed for a short time. Several pins of one buffer count once. The
    /// notification is [copied](Self::to_owned) instead
    /// - if channel and payload together have at most 79 bytes: then a copy is cheaper,
    /// - if the buffer would exceed [`pin_limit_bytes`](crate::ListenerBuilder::pin_limit_bytes),
    /// - on a [`Connection`](crate::Connection), which reads into its only buffer again.
    #[must_use]
    pub fn retain(&self) -> Notification {
        Notification::retain(self)
    }
}

/// Writes only the length of the payload: it is the application's data.
impl fmt::Debug for NotificationRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationRef")
            .field("channel", &self.channel())
            .field("payload_bytes", &self.raw.payload.len())
            .field("process_id", &self.raw.process_id)
            .field("sequence", &self.sequence)
            .field("epoch", &self.info.epoch)
            .finish()
    }
}

/// Returns the text of bytes that were checked when they were received. Only bytes that come from elsewhere, such as those of a
/// test, can be something else: `U+FFFD` is returned for these.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("\u{fffd}")
}

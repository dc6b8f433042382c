//! What a consumer gets: notifications, one by one or in batches, and the losses between them.
//!
//! - [`Batch`] lends [`NotificationRef`]s, views into the receive buffer.
//! - [`Notification`] owns its bytes: inline up to 79, in one allocation above.
//! - [`SharedBatch`] and a [retained](NotificationRef::retain) notification keep the views, and so the
//!   buffer: counted and capped.
//! - [`Gap`] and [`Lagged`] say what is missing, in their place in the stream.

mod batch;
mod loss;
mod owned;
mod shared;

use std::fmt;
use std::str::Utf8Error;
use std::time::SystemTime;

pub use batch::{Batch, Iter, Stamp};
pub(crate) use loss::Refusals;
pub use loss::{Event, Gap, Lagged, Loss};
pub use owned::Notification;
pub use shared::SharedBatch;

use crate::ring::Lent;
use crate::wire::RawNotification;

/// A notification that borrows from the receive buffer it arrived in.
///
/// To keep it beyond its batch, make it a [`Notification`]: with [`to_owned`](Self::to_owned), a copy, or with
/// [`retain`](Self::retain), which leaves a long payload where it is.
#[derive(Clone, Copy)]
pub struct NotificationRef<'a> {
    raw: RawNotification<'a>,
    sequence: u64,
    stamp: &'a Stamp,
    /// Where it lies, when that may be pinned.
    lent: Option<&'a Lent>,
}

impl<'a> NotificationRef<'a> {
    #[inline]
    pub(crate) fn new(
        raw: RawNotification<'a>,
        sequence: u64,
        stamp: &'a Stamp,
        lent: Option<&'a Lent>,
    ) -> Self {
        Self { raw, sequence, stamp, lent }
    }

    /// The channel it was sent on.
    ///
    /// A name that is not UTF-8 is shown as `U+FFFD`; [`channel_bytes`](Self::channel_bytes) has what
    /// arrived. PostgreSQL sends none: it ends the session instead. N39.
    #[must_use]
    pub fn channel(&self) -> &'a str {
        text_or_replacement(self.raw.channel)
    }

    /// The channel as it arrived, at least one byte.
    #[inline]
    #[must_use]
    pub fn channel_bytes(&self) -> &'a [u8] {
        self.raw.channel
    }

    /// The payload as it arrived. Empty when NOTIFY had none. A server that is not PostgreSQL may send
    /// what is not UTF-8.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.raw.payload
    }

    /// The payload as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn payload_str(&self) -> Result<&'a str, Utf8Error> {
        std::str::from_utf8(self.raw.payload)
    }

    /// Process id of the server process that sent it, as the server writes it.
    #[inline]
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.raw.process_id
    }

    /// When the bytes were read from the socket: one clock reading for all that came in one read.
    #[inline]
    #[must_use]
    pub fn received_at(&self) -> SystemTime {
        self.stamp.received_at
    }

    /// Position in this listener or connection, from 0, lost notifications counted.
    #[inline]
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Number of the session it arrived in, from 1.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.stamp.epoch
    }

    /// A copy that owns its bytes and pins nothing. No allocation up to 79 bytes of channel and
    /// payload together.
    // Not `ToOwned`: on a `Clone` type that would quietly return another reference.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn to_owned(&self) -> Notification {
        Notification::copy(self)
    }

    /// The same as [`to_owned`](Self::to_owned).
    #[must_use]
    pub fn to_notification(&self) -> Notification {
        self.to_owned()
    }

    /// The notification without a copy of its bytes: they stay in the receive buffer, and all of that buffer,
    /// 256 KiB, is pinned until this and every clone of it is gone.
    ///
    /// For long payloads that live briefly; all those of one buffer together hold it once. It is
    /// [copied](Self::to_owned) where that is cheaper, up to 79 bytes of channel and payload together, where
    /// the buffer would exceed [`pin_limit_bytes`](crate::ListenerBuilder::pin_limit_bytes), and on a
    /// [`Connection`](crate::Connection), whose one buffer is read into again.
    #[must_use]
    pub fn retain(&self) -> Notification {
        Notification::retain(self)
    }
}

/// The payload is the application's data: its length only.
impl fmt::Debug for NotificationRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationRef")
            .field("channel", &self.channel())
            .field("payload_bytes", &self.raw.payload.len())
            .field("process_id", &self.raw.process_id)
            .field("sequence", &self.sequence)
            .field("epoch", &self.stamp.epoch)
            .finish()
    }
}

fn text_or_replacement(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("\u{fffd}")
}

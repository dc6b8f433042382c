//! A notification that owns its bytes.

use std::fmt;
use std::str::Utf8Error;
use std::time::SystemTime;

use super::{NotificationRef, text_or_replacement};

/// Bytes of channel and payload together that need no allocation.
///
/// The usual notification is a short name and an id or a small JSON object; a copy of 64 bytes costs
/// less than an allocation and its release.
const INLINE_BYTES: usize = 64;

/// A notification that owns its bytes and pins no buffer.
#[derive(Clone)]
pub struct Notification {
    bytes: Bytes,
    channel_len: u32,
    process_id: i32,
    epoch: u32,
    sequence: u64,
    received_at: SystemTime,
}

/// Channel, then payload.
#[derive(Clone)]
enum Bytes {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Boxed(Box<[u8]>),
}

impl Notification {
    pub(super) fn copy(from: &NotificationRef<'_>) -> Self {
        let (channel, payload) = (from.channel_bytes(), from.payload());
        Self {
            bytes: Bytes::joined(channel, payload),
            // A frame is at most 256 KiB.
            channel_len: u32::try_from(channel.len()).unwrap_or(u32::MAX),
            process_id: from.process_id(),
            epoch: from.epoch(),
            sequence: from.sequence(),
            received_at: from.received_at(),
        }
    }

    fn split(&self) -> (&[u8], &[u8]) {
        let bytes = self.bytes.as_slice();
        let at = usize::try_from(self.channel_len).unwrap_or(usize::MAX).min(bytes.len());
        bytes.split_at(at)
    }

    /// See [`NotificationRef::channel`].
    #[must_use]
    pub fn channel(&self) -> &str {
        text_or_replacement(self.split().0)
    }

    /// See [`NotificationRef::channel_bytes`].
    #[must_use]
    pub fn channel_bytes(&self) -> &[u8] {
        self.split().0
    }

    /// See [`NotificationRef::payload`].
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.split().1
    }

    /// The payload as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn payload_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(self.payload())
    }

    /// See [`NotificationRef::process_id`].
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// See [`NotificationRef::received_at`].
    #[must_use]
    pub fn received_at(&self) -> SystemTime {
        self.received_at
    }

    /// See [`NotificationRef::sequence`].
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// See [`NotificationRef::epoch`].
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
}

impl Bytes {
    fn joined(channel: &[u8], payload: &[u8]) -> Self {
        let len = channel.len() + payload.len();
        let mut bytes = [0; INLINE_BYTES];
        match (u8::try_from(len), bytes.get_mut(..len)) {
            (Ok(len), Some(room)) => {
                let (head, tail) = room.split_at_mut(channel.len());
                head.copy_from_slice(channel);
                tail.copy_from_slice(payload);
                Self::Inline { len, bytes }
            }
            _ => Self::Boxed([channel, payload].concat().into_boxed_slice()),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Boxed(bytes) => bytes,
        }
    }
}

impl From<NotificationRef<'_>> for Notification {
    fn from(from: NotificationRef<'_>) -> Self {
        Self::copy(&from)
    }
}

impl PartialEq for Notification {
    /// Equal in everything that the server sent, and in its place in the stream.
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
            && self.epoch == other.epoch
            && self.process_id == other.process_id
            && self.split() == other.split()
    }
}

impl Eq for Notification {}

/// The payload is the application's data: its length only.
impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("channel", &self.channel())
            .field("payload_bytes", &self.payload().len())
            .field("process_id", &self.process_id)
            .field("sequence", &self.sequence)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stamp;
    use super::*;
    use crate::wire::RawNotification;

    #[test]
    fn a_copy_has_the_same_channel_and_payload_at_every_length() {
        let stamp = Stamp { received_at: SystemTime::UNIX_EPOCH, epoch: 3 };
        for len in [0, 1, 59, 60, 61, 62, 1_000, 7_999] {
            let payload: Vec<u8> = (0..len).map(|i| b'a' + u8::try_from(i % 26).unwrap()).collect();
            let raw = RawNotification { process_id: -7, channel: b"jobs", payload: &payload };
            let view = NotificationRef::new(raw, 42, &stamp);
            let owned = view.to_owned();
            assert_eq!(owned.channel(), "jobs");
            assert_eq!(owned.payload(), payload);
            assert_eq!((owned.process_id(), owned.sequence(), owned.epoch()), (-7, 42, 3));
            assert_eq!(matches!(owned.bytes, Bytes::Inline { .. }), len + 4 <= INLINE_BYTES);
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_is_shown_replaced_and_kept_as_bytes() {
        let stamp = Stamp { received_at: SystemTime::UNIX_EPOCH, epoch: 1 };
        let raw = RawNotification { process_id: 1, channel: b"a\xff", payload: b"\xfe" };
        let owned = NotificationRef::new(raw, 0, &stamp).to_owned();
        assert_eq!(owned.channel(), "\u{fffd}");
        assert_eq!(owned.channel_bytes(), b"a\xff");
        assert!(owned.payload_str().is_err());
    }
}

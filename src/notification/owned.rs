//! A notification that owns its bytes.

use std::fmt;
use std::str::Utf8Error;
use std::time::SystemTime;

use super::{NotificationRef, Stamp, text_or_replacement};
use crate::wire::{RawNotification, TEXT_AT};

/// Bytes of channel and payload together that need no allocation.
///
/// The usual notification is a short name and an id or a small JSON object; a copy of so many bytes
/// costs less than an allocation and its release.
const INLINE_BYTES: usize = TEXT_BYTES - 1;

/// The same with the NUL that stands between the two, as on the wire, so that one copy takes all of it.
const TEXT_BYTES: usize = 72;

/// A notification that owns its bytes and pins no buffer. No allocation up to 71 bytes of channel and
/// payload together.
#[derive(Clone)]
pub struct Notification {
    inline: Inline,
    /// Channel, NUL, payload, when they are too long for `inline`.
    boxed: Option<Box<[u8]>>,
    /// Bytes of the channel, and of the whole text. A frame is at most 256 KiB.
    channel_len: u32,
    len: u32,
    process_id: i32,
    epoch: u32,
    sequence: u64,
    received_at: SystemTime,
}

// Up to 128 bytes are moved without calling `memcpy`.
const _: () = assert!(size_of::<Notification>() <= 128);

/// Channel, NUL, payload, and then whatever stood behind them where they were copied from.
///
/// Aligned like the fields beside it: a processor passes on what was just written only to a load that
/// lies within one store, and a notification is moved before it is looked at.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Inline([u8; TEXT_BYTES]);

impl Notification {
    #[inline]
    pub(super) fn copy(from: &NotificationRef<'_>) -> Self {
        Self::joined(from.raw, from.sequence, from.stamp)
    }

    /// The notification whose frame stands at the head of `frames`, as `raw`. Costs less than a copy of
    /// its parts.
    #[inline]
    #[must_use]
    pub fn from_frame(
        frames: &[u8],
        raw: RawNotification<'_>,
        sequence: u64,
        stamp: &Stamp,
    ) -> Self {
        let text = frames.get(TEXT_AT..).unwrap_or_default();
        match text.first_chunk::<TEXT_BYTES>() {
            // A copy of a length that the compiler knows is a few moves. What follows the text comes
            // along, and is never shown.
            Some(head) if raw.channel.len() + raw.payload.len() <= INLINE_BYTES => {
                Self::with(Inline(*head), None, raw, sequence, stamp)
            }
            _ => Self::joined(raw, sequence, stamp),
        }
    }

    fn joined(raw: RawNotification<'_>, sequence: u64, stamp: &Stamp) -> Self {
        let (channel, payload) = (raw.channel, raw.payload);
        let mut inline = Inline([0; TEXT_BYTES]);
        let mut boxed = None;
        if let Some(room) = inline.0.get_mut(..channel.len() + 1 + payload.len()) {
            let (head, tail) = room.split_at_mut(channel.len() + 1);
            head[..channel.len()].copy_from_slice(channel);
            tail.copy_from_slice(payload);
        } else {
            boxed = Some([channel, &[0], payload].concat().into_boxed_slice());
        }
        Self::with(inline, boxed, raw, sequence, stamp)
    }

    #[inline]
    fn with(
        inline: Inline,
        boxed: Option<Box<[u8]>>,
        raw: RawNotification<'_>,
        sequence: u64,
        stamp: &Stamp,
    ) -> Self {
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            inline,
            boxed,
            channel_len: length(raw.channel.len()),
            len: length(raw.channel.len() + 1 + raw.payload.len()),
            process_id: raw.process_id,
            epoch: stamp.epoch,
            sequence,
            received_at: stamp.received_at,
        }
    }

    /// Channel and payload.
    #[inline]
    fn split(&self) -> (&[u8], &[u8]) {
        let text = self.boxed.as_deref().unwrap_or(&self.inline.0);
        let length = |length: u32| usize::try_from(length).unwrap_or(usize::MAX);
        let text = text.get(..length(self.len)).unwrap_or(text);
        let (channel, rest) = text.split_at(length(self.channel_len).min(text.len()));
        (channel, rest.get(1..).unwrap_or_default())
    }

    /// See [`NotificationRef::channel`].
    #[must_use]
    pub fn channel(&self) -> &str {
        text_or_replacement(self.split().0)
    }

    /// See [`NotificationRef::channel_bytes`].
    #[inline]
    #[must_use]
    pub fn channel_bytes(&self) -> &[u8] {
        self.split().0
    }

    /// See [`NotificationRef::payload`].
    #[inline]
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
    #[inline]
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// See [`NotificationRef::received_at`].
    #[inline]
    #[must_use]
    pub fn received_at(&self) -> SystemTime {
        self.received_at
    }

    /// See [`NotificationRef::sequence`].
    #[inline]
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// See [`NotificationRef::epoch`].
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
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
    use bytes::BytesMut;

    use super::*;
    use crate::wire::{self, BackendMessage};

    #[test]
    fn a_copy_has_the_same_channel_and_payload_at_every_length() {
        let stamp = Stamp { received_at: SystemTime::UNIX_EPOCH, epoch: 3 };
        for len in [0, 1, 60, 66, 67, 68, 69, 1_000, 7_999] {
            let payload: Vec<u8> = (0..len).map(|i| b'a' + u8::try_from(i % 26).unwrap()).collect();
            let raw = RawNotification { process_id: -7, channel: b"jobs", payload: &payload };
            let view = NotificationRef::new(raw, 42, &stamp);
            let owned = view.to_owned();
            assert_eq!(owned.channel(), "jobs");
            assert_eq!(owned.payload(), payload);
            assert_eq!((owned.process_id(), owned.sequence(), owned.epoch()), (-7, 42, 3));
            assert_eq!(owned.boxed.is_none(), len + 4 <= INLINE_BYTES);
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

    #[test]
    fn a_copy_of_a_frame_is_the_copy_of_its_parts_wherever_the_buffer_ends() {
        let stamp = Stamp { received_at: SystemTime::UNIX_EPOCH, epoch: 3 };
        for len in 0..200 {
            for behind in [0, 1, 30, 80] {
                let payload = vec![b'p'; len];
                let raw = RawNotification { process_id: 5, channel: b"c1", payload: &payload };
                let mut frames = BytesMut::new();
                BackendMessage::NotificationResponse(raw).encode(&mut frames).unwrap();
                frames.extend_from_slice(&vec![b'A'; behind]);
                let found = wire::frames(&frames).next().unwrap();
                let copied = Notification::from_frame(&frames, found, 9, &stamp);
                assert_eq!(copied, NotificationRef::new(raw, 9, &stamp).to_owned());
                assert_eq!((copied.channel(), copied.payload()), ("c1", &payload[..]));
                assert_eq!(copied.boxed.is_none(), len + 2 <= INLINE_BYTES);
            }
        }
    }
}

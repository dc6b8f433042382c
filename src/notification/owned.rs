//! [`Notification`]: a notification that owns its bytes.

use std::fmt;
use std::time::SystemTime;

use super::{NotificationRef, ReceiveInfo, text};
use crate::proto::ring::PinnedBytes;
use crate::proto::wire::escape::Escaped;
use crate::proto::wire::{RawNotification, TEXT_AT};

/// The highest number of bytes of channel and payload together that are stored without an allocation.
///
/// A usual notification is a short name and an id or a small JSON object. To copy this many bytes costs less
/// than to allocate and free memory.
#[allow(dead_code, reason = "only a listener uses it")]
const INLINE_BYTES: usize = TEXT_BYTES - 1;

/// The same with the NUL between the two, as in the message, so that both are copied at once.
const TEXT_BYTES: usize = 80;

/// A notification that owns its bytes and pins no receive buffer, unless it was
/// [retained](NotificationRef::retain).
///
/// Up to 79 bytes of channel and payload together need no allocation.
// 128 bytes, written and moved in parts of eight or sixteen. If a load spans two recent stores, a processor
// cannot forward them, and waits until both are in its cache. Between the copy out of the receive buffer and the
// first use of the text there are three moves, and such waits took half of the time of `Listener::recv`.
#[derive(Clone)]
#[repr(C)]
pub struct Notification {
    text: Text,
    process_id_and_epoch: Pair,
    sequence: u64,
    received_at: SystemTime,
}

// A larger value is moved by a call of `memcpy`.
const _: () = assert!(size_of::<Notification>() <= 128);
// An `Event`, and the `Result` and `Poll` around it, use free values of the tag of `Text` as their own tags.
const _: () = assert!(size_of::<Option<Option<Notification>>>() == size_of::<Notification>());

/// Channel, NUL and payload, after the length of the channel and the length of all.
///
/// The tag has eight bytes and comes first. If it were a smaller field between the others, the tags of the types
/// around it would split each move at an unaligned address.
#[derive(Clone)]
#[repr(u64)]
enum Text {
    /// A short text. The bytes after it have no meaning: [`Notification::from_frame`] copies the bytes that follow
    /// in the receive buffer.
    Inline(Pair, [u8; TEXT_BYTES]),
    /// A longer text.
    Boxed(Pair, Box<[u8]>),
    /// A longer text in the receive buffer, which is pinned.
    Pinned(Pair, PinnedBytes),
}

impl Text {
    /// Returns the channel and the payload.
    #[inline]
    fn split(&self) -> (&[u8], &[u8]) {
        let (lengths, text): (_, &[u8]) = match self {
            Self::Inline(lengths, text) => (lengths, text),
            Self::Boxed(lengths, text) => (lengths, text),
            Self::Pinned(lengths, pinned) => (lengths, pinned.bytes()),
        };
        let length = |length: u32| usize::try_from(length).unwrap_or(usize::MAX);
        let text = text.get(..length(lengths.second())).unwrap_or(text);
        let (channel, rest) = text.split_at(length(lengths.first()).min(text.len()));
        (channel, rest.get(1..).unwrap_or_default())
    }
}

/// Two numbers that are moved as one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pair(u64);

impl Pair {
    #[inline]
    fn new(first: u32, second: u32) -> Self {
        Self(u64::from(first) | u64::from(second) << 32)
    }

    /// Returns the length of the channel and of the whole text. A frame has at most 256 KiB.
    #[inline]
    fn lengths(raw: RawNotification<'_>) -> Self {
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self::new(length(raw.channel.len()), length(raw.channel.len() + 1 + raw.payload.len()))
    }

    #[inline]
    fn first(self) -> u32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    #[inline]
    fn second(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

impl Notification {
    #[inline]
    pub(super) fn copy(from: &NotificationRef<'_>) -> Self {
        let (channel, payload) = (from.raw.channel, from.raw.payload);
        let mut inline = [0; TEXT_BYTES];
        let lengths = Pair::lengths(from.raw);
        let text = if let Some(room) = inline.get_mut(..channel.len() + 1 + payload.len()) {
            let (head, tail) = room.split_at_mut(channel.len() + 1);
            head[..channel.len()].copy_from_slice(channel);
            tail.copy_from_slice(payload);
            Text::Inline(lengths, inline)
        } else {
            Text::Boxed(lengths, [channel, &[0], payload].concat().into_boxed_slice())
        };
        Self::new(text, from.raw, from.sequence, from.info)
    }

    /// Pins the receive buffer if the text is long and the buffer can be pinned; otherwise copies.
    pub(super) fn retain(from: &NotificationRef<'_>) -> Self {
        let raw = from.raw;
        let length = raw.channel.len() + 1 + raw.payload.len();
        let pinned = from.part.filter(|_| length > TEXT_BYTES).and_then(|part| {
            let start = part.position(raw.channel)?;
            part.pin(start..start + length)
        });
        match pinned {
            Some(pinned) => {
                let text = Text::Pinned(Pair::lengths(raw), pinned);
                Self::new(text, raw, from.sequence, from.info)
            }
            None => Self::copy(from),
        }
    }

    /// Copies the first notification of `frames`, which was parsed to `raw`, with one copy of a fixed length.
    ///
    /// Returns `None` if it needs an allocation, or if `frames` ends less than that length after the start of its
    /// text. Then copy it by its parts.
    #[allow(dead_code, reason = "only a listener uses it")]
    #[inline(always)]
    #[must_use]
    pub(crate) fn from_frame(
        frames: &[u8],
        raw: RawNotification<'_>,
        sequence: u64,
        info: &ReceiveInfo,
    ) -> Option<Self> {
        // A copy of a constant length is a few moves. It includes bytes after the text, which are not used.
        let text = frames.get(TEXT_AT..)?.first_chunk::<TEXT_BYTES>()?;
        if raw.channel.len() + raw.payload.len() > INLINE_BYTES {
            return None;
        }
        Some(Self::new(Text::Inline(Pair::lengths(raw), *text), raw, sequence, info))
    }

    #[inline(always)]
    fn new(text: Text, raw: RawNotification<'_>, sequence: u64, info: &ReceiveInfo) -> Self {
        let process_id_and_epoch = Pair::new(raw.process_id.cast_unsigned(), info.epoch);
        Self { text, process_id_and_epoch, sequence, received_at: info.received_at }
    }

    /// See [`NotificationRef::channel`].
    #[must_use]
    pub fn channel(&self) -> &str {
        text(self.text.split().0)
    }

    /// See [`NotificationRef::channel_bytes`].
    #[inline]
    #[must_use]
    pub fn channel_bytes(&self) -> &[u8] {
        self.text.split().0
    }

    /// See [`NotificationRef::payload`].
    #[must_use]
    pub fn payload(&self) -> &str {
        text(self.text.split().1)
    }

    /// See [`NotificationRef::payload_bytes`].
    #[inline]
    #[must_use]
    pub fn payload_bytes(&self) -> &[u8] {
        self.text.split().1
    }

    /// See [`NotificationRef::process_id`].
    #[inline]
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.process_id_and_epoch.first().cast_signed()
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
        self.process_id_and_epoch.second()
    }
}

impl From<NotificationRef<'_>> for Notification {
    fn from(from: NotificationRef<'_>) -> Self {
        Self::copy(&from)
    }
}

impl PartialEq for Notification {
    /// Compares everything that the server sent, and the position in the stream. `received_at` is not compared.
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
            && self.process_id_and_epoch == other.process_id_and_epoch
            && self.text.split() == other.text.split()
    }
}

impl Eq for Notification {}

/// Writes one line, without the payload: it is the application's data.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channel, bytes) = (Escaped(self.channel()), self.payload_bytes().len());
        write!(f, "{channel}: {bytes} bytes from process {}", self.process_id())
    }
}

/// Writes only the length of the payload: it is the application's data.
impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("channel", &self.channel())
            .field("payload_bytes", &self.payload_bytes().len())
            .field("process_id", &self.process_id())
            .field("sequence", &self.sequence)
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::proto::wire::{self, BackendMessage};

    #[test]
    fn a_copy_has_the_same_channel_and_payload_at_every_length() {
        let info = ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 3 };
        for len in [0, 1, 60, 66, 67, 68, 69, 74, 75, 76, 77, 1_000, 7_999] {
            let payload: Vec<u8> = (0..len).map(|i| b'a' + u8::try_from(i % 26).unwrap()).collect();
            let raw = RawNotification { process_id: -7, channel: b"jobs", payload: &payload };
            let view = NotificationRef::new(raw, 42, &info, None);
            let owned = view.to_owned();
            assert_eq!(owned.channel(), "jobs");
            assert_eq!(owned.payload_bytes(), payload);
            assert_eq!((owned.process_id(), owned.sequence(), owned.epoch()), (-7, 42, 3));
            assert_eq!(matches!(owned.text, Text::Inline(..)), len + 4 <= INLINE_BYTES);
        }
    }

    #[test]
    fn a_channel_that_is_not_utf8_is_replaced_as_text_and_unchanged_as_bytes() {
        let info = ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 1 };
        let raw = RawNotification { process_id: 1, channel: b"a\xff", payload: b"\xfe" };
        let owned = NotificationRef::new(raw, 0, &info, None).to_owned();
        assert_eq!(owned.channel(), "\u{fffd}");
        assert_eq!(owned.channel_bytes(), b"a\xff");
        assert_eq!(owned.payload(), "\u{fffd}");
        assert_eq!(owned.payload_bytes(), b"\xfe");
    }

    #[test]
    fn a_copy_of_a_frame_equals_the_copy_of_its_parts_wherever_the_buffer_ends() {
        let info = ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 3 };
        for len in 0..200 {
            for behind in [0, 1, 30, 80] {
                let payload = vec![b'p'; len];
                let raw = RawNotification { process_id: 5, channel: b"c1", payload: &payload };
                let mut frames = BytesMut::new();
                BackendMessage::NotificationResponse(raw).encode(&mut frames).unwrap();
                frames.extend_from_slice(&vec![b'A'; behind]);
                let found = wire::frames(&frames).next().unwrap();
                let copied = Notification::from_frame(&frames, found, 9, &info);
                assert_eq!(
                    copied.is_some(),
                    len + 2 <= INLINE_BYTES && frames.len() >= TEXT_AT + TEXT_BYTES
                );
                let Some(copied) = copied else { continue };
                assert_eq!(copied, NotificationRef::new(raw, 9, &info, None).to_owned());
                assert_eq!(
                    (copied.channel_bytes(), copied.payload_bytes()),
                    (&b"c1"[..], &payload[..])
                );
            }
        }
    }
}

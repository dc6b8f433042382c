//! [`Notification`]: a notification that owns its bytes.

use std::fmt;
use std::time::SystemTime;

use super::owned_info::{OwnedInfo, UnixNanos};
use super::owned_text::{INLINE_BYTES, OwnedText, Pair};
use super::{NotificationRef, text};
use crate::proto::wire::escape::Escaped;
use crate::proto::wire::{RawNotification, ShortFrame};

/// A notification that owns its bytes and pins no receive buffer, unless it was
/// [retained](NotificationRef::retain).
///
/// Up to 79 bytes of channel and payload together need no allocation.
///
/// ```no_run
/// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
/// if let Some(notification) = listener.recv().await?.into_notification() {
///     println!("{}: {}", notification.channel(), notification.payload());
///     println!("sent by the server process {}", notification.process_id());
///     println!("number {} of session {}", notification.sequence(), notification.epoch());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[repr(C)]
pub struct Notification {
    text: OwnedText,
    process_id_and_epoch: Pair,
    sequence: u64,
    received_at: UnixNanos,
}

// A larger value would be moved by a call of `memcpy`.
const _: () = assert!(size_of::<Notification>() <= 128);
// An `Event`, and the `Result` and `Poll` around it, use free values of the tag of `OwnedText` as their own tags.
const _: () = assert!(size_of::<Option<Option<Notification>>>() == size_of::<Notification>());

impl Notification {
    pub(super) fn copy(from: &NotificationRef<'_>) -> Self {
        Self::new(OwnedText::copy(from.raw), from.raw, from.sequence, (*from.info).into())
    }

    /// Pins the receive buffer if the text is long and the buffer can be pinned; otherwise copies.
    pub(super) fn retain(from: &NotificationRef<'_>) -> Self {
        let raw = from.raw;
        let length = raw.channel.len() + 1 + raw.payload.len();
        let pinned = from.part.filter(|_| length > INLINE_BYTES + 1).and_then(|part| {
            let start = part.position(raw.channel)?;
            part.pin(start..start + length)
        });
        match pinned {
            Some(pinned) => {
                Self::new(OwnedText::pinned(raw, pinned), raw, from.sequence, (*from.info).into())
            }
            None => Self::copy(from),
        }
    }

    /// Copies a short notification, with copies of constant length.
    #[allow(dead_code, reason = "only a listener uses it")]
    #[inline(always)]
    #[must_use]
    pub(crate) fn from_short(frame: &ShortFrame<'_>, sequence: u64, info: OwnedInfo) -> Self {
        Self::with_text(OwnedText::copy_short(frame), frame.process_id, sequence, info)
    }

    fn new(text: OwnedText, raw: RawNotification<'_>, sequence: u64, info: OwnedInfo) -> Self {
        Self::with_text(text, raw.process_id, sequence, info)
    }

    #[inline(always)]
    fn with_text(text: OwnedText, process_id: i32, sequence: u64, info: OwnedInfo) -> Self {
        let process_id_and_epoch = Pair::new(process_id.cast_unsigned(), info.epoch);
        Self { text, process_id_and_epoch, sequence, received_at: info.received_at }
    }

    /// See [`NotificationRef::channel`].
    #[must_use]
    pub fn channel(&self) -> &str {
        text(self.text.channel())
    }

    /// See [`NotificationRef::channel_bytes`].
    #[inline]
    #[must_use]
    pub fn channel_bytes(&self) -> &[u8] {
        self.text.channel()
    }

    /// See [`NotificationRef::payload`].
    #[must_use]
    pub fn payload(&self) -> &str {
        text(self.text.payload())
    }

    /// See [`NotificationRef::payload_bytes`].
    #[inline]
    #[must_use]
    pub fn payload_bytes(&self) -> &[u8] {
        self.text.payload()
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
        self.received_at.into()
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
            && self.channel_bytes() == other.channel_bytes()
            && self.payload_bytes() == other.payload_bytes()
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
    use crate::notification::ReceiveInfo;
    use crate::proto::wire::BackendMessage;

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
            assert_eq!(matches!(owned.text, OwnedText::Inline(..)), len + 4 <= INLINE_BYTES);
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
    fn a_copy_of_a_short_frame_equals_the_copy_of_its_parts_wherever_the_buffer_ends() {
        let info = ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 3 };
        let mut copies = 0;
        for (channel, payload) in (1..30).flat_map(|n| (0..100).map(move |len| (n, len))) {
            for behind in [0, 1, 30, 80] {
                let (channel, payload) = (vec![b'c'; channel], vec![b'p'; payload]);
                let raw = RawNotification { process_id: 5, channel: &channel, payload: &payload };
                let mut frames = BytesMut::new();
                BackendMessage::NotificationResponse(raw).encode(&mut frames).unwrap();
                let bytes = frames.len();
                frames.extend_from_slice(&vec![b'A'; behind]);
                let frame = ShortFrame::first(&frames);
                let is_short = channel.len() + payload.len() <= INLINE_BYTES;
                if !is_short || behind == 80 {
                    assert_eq!(frame.is_some(), is_short, "{raw:?}");
                }
                let Some(frame) = frame else { continue };
                copies += 1;
                let copied = Notification::from_short(&frame, 9, info.into());
                assert_eq!(frame.bytes(), bytes);
                assert_eq!(copied, NotificationRef::new(raw, 9, &info, None).to_owned());
                assert_eq!(
                    (copied.channel_bytes(), copied.payload_bytes()),
                    (&channel[..], &payload[..])
                );
            }
        }
        assert!(copies > 2_000, "{copies}");
    }
}

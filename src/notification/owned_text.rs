//! [`OwnedText`]: the channel and the payload of a notification that owns them.

use crate::proto::ring::PinnedBytes;
use crate::proto::wire::{RawNotification, SHORT_BYTES, ShortFrame};

/// The highest number of bytes of channel and payload together that are stored without an allocation.
///
/// A usual notification is a short name and an id or a small JSON object. To copy this many bytes costs less
/// than to allocate and free memory.
pub(super) const INLINE_BYTES: usize = WORDS * WORD_BYTES - 1;

/// A text of at most [`INLINE_BYTES`]. The bytes after it have no meaning.
///
/// The payload is at [`payload_at`]: at the beginning of a word if it can be.
type Words = [Word; WORDS];

/// The bytes of one store.
///
/// The text is read soon after it was copied out of the receive buffer. A processor forwards a load that lies within one recent
/// store, and waits if the load spans two. So the payload begins with a store. And a value of this type is moved in a register,
/// where an array of 80 bytes is copied from memory to memory by each function that returns it. Both together were half of the
/// time of `Listener::recv`.
type Word = [u8; WORD_BYTES];

const WORD_BYTES: usize = 16;
const WORDS: usize = 5;

const _: () = assert!(INLINE_BYTES == SHORT_BYTES);

/// Returns the offset of the payload in a text. The channel is at the beginning.
///
/// The payload begins at the second word if channel and payload fit in this way. Otherwise it follows the channel and a NUL, as in
/// the message.
#[inline(always)]
fn payload_at(channel: usize, payload: usize) -> usize {
    if channel < WORD_BYTES && payload <= (WORDS - 1) * WORD_BYTES {
        WORD_BYTES
    } else {
        channel + 1
    }
}

/// The channel and the payload, after their lengths.
///
/// The tag has eight bytes and comes first, so that the types around it, which use free values of the tag as their own tags, are
/// moved in parts of eight or sixteen bytes.
#[derive(Clone)]
#[repr(u64)]
pub(super) enum OwnedText {
    Inline(Pair, Words),
    /// Channel, NUL and payload.
    Boxed(Pair, Box<[u8]>),
    /// The same in the receive buffer, which is pinned.
    Pinned(Pair, PinnedBytes),
}

impl OwnedText {
    /// Copies the text. A longer one is copied to a new allocation.
    pub(super) fn copy(raw: RawNotification<'_>) -> Self {
        let (channel, payload) = (raw.channel, raw.payload);
        let lengths = lengths(raw);
        if channel.len() + payload.len() > INLINE_BYTES {
            return Self::Boxed(lengths, [channel, &[0], payload].concat().into_boxed_slice());
        }
        let mut words = Words::default();
        let text = words.as_flattened_mut();
        let at = payload_at(channel.len(), payload.len());
        for (at, part) in [(0, channel), (at, payload)] {
            if let Some(room) = text.get_mut(at..at + part.len()) {
                room.copy_from_slice(part);
            }
        }
        Self::Inline(lengths, words)
    }

    /// Copies the text of a short notification, in five copies of constant length.
    #[inline(always)]
    pub(super) fn copy_short(frame: &ShortFrame<'_>) -> Self {
        // In both cases the first word is the first 16 bytes. The others are the payload, or what follows the first word. `min`
        // changes nothing: with it the compiler knows that all words are in the text.
        let is_apart = frame.payload <= (WORDS - 1) * WORD_BYTES;
        let tail = if is_apart { (frame.channel + 1).min(WORD_BYTES) } else { WORD_BYTES };
        // Numbers, which are moved in registers wherever this is inlined. Arrays of bytes were moved through the stack in the loop of a
        // `blocking::Listener`, which doubled the time of `recv`.
        let word = |at: usize| {
            let bytes = frame.text.get(at..).and_then(<[u8]>::first_chunk);
            u128::from_ne_bytes(*bytes.unwrap_or(&[0; WORD_BYTES]))
        };
        // Not a loop: it would write the words to the stack.
        let words = [
            word(0),
            word(tail),
            word(tail + WORD_BYTES),
            word(tail + 2 * WORD_BYTES),
            word(tail + 3 * WORD_BYTES),
        ];
        Self::Inline(pair_of(frame.channel, frame.payload), words.map(u128::to_ne_bytes))
    }

    /// Keeps the receive buffer with `pinned`: channel, NUL and payload.
    pub(super) fn pinned(raw: RawNotification<'_>, pinned: PinnedBytes) -> Self {
        Self::Pinned(lengths(raw), pinned)
    }

    /// Returns the channel.
    #[inline]
    pub(super) fn channel(&self) -> &[u8] {
        let (Self::Inline(lengths, _) | Self::Boxed(lengths, _) | Self::Pinned(lengths, _)) = self;
        self.bytes().get(..length(lengths.first())).unwrap_or_default()
    }

    /// Returns the payload.
    #[inline]
    pub(super) fn payload(&self) -> &[u8] {
        let (lengths, at) = match self {
            Self::Inline(lengths, _) => {
                (lengths, payload_at(length(lengths.first()), length(lengths.second())))
            }
            Self::Boxed(lengths, _) | Self::Pinned(lengths, _) => {
                (lengths, length(lengths.first()) + 1)
            }
        };
        self.bytes().get(at..at + length(lengths.second())).unwrap_or_default()
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(_, words) => words.as_flattened(),
            Self::Boxed(_, text) => text,
            Self::Pinned(_, pinned) => pinned.bytes(),
        }
    }
}

/// The lengths of channel and payload.
fn lengths(raw: RawNotification<'_>) -> Pair {
    pair_of(raw.channel.len(), raw.payload.len())
}

/// Two lengths. A frame has at most 256 KiB.
#[inline(always)]
fn pair_of(channel: usize, payload: usize) -> Pair {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    Pair::new(length(channel), length(payload))
}

#[inline(always)]
fn length(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Two numbers that are moved as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair(u64);

impl Pair {
    #[inline(always)]
    pub(super) fn new(first: u32, second: u32) -> Self {
        Self(u64::from(first) | u64::from(second) << 32)
    }

    #[inline(always)]
    pub(super) fn first(self) -> u32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    #[inline(always)]
    pub(super) fn second(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

//! The fast path for runs of NotificationResponse messages.
//!
//! The bytes are read twice, both times without allocation. [`scan`] checks the bytes of one read from the socket and
//! returns how many complete, valid notifications are at the beginning. [`frames`] iterates over such a run later. Both use
//! the same function for one frame, so they find the same notifications, as do the framer and the decoder.
//!
//! A frame is `A`, length, process id, channel, NUL, payload, NUL. The end of the payload follows from the length word, so
//! it needs no search. The NUL of the channel is searched only if the channel differs from that of the frame before, which
//! is rare. [`scan`] also checks that channel and payload are UTF-8.
//!
//! ```
//! # #[cfg(feature = "proto")] {
//! use pgbell::proto::wire::{Stop, frames, scan};
//!
//! // One notification ("a", "b") of process 1, and the first byte of the next message.
//! let received = b"A\0\0\0\x0c\0\0\0\x01a\0b\0A";
//! let (run, stop) = scan(received);
//! assert_eq!((run.count, run.bytes, stop), (1, 13, Stop::NeedMore));
//! for notification in frames(&received[..run.bytes]) {
//!     assert_eq!((notification.channel, notification.payload), (&b"a"[..], &b"b"[..]));
//! }
//! # }
//! ```

use std::fmt;

use super::beginning::{Beginning, words};
use super::cursor::{BodyReader, position_of_nul};
use super::error::{DecodeError, DecodeFault};
use super::limits::{NOTIFICATION_FRAME_BYTES_MAX, in_memory};
use super::tags::{self, Shape};

/// The smallest length word: itself, the process id, a channel of one byte, two NULs.
const LENGTH_FLOOR: u32 = 11;

const NAME: &str = "NotificationResponse";

/// The offset of the text in a frame, after type byte, length word and process id. The text is the channel, a NUL, the
/// payload, and a NUL.
pub(crate) const TEXT_AT: usize = 9;

/// One notification, borrowed from the received bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawNotification<'a> {
    /// The process id of the notifying backend. Some servers and poolers send 0 or a negative number.
    pub process_id: i32,
    /// The channel: UTF-8, never empty, without NUL.
    pub channel: &'a [u8],
    /// The payload: UTF-8.
    ///
    /// It ends at the NUL that ends the frame. PostgreSQL cannot send a NUL inside a payload, and there is no check for
    /// one.
    pub payload: &'a [u8],
}

/// Shows only lengths, because the data of users must not be in logs.
impl fmt::Debug for RawNotification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawNotification")
            .field("process_id", &self.process_id)
            .field("channel_bytes", &self.channel.len())
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

impl<'a> RawNotification<'a> {
    /// Decodes the body of an `A` message.
    pub(crate) fn decode(mut reader: BodyReader<'a>) -> Result<Self, DecodeError> {
        let process_id = reader.i32("process id")?;
        let channel = reader.cstr("channel")?;
        if channel.is_empty() {
            return Err(reader.bad_value("channel length", "1 or more", 0));
        }
        let Some((0, payload)) = reader.rest().split_last() else {
            return Err(reader.missing_nul("payload"));
        };
        for (field, text) in [("channel", channel), ("payload", payload)] {
            if let Err(error) = std::str::from_utf8(text) {
                let fault = DecodeFault::NotUtf8 { field, at: error.valid_up_to() };
                return Err(DecodeError::new(NAME, fault));
            }
        }
        Ok(Self { process_id, channel, payload })
    }
}

/// A run of complete, valid NotificationResponse frames at the beginning of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Run {
    /// The number of frames.
    pub count: usize,
    /// The length of the frames in bytes, with their headers.
    pub bytes: usize,
}

impl Run {
    /// Returns the run of the first `n` frames of `validated`, or of all frames if there are fewer.
    ///
    /// It reads only the header of each frame. [`scan`] must have accepted the bytes. With other bytes the run
    /// ends at the first header that is not valid.
    #[must_use]
    pub fn first(n: usize, validated: &[u8]) -> Self {
        Self::limited(n, usize::MAX, validated)
    }

    /// Returns the run of the first complete frames of `validated` that have at most `bytes` bytes together.
    ///
    /// In all other respects it is like [`first`](Self::first).
    #[must_use]
    pub fn within(bytes: usize, validated: &[u8]) -> Self {
        Self::limited(usize::MAX, bytes, validated)
    }

    fn limited(count: usize, bytes: usize, validated: &[u8]) -> Self {
        let mut run = Self::default();
        let mut rest = validated;
        while run.count < count {
            let Some((&[b'A', a, b, c, d], body)) = rest.split_first_chunk::<5>() else { break };
            let length = in_memory(u32::from_be_bytes([a, b, c, d]));
            let Some(next) = length.checked_sub(4).and_then(|bytes| body.get(bytes..)) else {
                break;
            };
            let end = validated.len().saturating_sub(next.len());
            if end > bytes {
                break;
            }
            run = Self { count: run.count + 1, bytes: end };
            rest = next;
        }
        run
    }
}

/// The reason why a [`Run`] ends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The end of the buffer, or a notification that is not complete.
    NeedMore,
    /// A message of another type. It has not been checked.
    OtherMessage,
    /// A notification that is not valid. The frames before it are valid.
    Invalid(DecodeError),
}

/// Returns the run of notifications at the beginning of `input`, and the reason why it ends. One pass, no allocation.
#[must_use]
pub fn scan(input: &[u8]) -> (Run, Stop) {
    let mut count = 0;
    let mut rest = input;
    let mut last = LastChannel::NONE;
    while let Some((notification, next, _)) = next_frame(rest, &mut last) {
        if !is_utf8(notification.payload) {
            break;
        }
        count += 1;
        rest = next;
    }
    (Run { count, bytes: input.len().saturating_sub(rest.len()) }, stop_reason(rest))
}

/// Returns whether the payload is UTF-8. Most payloads are ASCII, for which the check is faster.
#[inline(always)]
fn is_utf8(payload: &[u8]) -> bool {
    payload.is_ascii() || std::str::from_utf8(payload).is_ok()
}

/// Returns an iterator over bytes that [`scan`] accepted. Over other bytes it ends early, or returns payloads that are not
/// UTF-8.
#[must_use]
pub const fn frames(validated: &[u8]) -> Notifications<'_> {
    Notifications { rest: validated, last: LastChannel::NONE }
}

/// Iterator over the notifications of a [`Run`].
#[derive(Clone)]
pub struct Notifications<'a> {
    rest: &'a [u8],
    last: LastChannel<'a>,
}

impl<'a> Notifications<'a> {
    /// Returns the bytes that have not been iterated over.
    #[must_use]
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// Returns the next notification, and whether its channel is that of the one before.
    #[allow(dead_code, reason = "only a hub uses it")]
    #[inline(always)]
    pub(crate) fn next_and_same(&mut self) -> Option<(RawNotification<'a>, bool)> {
        let (notification, next, is_same) = next_frame(self.rest, &mut self.last)?;
        self.rest = next;
        Some((notification, is_same))
    }
}

impl fmt::Debug for Notifications<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifications").field("bytes", &self.rest.len()).finish()
    }
}

impl<'a> Iterator for Notifications<'a> {
    type Item = RawNotification<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<RawNotification<'a>> {
        Some(self.next_and_same()?.0)
    }
}

impl std::iter::FusedIterator for Notifications<'_> {}

/// Returns the first notification of bytes that [`scan`] accepted, and the length of its frame in bytes. Unlike [`frames`],
/// it does not compare the channel with that of the frame before.
#[must_use]
pub fn first(validated: &[u8]) -> Option<(RawNotification<'_>, usize)> {
    let frame = Frame::first(validated)?;
    // An empty channel is not valid.
    let end = position_of_nul(frame.strings).filter(|end| *end > 0)?;
    let notification = frame.notification(end.checked_add(1)?)?;
    Some((notification, validated.len() - frame.next.len()))
}

/// Returns the length in bytes of the frame that a notification was read from.
#[allow(dead_code, reason = "only a hub uses it")]
pub(crate) fn frame_bytes(notification: &RawNotification<'_>) -> usize {
    TEXT_AT + notification.channel.len() + notification.payload.len() + 2
}

/// The highest number of bytes of channel and payload together in a [`ShortFrame`].
pub(crate) const SHORT_BYTES: usize = 79;

/// A notification with at most [`SHORT_BYTES`] bytes of text and with bytes behind it, so that both can be copied by copies of
/// constant length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShortFrame<'a> {
    pub(crate) process_id: i32,
    /// The length of the channel in bytes.
    pub(crate) channel: usize,
    /// The length of the payload in bytes.
    pub(crate) payload: usize,
    /// Channel, NUL and payload, and the bytes behind them.
    pub(crate) text: &'a [u8; SHORT_BYTES + 1],
}

#[allow(dead_code, reason = "only a listener uses it")]
impl<'a> ShortFrame<'a> {
    /// Returns the notification at the beginning of bytes that [`scan`] accepted. Returns `None` if it is longer, or if the bytes end
    /// too early. Then it can be the [`first`].
    ///
    /// It does not check again what [`scan`] has checked. With other bytes, the notification may be a wrong one.
    #[inline(always)]
    pub(crate) fn first(validated: &'a [u8]) -> Option<Self> {
        /// The length word, the process id, and two NULs.
        const OTHERS: u32 = 10;
        let head = validated.first_chunk::<{ TEXT_AT + SHORT_BYTES + 1 }>()?;
        let (&[_, a, b, c, d, e, f, g, h], text) = head.split_first_chunk::<TEXT_AT>()?;
        let text = text.first_chunk()?;
        let both = in_memory(u32::from_be_bytes([a, b, c, d]).wrapping_sub(OTHERS));
        if both > SHORT_BYTES {
            return None;
        }
        let channel = near_nul(text).or_else(|| position_of_nul(text))?;
        let payload = both.checked_sub(channel)?;
        Some(Self { process_id: i32::from_be_bytes([e, f, g, h]), channel, payload, text })
    }

    /// Returns the length of the frame.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> usize {
        TEXT_AT + self.channel + 1 + self.payload + 1
    }
}

/// Returns the offset of the first NUL, if it is one of the first 16 bytes. It is inlined: the call of [`position_of_nul`] costs
/// more than this.
#[inline(always)]
#[allow(dead_code, reason = "only a listener uses it")]
fn near_nul(bytes: &[u8; SHORT_BYTES + 1]) -> Option<usize> {
    let [first, second] = words(*bytes.first_chunk()?).map(zeros);
    let (before, found) = if first == 0 { (8, second) } else { (0, first) };
    (found != 0).then_some(before + (found.trailing_zeros() / 8) as usize)
}

/// The highest bit of each byte.
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Returns a word that is zero if no byte of `word` is zero. Otherwise its lowest bit that is set is the highest bit of the first zero
/// byte.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & HIGHS
}

/// Parses the frame at the beginning. If there is no valid frame, [`stop_reason`] finds the reason later, outside of the hot path.
#[inline(always)]
fn next_frame<'a>(
    rest: &'a [u8],
    last: &mut LastChannel<'a>,
) -> Option<(RawNotification<'a>, &'a [u8], bool)> {
    let frame = Frame::first(rest)?;
    let is_same = last.0.begins(frame.strings);
    if !is_same && !last.replace(frame.strings) {
        return None;
    }
    Some((frame.notification(last.0.bytes.len())?, frame.next, is_same))
}

/// A frame of which only the length and the last NUL were checked.
struct Frame<'a> {
    process_id: i32,
    /// Channel, NUL, and payload.
    strings: &'a [u8],
    /// The bytes behind the frame.
    next: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Returns the frame at the beginning of `rest`.
    #[inline(always)]
    fn first(rest: &'a [u8]) -> Option<Self> {
        let Some((&[b'A', a, b, c, d, e, f, g, h], tail)) = rest.split_first_chunk::<TEXT_AT>()
        else {
            return None;
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        if !(LENGTH_FLOOR..=NOTIFICATION_FRAME_BYTES_MAX).contains(&length) {
            return None;
        }
        // Not below 3, because the length is not below 11.
        let (text, next) = tail.split_at_checked(in_memory(length - 8))?;
        let Some((0, strings)) = text.split_last() else { return None };
        Some(Self { process_id: i32::from_be_bytes([e, f, g, h]), strings, next })
    }

    /// Returns the notification. Its channel has `length` bytes, with the NUL.
    #[inline(always)]
    fn notification(&self, length: usize) -> Option<RawNotification<'a>> {
        let (channel, payload) = self.strings.split_at_checked(length)?;
        let (_, channel) = channel.split_last()?;
        Some(RawNotification { process_id: self.process_id, channel, payload })
    }
}

/// Returns the reason why [`next_frame`] found no frame. It makes the same checks as the framer, in the same order.
#[cold]
fn stop_reason(rest: &[u8]) -> Stop {
    match rest.split_first() {
        None => return Stop::NeedMore,
        Some((b'A', _)) => {}
        Some(_) => return Stop::OtherMessage,
    }
    let Some((&[_, a, b, c, d], body)) = rest.split_first_chunk::<5>() else {
        return Stop::NeedMore;
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let (floor, cap) = (LENGTH_FLOOR, NOTIFICATION_FRAME_BYTES_MAX);
    if length < floor {
        let fault = DecodeFault::LengthBelowFloor { length, floor };
        return Stop::Invalid(DecodeError::new(NAME, fault));
    }
    if length > cap {
        let fault = DecodeFault::LengthAboveCap { length, cap };
        return Stop::Invalid(DecodeError::new(NAME, fault));
    }
    let Some(body) = body.get(..in_memory(length - 4)) else { return Stop::NeedMore };
    match RawNotification::decode(BodyReader::new(NAME, body)) {
        Err(error) => Stop::Invalid(error),
        // Not reached: `next_frame` accepts every frame that can be decoded. To stop is safe nevertheless.
        Ok(_) => Stop::OtherMessage,
    }
}

/// The channel and the NUL of the frame before, so that the same channel is recognized without a search. Empty before the first frame.
#[derive(Clone, Copy)]
struct LastChannel<'a>(Beginning<'a>);

impl<'a> LastChannel<'a> {
    const NONE: Self = Self(Beginning::NONE);

    /// Finds and stores the channel at the beginning of `strings`. Returns `false` if there is none, or if it is not UTF-8.
    #[inline(never)]
    fn replace(&mut self, strings: &'a [u8]) -> bool {
        self.replace_short(strings) || self.replace_any(strings)
    }

    /// Does the same for an ASCII name of up to 15 bytes, with the bytes behind it. Returns `false` for any other one. A stream in
    /// which each notification has another channel than the one before calls this for each of them.
    #[inline(always)]
    fn replace_short(&mut self, strings: &'a [u8]) -> bool {
        let Some(head) = strings.first_chunk::<16>() else { return false };
        let [first, second] = words(*head);
        let (nul, masks) = match (zeros(first), zeros(second)) {
            (0, 0) => return false,
            // The mask ends with the byte of the lowest bit that is set: the NUL.
            (0, nul) => (8 + nul.trailing_zeros() / 8, [u64::MAX, nul ^ nul.wrapping_sub(1)]),
            (nul, _) => (nul.trailing_zeros() / 8, [nul ^ nul.wrapping_sub(1), 0]),
        };
        let words = [first & masks[0], second & masks[1]];
        let length = nul as usize + 1;
        let Some(bytes) = strings.get(..length) else { return false };
        if nul == 0 || (words[0] | words[1]) & HIGHS != 0 {
            return false;
        }
        *self = Self(Beginning { bytes, words, masks });
        true
    }

    #[inline(never)]
    fn replace_any(&mut self, strings: &'a [u8]) -> bool {
        let Some(end) = position_of_nul(strings) else { return false };
        let length = end.saturating_add(1);
        let Some(bytes) = strings.get(..length) else { return false };
        if end == 0 || std::str::from_utf8(bytes).is_err() {
            return false;
        }
        *self = Self(Beginning::of(bytes));
        true
    }
}

// The hot path does not use the table of types, but must have the same limits.
const _: () = assert!(matches!(
    tags::backend(b'A'),
    Some(Shape { floor: LENGTH_FLOOR, cap: NOTIFICATION_FRAME_BYTES_MAX, .. })
));

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with these strings, which contain the NULs if the frame should have them.
    fn frame(strings: &[u8]) -> Vec<u8> {
        let length = u32::try_from(strings.len() + 8).unwrap();
        [b"A", &length.to_be_bytes()[..], &7_i32.to_be_bytes(), strings].concat()
    }

    #[test]
    fn first_returns_the_first_notification_of_the_iteration_and_its_length() {
        for strings in
            [&b"a\0x\0"[..], b"a\0\0", b"longer than eight\0and text\0", b"\0\0\0", b"a\0b"]
        {
            let bytes = [frame(strings), frame(b"b\0next\0")].concat();
            let mut frames = frames(&bytes);
            let expect = frames.next().map(|n| (n, bytes.len() - frames.remaining().len()));
            assert_eq!(first(&bytes), expect, "{strings:?}");
        }
    }

    #[test]
    fn a_run_ends_before_another_message() {
        let two = [frame(b"a\0x\0"), frame(b"a\0\0")].concat();
        let run = Run { count: 2, bytes: two.len() };
        let cases: [(&[u8], Stop); 5] = [
            (b"", Stop::NeedMore),
            (b"A\0\0", Stop::NeedMore),
            (b"A\0\0\0\x0b\0\0\0\0", Stop::NeedMore),
            (b"Z", Stop::OtherMessage),
            (b"\0", Stop::OtherMessage),
        ];
        for (behind, expected) in cases {
            assert_eq!(scan(&[&two, behind].concat()), (run, expected), "{behind:?}");
        }
        let (found, stop) = scan(&[&two[..], &frame(b"a\0b")].concat());
        assert_eq!(found, run);
        assert!(matches!(stop, Stop::Invalid(_)));
    }

    #[test]
    fn channels_that_are_similar_to_the_one_before_are_distinguished() {
        let channels: [&[u8]; 16] = [
            b"a",
            b"a",
            b"ab",
            b"a",
            b"b",
            b"",
            b"abcdefg",
            b"abcdefgh",
            b"abcdefghi",
            b"abcdefgh",
            b"abcdefghj",
            b"abcdefghi",
            b"abcdefghi",
            b"abcdefg",
            b"abcdef",
            b"abcdefg",
        ];
        for payload in [&b""[..], b"x", b"abcdefghijklmnop"] {
            let mut stream = Vec::new();
            for channel in channels.into_iter().filter(|channel| !channel.is_empty()) {
                stream.extend(frame(&[channel, b"\0", payload, b"\0"].concat()));
            }
            assert_eq!(scan(&stream).0, Run { count: 15, bytes: stream.len() });
            let found: Vec<_> = frames(&stream).map(|one| (one.channel, one.payload)).collect();
            let expected: Vec<_> = channels
                .into_iter()
                .filter(|channel| !channel.is_empty())
                .map(|channel| (channel, payload))
                .collect();
            assert_eq!(found, expected);
        }
    }

    /// The frame has the channel of the frame before, but no NUL after its payload.
    #[test]
    fn a_frame_that_ends_after_the_channel_of_the_frame_before_is_refused() {
        for channel in [&b"abc"[..], b"abcdefgh", b"abcdefghijkl"] {
            let whole = frame(&[channel, b"\0x\0"].concat());
            let short = frame(&[channel, b"\0"].concat());
            let (run, stop) = scan(&[whole.clone(), short].concat());
            assert_eq!(run, Run { count: 1, bytes: whole.len() });
            assert_eq!(stop, Stop::Invalid(BodyReader::new(NAME, b"").missing_nul("payload")));
        }
    }

    /// The words of a frame that was shorter than a word must not match zeros of the next frame.
    #[test]
    fn an_empty_channel_is_refused_after_every_other_channel() {
        for before in [&b"a\0\0"[..], b"a\0x\0", b"abcdefgh\0\0", b"abcdefghijk\0\0"] {
            for zeros in 3..20 {
                let good = frame(before);
                let (run, stop) = scan(&[good.clone(), frame(&vec![0; zeros])].concat());
                assert_eq!(run, Run { count: 1, bytes: good.len() });
                assert!(matches!(stop, Stop::Invalid(_)));
            }
        }
    }

    #[test]
    fn a_run_ends_before_a_text_that_is_not_utf8() {
        let good = frame("kanäle\0größe\0".as_bytes());
        for (strings, field, at) in [
            (&b"a\0caf\xe9\0"[..], "payload", 3),
            (b"caf\xe9\0x\0", "channel", 3),
            (b"kan\xc3\0x\0", "channel", 3),
            (b"a\0\xed\xa0\x80\0", "payload", 0),
            // The NUL after the payload does not complete a character.
            (b"a\0x\xf0\x9f\x98\0", "payload", 1),
        ] {
            let (run, stop) = scan(&[&good[..], &frame(strings), &good].concat());
            assert_eq!(run, Run { count: 1, bytes: good.len() });
            let fault = DecodeFault::NotUtf8 { field, at };
            assert_eq!(stop, Stop::Invalid(DecodeError::new(NAME, fault)), "{strings:?}");
        }
    }

    #[test]
    fn the_first_frames_of_a_run_are_a_run() {
        let stream = [frame(b"a\0x\0"), frame(b"bb\0\0"), frame(b"c\0long payload\0")].concat();
        let ends = [0, 13, 26, stream.len(), stream.len()];
        for (n, bytes) in ends.into_iter().enumerate() {
            assert_eq!(Run::first(n, &stream), Run { count: n.min(3), bytes }, "{n}");
        }
        assert_eq!(Run::first(5, &stream[..20]), Run { count: 1, bytes: 13 });
        assert_eq!(Run::first(5, b"A\0\0\0\x03abc"), Run::default());
    }

    #[test]
    fn debug_shows_only_lengths() {
        let stream = frame(b"secret\0classified\0");
        let shown = format!("{:?} {:?}", frames(&stream), frames(&stream).next());
        assert!(!shown.contains("secret") && !shown.contains("classified"), "{shown}");
    }
}

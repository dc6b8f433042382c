//! NotificationResponse, the message this crate exists for.
//!
//! Two passes over the same bytes, both without allocation. [`scan`] runs once over what a read
//! brought and says how many whole, valid notifications stand at its head; [`frames`] iterates
//! over such a run later, wherever the bytes lie by then. Both take the same step, so they agree
//! with each other, and with the framer and the decoder.
//!
//! A frame is `A`, length, process id, channel, NUL, payload, NUL. The length word says where the
//! payload ends, so its end is not searched. The channel's NUL is searched only when the channel is
//! not the one of the frame before; usually it is. [`scan`] also checks that channel and payload are
//! UTF-8.
//!
//! ```
//! use pgbell::wire::{Stop, frames, scan};
//!
//! // One notification ("a", "b") of process 1, and the first byte of the next message.
//! let received = b"A\0\0\0\x0c\0\0\0\x01a\0b\0A";
//! let (run, stop) = scan(received);
//! assert_eq!((run.count, run.bytes, stop), (1, 13, Stop::NeedMore));
//! for notification in frames(&received[..run.bytes]) {
//!     assert_eq!((notification.channel, notification.payload), (&b"a"[..], &b"b"[..]));
//! }
//! ```

use std::fmt;

use super::cursor::{Reader, position_of_nul};
use super::error::{DecodeError, DecodeFault};
use super::limits::{NOTIFICATION_FRAME_BYTES_MAX, in_memory};
use super::tags::{self, Shape};

/// Smallest length word: itself, the process id, a channel of one byte, two NULs.
const LENGTH_FLOOR: u32 = 11;

const NAME: &str = "NotificationResponse";

/// Bytes of a frame before its text: type byte, length word, process id. The text is the channel, a NUL, the
/// payload, and a NUL.
pub(crate) const TEXT_AT: usize = 9;

/// One notification, borrowed from the bytes of the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawNotification<'a> {
    /// Process id of the notifying backend. Any value: some servers and poolers send 0 or less.
    pub process_id: i32,
    /// The channel, never empty, without NUL. UTF-8.
    pub channel: &'a [u8],
    /// The payload. UTF-8.
    ///
    /// Everything up to the NUL that ends the frame: a NUL inside, which PostgreSQL cannot send, is
    /// not searched for.
    pub payload: &'a [u8],
}

/// Lengths alone: what users publish does not belong in logs.
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
    /// Reads the body of an `A` message.
    pub(crate) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
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

/// An unbroken run of whole, valid NotificationResponse frames at the head of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Run {
    /// How many frames.
    pub count: usize,
    /// How many bytes they take, headers included.
    pub bytes: usize,
}

impl Run {
    /// The run of the first `n` frames of `validated`, or of all if there are fewer.
    ///
    /// Costs one header per frame. The bytes must have been accepted by [`scan`]; others give a
    /// run that ends where they stop making sense.
    #[must_use]
    pub fn first(n: usize, validated: &[u8]) -> Self {
        Self::limited(n, usize::MAX, validated)
    }

    /// The run of the first whole frames of `validated` that take at most `bytes` bytes together.
    ///
    /// As [`first`](Self::first) in every other respect.
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

/// What stands behind a [`Run`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The end of the buffer, or a notification that is not whole.
    NeedMore,
    /// A message of another type, or what should be one.
    OtherMessage,
    /// A notification that is none. The frames before it are good.
    Invalid(DecodeError),
}

/// Measures the run of notifications at the head of `input`. One pass, no allocation.
#[must_use]
pub fn scan(input: &[u8]) -> (Run, Stop) {
    let mut count = 0;
    let mut rest = input;
    let mut last = LastChannel::NONE;
    loop {
        match step(rest, &mut last) {
            Step::Whole(notification, next) if is_utf8(notification.payload) => {
                count += 1;
                rest = next;
            }
            Step::Whole(..) | Step::Stopped => {
                let run = Run { count, bytes: input.len().saturating_sub(rest.len()) };
                return (run, why(rest));
            }
        }
    }
}

/// Most payloads are ASCII, which is checked at many bytes a step.
#[inline(always)]
fn is_utf8(payload: &[u8]) -> bool {
    payload.is_ascii() || std::str::from_utf8(payload).is_ok()
}

/// Iterates over bytes that [`scan`] accepted. Over other bytes it ends early, or goes on with payloads that are not UTF-8.
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
    /// The bytes that have not been iterated over.
    #[must_use]
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }
}

impl fmt::Debug for Notifications<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifications").field("bytes", &self.rest.len()).finish()
    }
}

impl<'a> Iterator for Notifications<'a> {
    type Item = RawNotification<'a>;

    #[inline]
    fn next(&mut self) -> Option<RawNotification<'a>> {
        match step(self.rest, &mut self.last) {
            Step::Whole(notification, next) => {
                self.rest = next;
                Some(notification)
            }
            Step::Stopped => None,
        }
    }
}

impl std::iter::FusedIterator for Notifications<'_> {}

enum Step<'a> {
    Whole(RawNotification<'a>, &'a [u8]),
    Stopped,
}

/// The first notification of bytes that [`scan`] accepted, and how many bytes its frame takes. For one
/// at a time: nothing is remembered of its channel.
#[inline]
#[must_use]
pub fn first(validated: &[u8]) -> Option<(RawNotification<'_>, usize)> {
    // The NUL counts; a channel of no bytes is none.
    let find = |strings: &[u8]| position_of_nul(strings).filter(|end| *end > 0)?.checked_add(1);
    match take(validated, find) {
        Step::Whole(notification, next) => Some((notification, validated.len() - next.len())),
        Step::Stopped => None,
    }
}

#[inline(always)]
fn step<'a>(rest: &'a [u8], last: &mut LastChannel<'a>) -> Step<'a> {
    take(rest, |strings| (last.begins(strings) || last.replace(strings)).then_some(last.length))
}

/// Takes one frame off the head. `find` says how many bytes its channel has, with the NUL. Why there is no
/// frame is found out later, off the hot path.
#[inline(always)]
fn take<'a>(rest: &'a [u8], find: impl FnOnce(&'a [u8]) -> Option<usize>) -> Step<'a> {
    let Some((&[b'A', a, b, c, d, e, f, g, h], tail)) = rest.split_first_chunk::<TEXT_AT>() else {
        return Step::Stopped;
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    if !(LENGTH_FLOOR..=NOTIFICATION_FRAME_BYTES_MAX).contains(&length) {
        return Step::Stopped;
    }
    // Not below 3, because the length is not below 11.
    let Some((text, next)) = tail.split_at_checked(in_memory(length - 8)) else {
        return Step::Stopped;
    };
    let Some((0, strings)) = text.split_last() else { return Step::Stopped };
    let Some(length) = find(strings) else { return Step::Stopped };
    // `strings` is channel, NUL, payload.
    let Some((channel, payload)) = strings.split_at_checked(length) else {
        return Step::Stopped;
    };
    let Some((_, channel)) = channel.split_last() else { return Step::Stopped };
    let process_id = i32::from_be_bytes([e, f, g, h]);
    Step::Whole(RawNotification { process_id, channel, payload }, next)
}

/// Why [`step`] found no frame. Asks the framer's questions in the framer's order.
#[cold]
fn why(rest: &[u8]) -> Stop {
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
    match RawNotification::decode(Reader::new(NAME, body)) {
        Err(error) => Stop::Invalid(error),
        // Not reached: `step` takes every frame that decodes. Stopping is safe all the same.
        Ok(_) => Stop::OtherMessage,
    }
}

/// The channel of the frame before, to be recognised without a search.
#[derive(Clone, Copy)]
struct LastChannel<'a> {
    /// The channel and its NUL. Empty before the first frame.
    bytes: &'a [u8],
    /// `bytes.len()`, 0 before the first frame.
    length: usize,
    /// The first sixteen of `bytes` as two little-endian words, what is beyond `bytes` zero.
    words: [u64; 2],
    /// Ones where `words` holds bytes. 0 before the first frame.
    masks: [u64; 2],
}

#[inline(always)]
fn words([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: [u8; 16]) -> [u64; 2] {
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
}

impl<'a> LastChannel<'a> {
    const NONE: Self = Self { bytes: &[], length: 0, words: [0; 2], masks: [0; 2] };

    /// Whether `strings` begins with this channel and its NUL. Two words decide for names of up to 15
    /// bytes: a call of `memcmp` costs more than all the rest.
    #[inline(always)]
    fn begins(&self, strings: &[u8]) -> bool {
        if self.length == 0 {
            return false;
        }
        match strings.first_chunk::<16>() {
            Some(head) => {
                let [first, second] = words(*head);
                first & self.masks[0] == self.words[0]
                    && second & self.masks[1] == self.words[1]
                    && (self.length <= 16 || strings.starts_with(self.bytes))
            }
            None => match strings.first_chunk::<8>() {
                Some(head) => {
                    u64::from_le_bytes(*head) & self.masks[0] == self.words[0]
                        && (self.length <= 8 || strings.starts_with(self.bytes))
                }
                None => strings.starts_with(self.bytes),
            },
        }
    }

    /// Finds and remembers the channel that `strings` begins with. `false` if there is none, or if it is not UTF-8.
    fn replace(&mut self, strings: &'a [u8]) -> bool {
        let Some(end) = position_of_nul(strings) else { return false };
        let length = end.saturating_add(1);
        let Some(bytes) = strings.get(..length) else { return false };
        if end == 0 || std::str::from_utf8(bytes).is_err() {
            return false;
        }
        let head = strings.first_chunk().copied().unwrap_or_else(|| {
            // A short frame: the next one may be longer, so the words are made all the same.
            let mut padded = [0; 16];
            padded.iter_mut().zip(strings).for_each(|(place, byte)| *place = *byte);
            padded
        });
        let mask = |bytes: usize| match bytes {
            0 => 0,
            1..8 => (1 << (8 * bytes)) - 1,
            _ => u64::MAX,
        };
        let masks = [mask(length), mask(length.saturating_sub(8))];
        let [first, second] = words(head);
        let words = [first & masks[0], second & masks[1]];
        *self = Self { bytes, length, words, masks };
        true
    }
}

// The hot path has the numbers of the table in its own code.
const _: () = assert!(matches!(
    tags::backend(b'A'),
    Some(Shape { floor: LENGTH_FLOOR, cap: NOTIFICATION_FRAME_BYTES_MAX, .. })
));

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with whatever strings it is given, NULs included or not.
    fn frame(strings: &[u8]) -> Vec<u8> {
        let length = u32::try_from(strings.len() + 8).unwrap();
        [b"A", &length.to_be_bytes()[..], &7_i32.to_be_bytes(), strings].concat()
    }

    #[test]
    fn the_first_is_the_first_of_the_iteration_and_says_its_length() {
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
    fn a_run_ends_where_something_else_begins() {
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
    fn channels_that_resemble_the_one_before_are_told_apart() {
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

    /// The channel of the frame before, and then no payload's NUL: the remembered channel must not
    /// make a frame of it.
    #[test]
    fn a_frame_that_ends_with_the_remembered_channel_is_refused() {
        for channel in [&b"abc"[..], b"abcdefgh", b"abcdefghijkl"] {
            let whole = frame(&[channel, b"\0x\0"].concat());
            let short = frame(&[channel, b"\0"].concat());
            let (run, stop) = scan(&[whole.clone(), short].concat());
            assert_eq!(run, Run { count: 1, bytes: whole.len() });
            assert_eq!(stop, Stop::Invalid(Reader::new(NAME, b"").missing_nul("payload")));
        }
    }

    /// What was remembered from a frame too short for a word must not match zeros later.
    #[test]
    fn an_empty_channel_is_refused_whatever_came_before() {
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
    fn a_text_that_is_not_utf8_ends_the_run_before_it() {
        let good = frame("kanäle\0größe\0".as_bytes());
        for (strings, field, at) in [
            (&b"a\0caf\xe9\0"[..], "payload", 3),
            (b"caf\xe9\0x\0", "channel", 3),
            (b"kan\xc3\0x\0", "channel", 3),
            (b"a\0\xed\xa0\x80\0", "payload", 0),
            // The NUL behind the channel does not complete a character.
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
    fn debug_shows_lengths_alone() {
        let stream = frame(b"secret\0classified\0");
        let shown = format!("{:?} {:?}", frames(&stream), frames(&stream).next());
        assert!(!shown.contains("secret") && !shown.contains("classified"), "{shown}");
    }
}

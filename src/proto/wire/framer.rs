//! Splits a stream of bytes into frames.
//!
//! A framer has no buffer and no position. It looks at the beginning of a buffer that grows, and finds
//! the same frame whether the bytes arrived at once or one by one. It checks the length word before
//! the body has arrived, so that a wrong length causes no wait and no allocation.
// N5.

use super::error::{DecodeError, DecodeFault};
use super::limits::{
    FRAME_HEADER_BYTES, STARTUP_BODY_BYTES_MAX, UNAUTHENTICATED_ERROR_BYTES_MAX, in_memory,
};
use super::tags::{self, Shape};

/// One message of the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type byte.
    pub tag: u8,
    /// The bytes after the length word.
    pub body: &'a [u8],
    /// The number of bytes after the type byte, if the frame has no length word (the form of protocol 2).
    legacy_bytes: Option<usize>,
}

impl<'a> Frame<'a> {
    /// Creates a frame of the usual form.
    #[must_use]
    pub const fn new(tag: u8, body: &'a [u8]) -> Self {
        Self { tag, body, legacy_bytes: None }
    }

    /// Returns whether this is an error in the form of protocol 2: text without a length word.
    // N3.
    #[must_use]
    pub const fn is_legacy(&self) -> bool {
        self.legacy_bytes.is_some()
    }

    /// Returns the length of the frame in the stream, in bytes.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        match self.legacy_bytes {
            Some(bytes) => bytes.saturating_add(1),
            None => self.body.len().saturating_add(FRAME_HEADER_BYTES),
        }
    }
}

/// Shows only the length of the body, which may contain a password, a key or a user's data.
impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("tag", &char::from(self.tag))
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A message that is too long for [`Framer::next`] and that a server may send. Only its first five bytes are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongMessage {
    /// The type byte.
    pub tag: u8,
    /// The manual's name of the message.
    pub name: &'static str,
    length: u32,
    cap: u32,
}

impl LongMessage {
    /// Returns the length of the body, in bytes.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        in_memory(self.length.saturating_sub(4))
    }

    /// Returns the length of the message in the stream, in bytes.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.body_bytes().saturating_add(FRAME_HEADER_BYTES)
    }

    /// Returns the complete message at the beginning of `input`, or `None` if more bytes must arrive first.
    #[must_use]
    pub fn whole<'a>(&self, input: &'a [u8]) -> Option<Frame<'a>> {
        input.get(FRAME_HEADER_BYTES..self.wire_len()).map(|body| Frame::new(self.tag, body))
    }

    /// Returns the beginning of its body, as long as the body of the longest message that is kept complete, or `None` if
    /// more bytes must arrive first.
    #[must_use]
    pub fn beginning<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        let bytes = in_memory(self.cap.saturating_sub(4));
        input.get(FRAME_HEADER_BYTES..)?.get(..bytes)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FramerPhase {
    Startup,
    Established,
    Frontend,
}

/// Finds the frame at the beginning of a buffer. The allowed messages depend on the sender and the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framer(FramerPhase);

impl Framer {
    /// Creates a framer for the messages of a server before AuthenticationOk. It accepts only the types `R`, `E`, `v` and `N`,
    /// with low limits. It also accepts an error without a length field. Old servers send it, and servers that cannot start a
    /// process for the connection.
    #[must_use]
    pub const fn startup() -> Self {
        Self(FramerPhase::Startup)
    }

    /// Creates a framer for the messages of a server after AuthenticationOk.
    #[must_use]
    pub const fn established() -> Self {
        Self(FramerPhase::Established)
    }

    /// Creates a framer for the messages of a client after its startup packet.
    #[must_use]
    pub const fn frontend() -> Self {
        Self(FramerPhase::Frontend)
    }

    /// Returns the frame at the beginning of `input`, or `None` if more bytes must arrive first.
    ///
    /// The caller removes [`wire_len`](Frame::wire_len) bytes before the next call.
    ///
    /// # Errors
    /// No allowed message begins like this. A wrong type byte is an error as soon as it has arrived, a wrong length as
    /// soon as its four bytes have arrived. The stream cannot be used after an error: close the connection.
    pub fn next<'a>(&self, input: &'a [u8]) -> Result<Option<Frame<'a>>, DecodeError> {
        let Some((&tag, after_tag)) = input.split_first() else { return Ok(None) };
        let shape = match self.0 {
            FramerPhase::Established => tags::backend(tag),
            FramerPhase::Frontend => tags::frontend(tag),
            FramerPhase::Startup => tags::unauthenticated_backend(tag),
        };
        let Some(shape) = shape else { return self.refuse(tag, input) };
        let Some((word, body)) = after_tag.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*word);
        if self.0 == FramerPhase::Startup && tag == b'E' && length > shape.cap && is_text(word) {
            return legacy_error(after_tag, length, shape);
        }
        check_length(length, shape)?;
        // At least `floor`, which is never below 4.
        let body_bytes = in_memory(length.saturating_sub(4));
        Ok(body.get(..body_bytes).map(|body| Frame::new(tag, body)))
    }

    /// Returns the message at the beginning of `input`, if it is too long for [`next`](Self::next) and a server may send it.
    /// `next` returned an error for it. The caller decides whether to keep or to skip the message.
    #[cold]
    #[must_use]
    pub fn long(&self, input: &[u8]) -> Option<LongMessage> {
        let &[tag, a, b, c, d] = input.first_chunk::<FRAME_HEADER_BYTES>()?;
        let Shape { name, cap, most, .. } = match self.0 {
            FramerPhase::Established => tags::backend(tag),
            FramerPhase::Startup | FramerPhase::Frontend => None,
        }?;
        let length = u32::from_be_bytes([a, b, c, d]);
        (length > cap && length <= most).then_some(LongMessage { tag, name, length, cap })
    }

    #[cold]
    fn refuse<'a>(self, tag: u8, input: &[u8]) -> Result<Option<Frame<'a>>, DecodeError> {
        let direction = match self.0 {
            FramerPhase::Frontend => "frontend",
            FramerPhase::Established => "backend",
            FramerPhase::Startup => {
                // A server's message at the wrong time, or another protocol that begins with the same letter ("HTTP",
                // "SSH-"). The length word distinguishes the two: N4.
                let Some(shape) = tags::backend(tag) else {
                    return Err(DecodeError::not_postgres(input));
                };
                let Some(word) = input.get(1..).and_then(<[u8]>::first_chunk::<4>) else {
                    return Ok(None);
                };
                return Err(match check_length(u32::from_be_bytes(*word), shape) {
                    Ok(()) => DecodeError::new(shape.name, DecodeFault::BeforeAuthentication),
                    Err(_) => DecodeError::not_postgres(input),
                });
            }
        };
        Err(DecodeError::unknown_tag(direction, tag))
    }
}

#[inline]
fn check_length(length: u32, shape: Shape) -> Result<(), DecodeError> {
    let Shape { name, floor, cap, most } = shape;
    if length < floor {
        return Err(DecodeError::new(name, DecodeFault::LengthBelowFloor { length, floor }));
    }
    if length > cap {
        let cap = if length > most { most } else { cap };
        return Err(DecodeError::new(name, DecodeFault::LengthAboveCap { length, cap }));
    }
    Ok(())
}

/// Returns whether the four bytes of a length word are text instead.
///
/// Every length below the limit begins with a zero byte, so a valid length is never taken for text.
fn is_text(word: &[u8; 4]) -> bool {
    word.iter().all(|&byte| byte >= 0x20 && byte != 0x7f)
}

/// Parses `E`, text, NUL: the form of protocol 2, which every postmaster that cannot fork sends.
// N3.
#[cold]
fn legacy_error(
    after_tag: &[u8],
    length: u32,
    shape: Shape,
) -> Result<Option<Frame<'_>>, DecodeError> {
    let cap = in_memory(UNAUTHENTICATED_ERROR_BYTES_MAX);
    let window = after_tag.get(..cap).unwrap_or(after_tag);
    match window.iter().position(|&byte| byte == 0) {
        Some(end) => {
            let text = window.get(..end).unwrap_or_default();
            let body = text.strip_suffix(b"\n").unwrap_or(text);
            let legacy_bytes = Some(end.saturating_add(1));
            Ok(Some(Frame { tag: b'E', body, legacy_bytes }))
        }
        None if window.len() < cap => Ok(None),
        None => {
            let cap = shape.cap;
            Err(DecodeError::new(shape.name, DecodeFault::LengthAboveCap { length, cap }))
        }
    }
}

/// The first packet of a client, which has no type byte: StartupMessage, SSLRequest,
/// GSSENCRequest or CancelRequest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FirstPacket<'a> {
    /// The bytes after the length word: a code, and its data.
    pub body: &'a [u8],
}

impl<'a> FirstPacket<'a> {
    const SHAPE: Shape = Shape {
        name: "startup packet",
        floor: 8,
        // A literal, because a `usize` cannot be converted to `u32` in a constant.
        cap: 10_004,
        most: 10_004,
    };

    /// Returns the packet at the beginning of `input`, or `None` if more bytes must arrive first.
    ///
    /// # Errors
    /// The length is below 8, or the body is longer than [`STARTUP_BODY_BYTES_MAX`].
    pub fn next(input: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        const { assert!(STARTUP_BODY_BYTES_MAX + 4 == 10_004) }
        let Some((word, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*word);
        check_length(length, Self::SHAPE)?;
        Ok(rest.get(..in_memory(length.saturating_sub(4))).map(|body| Self { body }))
    }

    /// Returns the length of the packet in the stream, in bytes.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        self.body.len().saturating_add(4)
    }
}

/// Shows only the length, because a CancelRequest contains a secret.
impl std::fmt::Debug for FirstPacket<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirstPacket").field("bytes", &self.body.len()).finish()
    }
}

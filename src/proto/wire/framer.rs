//! From a stream of bytes to frames.
//!
//! A framer holds no bytes and no position: it looks at the head of a buffer that grows, and finds
//! the same frame whether the bytes came at once or one by one. The length word is judged before
//! the body is waited for, so that no announced length makes anyone wait or allocate. N5.

use super::error::{DecodeError, DecodeFault};
use super::limits::{
    FRAME_HEADER_BYTES, STARTUP_BODY_BYTES_MAX, UNAUTHENTICATED_ERROR_BYTES_MAX, in_memory,
};
use super::tags::{self, Shape};

/// One message, cut out of the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type byte.
    pub tag: u8,
    /// What follows the length word.
    pub body: &'a [u8],
    /// Bytes after the type byte when the frame has no length word: the form of protocol 2.
    legacy_bytes: Option<usize>,
}

impl<'a> Frame<'a> {
    /// A frame of the usual form.
    #[must_use]
    pub const fn new(tag: u8, body: &'a [u8]) -> Self {
        Self { tag, body, legacy_bytes: None }
    }

    /// Whether this is an error in the form of protocol 2: text without a length word. N3.
    #[must_use]
    pub const fn is_legacy(&self) -> bool {
        self.legacy_bytes.is_some()
    }

    /// How many bytes of the stream the frame takes.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        match self.legacy_bytes {
            Some(bytes) => bytes.saturating_add(1),
            None => self.body.len().saturating_add(FRAME_HEADER_BYTES),
        }
    }
}

/// The length alone: a body may hold a password, a key or a user's data.
impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("tag", &char::from(self.tag))
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A message that is longer than what is taken whole of its type, known by its first five bytes.
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
    /// How many bytes the body has.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        in_memory(self.length.saturating_sub(4))
    }

    /// How many bytes of the stream the message takes.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.body_bytes().saturating_add(FRAME_HEADER_BYTES)
    }

    /// The message at the head of `input`, or `None` if more bytes must come first.
    #[must_use]
    pub fn whole<'a>(&self, input: &'a [u8]) -> Option<Frame<'a>> {
        input.get(FRAME_HEADER_BYTES..self.wire_len()).map(|body| Frame::new(self.tag, body))
    }

    /// The beginning of its body, as much as is taken of the longest message that is taken whole; or `None` if more
    /// bytes must come first.
    #[must_use]
    pub fn beginning<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        let bytes = in_memory(self.cap.saturating_sub(4));
        input.get(FRAME_HEADER_BYTES..)?.get(..bytes)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Startup,
    Established,
    Frontend,
}

/// Cuts frames off the head of a buffer. Which ones it allows depends on who sends them and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framer(Phase);

impl Framer {
    /// For what a server sends before AuthenticationOk: `R`, `E`, `v` and `N` alone, with tight
    /// limits, and the errors without a length word that old servers and failed forks send.
    #[must_use]
    pub const fn startup() -> Self {
        Self(Phase::Startup)
    }

    /// For what a server sends after AuthenticationOk.
    #[must_use]
    pub const fn established() -> Self {
        Self(Phase::Established)
    }

    /// For what a client sends after its startup packet.
    #[must_use]
    pub const fn frontend() -> Self {
        Self(Phase::Frontend)
    }

    /// The frame at the head of `input`, or `None` if more bytes must come first.
    ///
    /// The caller drops [`wire_len`](Frame::wire_len) bytes before it asks again.
    ///
    /// # Errors
    /// No message may begin like this. A type byte is refused as soon as it is there, a length as
    /// soon as its four bytes are. There is no way to go on after it: close the connection.
    pub fn next<'a>(&self, input: &'a [u8]) -> Result<Option<Frame<'a>>, DecodeError> {
        let Some((&tag, after_tag)) = input.split_first() else { return Ok(None) };
        let shape = match self.0 {
            Phase::Established => tags::backend(tag),
            Phase::Frontend => tags::frontend(tag),
            Phase::Startup => tags::unauthenticated_backend(tag),
        };
        let Some(shape) = shape else { return self.refuse(tag, input) };
        let Some((word, body)) = after_tag.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*word);
        if self.0 == Phase::Startup && tag == b'E' && length > shape.cap && is_text(word) {
            return legacy_error(after_tag, length, shape);
        }
        check_length(length, shape)?;
        // At least `floor`, which is never below 4.
        let body_bytes = in_memory(length.saturating_sub(4));
        Ok(body.get(..body_bytes).map(|body| Frame::new(tag, body)))
    }

    /// The message at the head of `input` that is longer than what [`next`](Self::next) takes, if it is one that a
    /// server may send. `next` has refused it: whoever knows what it belongs to decides what becomes of it.
    #[cold]
    #[must_use]
    pub fn long(&self, input: &[u8]) -> Option<LongMessage> {
        let &[tag, a, b, c, d] = input.first_chunk::<FRAME_HEADER_BYTES>()?;
        let Shape { name, cap, most, .. } = match self.0 {
            Phase::Established => tags::backend(tag),
            Phase::Startup | Phase::Frontend => None,
        }?;
        let length = u32::from_be_bytes([a, b, c, d]);
        (length > cap && length <= most).then_some(LongMessage { tag, name, length, cap })
    }

    #[cold]
    fn refuse<'a>(self, tag: u8, input: &[u8]) -> Result<Option<Frame<'a>>, DecodeError> {
        let direction = match self.0 {
            Phase::Frontend => "frontend",
            Phase::Established => "backend",
            Phase::Startup => {
                // A server's message at the wrong time, or another protocol that happens to begin
                // with the same letter ("HTTP", "SSH-")? The length word tells. N4.
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

/// Whether four bytes that stand where a length belongs are the start of a sentence instead.
///
/// Every length below the cap begins with a zero byte, so nothing well-formed is mistaken.
fn is_text(word: &[u8; 4]) -> bool {
    word.iter().all(|&byte| byte >= 0x20 && byte != 0x7f)
}

/// `E`, text, NUL: what protocol 2 had, and what every postmaster that cannot fork sends. N3.
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
    /// What follows the length word: a code, then what belongs to it.
    pub body: &'a [u8],
}

impl<'a> FirstPacket<'a> {
    const SHAPE: Shape = Shape {
        name: "startup packet",
        floor: 8,
        // A literal, because the limit of memory cannot be narrowed in a constant.
        cap: 10_004,
        most: 10_004,
    };

    /// The packet at the head of `input`, or `None` if more bytes must come first.
    ///
    /// # Errors
    /// The length is below 8, or the body above [`STARTUP_BODY_BYTES_MAX`].
    pub fn next(input: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        const { assert!(STARTUP_BODY_BYTES_MAX + 4 == 10_004) }
        let Some((word, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*word);
        check_length(length, Self::SHAPE)?;
        Ok(rest.get(..in_memory(length.saturating_sub(4))).map(|body| Self { body }))
    }

    /// How many bytes of the stream the packet takes.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        self.body.len().saturating_add(4)
    }
}

/// The length alone: a CancelRequest holds a secret.
impl std::fmt::Debug for FirstPacket<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirstPacket").field("bytes", &self.body.len()).finish()
    }
}

//! The error of a script: what it expected, and what it received.

use std::fmt;

use crate::proto::wire::{FirstPacket, Framer, StartupPacket, tags};

/// Bytes that are shown of each side.
const SHOWN_BYTES: usize = 256;

/// The other side did not follow the script.
///
/// `Display` shows both sides as hexadecimal digits and message names. Of a password message it
/// shows only the length.
///
/// ```
/// use bytes::BytesMut;
/// use pgbell::testing::Script;
///
/// let mut script = Script::new().expect(b"ping");
/// let mismatch = script.step(&mut BytesMut::from("pong")).unwrap_err();
/// assert_eq!(mismatch.step(), 1);
/// println!("{} was expected, {} was found", mismatch.expected(), mismatch.found());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    step: usize,
    expected: String,
    found: String,
}

impl Mismatch {
    #[cold]
    pub(super) fn new(done: usize, expected: String, found: String) -> Self {
        Self { step: done.saturating_add(1), expected, found }
    }

    #[cold]
    pub(super) fn fault(done: usize, fault: &str) -> Self {
        Self::new(done, "a script without mistakes".to_owned(), fault.to_owned())
    }

    /// Returns the number of the step that failed, counted from 1.
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// Returns what the step expected.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// Returns what was received instead.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: expected {}, found {}", self.step, self.expected, self.found)
    }
}

impl std::error::Error for Mismatch {}

/// The side that a script plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }
}

/// Returns the name of a message, or its type byte if there is no such message.
pub(super) fn message_name(tag: u8, sender: Side) -> String {
    match shape(tag, sender) {
        Some(shape) => format!("any {}", shape.name),
        None => format!("any message of type {tag:02x}"),
    }
}

pub(super) fn end_after(input: &[u8], side: Side) -> String {
    if input.is_empty() {
        return "end of stream".to_owned();
    }
    format!("end of stream after {}", describe(input, side.other()))
}

/// Returns `51 0000000d 4c495354454e206100 (Query)` for each message, and other bytes without a name.
pub(super) fn describe(bytes: &[u8], sender: Side) -> String {
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let mut pieces = Vec::new();
    let mut rest = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
    while !rest.is_empty() {
        let (piece, length) = first(rest, sender);
        pieces.push(piece);
        rest = rest.get(length.max(1)..).unwrap_or_default();
    }
    if bytes.len() > SHOWN_BYTES {
        pieces.push(format!("… ({} bytes)", bytes.len()));
    }
    pieces.join(" ")
}

/// Returns the text and the length of the message at the front of `bytes`.
fn first(bytes: &[u8], sender: Side) -> (String, usize) {
    let framer = match sender {
        Side::Client => Framer::frontend(),
        Side::Server => Framer::established(),
    };
    if let Ok(Some(frame)) = framer.next(bytes) {
        let length = frame.body.len().saturating_add(4);
        let name = shape(frame.tag, sender).map_or("", |shape| shape.name);
        let body = match (frame.tag, sender) {
            (b'p', Side::Client) => "…".to_owned(),
            _ => hex(frame.body),
        };
        let blank = if body.is_empty() { "" } else { " " };
        let text = format!("{:02x} {length:08x}{blank}{body} ({name})", frame.tag);
        return (text, frame.wire_len());
    }
    if let (Side::Client, Ok(Some(packet))) = (sender, FirstPacket::next(bytes)) {
        let name = match StartupPacket::decode(packet) {
            Ok(StartupPacket::Startup { .. }) => "StartupMessage",
            Ok(StartupPacket::SslRequest) => "SSLRequest",
            Ok(StartupPacket::GssEncRequest) => "GSSENCRequest",
            Ok(StartupPacket::CancelRequest { .. }) => "CancelRequest",
            Err(_) => "no startup packet",
        };
        let length = packet.wire_len();
        let shown = bytes.get(..length).unwrap_or(bytes);
        return (format!("{} ({name})", hex(shown)), length);
    }
    // An incomplete message, or bytes that are not a message.
    let shown = match (bytes.first(), sender) {
        (Some(b'p'), Side::Client) => format!("70 … ({} bytes)", bytes.len()),
        _ => hex(bytes),
    };
    (shown, bytes.len())
}

fn shape(tag: u8, sender: Side) -> Option<tags::Shape> {
    match sender {
        Side::Client => tags::frontend(tag),
        Side::Server => tags::backend(tag),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

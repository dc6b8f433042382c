//! The errors of decoding and encoding.

use std::fmt;

/// The error of received bytes that are not a valid message.
///
/// The text names the message, what was expected and what was found. It contains no byte of a
/// message's body, except the first bytes of a peer that is not PostgreSQL, escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    message: &'static str,
    fault: DecodeFault,
}

/// The kind of a [`DecodeError`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeFault {
    /// The length word is smaller than any message of this type.
    LengthBelowFloor {
        /// The length word.
        length: u32,
        /// The smallest one of a well-formed message.
        floor: u32,
    },
    /// The length word is larger than the limit for this type.
    LengthAboveCap {
        /// The length word.
        length: u32,
        /// The limit.
        cap: u32,
    },
    /// The body ends inside a field.
    ShortBody {
        /// The field.
        field: &'static str,
        /// The number of bytes that the field needs.
        needed: usize,
        /// The number of bytes that are left in the body.
        available: usize,
    },
    /// A string has no NUL at its end.
    MissingNul {
        /// The field.
        field: &'static str,
    },
    /// The body has more bytes after the last field.
    Leftover {
        /// The number of these bytes.
        bytes: usize,
    },
    /// No message of this direction and phase has this type byte.
    UnknownTag {
        /// The type byte.
        tag: u8,
    },
    /// The message type exists, but is not allowed before AuthenticationOk.
    BeforeAuthentication,
    /// A field has a value that the protocol does not define or allow.
    BadValue {
        /// The field.
        field: &'static str,
        /// The allowed values.
        expected: &'static str,
        /// The value that was found. For a string: its length in bytes.
        found: i64,
    },
    /// A text is not UTF-8, the encoding that the client requested.
    NotUtf8 {
        /// The field.
        field: &'static str,
        /// The offset of the first byte that is not UTF-8.
        at: usize,
    },
    /// The peer uses another protocol.
    NotPostgres {
        /// The first bytes that it sent, at most 24.
        head: Excerpt,
    },
}

/// The first bytes that a peer sent, at most 24. `Debug` escapes them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Excerpt {
    bytes: [u8; Self::BYTES_MAX],
    length: usize,
}

impl Excerpt {
    const BYTES_MAX: usize = 24;

    pub(crate) fn of(input: &[u8]) -> Self {
        let mut bytes = [0; Self::BYTES_MAX];
        let mut length = 0;
        for (slot, byte) in bytes.iter_mut().zip(input) {
            *slot = *byte;
            length += 1;
        }
        Self { bytes, length }
    }

    /// Returns the unchanged bytes. Do not show them without an escape.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl DecodeError {
    #[cold]
    pub(crate) const fn new(message: &'static str, fault: DecodeFault) -> Self {
        Self { message, fault }
    }

    #[cold]
    pub(crate) const fn bad_value(
        message: &'static str,
        field: &'static str,
        expected: &'static str,
        found: i64,
    ) -> Self {
        Self { message, fault: DecodeFault::BadValue { field, expected, found } }
    }

    #[cold]
    pub(crate) const fn unknown_tag(direction: &'static str, tag: u8) -> Self {
        Self { message: direction, fault: DecodeFault::UnknownTag { tag } }
    }

    #[cold]
    pub(crate) fn not_postgres(input: &[u8]) -> Self {
        Self {
            message: "the first message",
            fault: DecodeFault::NotPostgres { head: Excerpt::of(input) },
        }
    }

    /// Returns the name of the message in PostgreSQL's manual, or a description if the message is not known.
    #[must_use]
    pub fn message_name(&self) -> &'static str {
        self.message
    }

    /// Returns a text that says what to change, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let is_text = matches!(self.fault, DecodeFault::NotUtf8 { .. });
        is_text.then_some(
            "PostgreSQL sends UTF-8 while client_encoding is UTF8: do not change client_encoding, and look at what is \
             between client and server",
        )
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn fault(&self) -> &DecodeFault {
        &self.fault
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message;
        match &self.fault {
            DecodeFault::LengthBelowFloor { length, floor } => {
                write!(f, "length word {length} is below {floor} in {message}")
            }
            DecodeFault::LengthAboveCap { length, cap } => {
                write!(f, "length word {length} is above {cap} in {message}")
            }
            DecodeFault::ShortBody { field, needed, available } => write!(
                f,
                "{field} needs {needed} bytes and {available} are left of the body in {message}"
            ),
            DecodeFault::MissingNul { field } => {
                write!(f, "{field} is not ended by a NUL in {message}")
            }
            DecodeFault::Leftover { bytes } => {
                write!(f, "expected the end and found {bytes} more bytes in {message}")
            }
            DecodeFault::UnknownTag { tag } => write!(
                f,
                "expected a {message} message and found type byte 0x{tag:02x} ('{}')",
                tag.escape_ascii()
            ),
            DecodeFault::BeforeAuthentication => write!(
                f,
                "expected an Authentication message and found {message} before authentication"
            ),
            DecodeFault::BadValue { field, expected, found } => {
                write!(f, "{field} is {found} where {expected} is expected in {message}")
            }
            DecodeFault::NotUtf8 { field, at } => {
                write!(f, "{field} is not UTF-8 from byte {at} on in {message}")
            }
            DecodeFault::NotPostgres { head } => {
                write!(f, "not a PostgreSQL server: it began with {head:?}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// The error of a value that cannot be encoded. Nothing of the message was written.
///
/// The text contains names and sizes, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string contains a NUL, which would end it in the message.
    Nul {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The offset of the NUL in the string, in bytes.
        at: usize,
    },
    /// The message would be longer than the receiver accepts.
    TooLong {
        /// The message.
        message: &'static str,
        /// Its minimum length, counted like the length word.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A list has more elements than its count field allows.
    TooMany {
        /// The message.
        message: &'static str,
        /// The list.
        field: &'static str,
        /// The number of elements.
        count: usize,
        /// The maximum number.
        max: usize,
    },
    /// A value that no receiver accepts.
    BadValue {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The allowed values.
        expected: &'static str,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nul { message, field, at } => {
                write!(f, "{field} has a NUL at byte {at} in {message}")
            }
            Self::TooLong { message, bytes, max } => {
                write!(f, "{message} would take {bytes} bytes, more than {max}")
            }
            Self::TooMany { message, field, count, max } => {
                write!(f, "{count} {field}, more than {max}, in {message}")
            }
            Self::BadValue { message, field, expected } => {
                write!(f, "{field} must be {expected} in {message}")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_message_and_what_was_expected_and_found() {
        let error = |fault| DecodeError::new("NotificationResponse", fault).to_string();
        let cases = [
            (
                error(DecodeFault::LengthBelowFloor { length: 3, floor: 11 }),
                "length word 3 is below 11 in NotificationResponse",
            ),
            (
                error(DecodeFault::LengthAboveCap { length: 9, cap: 8 }),
                "length word 9 is above 8 in NotificationResponse",
            ),
            (
                error(DecodeFault::MissingNul { field: "payload" }),
                "payload is not ended by a NUL in NotificationResponse",
            ),
            (
                DecodeError::unknown_tag("backend", 0x1b).to_string(),
                "expected a backend message and found type byte 0x1b ('\\x1b')",
            ),
            (
                DecodeError::not_postgres(b"\x1b[2J HTTP").to_string(),
                "not a PostgreSQL server: it began with \"\\x1b[2J HTTP\"",
            ),
            (
                EncodeError::Nul { message: "Query", field: "query", at: 2 }.to_string(),
                "query has a NUL at byte 2 in Query",
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_excerpt_contains_only_the_first_bytes() {
        let long = [b'x'; 100];
        assert_eq!(Excerpt::of(&long).as_bytes(), &long[..24]);
        assert_eq!(Excerpt::of(b"").as_bytes(), b"");
    }
}

//! Quoted identifiers, and the checks of channel names and payloads.

use std::fmt;

use super::limits::{CHANNEL_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// Appends `name` as a quoted identifier: in double quotes, and with every double quote inside doubled.
///
/// Inside the quotes the server does not change upper case, and gives no meaning to `\`, `$1` and `U&`. This function
/// does not check the name; [`check_channel`] does.
// N9.
pub fn quote_identifier(name: &str, out: &mut String) {
    out.push('"');
    for piece in name.split_inclusive('"') {
        out.push_str(piece);
        if piece.ends_with('"') {
            out.push('"');
        }
    }
    out.push('"');
}

/// The error of a string that is not a valid channel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelError {
    /// It is empty.
    Empty,
    /// It has a NUL.
    Nul {
        /// Its offset in bytes.
        at: usize,
    },
    /// It is longer than [`CHANNEL_BYTES_MAX`].
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "channel name is empty: 1 to {CHANNEL_BYTES_MAX} bytes"),
            Self::Nul { at } => write!(f, "channel name has a NUL at byte {at}"),
            Self::TooLong { bytes } => write!(
                f,
                "channel name is {bytes} bytes long, {CHANNEL_BYTES_MAX} bytes are the limit"
            ),
        }
    }
}

impl std::error::Error for ChannelError {}

/// Checks a channel name before anything is sent: 1 to 63 bytes without NUL.
///
/// The server counts the bytes in its own encoding, so it may refuse a name that passes this check.
///
/// # Errors
/// The name is empty, too long, or contains a NUL.
// N9.
pub fn check_channel(name: &str) -> Result<(), ChannelError> {
    if name.is_empty() {
        return Err(ChannelError::Empty);
    }
    if name.len() > CHANNEL_BYTES_MAX {
        return Err(ChannelError::TooLong { bytes: name.len() });
    }
    match name.bytes().position(|byte| byte == 0) {
        Some(at) => Err(ChannelError::Nul { at }),
        None => Ok(()),
    }
}

/// The error of a string that is not a valid payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// It has a NUL.
    Nul {
        /// Its offset in bytes.
        at: usize,
    },
    /// It is longer than [`PAYLOAD_BYTES_MAX`].
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nul { at } => write!(f, "payload has a NUL at byte {at}"),
            Self::TooLong { bytes } => {
                write!(f, "payload is {bytes} bytes long, {PAYLOAD_BYTES_MAX} bytes are the limit")
            }
        }
    }
}

impl std::error::Error for PayloadError {}

/// Checks a payload before anything is sent: at most 7,999 bytes without NUL.
///
/// # Errors
/// The payload is too long, or contains a NUL.
// N9.
pub fn check_payload(payload: &str) -> Result<(), PayloadError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(PayloadError::TooLong { bytes: payload.len() });
    }
    match payload.bytes().position(|byte| byte == 0) {
        Some(at) => Err(PayloadError::Nul { at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I1, I2, I7.
    #[test]
    fn only_the_double_quote_is_escaped() {
        let cases = [
            ("a\"; DROP TABLE x; --", "\"a\"\"; DROP TABLE x; --\""),
            ("\"", "\"\"\"\""),
            ("\"\"", "\"\"\"\"\"\""),
            ("a\"\"b", "\"a\"\"\"\"b\""),
            ("Select", "\"Select\""),
            (" lead", "\" lead\""),
            ("new\nline", "\"new\nline\""),
            ("\\", "\"\\\""),
            ("U&\"x\"", "\"U&\"\"x\"\"\""),
            ("$1", "\"$1\""),
            ("'", "\"'\""),
            ("*", "\"*\""),
            ("é€", "\"é€\""),
        ];
        for (name, expected) in cases {
            let mut out = String::from("LISTEN ");
            quote_identifier(name, &mut out);
            assert_eq!(out, format!("LISTEN {expected}"), "{name:?}");
        }
    }

    /// I3, I5.
    #[test]
    fn channel_names_that_the_server_would_truncate_or_refuse_are_refused() {
        let longest = "é".repeat(31) + "x";
        let too_long = "é".repeat(32);
        for good in ["a", "*", longest.as_str()] {
            assert_eq!(check_channel(good), Ok(()), "{good:?}");
        }
        for (bad, expected) in [
            ("", ChannelError::Empty),
            ("\0", ChannelError::Nul { at: 0 }),
            ("a\0b", ChannelError::Nul { at: 1 }),
            ("ab\0", ChannelError::Nul { at: 2 }),
            (too_long.as_str(), ChannelError::TooLong { bytes: 64 }),
        ] {
            assert_eq!(check_channel(bad), Err(expected), "{bad:?}");
        }
        assert_eq!(
            ChannelError::TooLong { bytes: 64 }.to_string(),
            "channel name is 64 bytes long, 63 bytes are the limit"
        );
    }

    #[test]
    fn payloads_that_the_server_would_refuse_are_refused() {
        assert_eq!(check_payload(""), Ok(()));
        assert_eq!(check_payload(&"x".repeat(7_999)), Ok(()));
        assert_eq!(check_payload(&"x".repeat(8_000)), Err(PayloadError::TooLong { bytes: 8_000 }));
        assert_eq!(check_payload("a\0"), Err(PayloadError::Nul { at: 1 }));
    }
}

//! JSON in which hidden characters are escaped.

use std::io;

use pgbell::proto::wire::escape::is_hidden;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Writes a value in one line. A parser of JSON gets the same strings as without the escapes.
///
/// # Errors
/// An error of the value or of the output.
pub(crate) fn write(value: &impl Serialize, out: impl io::Write) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping))
}

/// Writes a hidden character as `\u202e`, or as a surrogate pair if it needs more than 16 bits.
struct Escaping;

impl Formatter for Escaping {
    /// Gets parts of strings without the characters that JSON itself escapes.
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hidden) {
            let (plain, tail) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut characters = tail.chars();
            if let Some(hidden) = characters.next() {
                for half in hidden.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{half:04x}")?;
                }
            }
            rest = characters.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        write(&text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hidden_characters_are_escaped_in_valid_json() {
        for (text, expected) in [
            ("grüße 🔔", "\"grüße 🔔\""),
            ("\u{9b}2J\u{7f}", "\"\\u009b2J\\u007f\""),
            ("a\u{202e}b\u{2028}\u{2029}", "\"a\\u202eb\\u2028\\u2029\""),
            ("\u{200b}\"\n\u{e0041}x", "\"\\u200b\\\"\\n\\udb40\\udc41x\""),
        ] {
            assert_eq!(written(text), expected);
        }
    }

    #[test]
    fn every_character_can_be_parsed_again_and_none_is_hidden() {
        let all: String = ('\0'..=char::MAX).collect();
        let json = written(&all);
        assert!(!json.contains(is_hidden));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), all);
    }
}

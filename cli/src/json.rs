//! JSON in which hidden characters are escaped.

use std::io;

use pgbell::proto::wire::escape::is_hidden;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};

/// Writes a value in one line. A parser of JSON gets the same strings as without the escapes.
///
/// # Errors
/// An error of the value or of the output.
pub(crate) fn write(value: &impl Serialize, out: impl io::Write) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping))
}

/// Writes a value over several lines, with indents.
///
/// # Errors
/// An error of the value or of the output.
pub(crate) fn write_indented(
    value: &impl Serialize,
    out: impl io::Write,
) -> serde_json::Result<()> {
    let formatter = Indented(PrettyFormatter::new());
    value.serialize(&mut Serializer::with_formatter(out, formatter))
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
        write_escaped(out, fragment)
    }
}

/// [`Escaping`] over several lines.
struct Indented(PrettyFormatter<'static>);

impl Formatter for Indented {
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(out, is_first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(out, is_first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_escaped(out, fragment)
    }
}

/// Writes a part of a string, without the characters that JSON itself escapes.
fn write_escaped<W: ?Sized + io::Write>(out: &mut W, fragment: &str) -> io::Result<()> {
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

    #[test]
    fn indented_json_has_the_same_escapes() {
        let mut out = Vec::new();
        let value = serde_json::json!({"a": ["x\u{9b}", {}], "b": 1});
        write_indented(&value, &mut out).unwrap();
        let expected = "{\n  \"a\": [\n    \"x\\u009b\",\n    {}\n  ],\n  \"b\": 1\n}";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

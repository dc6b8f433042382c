//! JSON over several lines, for people.

use serde::de::IgnoredAny;

use crate::record::push_visible;

/// Appends JSON text with line ends and indents, as it is otherwise: numbers, the order and repeated keys stay. Returns false for other text, and
/// for JSON without an object or an array.
pub(super) fn push_indented(text: &str, out: &mut Vec<u8>) -> bool {
    let text = text.trim();
    if !text.starts_with(['{', '[']) || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return false;
    }
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    let mut characters = text.chars().peekable();
    let mut buffer = [0; 4];
    while let Some(character) = characters.next() {
        if is_string {
            push_visible(character.encode_utf8(&mut buffer), out);
            is_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
            continue;
        }
        match character {
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '[' => {
                out.push(if character == '{' { b'{' } else { b'[' });
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                // An empty one stays in its line.
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(if end == '}' { b'}' } else { b']' });
                } else {
                    depth += 1;
                    push_line(depth, out);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                push_line(depth, out);
                out.push(if character == '}' { b'}' } else { b']' });
            }
            ',' => {
                out.push(b',');
                push_line(depth, out);
            }
            ':' => out.extend_from_slice(b": "),
            other => {
                is_string = other == '"';
                out.extend_from_slice(other.encode_utf8(&mut buffer).as_bytes());
            }
        }
    }
    true
}

fn push_line(depth: usize, out: &mut Vec<u8>) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(b' ', 2 * depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indented(text: &str) -> Option<String> {
        let mut out = Vec::new();
        push_indented(text, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn json_is_indented_and_otherwise_unchanged() {
        let text = "{\"b\" : 1.0e400,\"a\":[ ],\"a\":[1,{\"x\":\"{,:}\\\"\"}], \"e\":{}}";
        let expected = "{\n  \"b\": 1.0e400,\n  \"a\": [],\n  \"a\": [\n    1,\n    {\n      \"x\": \"{,:}\\\"\"\n    }\n  ],\n  \"e\": {}\n}";
        assert_eq!(indented(text).as_deref(), Some(expected));
        // The result is the same JSON.
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        assert_eq!(
            value(&indented("[1,[2,[]],{\"a\":null}]").unwrap()),
            value("[1,[2,[]],{\"a\":null}]")
        );
    }

    #[test]
    fn other_text_is_not_indented() {
        for text in ["", "7", "\"text\"", "{", "{}x", "order {}"] {
            assert_eq!(indented(text), None, "{text}");
        }
        // Hidden characters are written out in strings.
        assert_eq!(indented("[\"\u{202e}\"]").as_deref(), Some("[\n  \"\\u{202e}\"\n]"));
    }
}

//! Text and data in which hidden characters are written out.

use pgbell::proto::wire::escape::is_hidden;

/// Appends a line for people, with the characters escaped for which [`is_hidden`] is true: those that move the cursor, end
/// the line, colour the terminal, change the direction of text, or are invisible. Backslashes are not escaped.
pub(crate) fn push_visible(text: &str, out: &mut Vec<u8>) {
    push_escaped(text, is_hidden, out);
}

/// Appends data so that it can be restored: like [`push_visible`], and escapes backslashes too, and the characters for which
/// `or` is true.
pub(crate) fn push_data(text: &str, or: impl Fn(char) -> bool, out: &mut Vec<u8>) {
    push_escaped(text, |c| c == '\\' || or(c) || is_hidden(c), out);
}

fn push_escaped(text: &str, is_escaped: impl Fn(char) -> bool, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find(&is_escaped) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut characters = tail.chars();
        match characters.next() {
            // Printable: the standard library does not escape it.
            Some(' ') => out.extend_from_slice(b"\\u{20}"),
            // The escape is ASCII for every character.
            Some(character) => out.extend(character.escape_default().map(|c| c as u8)),
            None => {}
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(text: &str) -> String {
        let mut out = Vec::new();
        push_data(text, |_| false, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn control_characters_and_invisible_characters_are_escaped() {
        for (text, expected) in [
            ("{\"id\":1}", "{\"id\":1}"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\x1b[2J\x07\x7f", "\\u{1b}[2J\\u{7}\\u{7f}"),
            ("\u{85}\u{9b}", "\\u{85}\\u{9b}"),
            ("x\u{202e}y\u{2028}", "x\\u{202e}y\\u{2028}"),
            ("x\u{200b}y\u{e0041}\u{feff}", "x\\u{200b}y\\u{e0041}\\u{feff}"),
            ("grüße 🔔", "grüße 🔔"),
            ("C:\\dir", "C:\\\\dir"),
            ("\\n", "\\\\n"),
            ("\\u{a}", "\\\\u{a}"),
            ("", ""),
        ] {
            assert_eq!(visible(text), expected);
        }
    }

    /// Reverses the escapes, as the documentation describes them.
    fn restored(text: &str) -> String {
        let mut restored = String::new();
        let mut rest = text;
        while let Some((plain, escape)) = rest.split_once('\\') {
            restored.push_str(plain);
            let kind = escape.chars().next().unwrap();
            rest = &escape[1..];
            match kind {
                '\\' => restored.push('\\'),
                'n' => restored.push('\n'),
                'r' => restored.push('\r'),
                't' => restored.push('\t'),
                'u' => {
                    let (digits, after) = rest[1..].split_once('}').unwrap();
                    let character = char::from_u32(u32::from_str_radix(digits, 16).unwrap());
                    restored.push(character.unwrap());
                    rest = after;
                }
                other => panic!("{other}"),
            }
        }
        restored + rest
    }

    #[test]
    fn a_newline_and_a_backslash_with_an_n_are_written_differently_and_both_can_be_restored() {
        assert_ne!(visible("a\nb"), visible("a\\nb"));
        let every: String = (0..0x11_0000).filter_map(char::from_u32).collect();
        let mut samples = vec![every, "\\u{20}\\n\\\\".to_owned()];
        samples.extend((0..=255_u8).map(|byte| format!("\\{}n", char::from(byte))));
        for sample in samples {
            let text = visible(&sample);
            assert!(!text.contains(is_hidden));
            assert_eq!(restored(&text), sample);
        }
    }

    #[test]
    fn a_space_in_the_name_of_a_channel_does_not_end_the_name() {
        let mut out = Vec::new();
        push_data("a #1 b", |c| c == ' ', &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!((text.as_str(), restored(&text)), ("a\\u{20}#1\\u{20}b", "a #1 b".to_owned()));
    }
}

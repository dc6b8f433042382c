//! Escapes for text from a peer, so that it is safe in a terminal and in a line of a log.

use std::fmt::{self, Write};

use super::limits::DISPLAY_BYTES_MAX;

/// Shows a text cut after [`DISPLAY_BYTES_MAX`] bytes. Control characters, and characters that reorder or hide
/// other characters, are escaped.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, character) in self.0.char_indices() {
            if at >= DISPLAY_BYTES_MAX {
                return write!(f, "… ({} bytes)", self.0.len());
            }
            if is_hidden(character) {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Shows bytes cut after [`DISPLAY_BYTES_MAX`] bytes. Bytes that are not printable ASCII are escaped.
#[derive(Debug, Clone, Copy)]
pub struct EscapedBytes<'a>(pub &'a [u8]);

impl fmt::Display for EscapedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..DISPLAY_BYTES_MAX).filter(|head| head.len() < self.0.len()) {
            Some(head) => write!(f, "{}… ({} bytes)", head.escape_ascii(), self.0.len()),
            None => self.0.escape_ascii().fmt(f),
        }
    }
}

/// Returns whether a character must be escaped: it moves the cursor, ends the line, changes the reading direction, or is
/// not visible, so that a text could contain more than a person can see.
///
/// These are the control characters (C0, DEL and C1), the separators of lines and paragraphs, the marks that order
/// bidirectional text and those of annotations, and all characters with Unicode's property
/// `Default_Ignorable_Code_Point`, such as characters without width, variation selectors and tags. A joiner inside an emoji
/// is one of them too.
///
/// ```
/// # #[cfg(feature = "proto")] {
/// use pgbell::proto::wire::escape::is_hidden;
///
/// assert!(['\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{200b}', '\u{e0041}'].into_iter().all(is_hidden));
/// assert!(!['a', ' ', 'ü', '語', '🔔'].into_iter().any(is_hidden));
/// # }
/// ```
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Separators, and marks of direction and annotation.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fff9}'..='\u{fffb}'
            // All of Default_Ignorable_Code_Point in Unicode 16.
            | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E7.
    #[test]
    fn characters_that_move_the_cursor_or_change_the_reading_direction_are_escaped() {
        let shown = Escaped("a\x1b[2Jb\r\nc\u{202e}d\u{2066}é\u{0}\u{9b}").to_string();
        assert_eq!(shown, "a\\u{1b}[2Jb\\r\\nc\\u{202e}d\\u{2066}é\\u{0}\\u{9b}");
    }

    #[test]
    fn characters_that_are_not_visible_are_escaped() {
        for hidden in [
            '\u{7f}',
            '\u{80}',
            '\u{9f}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200d}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{2066}',
            '\u{2060}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{fffb}',
            '\u{e0001}',
            '\u{e007f}',
            '\u{e01ef}',
        ] {
            let text = format!("a{hidden}b");
            let shown = Escaped(&text).to_string();
            assert_eq!(shown, format!("a\\u{{{:x}}}b", u32::from(hidden)));
        }
        for plain in ["grüße", "日本語", "🔔", "\u{a0}", "e\u{301}", "بِسْم", "ไทย", "\u{600}"]
        {
            assert_eq!(Escaped(plain).to_string(), plain);
        }
        // In all of Unicode: 65 control characters, and 4,179 characters that are not visible.
        assert_eq!(
            (0..=u32::from(char::MAX)).filter_map(char::from_u32).filter(|c| is_hidden(*c)).count(),
            4_244
        );
    }

    #[test]
    fn a_long_text_is_cut() {
        let long = "x".repeat(1 << 20);
        for shown in [Escaped(&long).to_string(), EscapedBytes(long.as_bytes()).to_string()] {
            assert_eq!(shown.len(), DISPLAY_BYTES_MAX + "… (1048576 bytes)".len());
        }
        let whole = "x".repeat(DISPLAY_BYTES_MAX);
        assert_eq!(EscapedBytes(whole.as_bytes()).to_string(), whole);
    }
}

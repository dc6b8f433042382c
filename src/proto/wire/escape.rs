//! Text that somebody else wrote, made safe for a terminal and for a line of a log.

use std::fmt::{self, Write};

use super::limits::DISPLAY_BYTES_MAX;

/// Shows a text with control characters, escape sequences and characters that reorder or hide
/// other characters written out, cut after [`DISPLAY_BYTES_MAX`] bytes.
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

/// Shows bytes that are mostly ASCII, all others written out, cut after [`DISPLAY_BYTES_MAX`] bytes.
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

/// Whether a character must not be shown as it is: it moves the cursor, ends the line, turns the reading direction, or is
/// not visible at all, so that a text may hold more than can be seen.
///
/// These are the control characters (C0, DEL and C1), the separators of lines and paragraphs, the marks that order
/// bidirectional text and those of annotations, and all that Unicode calls `Default_Ignorable_Code_Point`: characters
/// without width, variation selectors and tags among them. A joiner inside an emoji counts too.
///
/// ```
/// use pgbell::wire::escape::is_hidden;
///
/// assert!(['\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{200b}', '\u{e0041}'].into_iter().all(is_hidden));
/// assert!(!['a', ' ', 'ü', '語', '🔔'].into_iter().any(is_hidden));
/// ```
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Separators, and marks of direction and annotation.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fff9}'..='\u{fffb}'
            // Default_Ignorable_Code_Point of Unicode 16, whole.
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
    fn what_moves_the_cursor_or_the_reading_direction_is_written_out() {
        let shown = Escaped("a\x1b[2Jb\r\nc\u{202e}d\u{2066}é\u{0}\u{9b}").to_string();
        assert_eq!(shown, "a\\u{1b}[2Jb\\r\\nc\\u{202e}d\\u{2066}é\\u{0}\\u{9b}");
    }

    #[test]
    fn what_cannot_be_seen_is_written_out() {
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
        // Of all of Unicode: 65 control characters, and 4,179 that cannot be seen.
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

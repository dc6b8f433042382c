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
            if is_harmless(character) {
                f.write_char(character)?;
            } else {
                write!(f, "{}", character.escape_default())?;
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

fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
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
    fn a_long_text_is_cut() {
        let long = "x".repeat(1 << 20);
        for shown in [Escaped(&long).to_string(), EscapedBytes(long.as_bytes()).to_string()] {
            assert_eq!(shown.len(), DISPLAY_BYTES_MAX + "… (1048576 bytes)".len());
        }
        let whole = "x".repeat(DISPLAY_BYTES_MAX);
        assert_eq!(EscapedBytes(whole.as_bytes()).to_string(), whole);
    }
}

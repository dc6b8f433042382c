//! String literals: plain, with escapes, and in dollar quotes.

use super::{Scanner, starts_word};
use crate::testing::backend::refusal::Refusal;

impl Scanner<'_, '_> {
    /// Reads `'…'`. A backslash has no special meaning.
    pub(super) fn text(&mut self) -> Result<String, Refusal> {
        let mut text = self.enclosed('\'', "quoted string")?;
        while self.continues() {
            text.push_str(&self.enclosed('\'', "quoted string")?);
        }
        Ok(text)
    }

    /// Returns whether the literal continues after blanks and `--` comments with a line break among them. Then the
    /// scanner is at the next part.
    fn continues(&mut self) -> bool {
        let start = self.at;
        let mut is_broken = false;
        loop {
            is_broken |= self.take_blanks().contains(['\n', '\r']);
            if !self.skip_line_comment() {
                break;
            }
        }
        let continues = is_broken && self.peek() == Some('\'');
        if !continues {
            self.at = start;
        }
        continues
    }

    /// Reads `E'…'`, without the letter.
    pub(super) fn escaped_text(&mut self) -> Result<String, Refusal> {
        let start = self.at;
        let mut bytes = Vec::new();
        self.bump();
        loop {
            match self.bump() {
                Some('\\') => self.escape(&mut bytes, start)?,
                Some('\'') if self.peek() == Some('\'') => {
                    self.bump();
                    bytes.push(b'\'');
                }
                Some('\'') if self.continues() => {
                    self.bump();
                }
                Some('\'') => break,
                Some(c) => push(&mut bytes, c),
                None => return Err(self.unterminated("quoted string", start)),
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(text),
            _ => Err(Refusal::not_utf8()),
        }
    }

    /// Reads what follows a backslash.
    fn escape(&mut self, bytes: &mut Vec<u8>, start: usize) -> Result<(), Refusal> {
        match self.bump() {
            Some('b') => bytes.push(8),
            Some('f') => bytes.push(12),
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('t') => bytes.push(b'\t'),
            Some('u') => push(bytes, self.unicode(4)?),
            Some('U') => push(bytes, self.unicode(8)?),
            Some('x') if self.peek().is_some_and(|c| c.is_ascii_hexdigit()) => {
                bytes.push(self.byte(0, 16));
            }
            Some(c @ '0'..='7') => bytes.push(self.byte(c.to_digit(8).unwrap_or(0), 8)),
            Some(c) => push(bytes, c),
            None => return Err(self.unterminated("quoted string", start)),
        }
        Ok(())
    }

    /// Reads a byte with at most two more digits. Higher bits are cut off, as on the server.
    fn byte(&mut self, first: u32, radix: u32) -> u8 {
        let mut value = first;
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(radix)) else { break };
            self.bump();
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        value.to_le_bytes()[0]
    }

    /// Reads a character of one escape, or of a pair of surrogates.
    fn unicode(&mut self, digits: usize) -> Result<char, Refusal> {
        let first = self.code_point(digits)?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first)
                .ok_or_else(|| Refusal::syntax("invalid Unicode escape value"));
        }
        let second = match () {
            () if self.skip("\\u") => self.code_point(4)?,
            () if self.skip("\\U") => self.code_point(8)?,
            () => 0,
        };
        let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
        let high = first.wrapping_sub(0xd800).wrapping_mul(0x400);
        let code = low.map(|low| high.wrapping_add(low).wrapping_add(0x1_0000));
        let paired = code.and_then(char::from_u32);
        paired.ok_or_else(|| Refusal::syntax("invalid Unicode surrogate pair"))
    }

    /// Reads this number of hexadecimal digits.
    fn code_point(&mut self, digits: usize) -> Result<u32, Refusal> {
        let hex = self.rest().get(..digits);
        let hex = hex.filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        self.at = self.at.saturating_add(hex.map_or(0, str::len));
        code.ok_or_else(|| Refusal::new("22025", "invalid Unicode escape"))
    }

    /// Reads `$tag$…$tag$`, if one begins here.
    pub(super) fn dollar_quoted(&mut self) -> Result<Option<String>, Refusal> {
        let start = self.at;
        let Some(mark) = mark(self.rest()) else { return Ok(None) };
        let body = self.rest().get(mark.len()..).unwrap_or_default();
        let Some(end) = body.find(mark) else {
            return Err(self.unterminated("dollar-quoted string", start));
        };
        self.at = self.at.saturating_add(mark.len().saturating_mul(2)).saturating_add(end);
        Ok(body.get(..end).map(str::to_owned))
    }
}

/// Returns `$tag$` at the front of a text.
fn mark(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('$')?;
    let tag = inside.trim_start_matches(|c| starts_word(c) || c.is_ascii_digit());
    let length = inside.len().checked_sub(tag.len())?;
    let is_parameter = inside.starts_with(|c: char| c.is_ascii_digit());
    let whole = text.get(..length.checked_add(2)?)?;
    (whole.ends_with('$') && !is_parameter).then_some(whole)
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, tokens};

    fn kinds(sql: &str) -> Vec<Kind> {
        tokens(sql, &mut Vec::new()).unwrap().into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn strings_in_every_notation_are_read() {
        for (sql, text) in [
            ("'a'\n \n'b'", "ab"),
            ("'a' -- c\n -- c\n'b'", "ab"),
            ("E'a'\n'\\n'", "a\n"),
            ("$$it's \\n$$", "it's \\n"),
            ("$a$x$$y$b$a$", "x$$y$b"),
            ("$é1$$é1$", ""),
            (r"e'\b\f\n\r\t\\\''", "\u{8}\u{c}\n\r\t\\'"),
            (r"E'\101\x41\x4A\u00e9\U0001F600\q'", "AAJé😀q"),
            (r"E'\ud83d\ude00\ud83d\U0000de00\xc3\xa9'", "😀😀é"),
        ] {
            assert_eq!(kinds(sql), [Kind::Text(text.to_owned())], "{sql}");
        }
        assert_eq!(kinds("'a' 'b'").len(), 2);
        assert_eq!(kinds("'a'\n/* c */'b'").len(), 2);
        assert_eq!(kinds("a$b$c$"), [Kind::Word("a$b$c$".into())]);
        assert_eq!(kinds("$1$")[0], Kind::Parameter(1));
    }

    #[test]
    fn malformed_strings_are_refused() {
        for (sql, code) in [
            ("$$x", "42601"),
            ("$a$x$$", "42601"),
            ("E'\\'", "42601"),
            ("E'\\", "42601"),
            (r"E'\u00'", "22025"),
            (r"E'\ud800'", "42601"),
            (r"E'\ud800\u0041'", "42601"),
            (r"E'\U00110000'", "42601"),
            (r"E'\xff'", "22021"),
            (r"E'\000'", "22021"),
            ("B'1'", "0A000"),
            ("U&'a'", "0A000"),
            ("u&\"a\"", "0A000"),
        ] {
            assert_eq!(tokens(sql, &mut Vec::new()).unwrap_err().code(), code, "{sql}");
        }
    }
}

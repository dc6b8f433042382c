//! A scanner that splits SQL text into tokens, as `scan.l` does with `standard_conforming_strings = on`.

mod literal;

use super::refusal::Refusal;
use crate::proto::wire::limits::CHANNEL_BYTES_MAX;

/// The highest number of tokens of a query, of 64 bytes each. A limit of this backend.
const TOKENS_MAX: usize = 1_000_000;

/// The kind of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or a keyword without quotes, folded to lower case.
    Word(String),
    /// An identifier in double quotes.
    Quoted(String),
    /// A string literal.
    Text(String),
    /// An integer literal.
    Number(String),
    /// `$1` and so on.
    Parameter(usize),
    /// `::`.
    Cast,
    /// Any other character.
    Symbol(char),
}

/// A token and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// The text in the query.
    pub(super) raw: &'a str,
    /// The position of its first byte.
    pub(super) start: usize,
    /// The position of its first character, counted from 1 as in field `P` of an error.
    pub(super) position: usize,
}

/// Splits `sql` into tokens. Names longer than 63 bytes are cut; each cut is added to `cuts` with the old and
/// the new name.
pub(super) fn tokens<'a>(
    sql: &'a str,
    cuts: &mut Vec<(String, String)>,
) -> Result<Vec<Token<'a>>, Refusal> {
    let mut scanner = Scanner { sql, at: 0, counted: (0, 1), cuts };
    let mut tokens = Vec::new();
    while let Some(token) = scanner.next_token()? {
        if tokens.len() >= TOKENS_MAX {
            return Err(Refusal::limit_exceeded("the text of this query"));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// Returns the text from the first of these tokens to the last.
pub(super) fn span<'a>(sql: &'a str, tokens: &[Token<'_>]) -> &'a str {
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return "" };
    sql.get(first.start..last.start.saturating_add(last.raw.len())).unwrap_or_default()
}

struct Scanner<'a, 'c> {
    sql: &'a str,
    /// The current position in bytes, always at the start of a character.
    at: usize,
    /// The start of the last token, in bytes from 0 and in characters from 1. With it a long query is read in
    /// one pass.
    counted: (usize, usize),
    cuts: &'c mut Vec<(String, String)>,
}

impl<'a> Scanner<'a, '_> {
    fn rest(&self) -> &'a str {
        self.sql.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at = self.at.saturating_add(next.len_utf8());
        Some(next)
    }

    fn skip(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at = self.at.saturating_add(prefix.len());
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = rest.trim_start_matches(wanted);
        let length = rest.len().saturating_sub(taken.len());
        self.at = self.at.saturating_add(length);
        rest.get(..length).unwrap_or_default()
    }

    /// Returns the position in characters of a byte position that is not before the last token.
    fn position(&self, at: usize) -> usize {
        let (start, position) = self.counted;
        let between = self.sql.get(start..at).unwrap_or_default();
        position.saturating_add(between.chars().count())
    }

    fn next_token(&mut self) -> Result<Option<Token<'a>>, Refusal> {
        self.skip_blanks()?;
        let start = self.at;
        let Some(first) = self.peek() else { return Ok(None) };
        let position = self.position(start);
        self.counted = (start, position);
        let kind = match first {
            '"' => self.quoted()?,
            '\'' => Kind::Text(self.text()?),
            '0'..='9' => Kind::Number(self.take_while(|c| c.is_ascii_digit()).to_owned()),
            '$' => match self.dollar_quoted()? {
                Some(text) => Kind::Text(text),
                None => self.parameter(),
            },
            ':' if self.skip("::") => Kind::Cast,
            _ if starts_word(first) => self.word()?,
            _ => {
                self.bump();
                Kind::Symbol(first)
            }
        };
        let raw = self.sql.get(start..self.at).unwrap_or_default();
        Ok(Some(Token { kind, raw, start, position }))
    }

    /// Skips blanks and both kinds of comments; those in `/* */` may be nested.
    fn skip_blanks(&mut self) -> Result<(), Refusal> {
        loop {
            self.take_blanks();
            if self.skip_line_comment() {
                continue;
            }
            if self.rest().starts_with("/*") {
                self.skip_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    fn take_blanks(&mut self) -> &'a str {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c'))
    }

    /// Skips `--` and the rest of the line, without its end.
    fn skip_line_comment(&mut self) -> bool {
        let found = self.skip("--");
        if found {
            self.take_while(|c| c != '\n' && c != '\r');
        }
        found
    }

    fn skip_comment(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            if self.skip("/*") {
                depth = depth.saturating_add(1);
            } else if self.skip("*/") {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Ok(());
                }
            } else if self.bump().is_none() {
                return Err(self.unterminated("/* comment", start));
            }
        }
    }

    fn word(&mut self) -> Result<Kind, Refusal> {
        let start = self.at;
        let word = self.take_while(|c| starts_word(c) || c.is_ascii_digit() || c == '$');
        if self.peek() == Some('\'') && word.eq_ignore_ascii_case("e") {
            return self.escaped_text().map(Kind::Text);
        }
        let is_unicode = word.eq_ignore_ascii_case("u")
            && (self.rest().starts_with("&'") || self.rest().starts_with("&\""));
        let has_prefix = word.len() == 1 && self.peek() == Some('\'');
        if is_unicode || has_prefix {
            // B'…', X'…', N'…' and U&'…' are literals with other rules.
            let at = self.position(start);
            return Err(Refusal::unsupported("a string literal with a prefix").at(at));
        }
        let folded = word.to_ascii_lowercase();
        Ok(Kind::Word(self.cut(folded)))
    }

    fn quoted(&mut self) -> Result<Kind, Refusal> {
        let start = self.at;
        let name = self.enclosed('"', "quoted identifier")?;
        if name.is_empty() {
            let raw = self.sql.get(start..self.at).unwrap_or_default();
            let text = format!("zero-length delimited identifier at or near \"{raw}\"");
            return Err(Refusal::syntax(text).at(self.position(start)));
        }
        Ok(Kind::Quoted(self.cut(name)))
    }

    /// Reads the text between two quotes; a doubled quote is one quote. A backslash has no special meaning.
    fn enclosed(&mut self, quote: char, what: &str) -> Result<String, Refusal> {
        let start = self.at;
        self.bump();
        let mut value = String::new();
        loop {
            match self.bump() {
                Some(c) if c != quote => value.push(c),
                Some(_) if self.peek() == Some(quote) => {
                    self.bump();
                    value.push(quote);
                }
                Some(_) => return Ok(value),
                None => return Err(self.unterminated(what, start)),
            }
        }
    }

    fn parameter(&mut self) -> Kind {
        self.bump();
        match self.take_while(|c| c.is_ascii_digit()).parse() {
            Ok(number) => Kind::Parameter(number),
            Err(_) => Kind::Symbol('$'),
        }
    }

    fn cut(&mut self, name: String) -> String {
        if name.len() <= CHANNEL_BYTES_MAX {
            return name;
        }
        let cut = (0..=CHANNEL_BYTES_MAX).rev().find_map(|end| name.get(..end));
        let cut = cut.unwrap_or_default().to_owned();
        self.cuts.push((name, cut.clone()));
        cut
    }

    #[cold]
    fn unterminated(&self, what: &str, start: usize) -> Refusal {
        let raw = self.sql.get(start..).unwrap_or_default();
        let text = format!("unterminated {what} at or near \"{raw}\"");
        Refusal::syntax(text).at(self.position(start))
    }
}

fn starts_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(sql: &str) -> Vec<Kind> {
        tokens(sql, &mut Vec::new()).unwrap().into_iter().map(|token| token.kind).collect()
    }

    fn word(text: &str) -> Kind {
        Kind::Word(text.to_owned())
    }

    #[test]
    fn unquoted_names_become_lower_case_and_literals_keep_backslashes() {
        assert_eq!(
            kinds("NOTIFY Foo /* a /* b */ c */, 'it''s \\n' -- end"),
            [word("notify"), word("foo"), Kind::Symbol(','), Kind::Text("it's \\n".into())]
        );
        assert_eq!(kinds("\"A\"\"b\"é$1 "), [Kind::Quoted("A\"b".into()), word("é$1")]);
        assert_eq!(
            kinds("$12::text[];"),
            [
                Kind::Parameter(12),
                Kind::Cast,
                word("text"),
                Kind::Symbol('['),
                Kind::Symbol(']'),
                Kind::Symbol(';')
            ]
        );
    }

    #[test]
    fn an_unclosed_token_is_a_syntax_error_at_its_position() {
        for (sql, position) in
            [("é 'x", 3), ("NOTIFY \"x", 8), ("/* x", 1), ("/* /* */ x", 1), ("LISTEN \"\"", 8)]
        {
            let refusal = tokens(sql, &mut Vec::new()).unwrap_err();
            assert_eq!(refusal.code(), "42601", "{sql}");
            assert_eq!(refusal.position(), Some(position), "{sql}");
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let mut cuts = Vec::new();
        let long = "é".repeat(32);
        tokens(&long, &mut cuts).unwrap();
        assert_eq!(cuts, [(long, "é".repeat(31))]);
    }
}

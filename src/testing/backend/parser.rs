//! The tokens of a statement, read from left to right.

use super::keywords::RESERVED;
use super::refusal::Refusal;
use super::token::{Kind, Token};

/// Expressions inside each other. Ours; what clients send has two or three.
const DEPTH_MAX: usize = 100;

/// Reads the tokens of one statement from left to right.
#[derive(Debug, Clone)]
pub(super) struct Parser<'t> {
    tokens: std::slice::Iter<'t, Token<'t>>,
    end: usize,
    depth: usize,
    knows_all: bool,
}

impl<'t> Parser<'t> {
    /// Of a statement in a text of so many characters.
    pub(super) fn new(tokens: &'t [Token<'t>], end: usize) -> Self {
        Self { tokens: tokens.iter(), end, depth: 0, knows_all: false }
    }

    /// One expression more that stands inside of others.
    pub(super) fn descend(&mut self) -> Result<(), Refusal> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX {
            return Err(Refusal::new("54001", "stack depth limit exceeded"));
        }
        Ok(())
    }

    /// It is over.
    pub(super) fn ascend(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    pub(super) fn peek(&self) -> Option<&'t Kind> {
        self.tokens.as_slice().first().map(|token| &token.kind)
    }

    pub(super) fn next(&mut self) -> Option<&'t Kind> {
        self.tokens.next().map(|token| &token.kind)
    }

    /// Takes the next token if it is this keyword.
    pub(super) fn word(&mut self, keyword: &str) -> bool {
        self.take(|kind| matches!(kind, Kind::Word(word) if word == keyword))
    }

    /// Takes the next tokens if they are these keywords.
    pub(super) fn words(&mut self, keywords: &[&str]) -> bool {
        let start = self.tokens.clone();
        let found = keywords.iter().all(|keyword| self.word(keyword));
        if !found {
            self.tokens = start;
        }
        found
    }

    /// The name of a parameter of the server: `a` or `a.b`.
    pub(super) fn setting(&mut self) -> Result<String, Refusal> {
        let mut name = self.name()?;
        if self.symbol('.') {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(name)
    }

    /// Takes the next token if it is this character.
    pub(super) fn symbol(&mut self, symbol: char) -> bool {
        self.take(|kind| *kind == Kind::Symbol(symbol))
    }

    /// Takes the next token if it is `::`.
    pub(super) fn cast(&mut self) -> bool {
        self.take(|kind| *kind == Kind::Cast)
    }

    fn take(&mut self, wanted: impl Fn(&Kind) -> bool) -> bool {
        let found = self.peek().is_some_and(wanted);
        if found {
            self.tokens.next();
        }
        found
    }

    /// As [`symbol`](Self::symbol), for a character that must be there.
    pub(super) fn require(&mut self, symbol: char) -> Result<(), Refusal> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// A name, quoted or not: `ColId` of the grammar.
    pub(super) fn name(&mut self) -> Result<String, Refusal> {
        match self.peek() {
            Some(Kind::Quoted(name)) => {
                self.tokens.next();
                Ok(name.clone())
            }
            Some(Kind::Word(name)) if !RESERVED.contains(&name.as_str()) => {
                self.tokens.next();
                Ok(name.clone())
            }
            _ => Err(self.unexpected()),
        }
    }

    /// The whole grammar of the statement is known here.
    pub(super) fn knows_all(&mut self) {
        self.knows_all = true;
    }

    /// The next token is not understood where it stands: a mistake if the whole grammar is known here,
    /// else something that PostgreSQL may well know.
    #[cold]
    pub(super) fn unexpected(&self) -> Refusal {
        match self.tokens.as_slice().first() {
            Some(Token { raw, position, .. }) if !self.knows_all => {
                Refusal::not_understood(&format!("\"{raw}\" here")).at(*position)
            }
            _ => self.syntax_error(),
        }
    }

    /// No statement goes on with the next token.
    #[cold]
    pub(super) fn syntax_error(&self) -> Refusal {
        match self.tokens.as_slice().first() {
            Some(Token { raw, position, .. }) => {
                Refusal::syntax(format!("syntax error at or near \"{raw}\"")).at(*position)
            }
            None => Refusal::syntax("syntax error at end of input").at(self.end),
        }
    }

    /// Nothing may follow.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        if self.tokens.as_slice().is_empty() { Ok(()) } else { Err(self.unexpected()) }
    }
}

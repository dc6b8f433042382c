//! A parser that reads the tokens of a statement from left to right.

use super::keywords::RESERVED;
use super::refusal::Refusal;
use super::token::{Kind, Token};

/// The highest number of nested expressions. A limit of this backend; clients use two or three.
const DEPTH_MAX: usize = 100;

/// Reads the tokens of one statement from left to right.
#[derive(Debug, Clone)]
pub(super) struct Parser<'t> {
    tokens: std::slice::Iter<'t, Token<'t>>,
    end: usize,
    depth: usize,
    complete_grammar: bool,
}

impl<'t> Parser<'t> {
    /// Returns a parser for one statement. `end` is the number of characters of the text.
    pub(super) fn new(tokens: &'t [Token<'t>], end: usize) -> Self {
        Self { tokens: tokens.iter(), end, depth: 0, complete_grammar: false }
    }

    /// Enters a nested expression.
    pub(super) fn descend(&mut self) -> Result<(), Refusal> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX {
            return Err(Refusal::new("54001", "stack depth limit exceeded"));
        }
        Ok(())
    }

    /// Leaves a nested expression.
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

    /// Takes the name of a server parameter: `a` or `a.b`.
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

    /// Like [`symbol`](Self::symbol), for a required character.
    pub(super) fn require(&mut self, symbol: char) -> Result<(), Refusal> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Takes a name, quoted or not: `ColId` of the grammar.
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

    /// Declares that the backend knows the whole grammar of the statement.
    pub(super) fn complete_grammar(&mut self) {
        self.complete_grammar = true;
    }

    /// Returns the error for an unexpected next token: a syntax error if the whole grammar is known, else
    /// an unsupported feature, because PostgreSQL may accept it.
    #[cold]
    pub(super) fn unexpected(&self) -> Refusal {
        match self.tokens.as_slice().first() {
            Some(Token { raw, position, .. }) if !self.complete_grammar => {
                Refusal::unsupported(&format!("\"{raw}\" here")).at(*position)
            }
            _ => self.syntax_error(),
        }
    }

    /// Returns the syntax error for the next token.
    #[cold]
    pub(super) fn syntax_error(&self) -> Refusal {
        match self.tokens.as_slice().first() {
            Some(Token { raw, position, .. }) => {
                Refusal::syntax(format!("syntax error at or near \"{raw}\"")).at(*position)
            }
            None => Refusal::syntax("syntax error at end of input").at(self.end),
        }
    }

    /// Returns an error unless the statement ends here.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        if self.tokens.as_slice().is_empty() { Ok(()) } else { Err(self.unexpected()) }
    }
}

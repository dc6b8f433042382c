//! The statements that the backend understands.

use super::answer::Answer;
use super::answers;
use super::field::Field;
use super::proof::Proof;
use super::refusal::Refusal;
use super::select::Select;
use super::token::{self, Kind, Token};

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    Listen(String),
    Unlisten(String),
    UnlistenAll,
    Notify {
        channel: String,
        payload: String,
    },
    Begin,
    Commit,
    Rollback,
    Select(Select),
    /// A proof of what is listened to.
    Proof(Proof),
    Set {
        name: String,
        value: String,
    },
    Show {
        name: String,
    },
    /// One that a test answers.
    Scripted {
        sql: String,
        /// The columns that it has when it is prepared.
        fields: Option<Vec<Field>>,
        parameters: usize,
    },
}

impl Statement {
    /// How many parameters it has.
    pub(super) fn parameter_count(&self) -> usize {
        match self {
            Self::Select(select) => select.parameter_count(),
            Self::Scripted { parameters, .. } => *parameters,
            _ => 0,
        }
    }

    fn scripted(sql: &str, tokens: &[Token<'_>], answer: Answer) -> Self {
        let numbers = tokens.iter().map(|token| match token.kind {
            Kind::Parameter(number) => number,
            _ => 0,
        });
        let parameters = numbers.max().unwrap_or(0);
        Self::Scripted { sql: sql.to_owned(), fields: answer.fields, parameters }
    }
}

/// The statements of a query, and the names that were cut.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) statements: Vec<Statement>,
    pub(super) cuts: Vec<(String, String)>,
}

/// The answer of a test to the text of a statement.
pub(super) type Scripted<'a> = dyn FnMut(&str) -> Option<Answer> + 'a;

/// Parses all statements before any is carried out: one syntax error stops all of them. N60.
///
/// What the test answers does not have to be understood.
pub(super) fn parse(sql: &str, scripted: &mut Scripted<'_>) -> Result<Script, Refusal> {
    let mut script = Script::default();
    let tokens = match token::tokens(sql, &mut script.cuts) {
        Ok(tokens) => tokens,
        Err(refusal) => {
            let text = answers::trimmed(sql);
            let answer = scripted(text).ok_or(refusal)?;
            script.statements.push(Statement::scripted(text, &[], answer));
            return Ok(script);
        }
    };
    let end = sql.chars().count().saturating_add(1);
    for tokens in tokens.split(|token| token.kind == Kind::Symbol(';')) {
        if tokens.is_empty() {
            continue;
        }
        let text = token::span(sql, tokens);
        if let Some(answer) = scripted(text) {
            script.statements.push(Statement::scripted(text, tokens, answer));
        } else if let Some(proof) = Proof::of(tokens) {
            script.statements.push(Statement::Proof(proof));
        } else {
            let mut parser = Parser { tokens: tokens.iter(), end };
            script.statements.push(parser.statement()?);
            parser.finish()?;
        }
    }
    Ok(script)
}

/// Reads the tokens of one statement from left to right.
pub(super) struct Parser<'t> {
    tokens: std::slice::Iter<'t, Token<'t>>,
    end: usize,
}

impl<'t> Parser<'t> {
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

    /// The next token does not belong where it stands.
    #[cold]
    pub(super) fn unexpected(&self) -> Refusal {
        match self.tokens.as_slice().first() {
            Some(Token { raw, position, .. }) => {
                Refusal::syntax(format!("syntax error at or near \"{raw}\"")).at(*position)
            }
            None => Refusal::syntax("syntax error at end of input").at(self.end),
        }
    }

    /// Something that PostgreSQL may well know stands here.
    #[cold]
    pub(super) fn not_understood(&self) -> Refusal {
        match self.tokens.as_slice().first() {
            Some(Token { raw, position, .. }) => {
                Refusal::not_understood(&format!("\"{raw}\" here")).at(*position)
            }
            None => self.unexpected(),
        }
    }

    fn finish(&self) -> Result<(), Refusal> {
        if self.tokens.as_slice().is_empty() { Ok(()) } else { Err(self.unexpected()) }
    }

    fn statement(&mut self) -> Result<Statement, Refusal> {
        let Some(Kind::Word(verb)) = self.peek() else { return Err(self.unexpected()) };
        if OTHER_COMMANDS.contains(&verb.as_str()) {
            let what = verb.to_ascii_uppercase();
            return Err(Refusal::not_understood(&what));
        }
        let start = self.tokens.clone();
        self.tokens.next();
        match verb.as_str() {
            "listen" => Ok(Statement::Listen(self.name()?)),
            "unlisten" if self.symbol('*') => Ok(Statement::UnlistenAll),
            "unlisten" => Ok(Statement::Unlisten(self.name()?)),
            "notify" => self.notify(),
            "begin" => self.transaction(Statement::Begin),
            "start" if self.word("transaction") => self.transaction_modes(Statement::Begin),
            "commit" | "end" => self.transaction(Statement::Commit),
            "rollback" | "abort" => self.transaction(Statement::Rollback),
            "select" => Select::parse(self).map(Statement::Select),
            "set" => self.set(),
            "show" => Ok(Statement::Show { name: self.name()? }),
            _ => {
                self.tokens = start;
                Err(self.unexpected())
            }
        }
    }

    fn notify(&mut self) -> Result<Statement, Refusal> {
        let channel = self.name()?;
        let mut payload = String::new();
        if self.symbol(',') {
            let Some(Kind::Text(text)) = self.peek() else { return Err(self.unexpected()) };
            payload.clone_from(text);
            self.tokens.next();
        }
        Ok(Statement::Notify { channel, payload })
    }

    fn transaction(&mut self, statement: Statement) -> Result<Statement, Refusal> {
        if !self.word("work") {
            self.word("transaction");
        }
        self.transaction_modes(statement)
    }

    /// Isolation levels and the like change nothing that could be seen here, and are not read.
    fn transaction_modes(&mut self, statement: Statement) -> Result<Statement, Refusal> {
        match self.peek() {
            Some(Kind::Word(_)) => Err(self.not_understood()),
            _ => Ok(statement),
        }
    }

    fn set(&mut self) -> Result<Statement, Refusal> {
        self.word("session");
        let name = self.name()?;
        if !self.symbol('=') && !self.word("to") {
            return Err(self.unexpected());
        }
        let value = match self.next() {
            Some(Kind::Word(value) | Kind::Text(value) | Kind::Number(value)) => value.clone(),
            Some(Kind::Quoted(value)) => value.clone(),
            _ => return Err(Refusal::not_understood("this value of SET")),
        };
        Ok(Statement::Set { name, value })
    }
}

/// Keywords that cannot be a name without quotes (`kwlist.h`, `RESERVED_KEYWORD` and
/// `TYPE_FUNC_NAME_KEYWORD`).
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

/// First words of statements that PostgreSQL has and this backend has not.
const OTHER_COMMANDS: &[&str] = &[
    "alter",
    "analyze",
    "call",
    "checkpoint",
    "close",
    "cluster",
    "comment",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "discard",
    "do",
    "drop",
    "execute",
    "explain",
    "fetch",
    "grant",
    "import",
    "insert",
    "load",
    "lock",
    "merge",
    "move",
    "prepare",
    "reassign",
    "refresh",
    "reindex",
    "release",
    "reset",
    "revoke",
    "savepoint",
    "security",
    "table",
    "truncate",
    "update",
    "vacuum",
    "values",
    "with",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn unscripted(sql: &str) -> Result<Script, Refusal> {
        parse(sql, &mut |_| None)
    }

    #[test]
    fn statements_of_listen_and_notify() {
        let script = unscripted(
            "LISTEN A; listen \"A;b\";; UNLISTEN *; unlisten \"*\"; NOTIFY x; NOTIFY x, 'it''s';
             BEGIN WORK; commit transaction; ABORT; START TRANSACTION; END; rollback",
        );
        let notify =
            |payload: &str| Statement::Notify { channel: "x".into(), payload: payload.into() };
        assert_eq!(
            script.unwrap().statements,
            [
                Statement::Listen("a".into()),
                Statement::Listen("A;b".into()),
                Statement::UnlistenAll,
                Statement::Unlisten("*".into()),
                notify(""),
                notify("it's"),
                Statement::Begin,
                Statement::Commit,
                Statement::Rollback,
                Statement::Begin,
                Statement::Commit,
                Statement::Rollback,
            ]
        );
        assert_eq!(unscripted(" ; -- nothing").unwrap().statements, []);
    }

    #[test]
    fn what_is_wrong_and_what_is_only_unknown() {
        for (sql, code, position) in [
            ("LISTEN", "42601", Some(7)),
            ("LISTEN a b", "42601", Some(10)),
            ("LISTEN select", "42601", Some(8)),
            ("LISTEN 'a'", "42601", Some(8)),
            ("LISTEN a, b", "42601", Some(9)),
            ("NOTIFY a, b", "42601", Some(11)),
            ("NOTIFY a 'b'", "42601", Some(10)),
            ("LISTEN *", "42601", Some(8)),
            ("SELEC 1", "42601", Some(1)),
            ("LISTEN a; SELEC 1", "42601", Some(11)),
            ("42", "42601", Some(1)),
            ("INSERT INTO t VALUES (1)", "0A000", None),
            ("LISTEN E'a'", "0A000", Some(8)),
            ("BEGIN ISOLATION LEVEL SERIALIZABLE", "0A000", Some(7)),
        ] {
            let refusal = unscripted(sql).unwrap_err();
            assert_eq!((refusal.code(), refusal.position()), (code, position), "{sql}");
        }
    }
}

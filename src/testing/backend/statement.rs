//! The statements that the backend supports.

use super::answer::Answer;
use super::answers;
use super::catalogue::CatalogueQuery;
use super::field::Field;
use super::heartbeat_query::HeartbeatQuery;
use super::keywords::OTHER_COMMANDS;
use super::parser::Parser;
use super::refusal::Refusal;
use super::select::Select;
use super::token::{self, Kind, Token};
use super::types::Type;

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
    Begin {
        tag: &'static str,
    },
    Commit,
    Rollback,
    Select(Select),
    /// A heartbeat query.
    HeartbeatQuery(HeartbeatQuery),
    Set {
        name: String,
        value: String,
    },
    Show {
        name: String,
    },
    /// RESET, or SET to the default.
    Reset {
        name: String,
        tag: &'static str,
    },
    ResetAll,
    DiscardAll,
    /// DEALLOCATE of a prepared statement, or of all.
    Deallocate {
        name: Option<String>,
    },
    /// CLOSE of a portal, or of all.
    Close {
        name: Option<String>,
    },
    /// A catalogue query of a driver.
    CatalogueQuery(CatalogueQuery),
    /// A statement that a test answers.
    Scripted {
        sql: String,
        /// The columns when it is prepared.
        fields: Option<Vec<Field>>,
        parameters: usize,
        /// The types of the first parameters.
        types: Vec<Type>,
    },
}

impl Statement {
    /// Returns the types of its parameters, as far as the statement defines them.
    pub(super) fn parameters(&self) -> Result<Vec<Type>, Refusal> {
        let count = match self {
            Self::Select(select) => select.parameter_count(),
            Self::Scripted { parameters, .. } => *parameters,
            _ => 0,
        };
        if count > usize::from(u16::MAX) {
            return Err(Refusal::syntax(format!("there is no parameter ${count}")));
        }
        let mut types = vec![Type::UNSPECIFIED; count];
        match self {
            Self::Select(select) => select.infer(&mut types),
            Self::Scripted { types: given, .. } => {
                for (of, given) in types.iter_mut().zip(given) {
                    *of = *given;
                }
            }
            _ => {}
        }
        Ok(types)
    }

    fn scripted(sql: &str, tokens: &[Token<'_>], answer: Answer) -> Self {
        let numbers = tokens.iter().map(|token| match token.kind {
            Kind::Parameter(number) => number,
            _ => 0,
        });
        let parameters = numbers.max().unwrap_or(0);
        let types = answer.parameter_types;
        Self::Scripted { sql: sql.to_owned(), fields: answer.fields, parameters, types }
    }
}

/// The statements of a query, and the names that were cut.
#[derive(Debug, Default)]
pub(super) struct ParsedSql {
    pub(super) statements: Vec<Statement>,
    pub(super) cuts: Vec<(String, String)>,
}

/// A function that returns the answer of a test to the text of a statement.
pub(super) type Scripted<'a> = dyn FnMut(&str) -> Option<Answer> + 'a;

/// Parses all statements before any is executed: one syntax error stops all of them.
///
/// A statement that the test answers may have any syntax.
pub(super) fn parse(sql: &str, scripted: &mut Scripted<'_>) -> Result<ParsedSql, Refusal> {
    let mut script = ParsedSql::default();
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
        } else if let Some(catalogue) = CatalogueQuery::of(tokens) {
            script.statements.push(Statement::CatalogueQuery(catalogue));
        } else if let Some(heartbeat_query) = HeartbeatQuery::of(tokens) {
            script.statements.push(Statement::HeartbeatQuery(heartbeat_query));
        } else {
            let mut parser = Parser::new(tokens, end);
            script.statements.push(statement(&mut parser)?);
            parser.finish()?;
        }
    }
    Ok(script)
}

/// Parses one statement from its first word.
fn statement(parser: &mut Parser<'_>) -> Result<Statement, Refusal> {
    let verb = match parser.peek() {
        Some(Kind::Word(verb)) => verb,
        // A query in parentheses.
        Some(Kind::Symbol('(')) => return Err(parser.unexpected()),
        _ => return Err(parser.syntax_error()),
    };
    if OTHER_COMMANDS.contains(&verb.as_str()) {
        let what = verb.to_ascii_uppercase();
        return Err(Refusal::unsupported(&what));
    }
    let start = parser.clone();
    parser.next();
    match verb.as_str() {
        "listen" | "unlisten" | "notify" => {
            parser.complete_grammar();
            match verb.as_str() {
                "notify" => notify(parser),
                "listen" => Ok(Statement::Listen(parser.name()?)),
                _ if parser.symbol('*') => Ok(Statement::UnlistenAll),
                _ => Ok(Statement::Unlisten(parser.name()?)),
            }
        }
        "begin" => transaction(parser, Statement::Begin { tag: "BEGIN" }),
        "start" if parser.word("transaction") => {
            modes(parser)?;
            Ok(Statement::Begin { tag: "START TRANSACTION" })
        }
        "commit" | "end" => transaction(parser, Statement::Commit),
        "rollback" | "abort" => transaction(parser, Statement::Rollback),
        "select" => Select::parse(parser).map(Statement::Select),
        "set" => set(parser),
        "show" => Ok(Statement::Show { name: parser.setting()? }),
        "reset" if parser.word("all") => Ok(Statement::ResetAll),
        "reset" => Ok(Statement::Reset { name: parser.setting()?, tag: "RESET" }),
        "discard" if parser.word("all") => Ok(Statement::DiscardAll),
        "discard" => Err(parser.unexpected()),
        "deallocate" => {
            parser.word("prepare");
            let name = if parser.word("all") { None } else { Some(parser.name()?) };
            Ok(Statement::Deallocate { name })
        }
        "close" => {
            let name = if parser.word("all") { None } else { Some(parser.name()?) };
            Ok(Statement::Close { name })
        }
        _ => {
            *parser = start;
            Err(parser.syntax_error())
        }
    }
}

fn notify(parser: &mut Parser<'_>) -> Result<Statement, Refusal> {
    let channel = parser.name()?;
    let mut payload = String::new();
    if parser.symbol(',') {
        let Some(Kind::Text(text)) = parser.peek() else { return Err(parser.unexpected()) };
        payload.clone_from(text);
        parser.next();
    }
    Ok(Statement::Notify { channel, payload })
}

fn transaction(parser: &mut Parser<'_>, statement: Statement) -> Result<Statement, Refusal> {
    if !parser.word("work") {
        parser.word("transaction");
    }
    match statement {
        Statement::Begin { .. } => modes(parser)?,
        // AND CHAIN and TO SAVEPOINT are not supported.
        _ if matches!(parser.peek(), Some(Kind::Word(_))) => return Err(parser.unexpected()),
        _ => {}
    }
    Ok(statement)
}

/// Parses transaction modes. They have no effect in this backend.
fn modes(parser: &mut Parser<'_>) -> Result<(), Refusal> {
    while matches!(parser.peek(), Some(Kind::Word(_))) {
        let words: &[&[&str]] = &[
            &["isolation", "level", "serializable"],
            &["isolation", "level", "repeatable", "read"],
            &["isolation", "level", "read", "committed"],
            &["isolation", "level", "read", "uncommitted"],
            &["read", "only"],
            &["read", "write"],
            &["not", "deferrable"],
            &["deferrable"],
        ];
        if !words.iter().any(|words| parser.words(words)) {
            return Err(parser.unexpected());
        }
        parser.symbol(',');
    }
    Ok(())
}

fn set(parser: &mut Parser<'_>) -> Result<Statement, Refusal> {
    if !parser.word("session") {
        parser.word("local");
    }
    let name = match () {
        () if parser.words(&["time", "zone"]) => "TimeZone".to_owned(),
        () if parser.word("names") => "client_encoding".to_owned(),
        () => {
            let name = parser.setting()?;
            if !parser.symbol('=') && !parser.word("to") {
                return Err(parser.unexpected());
            }
            name
        }
    };
    if parser.word("default") {
        return Ok(Statement::Reset { name, tag: "SET" });
    }
    let mut values = vec![value(parser)?];
    while parser.symbol(',') {
        values.push(value(parser)?);
    }
    Ok(Statement::Set { name, value: values.join(", ") })
}

fn value(parser: &mut Parser<'_>) -> Result<String, Refusal> {
    let minus = if parser.symbol('-') { "-" } else { "" };
    match parser.peek() {
        Some(Kind::Word(value) | Kind::Text(value) | Kind::Number(value) | Kind::Quoted(value)) => {
            parser.next();
            Ok(format!("{minus}{value}"))
        }
        _ => Err(parser.unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unscripted(sql: &str) -> Result<ParsedSql, Refusal> {
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
                Statement::Begin { tag: "BEGIN" },
                Statement::Commit,
                Statement::Rollback,
                Statement::Begin { tag: "START TRANSACTION" },
                Statement::Commit,
                Statement::Rollback,
            ]
        );
        assert_eq!(unscripted(" ; -- nothing").unwrap().statements, []);
    }

    /// Statements that drivers and pools send in addition.
    #[test]
    fn statements_of_drivers() {
        let set =
            |name: &str, value: &str| Statement::Set { name: name.into(), value: value.into() };
        let script = unscripted(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY NOT DEFERRABLE; START TRANSACTION READ WRITE;
             SET SESSION a = -1; SET a.b TO x, 'y'; SET TIME ZONE 'UTC'; SET NAMES UTF8; SET a TO DEFAULT;
             RESET ALL; DISCARD ALL; DEALLOCATE PREPARE x; DEALLOCATE ALL; CLOSE ALL; CLOSE x; SHOW a.b;
             NOTIFY x, $$it's$$; NOTIFY x, E'\\x61'",
        );
        let notify =
            |payload: &str| Statement::Notify { channel: "x".into(), payload: payload.into() };
        assert_eq!(
            script.unwrap().statements,
            [
                Statement::Begin { tag: "BEGIN" },
                Statement::Begin { tag: "START TRANSACTION" },
                set("a", "-1"),
                set("a.b", "x, y"),
                set("TimeZone", "UTC"),
                set("client_encoding", "utf8"),
                Statement::Reset { name: "a".into(), tag: "SET" },
                Statement::ResetAll,
                Statement::DiscardAll,
                Statement::Deallocate { name: Some("x".into()) },
                Statement::Deallocate { name: None },
                Statement::Close { name: None },
                Statement::Close { name: Some("x".into()) },
                Statement::Show { name: "a.b".into() },
                notify("it's"),
                notify("a"),
            ]
        );
    }

    #[test]
    fn syntax_errors_and_unsupported_statements_are_distinguished() {
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
            ("LISTEN E'a'", "42601", Some(8)),
            ("NOTIFY a, B'1'", "0A000", Some(11)),
            ("BEGIN READ", "0A000", Some(7)),
            ("(SELECT 1)", "0A000", Some(1)),
            ("SET TRANSACTION READ ONLY", "0A000", Some(17)),
            ("SELECT DISTINCT 1", "0A000", Some(8)),
            ("SELECT pg_notify('a', 'b' || 'c')", "0A000", Some(27)),
            ("SELECT 1 FROM unnest('{1}') WHERE true", "0A000", Some(29)),
            ("SELECT", "0A000", None),
            ("SELECT 1 FROM", "42601", Some(14)),
            ("ROLLBACK TO a", "0A000", Some(10)),
            ("COMMIT AND CHAIN", "0A000", Some(8)),
            ("SAVEPOINT a", "0A000", None),
            ("DISCARD PLANS", "0A000", Some(9)),
            ("SET a", "42601", Some(6)),
            ("SET a = (1)", "0A000", Some(9)),
        ] {
            let refusal = unscripted(sql).unwrap_err();
            assert_eq!((refusal.code(), refusal.position()), (code, position), "{sql}");
        }
    }
}

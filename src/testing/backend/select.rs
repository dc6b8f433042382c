//! SELECT, as far as listeners, notifiers and tests of them use it.
//!
//! ```text
//! SELECT expression [AS name] [, …] [FROM unnest(array [, …]) AS alias(column [, …])]
//! expression: literal, NULL, $n, column, TRUE, FALSE, pg_notify(…), pg_backend_pid(), pg_is_in_recovery(),
//!             inet_server_port(),
//!             current_setting(name[, missing_ok]), alone in its SELECT count(…) or
//!             pg_listening_channels(); any of them with a ::type behind it
//! type:       text, int4, int8, text[]
//! ```

use super::array;
use super::field::Field;
use super::refusal::Refusal;
use super::statement::Parser;
use super::token::Kind;
use super::types::Type;

/// A value in text format. `None` is NULL.
pub(super) type Value = Option<String>;

/// What a SELECT asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Select {
    items: Vec<Item>,
    from: Option<Unnest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    expression: Expression,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Unnest {
    arrays: Vec<Expression>,
    columns: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Literal(Value, Type),
    /// Counted from 1.
    Parameter(usize),
    /// A column of [`Unnest`].
    Column(String),
    Call(Function, Vec<Expression>),
    Cast(Box<Expression>, Type),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Notify,
    BackendPid,
    InRecovery,
    ServerPort,
    CurrentSetting,
    ListeningChannels,
    /// Of the rows in which its argument is not NULL.
    Count,
}

/// What an evaluation needs of the session.
pub(super) trait Context {
    /// `pg_notify`.
    fn notify(&mut self, channel: &str, payload: &str) -> Result<(), Refusal>;
    /// `pg_backend_pid`.
    fn process_id(&self) -> i32;
    /// `inet_server_port`.
    fn server_port(&self) -> Option<u16>;
    /// `pg_listening_channels`.
    fn channels(&self) -> Vec<String>;
}

impl Select {
    /// Parses what follows the word SELECT.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, Refusal> {
        let mut items = Vec::new();
        loop {
            let expression = Expression::parse(parser)?;
            let name = match parser.word("as") {
                true => parser.name()?,
                false => expression.name(),
            };
            items.push(Item { expression, name });
            if !parser.symbol(',') {
                break;
            }
        }
        let from = match parser.peek() {
            Some(Kind::Word(word)) if word == "from" => {
                parser.next();
                Some(Unnest::parse(parser)?)
            }
            Some(_) => return Err(parser.not_understood()),
            None => None,
        };
        Ok(Self { items, from })
    }

    /// How many parameters it has.
    pub(super) fn parameter_count(&self) -> usize {
        let arrays = self.from.iter().flat_map(|unnest| &unnest.arrays);
        let all = self.items.iter().map(|item| &item.expression).chain(arrays);
        all.map(Expression::highest_parameter).max().unwrap_or(0)
    }

    /// The columns that it returns.
    pub(super) fn fields(&self) -> Vec<Field> {
        let field = |item: &Item| Field::new(item.name.clone(), item.expression.type_of());
        self.items.iter().map(field).collect()
    }

    /// The rows, all at once.
    pub(super) fn rows(
        &self,
        parameters: &[Value],
        context: &mut impl Context,
    ) -> Result<Vec<Vec<Value>>, Refusal> {
        let only = match self.items.as_slice() {
            [Item { expression: Expression::Call(function, arguments), .. }] => {
                Some((*function, arguments))
            }
            _ => None,
        };
        if let Some((Function::ListeningChannels, _)) = only {
            let channels = context.channels().into_iter();
            return Ok(channels.map(|channel| vec![Some(channel)]).collect());
        }
        let mut table = match &self.from {
            Some(unnest) => unnest.rows(parameters, context)?,
            None => vec![Vec::new()],
        };
        let names = self.from.as_ref().map_or(&[][..], |unnest| &unnest.columns);
        if let Some((Function::Count, arguments)) = only {
            let mut count = 0_usize;
            for row in &table {
                let scope = Scope { parameters, names, row };
                for argument in arguments {
                    let counts = scope.value(argument, context)?.is_some();
                    count = count.saturating_add(usize::from(counts));
                }
            }
            return Ok(vec![vec![Some(count.to_string())]]);
        }
        for row in &mut table {
            let scope = Scope { parameters, names, row };
            let values = self.items.iter().map(|item| scope.value(&item.expression, context));
            *row = values.collect::<Result<_, _>>()?;
        }
        Ok(table)
    }
}

impl Unnest {
    fn parse(parser: &mut Parser<'_>) -> Result<Self, Refusal> {
        if !parser.word("unnest") {
            return Err(parser.not_understood());
        }
        let arrays = arguments(parser)?;
        let mut columns = Vec::new();
        if parser.word("as") || matches!(parser.peek(), Some(Kind::Word(_) | Kind::Quoted(_))) {
            parser.name()?;
            if parser.symbol('(') {
                columns.push(parser.name()?);
                while parser.symbol(',') {
                    columns.push(parser.name()?);
                }
                parser.require(')')?;
            }
        }
        Ok(Self { arrays, columns })
    }

    /// Side by side; the shorter ones are filled up with NULL.
    fn rows(
        &self,
        parameters: &[Value],
        context: &mut impl Context,
    ) -> Result<Vec<Vec<Value>>, Refusal> {
        let mut table: Vec<Vec<Value>> = Vec::new();
        for (column, expression) in self.arrays.iter().enumerate() {
            let scope = Scope { parameters, names: &[], row: &[] };
            let elements = match scope.value(expression, context)? {
                Some(literal) => array::elements(&literal)?,
                None => Vec::new(),
            };
            if table.len() < elements.len() {
                table.resize(elements.len(), vec![None; column]);
            }
            let mut elements = elements.into_iter();
            for row in &mut table {
                row.push(elements.next().flatten());
            }
        }
        Ok(table)
    }
}

fn arguments(parser: &mut Parser<'_>) -> Result<Vec<Expression>, Refusal> {
    parser.require('(')?;
    let mut arguments = Vec::new();
    if parser.symbol(')') {
        return Ok(arguments);
    }
    loop {
        arguments.push(Expression::parse(parser)?);
        if parser.symbol(')') {
            return Ok(arguments);
        }
        parser.require(',')?;
    }
}

impl Expression {
    fn parse(parser: &mut Parser<'_>) -> Result<Self, Refusal> {
        let mut expression = Self::parse_operand(parser)?;
        while parser.cast() {
            expression = Self::Cast(Box::new(expression), type_name(parser)?);
        }
        Ok(expression)
    }

    fn parse_operand(parser: &mut Parser<'_>) -> Result<Self, Refusal> {
        let operand = match parser.peek() {
            Some(Kind::Number(digits)) => Self::Literal(Some(digits.clone()), Type::INT4),
            Some(Kind::Text(text)) => Self::Literal(Some(text.clone()), Type::TEXT),
            Some(Kind::Parameter(number)) if *number > 0 => Self::Parameter(*number),
            Some(Kind::Word(word)) if word == "null" => Self::Literal(None, Type::TEXT),
            Some(Kind::Word(word)) if word == "true" || word == "false" => {
                Self::Literal(word.get(..1).map(str::to_owned), Type::BOOL)
            }
            Some(Kind::Word(_) | Kind::Quoted(_)) => return Self::parse_named(parser),
            Some(Kind::Symbol(_)) => return Err(parser.not_understood()),
            _ => return Err(parser.unexpected()),
        };
        parser.next();
        Ok(operand)
    }

    fn parse_named(parser: &mut Parser<'_>) -> Result<Self, Refusal> {
        let mut name = parser.name()?;
        if name == "pg_catalog" && parser.symbol('.') {
            name = parser.name()?;
        }
        if parser.peek() != Some(&Kind::Symbol('(')) {
            return Ok(Self::Column(name));
        }
        let arguments = arguments(parser)?;
        let function = match (name.as_str(), arguments.len()) {
            ("pg_notify", 2) => Function::Notify,
            ("pg_backend_pid", 0) => Function::BackendPid,
            ("pg_is_in_recovery", 0) => Function::InRecovery,
            ("inet_server_port", 0) => Function::ServerPort,
            ("current_setting", 1 | 2) => Function::CurrentSetting,
            ("pg_listening_channels", 0) => Function::ListeningChannels,
            ("count", 1) => Function::Count,
            _ => return Err(Refusal::not_understood(&format!("the function {name}"))),
        };
        Ok(Self::Call(function, arguments))
    }

    /// The name of its column when none is given.
    fn name(&self) -> String {
        match self {
            Self::Literal(..) | Self::Parameter(_) => "?column?".to_owned(),
            Self::Column(name) => name.clone(),
            Self::Call(function, _) => function.name().to_owned(),
            Self::Cast(inner, to) => match (inner.name(), *to) {
                (name, _) if name != "?column?" => name,
                (_, Type::INT4) => "int4".to_owned(),
                (_, Type::INT8) => "int8".to_owned(),
                _ => "text".to_owned(),
            },
        }
    }

    fn type_of(&self) -> Type {
        match self {
            Self::Literal(_, of) | Self::Cast(_, of) => *of,
            Self::Parameter(_) | Self::Column(_) => Type::TEXT,
            Self::Call(function, _) => function.type_of(),
        }
    }

    fn highest_parameter(&self) -> usize {
        match self {
            Self::Parameter(number) => *number,
            Self::Cast(inner, _) => inner.highest_parameter(),
            Self::Call(_, arguments) => {
                arguments.iter().map(Self::highest_parameter).max().unwrap_or(0)
            }
            Self::Literal(..) | Self::Column(_) => 0,
        }
    }
}

fn type_name(parser: &mut Parser<'_>) -> Result<Type, Refusal> {
    let name = parser.name()?;
    let array = parser.symbol('[');
    if array {
        parser.require(']')?;
    }
    match (name.as_str(), array) {
        ("text" | "varchar", false) => Ok(Type::TEXT),
        ("int4" | "int" | "integer", false) => Ok(Type::INT4),
        ("int8" | "bigint", false) => Ok(Type::INT8),
        ("text", true) => Ok(Type::TEXT_ARRAY),
        _ => Err(Refusal::not_understood(&format!("the type {name}"))),
    }
}

impl Function {
    const fn name(self) -> &'static str {
        match self {
            Self::Notify => "pg_notify",
            Self::BackendPid => "pg_backend_pid",
            Self::InRecovery => "pg_is_in_recovery",
            Self::ServerPort => "inet_server_port",
            Self::CurrentSetting => "current_setting",
            Self::ListeningChannels => "pg_listening_channels",
            Self::Count => "count",
        }
    }

    const fn type_of(self) -> Type {
        match self {
            Self::Notify => Type::VOID,
            Self::BackendPid | Self::ServerPort => Type::INT4,
            Self::InRecovery => Type::BOOL,
            Self::CurrentSetting => Type::TEXT,
            Self::Count => Type::INT8,
            Self::ListeningChannels => Type::TEXT,
        }
    }
}

/// What names stand for while a row is computed.
struct Scope<'a> {
    parameters: &'a [Value],
    names: &'a [String],
    row: &'a [Value],
}

impl Scope<'_> {
    fn value(&self, expression: &Expression, context: &mut impl Context) -> Result<Value, Refusal> {
        match expression {
            Expression::Literal(value, _) => Ok(value.clone()),
            Expression::Parameter(number) => {
                let value = number.checked_sub(1).and_then(|index| self.parameters.get(index));
                value.cloned().ok_or_else(|| {
                    Refusal::new("42P02", format!("there is no parameter ${number}"))
                })
            }
            Expression::Column(name) => {
                let index = self.names.iter().position(|column| column == name);
                let value = index.and_then(|index| self.row.get(index));
                value.cloned().ok_or_else(|| {
                    Refusal::new("42703", format!("column \"{name}\" does not exist"))
                })
            }
            Expression::Cast(inner, to) => cast(self.value(inner, context)?, *to),
            Expression::Call(Function::BackendPid, _) => Ok(Some(context.process_id().to_string())),
            Expression::Call(Function::InRecovery, _) => Ok(Some("f".to_owned())),
            Expression::Call(Function::ServerPort, _) => {
                Ok(context.server_port().map(|port| port.to_string()))
            }
            Expression::Call(Function::CurrentSetting, arguments) => {
                let name = match arguments.first() {
                    Some(name) => self.value(name, context)?.unwrap_or_default(),
                    None => String::new(),
                };
                match (name.as_str(), arguments.len()) {
                    ("transaction_read_only", _) => Ok(Some("off".to_owned())),
                    ("idle_session_timeout", _) => Ok(Some("0".to_owned())),
                    (_, 2) => Ok(None),
                    _ => Err(Refusal::new(
                        "42704",
                        format!("unrecognized configuration parameter \"{name}\""),
                    )),
                }
            }
            Expression::Call(Function::Notify, arguments) => {
                let mut values = Vec::with_capacity(2);
                for argument in arguments {
                    // NULL is the empty string here, as in `pg_notify` itself. N60.
                    values.push(self.value(argument, context)?.unwrap_or_default());
                }
                if let [channel, payload] = values.as_slice() {
                    context.notify(channel, payload)?;
                }
                Ok(Some(String::new()))
            }
            Expression::Call(function @ (Function::ListeningChannels | Function::Count), _) => Err(
                Refusal::not_understood(&format!("{}() beside something else", function.name())),
            ),
        }
    }
}

fn cast(value: Value, to: Type) -> Result<Value, Refusal> {
    let Some(text) = &value else { return Ok(None) };
    let (name, fits) = match to {
        Type::INT4 => ("integer", text.trim().parse::<i32>().is_ok()),
        Type::INT8 => ("bigint", text.trim().parse::<i64>().is_ok()),
        Type::TEXT_ARRAY => return array::elements(text).map(|_| value),
        _ => return Ok(value),
    };
    if fits {
        return Ok(value);
    }
    Err(Refusal::new("22P02", format!("invalid input syntax for type {name}: \"{text}\"")))
}

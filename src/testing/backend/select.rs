//! The subset of SELECT that listeners, notifiers and their tests use.
//!
//! ```text
//! SELECT expression [AS name] [, …] [FROM unnest(array [, …]) AS alias(column [, …])]
//! expression: literal, NULL, $n, column, TRUE, FALSE, pg_notify(…), pg_backend_pid(), pg_is_in_recovery(),
//!             inet_server_port(), current_setting(name[, missing_ok]), set_config(name, value, local),
//!             version(), current_database(), pg_advisory_unlock_all(), count(…) beside expressions without columns, alone in its
//!             SELECT pg_listening_channels(); any of them with a ::type behind it
//! type:       a type of types.rs, or its array type
//! ```

use super::array;
use super::codec;
use super::field::Field;
use super::parser::Parser;
use super::refusal::Refusal;
use super::token::Kind;
use super::types::Type;

/// A value in text format. `None` is NULL.
pub(super) type Value = Option<String>;

/// The highest number of columns of a result (`MaxTupleAttributeNumber`).
const ITEMS_MAX: usize = 1_664;
/// The highest number of arguments of a function (`FUNC_MAX_ARGS`).
const ARGUMENTS_MAX: usize = 100;

/// The highest number of bytes of the values of a result, or of the rows from which it is computed. A limit of this backend.
const RESULT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A parsed SELECT.
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
    /// The number of rows in which its argument is not NULL.
    Count,
    Version,
    CurrentDatabase,
    SetConfig,
    /// Does nothing: the backend has no locks.
    UnlockAll,
}

/// The functions of the session that an evaluation needs.
pub(super) trait Context {
    /// `pg_notify`.
    fn notify(&mut self, channel: &str, payload: &str) -> Result<(), Refusal>;
    /// `pg_backend_pid`.
    fn process_id(&self) -> i32;
    /// `pg_is_in_recovery`.
    fn is_standby(&self) -> bool;
    /// `inet_server_port`.
    fn server_port(&self) -> Option<u16>;
    /// `pg_listening_channels`.
    fn channels(&self) -> Vec<String>;
    /// `current_setting`.
    fn current_setting(&self, name: &str) -> Option<String>;
    /// `current_database`.
    fn database(&self) -> &str;
    /// `set_config`.
    fn set_config(&mut self, name: &str, value: &str) -> Result<(), Refusal>;
}

impl Select {
    /// Parses the text after the word SELECT.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, Refusal> {
        if parser.peek().is_none() {
            return Err(Refusal::unsupported("SELECT without columns"));
        }
        let mut items = Vec::new();
        loop {
            if items.len() >= ITEMS_MAX {
                let text = "target lists can have at most 1664 entries";
                return Err(Refusal::new("54011", text));
            }
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
            Some(_) => return Err(parser.unexpected()),
            None => None,
        };
        Ok(Self { items, from })
    }

    /// Returns the number of parameters.
    pub(super) fn parameter_count(&self) -> usize {
        self.expressions().map(Expression::highest_parameter).max().unwrap_or(0)
    }

    /// Sets the types of parameters that are still unspecified.
    pub(super) fn infer(&self, types: &mut [Type]) {
        for expression in self.expressions() {
            expression.infer(types);
        }
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let arrays = self.from.iter().flat_map(|unnest| &unnest.arrays);
        self.items.iter().map(|item| &item.expression).chain(arrays)
    }

    /// Returns the columns of the result.
    pub(super) fn fields(&self, parameters: &[Type]) -> Vec<Field> {
        let field =
            |item: &Item| Field::new(item.name.clone(), item.expression.type_of(parameters));
        self.items.iter().map(field).collect()
    }

    /// Returns all rows.
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
        if self.items.iter().any(|item| item.expression.is_count()) {
            let row = self.items.iter().map(|item| match &item.expression {
                Expression::Call(Function::Count, arguments) => {
                    let mut count = 0_usize;
                    for row in &table {
                        let scope = Scope { parameters, names, row };
                        for argument in arguments {
                            let counts = scope.value(argument, context)?.is_some();
                            count = count.saturating_add(usize::from(counts));
                        }
                    }
                    Ok(Some(count.to_string()))
                }
                // No row belongs to it, so it can have no column.
                other => Scope { parameters, names: &[], row: &[] }.value(other, context),
            });
            return row.collect::<Result<_, _>>().map(|row| vec![row]);
        }
        let mut bytes = 0_usize;
        for row in &mut table {
            let scope = Scope { parameters, names, row };
            let mut values = Vec::with_capacity(self.items.len());
            for item in &self.items {
                let value = scope.value(&item.expression, context)?;
                charge(&mut bytes, value.as_ref().map_or(0, String::len), 1)?;
                values.push(value);
            }
            *row = values;
        }
        Ok(table)
    }
}

impl Unnest {
    fn parse(parser: &mut Parser<'_>) -> Result<Self, Refusal> {
        if !parser.word("unnest") {
            return Err(parser.unexpected());
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

    /// Returns the arrays side by side; shorter arrays are filled up with NULL.
    fn rows(
        &self,
        parameters: &[Value],
        context: &mut impl Context,
    ) -> Result<Vec<Vec<Value>>, Refusal> {
        let mut table: Vec<Vec<Value>> = Vec::new();
        let mut bytes = 0_usize;
        for (column, expression) in self.arrays.iter().enumerate() {
            let scope = Scope { parameters, names: &[], row: &[] };
            let elements = match scope.value(expression, context)? {
                Some(literal) => array::elements(&literal)?,
                None => Vec::new(),
            };
            let length = elements.iter().flatten().map(String::len).sum();
            charge(&mut bytes, length, elements.len().max(table.len()))?;
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

/// Adds the size of `values` values with together `length` bytes, and checks the limit.
fn charge(bytes: &mut usize, length: usize, values: usize) -> Result<(), Refusal> {
    let values = values.saturating_mul(size_of::<Value>());
    *bytes = bytes.saturating_add(length).saturating_add(values);
    if *bytes > RESULT_BYTES_MAX { Err(Refusal::limit_exceeded("the result")) } else { Ok(()) }
}

fn arguments(parser: &mut Parser<'_>) -> Result<Vec<Expression>, Refusal> {
    parser.require('(')?;
    let mut arguments = Vec::new();
    if parser.symbol(')') {
        return Ok(arguments);
    }
    loop {
        if arguments.len() >= ARGUMENTS_MAX {
            let text = "cannot pass more than 100 arguments to a function";
            return Err(Refusal::new("54023", text));
        }
        arguments.push(Expression::parse(parser)?);
        if parser.symbol(')') {
            return Ok(arguments);
        }
        parser.require(',')?;
    }
}

impl Expression {
    fn parse(parser: &mut Parser<'_>) -> Result<Self, Refusal> {
        parser.descend()?;
        let mut expression = Self::parse_operand(parser)?;
        let mut casts = 0_usize;
        while parser.cast() {
            parser.descend()?;
            casts = casts.saturating_add(1);
            expression = Self::Cast(Box::new(expression), type_name(parser)?);
        }
        for _ in 0..=casts {
            parser.ascend();
        }
        Ok(expression)
    }

    fn parse_operand(parser: &mut Parser<'_>) -> Result<Self, Refusal> {
        let operand = match parser.peek() {
            Some(Kind::Number(digits)) => {
                let of = match digits.parse::<i64>() {
                    Ok(number) if i32::try_from(number).is_ok() => Type::INT4,
                    Ok(_) => Type::INT8,
                    // `numeric`.
                    Err(_) => return Err(parser.unexpected()),
                };
                Self::Literal(Some(digits.clone()), of)
            }
            Some(Kind::Text(text)) => Self::Literal(Some(text.clone()), Type::TEXT),
            Some(Kind::Parameter(number)) if *number > 0 => Self::Parameter(*number),
            Some(Kind::Word(word)) if word == "null" => Self::Literal(None, Type::TEXT),
            Some(Kind::Word(word)) if word == "true" || word == "false" => {
                Self::Literal(word.get(..1).map(str::to_owned), Type::BOOL)
            }
            Some(Kind::Word(_) | Kind::Quoted(_)) => return Self::parse_named(parser),
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
            ("version", 0) => Function::Version,
            ("current_database", 0) => Function::CurrentDatabase,
            ("set_config", 3) => Function::SetConfig,
            ("pg_advisory_unlock_all", 0) => Function::UnlockAll,
            _ => return Err(Refusal::unsupported(&format!("the function {name}"))),
        };
        Ok(Self::Call(function, arguments))
    }

    /// Returns the name of its column if the query gives none.
    fn name(&self) -> String {
        match self {
            Self::Literal(..) | Self::Parameter(_) => "?column?".to_owned(),
            Self::Column(name) => name.clone(),
            Self::Call(function, _) => function.name().to_owned(),
            Self::Cast(inner, to) => match inner.name() {
                name if name != "?column?" => name,
                _ => to.element().unwrap_or(*to).name().to_owned(),
            },
        }
    }

    fn type_of(&self, parameters: &[Type]) -> Type {
        match self {
            Self::Literal(_, of) | Self::Cast(_, of) => *of,
            Self::Parameter(number) => {
                let known = number.checked_sub(1).and_then(|index| parameters.get(index));
                known.copied().unwrap_or(Type::TEXT)
            }
            Self::Column(_) => Type::TEXT,
            Self::Call(function, _) => function.type_of(),
        }
    }

    /// Sets the type of a parameter to that of its first cast.
    fn infer(&self, types: &mut [Type]) {
        match self {
            Self::Cast(inner, to) => match inner.as_ref() {
                Self::Parameter(number) => {
                    let of = number.checked_sub(1).and_then(|index| types.get_mut(index));
                    if let Some(of) = of.filter(|of| **of == Type::UNSPECIFIED) {
                        *of = *to;
                    }
                }
                inner => inner.infer(types),
            },
            Self::Call(_, arguments) => {
                arguments.iter().for_each(|argument| argument.infer(types));
            }
            Self::Literal(..) | Self::Parameter(_) | Self::Column(_) => {}
        }
    }

    fn is_count(&self) -> bool {
        matches!(self, Self::Call(Function::Count, _))
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
    Type::named(&name, array).ok_or_else(|| Refusal::unsupported(&format!("the type {name}")))
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
            Self::Version => "version",
            Self::CurrentDatabase => "current_database",
            Self::SetConfig => "set_config",
            Self::UnlockAll => "pg_advisory_unlock_all",
        }
    }

    const fn type_of(self) -> Type {
        match self {
            Self::Notify | Self::UnlockAll => Type::VOID,
            Self::BackendPid | Self::ServerPort => Type::INT4,
            Self::InRecovery => Type::BOOL,
            Self::CurrentSetting | Self::Version | Self::SetConfig => Type::TEXT,
            Self::CurrentDatabase => Type::NAME,
            Self::Count => Type::INT8,
            Self::ListeningChannels => Type::TEXT,
        }
    }
}

/// The values of names while a row is computed.
struct Scope<'a> {
    parameters: &'a [Value],
    names: &'a [String],
    row: &'a [Value],
}

impl Scope<'_> {
    /// Evaluates arguments. NULL becomes the empty string, as in `pg_notify`.
    fn values(
        &self,
        arguments: &[Expression],
        context: &mut impl Context,
    ) -> Result<Vec<String>, Refusal> {
        let value = |argument| Ok(self.value(argument, context)?.unwrap_or_default());
        arguments.iter().map(value).collect()
    }

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
            Expression::Call(Function::InRecovery, _) => {
                let text = if context.is_standby() { "t" } else { "f" };
                Ok(Some(text.to_owned()))
            }
            Expression::Call(Function::ServerPort, _) => {
                Ok(context.server_port().map(|port| port.to_string()))
            }
            Expression::Call(Function::UnlockAll, _) => Ok(Some(String::new())),
            Expression::Call(Function::CurrentDatabase, _) => {
                Ok(Some(context.database().to_owned()))
            }
            Expression::Call(Function::Version, _) => {
                let version = context.current_setting("server_version").unwrap_or_default();
                Ok(Some(format!("PostgreSQL {version}")))
            }
            Expression::Call(Function::CurrentSetting, arguments) => {
                let values = self.values(arguments, context)?;
                let name = values.first().map_or("", String::as_str);
                match context.current_setting(name) {
                    None if values.len() == 1 => Err(Refusal::unknown_setting(name)),
                    value => Ok(value),
                }
            }
            Expression::Call(Function::SetConfig, arguments) => {
                let values = self.values(arguments, context)?;
                if let [name, value, _] = values.as_slice() {
                    context.set_config(name, value)?;
                }
                Ok(values.into_iter().nth(1))
            }
            Expression::Call(Function::Notify, arguments) => {
                let values = self.values(arguments, context)?;
                if let [channel, payload] = values.as_slice() {
                    context.notify(channel, payload)?;
                }
                Ok(Some(String::new()))
            }
            Expression::Call(function @ (Function::ListeningChannels | Function::Count), _) => Err(
                Refusal::unsupported(&format!("{}() together with other columns", function.name())),
            ),
        }
    }
}

fn cast(value: Value, to: Type) -> Result<Value, Refusal> {
    value.map(|text| codec::canonical(to, &text)).transpose()
}

//! The extended query protocol: prepared statements and portals, up to Sync.

use std::sync::Arc;

use super::Shared;
use super::codec;
use super::connection::Connection;
use super::executor::{Outcome, aborted};
use super::formats::Formats;
use super::named_objects::NamedObjects;
use super::refusal::Refusal;
use super::select::Value;
use super::statement::Statement;
use super::types::Type;
use crate::proto::wire::{
    self, BackendMessage, FrontendMessage, Oids, Target, TransactionStatus, Values,
};

/// The highest number of bytes of a session's prepared statements: texts and parameter types. A limit of this backend.
const STATEMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The highest number of bytes that the values of all portals of a session may have. A limit of this backend.
const PORTAL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The prepared statements and portals of a session, and the state of its pipeline.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    statements: NamedObjects<Prepared>,
    portals: NamedObjects<Portal>,
    /// An implicit transaction is open until Sync.
    open: bool,
    /// True after an error: all messages up to Sync are skipped.
    skipping: bool,
}

/// A prepared statement. `None` is an empty query.
#[derive(Debug, Clone)]
struct Prepared {
    statement: Option<Arc<Statement>>,
    types: Vec<Type>,
}

#[derive(Debug)]
struct Portal {
    statement: Option<Arc<Statement>>,
    types: Vec<Type>,
    formats: Formats,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not executed. Contains the values of the parameters.
    Bound(Vec<Value>),
    /// Executed. The number of rows that the client has received.
    Suspended(Outcome, usize),
    Done,
}

/// The fields of a Bind message.
pub(super) struct Bind<'a> {
    portal: &'a str,
    statement: &'a str,
    parameter_formats: wire::Formats<'a>,
    parameters: Values<'a>,
    result_formats: wire::Formats<'a>,
}

impl Pipeline {
    /// Handles Sync: the implicit transaction ends.
    pub(super) fn sync(&mut self) {
        self.open = false;
        self.skipping = false;
    }

    pub(super) fn fail(&mut self) {
        self.skipping = true;
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.skipping
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Removes the unnamed statement and portal, and closes the implicit transaction, as a Query does.
    pub(super) fn forget_unnamed(&mut self) {
        self.open = false;
        self.statements.remove("");
        self.portals.remove("");
    }

    /// Removes the portals: they live as long as their transaction.
    pub(super) fn end_transaction(&mut self) {
        self.portals.clear();
    }

    /// Applies an executed statement to the prepared statements and portals.
    pub(super) fn apply(&mut self, statement: &Statement) -> Result<(), Refusal> {
        match statement {
            Statement::Deallocate { name: Some(name) } if !self.statements.remove(name) => {
                Err(no_statement(name))
            }
            Statement::Close { name: Some(name) } if !self.portals.remove(name) => {
                let text = format!("cursor \"{name}\" does not exist");
                Err(Refusal::new("34000", text))
            }
            Statement::Deallocate { name: None } => {
                self.statements.clear();
                Ok(())
            }
            Statement::Close { name: None } => {
                self.portals.clear();
                Ok(())
            }
            Statement::DiscardAll => {
                self.statements.clear();
                self.portals.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Connection {
    pub(super) fn handle_extended(
        &mut self,
        shared: &mut Shared,
        message: &FrontendMessage<'_>,
    ) -> Result<(), Refusal> {
        match *message {
            FrontendMessage::Parse { statement, query, parameter_types } => {
                self.pipeline.open = true;
                self.parse(shared, statement, query, parameter_types)
            }
            FrontendMessage::Bind {
                portal,
                statement,
                parameter_formats,
                parameters,
                result_formats,
            } => {
                self.pipeline.open = true;
                let bind =
                    Bind { portal, statement, parameter_formats, parameters, result_formats };
                self.bind(&bind)
            }
            FrontendMessage::Describe { target: Target::Statement, name } => {
                self.describe_statement(name)
            }
            FrontendMessage::Describe { target: Target::Portal, name } => {
                self.describe_portal(name)
            }
            FrontendMessage::Execute { portal, max_rows } => {
                self.pipeline.open = true;
                self.execute_portal(shared, portal, max_rows)
            }
            FrontendMessage::Close { target, name } => {
                match target {
                    Target::Statement => self.pipeline.statements.remove(name),
                    Target::Portal => self.pipeline.portals.remove(name),
                };
                self.send(&BackendMessage::CloseComplete);
                Ok(())
            }
            // Other messages do not reach this function.
            _ => Ok(()),
        }
    }

    fn parse(
        &mut self,
        shared: &mut Shared,
        name: &str,
        query: &str,
        declared: Oids<'_>,
    ) -> Result<(), Refusal> {
        if !name.is_empty() && self.pipeline.statements.contains(name) {
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(Refusal::new("42P05", text));
        }
        let script = self.parse_sql(shared, query)?;
        self.send_truncation_notices(&script.cuts);
        let mut statements = script.statements.into_iter();
        let statement = statements.next();
        if statements.next().is_some() {
            let text = "cannot insert multiple commands into a prepared statement";
            return Err(Refusal::syntax(text));
        }
        self.refuse_in_failed_block(statement.as_ref())?;
        let types = match &statement {
            Some(statement) => statement.parameters()?,
            None => Vec::new(),
        };
        let types = resolved(types, declared);
        let bytes = query.len().saturating_add(types.len().saturating_mul(size_of::<Type>()));
        let prepared = Prepared { statement: statement.map(Arc::new), types };
        self.pipeline.statements.insert(name, prepared, bytes, STATEMENT_BYTES_MAX)?;
        self.send(&BackendMessage::ParseComplete);
        Ok(())
    }

    fn bind(&mut self, bind: &Bind<'_>) -> Result<(), Refusal> {
        let Prepared { statement, types } = self.prepared(bind.statement)?.clone();
        let count = bind.parameters.len();
        let parameter_formats = Formats::read(bind.parameter_formats, count, "parameter")?;
        if count != types.len() {
            let text = format!(
                "bind message supplies {count} parameters, but prepared statement \"{}\" requires {}",
                bind.statement,
                types.len()
            );
            return Err(Refusal::new("08P01", text));
        }
        self.refuse_in_failed_block(statement.as_deref())?;
        if !bind.portal.is_empty() && self.pipeline.portals.contains(bind.portal) {
            let text = format!("cursor \"{}\" already exists", bind.portal);
            return Err(Refusal::new("42P03", text));
        }
        let fields = statement.as_ref().and_then(|it| self.executor.fields(it, &types));
        let columns = fields.map_or(0, |fields| fields.len());
        let formats = Formats::read(bind.result_formats, columns, "result")?;
        let parameters =
            bind.parameters.iter().zip(&types).enumerate().map(|(index, (raw, of))| {
                let Some(raw) = raw else { return Ok(None) };
                let decode = if parameter_formats.is_binary(index) { codec::decode } else { text };
                decode(*of, raw).map(Some)
            });
        let parameters = parameters.collect::<Result<Vec<Value>, _>>()?;
        let bytes = bytes(&parameters);
        let state = State::Bound(parameters);
        let portal = Portal { statement, types, formats, state };
        self.pipeline.portals.insert(bind.portal, portal, bytes, PORTAL_BYTES_MAX)?;
        self.send(&BackendMessage::BindComplete);
        Ok(())
    }

    fn describe_statement(&mut self, name: &str) -> Result<(), Refusal> {
        let Prepared { statement, types } = self.prepared(name)?.clone();
        let oids: Vec<u32> = types.iter().map(|of| of.oid()).collect();
        self.send(&BackendMessage::ParameterDescription { types: Oids::new(&oids) });
        // The client sends the formats of the columns later, with Bind.
        self.describe_or_not(statement.as_deref(), &types, &Formats::default());
        Ok(())
    }

    fn describe_portal(&mut self, name: &str) -> Result<(), Refusal> {
        let portal = self.portal(name)?;
        let (statement, types) = (portal.statement.clone(), portal.types.clone());
        let formats = portal.formats.clone();
        self.describe_or_not(statement.as_deref(), &types, &formats);
        Ok(())
    }

    fn describe_or_not(
        &mut self,
        statement: Option<&Statement>,
        types: &[Type],
        formats: &Formats,
    ) {
        match statement.and_then(|statement| self.executor.fields(statement, types)) {
            Some(fields) => self.describe(&fields, formats),
            None => self.send(&BackendMessage::NoData),
        }
    }

    fn execute_portal(
        &mut self,
        shared: &mut Shared,
        name: &str,
        max_rows: i32,
    ) -> Result<(), Refusal> {
        let portal = self.portal(name)?;
        let Some(statement) = portal.statement.clone() else {
            self.send(&BackendMessage::EmptyQueryResponse);
            return Ok(());
        };
        let state = std::mem::replace(&mut portal.state, State::Done);
        let (types, formats) = (portal.types.clone(), portal.formats.clone());
        let known = self.executor.fields(&statement, &types);
        let (outcome, sent) = match state {
            State::Bound(parameters) => {
                let outcome = self.execute(shared, &statement, &parameters, &types)?;
                if outcome.fields != known {
                    return Err(Refusal::new("0A000", "cached plan must not change result type"));
                }
                (outcome, 0)
            }
            State::Suspended(outcome, sent) => (outcome, sent),
            State::Done if known.is_some() => {
                self.complete(None, "SELECT 0");
                return Ok(());
            }
            State::Done => {
                return Err(Refusal::new("55000", format!("portal \"{name}\" cannot be run")));
            }
        };
        let limit = usize::try_from(max_rows).ok().filter(|&limit| limit > 0);
        let end = limit.map_or(outcome.rows.len(), |limit| sent.saturating_add(limit));
        let fields = known.unwrap_or_default();
        for row in outcome.rows.get(sent..end.min(outcome.rows.len())).unwrap_or_default() {
            self.row(row, &fields, &formats)?;
        }
        // As PostgreSQL: a portal that returned exactly the requested number of rows may have more.
        if limit.is_some_and(|_| end <= outcome.rows.len()) {
            let bytes = outcome.rows.iter().map(|row| bytes(row)).sum();
            let state = State::Suspended(outcome, end);
            let portal = Portal { statement: Some(statement), types, formats, state };
            self.pipeline.portals.insert(name, portal, bytes, PORTAL_BYTES_MAX)?;
            self.send(&BackendMessage::PortalSuspended);
            return Ok(());
        }
        let returned = outcome.rows.len().saturating_sub(sent);
        let tag = match *statement {
            Statement::Select(_) => format!("SELECT {returned}"),
            _ => outcome.tag,
        };
        self.complete(outcome.warning.as_ref(), &tag);
        Ok(())
    }

    fn prepared(&self, name: &str) -> Result<&Prepared, Refusal> {
        self.pipeline.statements.get(name).ok_or_else(|| no_statement(name))
    }

    fn portal(&mut self, name: &str) -> Result<&mut Portal, Refusal> {
        self.pipeline
            .portals
            .get_mut(name)
            .ok_or_else(|| Refusal::new("34000", format!("portal \"{name}\" does not exist")))
    }

    fn refuse_in_failed_block(&self, statement: Option<&Statement>) -> Result<(), Refusal> {
        let ends = matches!(statement, None | Some(Statement::Commit | Statement::Rollback));
        if self.executor.status() == TransactionStatus::Failed && !ends {
            return Err(aborted());
        }
        Ok(())
    }
}

/// Returns the types of the parameters: declared by the client, else given by the statement, else `text`.
fn resolved(mut types: Vec<Type>, declared: Oids<'_>) -> Vec<Type> {
    types.resize(types.len().max(declared.len()), Type::UNSPECIFIED);
    for (of, oid) in types.iter_mut().zip(declared.iter()) {
        if !matches!(Type(oid), Type::UNSPECIFIED | Type::UNKNOWN) {
            *of = Type(oid);
        }
    }
    for of in types.iter_mut().filter(|of| **of == Type::UNSPECIFIED) {
        *of = Type::TEXT;
    }
    types
}

fn no_statement(name: &str) -> Refusal {
    Refusal::new("26000", format!("prepared statement \"{name}\" does not exist"))
}

/// Returns a bound value in text format.
fn text(_: Type, bytes: &[u8]) -> Result<String, Refusal> {
    codec::utf8(bytes)
}

/// Returns the number of bytes of the values.
fn bytes(values: &[Value]) -> usize {
    let lengths = values.iter().flatten().map(String::len);
    lengths.sum::<usize>().saturating_add(values.len().saturating_mul(size_of::<Value>()))
}

//! The extended query protocol: prepared statements and portals, up to Sync.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::connection::Connection;
use super::executor::{Outcome, aborted};
use super::refusal::Refusal;
use super::select::Value;
use super::statement::Statement;
use super::types::Type;
use crate::wire::{BackendMessage, FrontendMessage, Oids, Target, TransactionStatus, Values};

/// What a session has prepared, and where its pipeline stands.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    statements: BTreeMap<String, Prepared>,
    portals: BTreeMap<String, Portal>,
    /// An implicit transaction runs until Sync.
    open: bool,
    /// An error came: everything up to Sync is passed over.
    skipping: bool,
}

/// A prepared statement; without a statement the query was empty.
#[derive(Debug, Clone)]
struct Prepared {
    statement: Option<Arc<Statement>>,
    types: Vec<u32>,
}

#[derive(Debug)]
struct Portal {
    statement: Option<Arc<Statement>>,
    parameters: Vec<Value>,
    /// What it returned, once it was executed, and how many rows the client has.
    result: Option<(Outcome, usize)>,
}

impl Pipeline {
    /// Sync: the implicit transaction ends.
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

    /// A Query replaces the unnamed statement and portal, and commits what was open.
    pub(super) fn forget_unnamed(&mut self) {
        self.open = false;
        self.statements.remove("");
        self.portals.remove("");
    }

    /// Portals live as long as their transaction.
    pub(super) fn end_transaction(&mut self) {
        self.portals.clear();
    }
}

impl Connection {
    pub(super) fn handle_extended(
        &mut self,
        shared: &mut Shared,
        message: &FrontendMessage<'_>,
    ) -> Result<(), Refusal> {
        match message {
            FrontendMessage::Parse { statement, query, parameter_types } => {
                self.pipeline.open = true;
                self.parse(shared, statement, query, *parameter_types)
            }
            FrontendMessage::Bind { portal, statement, parameters } => {
                self.pipeline.open = true;
                self.bind(portal, statement, *parameters)
            }
            FrontendMessage::Describe { target, name } => self.describe_named(*target, name),
            FrontendMessage::Execute { portal, max_rows } => {
                self.pipeline.open = true;
                self.execute(shared, portal, *max_rows)
            }
            FrontendMessage::Close { target, name } => {
                match target {
                    Target::Statement => drop(self.pipeline.statements.remove(*name)),
                    Target::Portal => drop(self.pipeline.portals.remove(*name)),
                }
                self.send(&BackendMessage::CloseComplete);
                Ok(())
            }
            // The others do not come here.
            _ => Ok(()),
        }
    }

    fn parse(
        &mut self,
        shared: &mut Shared,
        name: &str,
        query: &str,
        types: Oids<'_>,
    ) -> Result<(), Refusal> {
        if !name.is_empty() && self.pipeline.statements.contains_key(name) {
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(Refusal::new("42P05", text));
        }
        let script = self.parse_sql(shared, query)?;
        self.notice_cuts(&script.cuts);
        let mut statements = script.statements.into_iter();
        let statement = statements.next();
        if statements.next().is_some() {
            let text = "cannot insert multiple commands into a prepared statement";
            return Err(Refusal::syntax(text));
        }
        self.refuse_in_failed_block(statement.as_ref())?;
        let count = statement.as_ref().map_or(0, Statement::parameter_count);
        if count > usize::from(u16::MAX) {
            return Err(Refusal::syntax(format!("there is no parameter ${count}")));
        }
        let mut types: Vec<u32> = types.iter().collect();
        types.resize(types.len().max(count), 0);
        for oid in types.iter_mut().filter(|oid| **oid == 0) {
            *oid = Type::TEXT.oid();
        }
        let prepared = Prepared { statement: statement.map(Arc::new), types };
        self.pipeline.statements.insert(name.to_owned(), prepared);
        self.send(&BackendMessage::ParseComplete);
        Ok(())
    }

    fn bind(&mut self, name: &str, statement: &str, values: Values<'_>) -> Result<(), Refusal> {
        let prepared = self.prepared(statement)?.clone();
        if values.len() != prepared.types.len() {
            let text = format!(
                "bind message supplies {} parameters, but prepared statement \"{statement}\" requires {}",
                values.len(),
                prepared.types.len()
            );
            return Err(Refusal::new("08P01", text));
        }
        self.refuse_in_failed_block(prepared.statement.as_deref())?;
        if !name.is_empty() && self.pipeline.portals.contains_key(name) {
            return Err(Refusal::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        let parameters = values.iter().map(text).collect::<Result<_, _>>()?;
        let portal = Portal { statement: prepared.statement, parameters, result: None };
        self.pipeline.portals.insert(name.to_owned(), portal);
        self.send(&BackendMessage::BindComplete);
        Ok(())
    }

    fn describe_named(&mut self, target: Target, name: &str) -> Result<(), Refusal> {
        let statement = match target {
            Target::Statement => {
                let prepared = self.prepared(name)?.clone();
                let types = Oids::new(&prepared.types);
                self.send(&BackendMessage::ParameterDescription { types });
                prepared.statement
            }
            Target::Portal => self.portal(name)?.statement.clone(),
        };
        match statement.and_then(|statement| self.executor.fields(&statement)) {
            Some(fields) => self.describe(&fields),
            None => self.send(&BackendMessage::NoData),
        }
        Ok(())
    }

    fn execute(&mut self, shared: &mut Shared, name: &str, max_rows: i32) -> Result<(), Refusal> {
        let portal = self.portal(name)?;
        let Some(statement) = portal.statement.clone() else {
            self.send(&BackendMessage::EmptyQueryResponse);
            return Ok(());
        };
        let result = portal.result.take();
        let (outcome, sent) = match result {
            Some(result) => result,
            None => {
                let parameters = std::mem::take(&mut portal.parameters);
                let known = self.executor.fields(&statement);
                let outcome =
                    self.executor.execute(&statement, &parameters, &mut shared.answers)?;
                if outcome.fields != known {
                    return Err(Refusal::new("0A000", "cached plan must not change result type"));
                }
                (outcome, 0)
            }
        };
        let limit = usize::try_from(max_rows).ok().filter(|&limit| limit > 0);
        let end = limit.map_or(outcome.rows.len(), |limit| sent.saturating_add(limit));
        for row in outcome.rows.get(sent..end.min(outcome.rows.len())).unwrap_or_default() {
            self.row(row);
        }
        // As PostgreSQL does: a portal that has returned exactly as many as asked for may have more.
        if limit.is_some_and(|_| end <= outcome.rows.len()) {
            self.send(&BackendMessage::PortalSuspended);
            if let Ok(portal) = self.portal(name) {
                portal.result = Some((outcome, end));
            }
            return Ok(());
        }
        let returned = outcome.rows.len().saturating_sub(sent);
        let tag = match *statement {
            Statement::Select(_) => format!("SELECT {returned}"),
            _ => outcome.tag,
        };
        self.complete(outcome.warning.as_ref(), outcome.report, &tag);
        Ok(())
    }

    fn prepared(&self, name: &str) -> Result<&Prepared, Refusal> {
        self.pipeline.statements.get(name).ok_or_else(|| {
            Refusal::new("26000", format!("prepared statement \"{name}\" does not exist"))
        })
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

/// A bound value: text of the encoding, without NUL.
fn text(value: Option<&[u8]>) -> Result<Value, Refusal> {
    let Some(bytes) = value else { return Ok(None) };
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => Ok(Some(text.to_owned())),
        _ => Err(Refusal::new("22021", "invalid byte sequence for encoding \"UTF8\"")),
    }
}

//! Carrying out statements: transactions, the channels of a session, notifications on their way.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::Proxy;
use super::answers::Answers;
use super::field::Field;
use super::query::Query;
use super::refusal::Refusal;
use super::select::{Context, Value};
use super::statement::Statement;
use super::types::Type;
use crate::config::PORT_DEFAULT;
use crate::wire::limits::{CHANNEL_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::wire::{DbError, Severity, TransactionStatus};

/// What NOTIFY says.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Note {
    pub(super) channel: String,
    pub(super) payload: String,
}

/// What a statement brought.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The command tag.
    pub(super) tag: String,
    /// `None` for a statement that returns no rows.
    pub(super) fields: Option<Vec<Field>>,
    pub(super) rows: Vec<Vec<Value>>,
    pub(super) warning: Option<DbError>,
    /// A parameter that has to be reported before the next ReadyForQuery.
    pub(super) report: Option<(String, String)>,
}

impl Outcome {
    fn tagged(tag: &str) -> Self {
        Self { tag: tag.to_owned(), ..Self::default() }
    }
}

#[derive(Debug)]
enum Change {
    Listen(String),
    Unlisten(String),
    UnlistenAll,
}

/// The state of one session that statements see and change.
#[derive(Debug)]
pub(super) struct Executor {
    process_id: i32,
    settings: BTreeMap<String, String>,
    listening: BTreeSet<String>,
    proxy: Proxy,
    /// How many statements were carried out.
    statements: i32,
    /// Channels that it may not listen to.
    refused: Arc<BTreeSet<String>>,
    status: TransactionStatus,
    /// Of the running transaction, in order.
    changes: Vec<Change>,
    notes: Vec<Arc<Note>>,
    /// The same as `notes`: equal ones are sent once, at the first one's place. N62.
    seen: HashSet<Arc<Note>>,
    /// Of committed transactions: to be handed out to all sessions.
    committed: Vec<Arc<Note>>,
}

impl Executor {
    pub(super) fn new(process_id: i32, settings: BTreeMap<String, String>, proxy: Proxy) -> Self {
        Self {
            process_id,
            settings,
            listening: BTreeSet::new(),
            proxy,
            statements: 0,
            refused: Arc::default(),
            status: TransactionStatus::Idle,
            changes: Vec::new(),
            notes: Vec::new(),
            seen: HashSet::new(),
            committed: Vec::new(),
        }
    }

    pub(super) fn process_id(&self) -> i32 {
        self.process_id
    }

    pub(super) fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// A setting that the startup packet gives.
    pub(super) fn assign(&mut self, name: &str, value: &str) {
        // Only what is reported by default is reported now.
        if let Some(setting) = self.settings.get_mut(name) {
            value.clone_into(setting);
        }
    }

    /// Whether a block is open, as ReadyForQuery reports it.
    pub(super) fn status(&self) -> TransactionStatus {
        self.status
    }

    pub(super) fn listens_to(&self, channel: &str) -> bool {
        self.listening.contains(channel)
    }

    pub(super) fn refuse(&mut self, channels: Arc<BTreeSet<String>>) {
        self.refused = channels;
    }

    pub(super) fn forget_channels(&mut self) {
        self.listening.clear();
    }

    pub(super) fn listening(&self) -> &BTreeSet<String> {
        &self.listening
    }

    /// Notifications of the transactions that were committed since the last call, in their order.
    pub(super) fn take_committed(&mut self) -> Vec<Arc<Note>> {
        std::mem::take(&mut self.committed)
    }

    /// The columns that a statement returns, as far as they are known before it is carried out.
    pub(super) fn fields(&self, statement: &Statement) -> Option<Vec<Field>> {
        let text = |name: &str| Field::new(name, Type::TEXT);
        match statement {
            Statement::Select(select) => Some(select.fields()),
            Statement::Proof(proof) => Some(proof.columns().iter().copied().map(text).collect()),
            // As the parameter is spelled, not as it was asked for.
            Statement::Show { name } => {
                let known = self.setting(name).map_or(name, |(known, _)| known);
                Some(vec![text(known)])
            }
            Statement::Scripted { fields, .. } => fields.clone(),
            _ => None,
        }
    }

    /// Carries out one statement.
    pub(super) fn execute(
        &mut self,
        statement: &Statement,
        parameters: &[Value],
        answers: &mut Answers,
    ) -> Result<Outcome, Refusal> {
        self.statements = self.statements.wrapping_add(1);
        let ends = matches!(statement, Statement::Commit | Statement::Rollback);
        if self.status == TransactionStatus::Failed && !ends {
            return Err(aborted());
        }
        let mut outcome = self.carry_out(statement, parameters, answers)?;
        if !matches!(statement, Statement::Scripted { .. }) {
            outcome.fields = self.fields(statement);
        }
        Ok(outcome)
    }

    fn carry_out(
        &mut self,
        statement: &Statement,
        parameters: &[Value],
        answers: &mut Answers,
    ) -> Result<Outcome, Refusal> {
        match statement {
            Statement::Begin => Ok(self.begin()),
            Statement::Commit => Ok(self.end(true)),
            Statement::Rollback => Ok(self.end(false)),
            Statement::Listen(channel) => {
                self.refuse_on_standby("LISTEN")?;
                if self.refused.contains(channel) {
                    let text = format!("permission denied for channel \"{channel}\"");
                    return Err(Refusal::new("42501", text));
                }
                self.changes.push(Change::Listen(channel.clone()));
                Ok(Outcome::tagged("LISTEN"))
            }
            Statement::Unlisten(channel) => {
                self.changes.push(Change::Unlisten(channel.clone()));
                Ok(Outcome::tagged("UNLISTEN"))
            }
            Statement::UnlistenAll => {
                self.changes.push(Change::UnlistenAll);
                Ok(Outcome::tagged("UNLISTEN"))
            }
            Statement::Notify { channel, payload } => {
                self.notify(channel, payload)?;
                Ok(Outcome::tagged("NOTIFY"))
            }
            Statement::Select(select) => {
                let rows = select.rows(parameters, self)?;
                Ok(Outcome { tag: format!("SELECT {}", rows.len()), rows, ..Outcome::default() })
            }
            Statement::Proof(proof) => {
                let row = match self.proxy {
                    Proxy::SharedListen => proof.row(&BTreeSet::new()),
                    _ => proof.row(&self.listening),
                };
                Ok(Outcome { rows: vec![row], ..Outcome::tagged("SELECT 1") })
            }
            Statement::Scripted { sql, .. } => self.answer(sql, parameters, answers),
            Statement::Set { name, value } => Ok(self.set(name, value)),
            Statement::Show { name } => {
                let value = self.setting(name).map(|(_, value)| value.clone());
                let value = value.ok_or_else(|| {
                    let text = format!("unrecognized configuration parameter \"{name}\"");
                    Refusal::new("42704", text)
                })?;
                Ok(Outcome { rows: vec![vec![Some(value)]], ..Outcome::tagged("SHOW") })
            }
        }
    }

    /// What a test has scripted.
    fn answer(
        &mut self,
        sql: &str,
        parameters: &[Value],
        answers: &mut Answers,
    ) -> Result<Outcome, Refusal> {
        let query = Query { sql, parameters: Some(parameters), process_id: self.process_id };
        let Some(answer) = answers.find(&query) else {
            let text = "the test answered this query when it was prepared, and not now";
            return Err(Refusal::new("XX000", text));
        };
        let tag = answer.command_tag();
        if let Some(refusal) = answer.refusal {
            return Err(refusal);
        }
        for (channel, payload) in &answer.notifications {
            self.notify(channel, payload)?;
        }
        Ok(Outcome { tag, fields: answer.fields, rows: answer.rows, ..Outcome::default() })
    }

    /// The end of a Query or Sync: what ran outside a block is committed.
    pub(super) fn finish(&mut self) {
        if self.status == TransactionStatus::Idle {
            self.commit();
        }
    }

    /// An error: what the transaction did so far is undone, a block waits for its end.
    pub(super) fn abort(&mut self) {
        self.discard();
        if self.status == TransactionStatus::InTransaction {
            self.status = TransactionStatus::Failed;
        }
    }

    fn begin(&mut self) -> Outcome {
        let mut outcome = Outcome::tagged("BEGIN");
        if self.status == TransactionStatus::InTransaction {
            let text = "there is already a transaction in progress";
            outcome.warning = Some(DbError::new(Severity::Warning, "25001", text));
        }
        self.status = TransactionStatus::InTransaction;
        outcome
    }

    fn end(&mut self, commit: bool) -> Outcome {
        // COMMIT of a failed block rolls back, and says so.
        let commit = commit && self.status != TransactionStatus::Failed;
        let mut outcome = Outcome::tagged(if commit { "COMMIT" } else { "ROLLBACK" });
        if self.status == TransactionStatus::Idle {
            let text = "there is no transaction in progress";
            outcome.warning = Some(DbError::new(Severity::Warning, "25P01", text));
        }
        self.status = TransactionStatus::Idle;
        if commit {
            self.commit();
        } else {
            self.discard();
        }
        outcome
    }

    /// First the channels, then the notifications: a transaction that does both hears itself. N62.
    fn commit(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Listen(channel) => drop(self.listening.insert(channel)),
                Change::Unlisten(channel) => drop(self.listening.remove(&channel)),
                Change::UnlistenAll => self.listening.clear(),
            }
        }
        self.seen.clear();
        self.committed.append(&mut self.notes);
    }

    fn discard(&mut self) {
        self.changes.clear();
        self.seen.clear();
        self.notes.clear();
    }

    fn refuse_on_standby(&self, command: &str) -> Result<(), Refusal> {
        if self.settings.get("in_hot_standby").is_some_and(|value| value == "on") {
            return Err(Refusal::new("25006", format!("cannot execute {command} during recovery")));
        }
        Ok(())
    }

    /// A parameter as it is spelled, and its value.
    pub(super) fn setting(&self, name: &str) -> Option<(&String, &String)> {
        self.settings.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// At once, and not undone by ROLLBACK: the one liberty that is taken with transactions.
    fn set(&mut self, name: &str, value: &str) -> Outcome {
        let mut outcome = Outcome::tagged("SET");
        let known = self.setting(name).map(|(name, _)| name.clone());
        outcome.report = known.clone().map(|name| (name, value.to_owned()));
        self.settings.insert(known.unwrap_or_else(|| name.to_owned()), value.to_owned());
        outcome
    }
}

impl Context for Executor {
    fn notify(&mut self, channel: &str, payload: &str) -> Result<(), Refusal> {
        self.refuse_on_standby("NOTIFY")?;
        // The words of `Async_Notify`. N60.
        let problem = if channel.is_empty() {
            "channel name cannot be empty"
        } else if channel.len() > CHANNEL_BYTES_MAX {
            "channel name too long"
        } else if payload.len() > PAYLOAD_BYTES_MAX {
            "payload string too long"
        } else {
            let note = Note { channel: channel.to_owned(), payload: payload.to_owned() };
            let note = Arc::new(note);
            if self.seen.insert(Arc::clone(&note)) {
                self.notes.push(note);
            }
            return Ok(());
        };
        Err(Refusal::new("22023", problem))
    }

    fn process_id(&self) -> i32 {
        match self.proxy {
            Proxy::SharedListen => self.process_id.wrapping_add(self.statements),
            _ => self.process_id,
        }
    }

    /// What a server says that listens at the usual port.
    fn server_port(&self) -> Option<u16> {
        (self.proxy != Proxy::OneSession).then_some(PORT_DEFAULT)
    }

    fn channels(&self) -> Vec<String> {
        match self.proxy {
            Proxy::SharedListen => Vec::new(),
            _ => self.listening.iter().cloned().collect(),
        }
    }
}

pub(super) fn aborted() -> Refusal {
    Refusal::new(
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

//! Carrying out statements: transactions, the channels of a session, notifications on their way.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::Proxy;
use super::answers::Answers;
use super::field::Field;
use super::query::Query;
use super::refusal::Refusal;
use super::select::{Context, Value};
use super::settings::Settings;
use super::statement::Statement;
use super::types::Type;
use crate::config::PORT_DEFAULT;
use crate::proto::wire::limits::{CHANNEL_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::proto::wire::{DbError, Severity, TransactionStatus};

/// Bytes of what a transaction does. Ours.
const PENDING_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Channels of a session. Ours.
const CHANNELS_MAX: usize = 1_000_000;

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
    /// The name of the database that the client asked for.
    database: String,
    pub(super) settings: Settings,
    listening: BTreeSet<String>,
    proxy: Proxy,
    /// How many statements were carried out.
    statements: i32,
    /// Channels that it may not listen to.
    refused: Arc<BTreeSet<String>>,
    status: TransactionStatus,
    /// Of the running transaction, in order.
    changes: Vec<Change>,
    /// What `changes` and `notes` take.
    pending_bytes: usize,
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
            database: String::new(),
            settings: Settings::new(settings),
            listening: BTreeSet::new(),
            proxy,
            statements: 0,
            refused: Arc::default(),
            status: TransactionStatus::Idle,
            changes: Vec::new(),
            pending_bytes: 0,
            notes: Vec::new(),
            seen: HashSet::new(),
            committed: Vec::new(),
        }
    }

    pub(super) fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The client's choice of a database: any is this one.
    pub(super) fn open_database(&mut self, name: &str) {
        name.clone_into(&mut self.database);
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
    pub(super) fn fields(&self, statement: &Statement, parameters: &[Type]) -> Option<Vec<Field>> {
        let text = |name: &str| Field::new(name, Type::TEXT);
        match statement {
            Statement::Select(select) => Some(select.fields(parameters)),
            Statement::Proof(proof) => Some(proof.columns().iter().copied().map(text).collect()),
            // As the parameter is spelled, not as it was asked for.
            Statement::Show { name } => {
                let known = self.settings.get(name).map_or(name.as_str(), |(known, _)| known);
                Some(vec![text(known)])
            }
            Statement::Catalogue(catalogue) => Some(catalogue.fields()),
            Statement::Scripted { fields, .. } => fields.clone(),
            _ => None,
        }
    }

    /// Carries out one statement.
    pub(super) fn execute(
        &mut self,
        statement: &Statement,
        parameters: &[Value],
        types: &[Type],
        answers: &mut Answers,
    ) -> Result<Outcome, Refusal> {
        self.statements = self.statements.wrapping_add(1);
        let ends = matches!(statement, Statement::Commit | Statement::Rollback);
        if self.status == TransactionStatus::Failed && !ends {
            return Err(aborted());
        }
        let mut outcome = self.carry_out(statement, parameters, answers)?;
        if !matches!(statement, Statement::Scripted { .. }) {
            outcome.fields = self.fields(statement, types);
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
            Statement::Begin { tag } => Ok(self.begin(tag)),
            Statement::Commit => Ok(self.end(true)),
            Statement::Rollback => Ok(self.end(false)),
            Statement::Listen(channel) => {
                self.refuse_on_standby("LISTEN")?;
                if self.refused.contains(channel) {
                    let text = format!("permission denied for channel \"{channel}\"");
                    return Err(Refusal::new("42501", text));
                }
                self.change(Change::Listen(channel.clone()))?;
                Ok(Outcome::tagged("LISTEN"))
            }
            Statement::Unlisten(channel) => {
                self.change(Change::Unlisten(channel.clone()))?;
                Ok(Outcome::tagged("UNLISTEN"))
            }
            Statement::UnlistenAll => {
                self.change(Change::UnlistenAll)?;
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
            Statement::Catalogue(catalogue) => {
                let rows = catalogue.rows();
                Ok(Outcome { tag: format!("SELECT {}", rows.len()), rows, ..Outcome::default() })
            }
            Statement::Set { name, value } => {
                self.settings.set(name, value)?;
                Ok(Outcome::tagged("SET"))
            }
            Statement::Reset { name, tag } => {
                self.settings.reset(name)?;
                Ok(Outcome::tagged(tag))
            }
            Statement::ResetAll => {
                self.settings.reset_all();
                Ok(Outcome::tagged("RESET"))
            }
            Statement::DiscardAll => {
                if self.status != TransactionStatus::Idle {
                    let text = "DISCARD ALL cannot run inside a transaction block";
                    return Err(Refusal::new("25001", text));
                }
                self.change(Change::UnlistenAll)?;
                self.settings.reset_all();
                Ok(Outcome::tagged("DISCARD ALL"))
            }
            // The pipeline does what they say.
            Statement::Deallocate { name: None } => Ok(Outcome::tagged("DEALLOCATE ALL")),
            Statement::Deallocate { .. } => Ok(Outcome::tagged("DEALLOCATE")),
            Statement::Close { name: None } => Ok(Outcome::tagged("CLOSE CURSOR ALL")),
            Statement::Close { .. } => Ok(Outcome::tagged("CLOSE CURSOR")),
            Statement::Show { name } => {
                let value =
                    self.settings.get(name).ok_or_else(|| Refusal::unknown_setting(name))?;
                let value = value.1.to_owned();
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

    fn begin(&mut self, tag: &str) -> Outcome {
        let mut outcome = Outcome::tagged(tag);
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
        self.pending_bytes = 0;
        self.seen.clear();
        self.committed.append(&mut self.notes);
    }

    fn discard(&mut self) {
        self.changes.clear();
        self.pending_bytes = 0;
        self.seen.clear();
        self.notes.clear();
    }

    fn refuse_on_standby(&self, command: &str) -> Result<(), Refusal> {
        if self.settings.get("in_hot_standby").is_some_and(|(_, value)| value == "on") {
            return Err(Refusal::new("25006", format!("cannot execute {command} during recovery")));
        }
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), Refusal> {
        let name = match &change {
            Change::Listen(name) | Change::Unlisten(name) => name.len(),
            Change::UnlistenAll => 0,
        };
        self.pend(name)?;
        let channels = self.listening.len().saturating_add(self.changes.len());
        if channels >= CHANNELS_MAX && matches!(change, Change::Listen(_)) {
            return Err(Refusal::too_much("the channels of this session"));
        }
        self.changes.push(change);
        Ok(())
    }

    /// A transaction grows.
    fn pend(&mut self, bytes: usize) -> Result<(), Refusal> {
        let each = size_of::<Change>().saturating_add(size_of::<Note>());
        self.pending_bytes = self.pending_bytes.saturating_add(bytes).saturating_add(each);
        if self.pending_bytes > PENDING_BYTES_MAX {
            return Err(Refusal::too_much("what this transaction does"));
        }
        Ok(())
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
            self.pend(channel.len().saturating_add(payload.len()))?;
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

    fn current_setting(&self, name: &str) -> Option<String> {
        let value = match self.settings.get(name) {
            Some((_, value)) => Some(value),
            None => match name {
                "transaction_read_only" => Some("off"),
                "idle_session_timeout" => Some("0"),
                _ => None,
            },
        };
        value.map(str::to_owned)
    }

    fn set_config(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        self.settings.set(name, value)
    }

    fn database(&self) -> &str {
        &self.database
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

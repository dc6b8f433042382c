//! The execution of statements: transactions, the channels of a session, pending notifications.

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

/// The highest number of bytes of pending changes in a transaction. A limit of this backend.
const PENDING_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The highest number of channels of a session. A limit of this backend.
const CHANNELS_MAX: usize = 1_000_000;

/// The channel and payload of a NOTIFY.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct QueuedNotification {
    pub(super) channel: String,
    pub(super) payload: String,
}

/// The result of a statement.
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
enum ChannelChange {
    Listen(String),
    Unlisten(String),
    UnlistenAll,
}

/// The state of one session that statements read and change.
#[derive(Debug)]
pub(super) struct Executor {
    process_id: i32,
    /// The name of the database of the startup packet.
    database: String,
    pub(super) settings: Settings,
    listening: BTreeSet<String>,
    proxy: Proxy,
    /// The number of executed statements.
    statements: i32,
    /// Channels for which LISTEN is refused.
    refused: Arc<BTreeSet<String>>,
    status: TransactionStatus,
    /// The changes of the running transaction, in order.
    changes: Vec<ChannelChange>,
    /// The bytes of `changes` and `notifications`.
    pending_bytes: usize,
    notifications: Vec<Arc<QueuedNotification>>,
    /// The same items as `notifications`: equal notifications are sent once, at the position of the first one.
    seen: HashSet<Arc<QueuedNotification>>,
    /// The notifications of committed transactions, to be sent to all sessions.
    committed: Vec<Arc<QueuedNotification>>,
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
            notifications: Vec::new(),
            seen: HashSet::new(),
            committed: Vec::new(),
        }
    }

    pub(super) fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Sets the name of the database. All names are the same database.
    pub(super) fn open_database(&mut self, name: &str) {
        name.clone_into(&mut self.database);
    }

    /// Returns the transaction status that ReadyForQuery reports.
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

    /// Returns the notifications of the transactions committed since the last call, in order.
    pub(super) fn take_committed(&mut self) -> Vec<Arc<QueuedNotification>> {
        std::mem::take(&mut self.committed)
    }

    /// Returns the columns of a statement, as far as they are known before it is executed.
    pub(super) fn fields(&self, statement: &Statement, parameters: &[Type]) -> Option<Vec<Field>> {
        let text = |name: &str| Field::new(name, Type::TEXT);
        match statement {
            Statement::Select(select) => Some(select.fields(parameters)),
            Statement::HeartbeatQuery(query) => {
                Some(query.columns().iter().copied().map(text).collect())
            }
            // The name as the server spells it, not as the client wrote it.
            Statement::Show { name } => {
                let known = self.settings.get(name).map_or(name.as_str(), |(known, _)| known);
                Some(vec![text(known)])
            }
            Statement::CatalogueQuery(catalogue) => Some(catalogue.fields()),
            Statement::Scripted { fields, .. } => fields.clone(),
            _ => None,
        }
    }

    /// Executes one statement.
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
        let mut outcome = self.execute_statement(statement, parameters, answers)?;
        if !matches!(statement, Statement::Scripted { .. }) {
            outcome.fields = self.fields(statement, types);
        }
        Ok(outcome)
    }

    fn execute_statement(
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
                self.change(ChannelChange::Listen(channel.clone()))?;
                Ok(Outcome::tagged("LISTEN"))
            }
            Statement::Unlisten(channel) => {
                self.change(ChannelChange::Unlisten(channel.clone()))?;
                Ok(Outcome::tagged("UNLISTEN"))
            }
            Statement::UnlistenAll => {
                self.change(ChannelChange::UnlistenAll)?;
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
            Statement::HeartbeatQuery(query) => {
                let row = match self.proxy {
                    Proxy::SharedListen => query.row(&BTreeSet::new()),
                    _ => query.row(&self.listening),
                };
                Ok(Outcome { rows: vec![row], ..Outcome::tagged("SELECT 1") })
            }
            Statement::Scripted { sql, .. } => self.answer(sql, parameters, answers),
            Statement::CatalogueQuery(catalogue) => {
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
                self.change(ChannelChange::UnlistenAll)?;
                self.settings.reset_all();
                Ok(Outcome::tagged("DISCARD ALL"))
            }
            // The pipeline executes these statements.
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

    /// Returns the result that the test has set.
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

    /// Ends a Query or Sync: the implicit transaction is committed.
    pub(super) fn finish(&mut self) {
        if self.status == TransactionStatus::Idle {
            self.commit();
        }
    }

    /// Handles an error: the transaction is undone, and a block stays failed until its end.
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
        // COMMIT of a failed block rolls back, and its tag is ROLLBACK.
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

    /// Commits first the channels, then the notifications: a transaction with LISTEN and NOTIFY receives its own notification.
    fn commit(&mut self) {
        // N62.
        for change in std::mem::take(&mut self.changes) {
            match change {
                ChannelChange::Listen(channel) => drop(self.listening.insert(channel)),
                ChannelChange::Unlisten(channel) => drop(self.listening.remove(&channel)),
                ChannelChange::UnlistenAll => self.listening.clear(),
            }
        }
        self.pending_bytes = 0;
        self.seen.clear();
        self.committed.append(&mut self.notifications);
    }

    fn discard(&mut self) {
        self.changes.clear();
        self.pending_bytes = 0;
        self.seen.clear();
        self.notifications.clear();
    }

    fn refuse_on_standby(&self, command: &str) -> Result<(), Refusal> {
        if self.is_standby() {
            return Err(Refusal::new("25006", format!("cannot execute {command} during recovery")));
        }
        Ok(())
    }

    fn change(&mut self, change: ChannelChange) -> Result<(), Refusal> {
        let name = match &change {
            ChannelChange::Listen(name) | ChannelChange::Unlisten(name) => name.len(),
            ChannelChange::UnlistenAll => 0,
        };
        self.add_pending_bytes(name)?;
        let channels = self.listening.len().saturating_add(self.changes.len());
        if channels >= CHANNELS_MAX && matches!(change, ChannelChange::Listen(_)) {
            return Err(Refusal::limit_exceeded("the channels of this session"));
        }
        self.changes.push(change);
        Ok(())
    }

    /// Counts pending bytes of the transaction.
    fn add_pending_bytes(&mut self, bytes: usize) -> Result<(), Refusal> {
        let each = size_of::<ChannelChange>().saturating_add(size_of::<QueuedNotification>());
        self.pending_bytes = self.pending_bytes.saturating_add(bytes).saturating_add(each);
        if self.pending_bytes > PENDING_BYTES_MAX {
            return Err(Refusal::limit_exceeded("the changes of this transaction"));
        }
        Ok(())
    }
}

impl Context for Executor {
    fn notify(&mut self, channel: &str, payload: &str) -> Result<(), Refusal> {
        self.refuse_on_standby("NOTIFY")?;
        // The error messages are those of `Async_Notify`. N60.
        let problem = if channel.is_empty() {
            "channel name cannot be empty"
        } else if channel.len() > CHANNEL_BYTES_MAX {
            "channel name too long"
        } else if payload.len() > PAYLOAD_BYTES_MAX {
            "payload string too long"
        } else {
            let notification =
                QueuedNotification { channel: channel.to_owned(), payload: payload.to_owned() };
            let notification = Arc::new(notification);
            self.add_pending_bytes(channel.len().saturating_add(payload.len()))?;
            if self.seen.insert(Arc::clone(&notification)) {
                self.notifications.push(notification);
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

    fn is_standby(&self) -> bool {
        self.settings.get("in_hot_standby").is_some_and(|(_, value)| value == "on")
    }

    /// The usual port, as a server with the default configuration reports it.
    fn server_port(&self) -> Option<u16> {
        (self.proxy != Proxy::OneSession).then_some(PORT_DEFAULT)
    }

    fn current_setting(&self, name: &str) -> Option<String> {
        let value = match self.settings.get(name) {
            Some((_, value)) => Some(value),
            None => match name {
                "transaction_read_only" => Some(if self.is_standby() { "on" } else { "off" }),
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

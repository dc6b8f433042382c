//! [`Outbox`]: a log table.

use std::time::Duration;

use super::check::{VERSION, check};
use super::cursor_builder::{CursorBuilder, Target};
use super::names::Names;
use super::payload_type::PayloadType;
use super::rotation::Rotation;
use super::session::LogSession;
use super::settings::OutboxSettings;
use super::status::OutboxStatus;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::net;

/// The longest time of a statement that manages a log.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3_600);

/// A log in a table: what was committed to it is read in the order of each key, at least once, by any number of cursors, and nothing is missed.
///
/// This type is the name of the log and the parameters to connect. It has no session: each method opens one, and ends it.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::durable::{Outbox, OutboxSettings};
///
/// let outbox = Outbox::new("postgres://localhost/shop", "shop.outbox")?;
/// outbox.init(&OutboxSettings::new()).await?;
///
/// let mut cursor = outbox.cursor("billing").open().await?;
/// loop {
///     let batch = cursor.next().await?;
///     for record in batch.iter() {
///         println!("{} {}: {}", record.id(), record.key(), record.payload());
///     }
///     batch.ack().await?;
/// }
/// # }
/// ```
///
/// Records are written by SQL in the transaction of the application, with any driver: see [`insert_sql`](Self::insert_sql).
#[derive(Debug, Clone)]
pub struct Outbox {
    config: Config,
    names: Names,
}

impl Outbox {
    /// Names a log: `table` or `schema.table`, in the schema `public` by default. Nothing is sent.
    ///
    /// `config` is a URL, a `key=value` string or a [`Config`]. Parameters that it does not set are taken from the `PG*` environment variables.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for parameters that are not valid. [`ErrorKind::Misuse`] for a name that is longer than 48 bytes, longer than 63 bytes
    /// with its schema, or has other characters than a-z, 0-9 and `_`.
    pub fn new(
        config: impl TryInto<Config, Error: Into<Error>>,
        name: &str,
    ) -> Result<Self, Error> {
        Ok(Self { config: config.try_into().map_err(Into::into)?, names: Names::parse(name)? })
    }

    /// Returns the name with its schema.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.qualified()
    }

    /// Returns the channel whose notifications wake the cursors: after the commit of a transaction that has written records, call
    /// [`Notifier::nudge`](crate::Notifier::nudge) with it and any key. It is the name of the log with its schema.
    #[must_use]
    pub fn channel(&self) -> &str {
        self.names.qualified()
    }

    /// Returns the statement that writes a record. Its parameters are the key, which orders the records that have the same one, and the payload.
    ///
    /// There is also the function `…_add(key, payload, headers)`, which returns the id, and the column `headers` for JSON of the application. The other
    /// columns have defaults, and must not be set.
    ///
    /// ```
    /// let outbox = pgbell::durable::Outbox::new("postgres://localhost/shop", "shop.outbox")?;
    /// assert_eq!(outbox.insert_sql(), r#"INSERT INTO "shop"."outbox" (key, payload) VALUES ($1, $2)"#);
    /// # Ok::<(), pgbell::Error>(())
    /// ```
    #[must_use]
    pub fn insert_sql(&self) -> String {
        self.names.fill("INSERT INTO {log} (key, payload) VALUES ($1, $2)")
    }

    /// Returns the statement that acknowledges a batch in a transaction of the application. Its parameter is the text of the
    /// [`Receipt`](crate::durable::Receipt).
    #[must_use]
    pub fn ack_sql(&self) -> String {
        self.names.fill("SELECT {ack}($1)")
    }

    /// Returns the settings of a cursor with this name.
    pub fn cursor(&self, name: impl Into<String>) -> CursorBuilder {
        let target =
            Target::Server { config: Box::new(self.config.clone()), names: self.names.clone() };
        CursorBuilder::new(target, name.into())
    }

    fn session(&self) -> LogSession {
        net::check_runtime();
        LogSession::new(self.config.clone(), STATEMENT_TIMEOUT)
    }

    /// Creates the tables and functions of the log, or updates the functions and the settings of one that exists. All of it or nothing.
    ///
    /// The schema must exist. The role needs the right to create tables in it, and becomes the owner.
    ///
    /// # Errors
    /// [`ErrorKind::Schema`] if the log exists with another type of payloads or a later version, or if the schema does not exist; otherwise the error
    /// of the session or the server.
    ///
    /// # Cancel safety
    /// If the future is dropped, the log may have been created or not. The call can be repeated.
    pub async fn init(&self, settings: &OutboxSettings) -> Result<(), Error> {
        let mut session = self.session();
        let result = self.create(&mut session, settings).await;
        // It ends a transaction that has failed.
        session.close().await;
        result
    }

    async fn create(
        &self,
        session: &mut LogSession,
        settings: &OutboxSettings,
    ) -> Result<(), Error> {
        let names = &self.names;
        let payload = settings.payload;
        let fill = |text: &str| {
            let text = text.replace("{payload_type}", payload.sql_name());
            names.fill(&text.replace("{payload_text}", payload.text_of_payload()))
        };
        session.run("BEGIN").await?;
        // Two processes that start at the same time.
        session
            .query(
                "SELECT pg_advisory_xact_lock(hashtextextended('pgbell creates ' || $1, 0))",
                &[Some(names.qualified())],
            )
            .await?;
        let exists = session.query("SELECT to_regclass($1)", &[Some(names.qualified())]).await?;
        if exists.get(0).is_some_and(|row| row.get(0).is_some()) {
            let found = check(session, names).await?;
            if found != payload {
                let message =
                    format!("the log {} has payloads of the type {found}", names.qualified());
                let hint = "use that type, or another name for a new log";
                return Err(Error::new(ErrorKind::Schema, message).with_hint(hint));
            }
        } else {
            session.run(&fill(include_str!("sql/create.sql"))).await?;
        }
        session.run(&fill(include_str!("sql/functions.sql"))).await?;
        let millis = |age: Duration| format!("{} milliseconds", age.as_millis());
        let max_age = settings.max_age.map(millis);
        let max_bytes = settings.max_bytes.map(|bytes| bytes.to_string());
        let update = names.fill(
            "UPDATE {settings} SET version = $1, slot_age = $2, slot_bytes = $3, max_age = $4, max_bytes = $5",
        );
        let values = [
            Some(VERSION),
            Some(&millis(settings.slot_age)),
            Some(&settings.slot_bytes.to_string()),
            max_age.as_deref(),
            max_bytes.as_deref(),
        ];
        session.query(&update, &values).await?;
        // A change of triggers waits for all writers, and all others for it: only if there is a difference.
        let trigger = names.fill(
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = '{log}'::regclass AND tgname = 'pgbell_notify'",
        );
        let found = session.query(&trigger, &[]).await?;
        let has_trigger = found.get(0).and_then(|row| row.get(0)) != Some("0");
        if has_trigger != settings.notify {
            session.run("SET LOCAL lock_timeout = '2s'").await?;
        }
        if has_trigger && !settings.notify {
            session.run(&names.fill("DROP TRIGGER pgbell_notify ON {log}")).await?;
        } else if !has_trigger && settings.notify {
            let text = include_str!("sql/notify.sql").replace("{channel}", self.channel());
            session.run(&names.fill(&text)).await?;
        }
        session.run("COMMIT").await
    }

    /// Checks the tables of the log and the rights of the role, and returns the type of the payloads.
    ///
    /// # Errors
    /// [`ErrorKind::Schema`] with all that is wrong; otherwise the error of the session or the server.
    pub async fn check(&self) -> Result<PayloadType, Error> {
        let mut session = self.session();
        let result = check(&mut session, &self.names).await;
        session.close().await;
        result
    }

    /// Returns the sizes of the log, and where its cursors are.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn status(&self) -> Result<OutboxStatus, Error> {
        let mut session = self.session();
        let result = OutboxStatus::read(&mut session, &self.names).await;
        session.close().await;
        result
    }

    /// Empties each partition that every cursor has acknowledged, or that exceeds a limit of the [settings](OutboxSettings), and begins the next
    /// partition when the current one is old or large.
    ///
    /// Cursors do that by themselves. It is needed if none of them may, or if no reader runs for a long time, and can then be called by a scheduler, also
    /// in SQL: `SELECT * FROM …_rotate()`. Partitions are truncated, so no dead rows are left. It waits at most 20 ms for each lock, and tries no further then: an open or
    /// prepared transaction that has written to a partition delays it. A transaction with an older snapshot sees an emptied partition as empty. If
    /// there is no cursor, only the limits empty a partition.
    ///
    /// # Errors
    /// The error of the session or the server.
    pub async fn rotate(&self) -> Result<Rotation, Error> {
        let mut session = self.session();
        let rows = session.query(&self.names.fill(Rotation::SQL), &[]).await;
        session.close().await;
        Rotation::from_rows(&rows?)
    }

    /// Deletes a cursor and its position. Its reader gets [`ErrorKind::Schema`]. Returns false if there was none.
    ///
    /// # Errors
    /// The error of the session or the server.
    pub async fn drop_cursor(&self, name: &str) -> Result<bool, Error> {
        let mut session = self.session();
        let sql = self.names.fill(
            "WITH gone AS (DELETE FROM {cursors} WHERE name = $1 RETURNING cursor_id),
            positions AS (DELETE FROM {acks} AS acks USING gone WHERE acks.cursor_id = gone.cursor_id)
            SELECT count(*) FROM gone",
        );
        let rows = session.query(&sql, &[Some(name)]).await;
        session.close().await;
        Ok(rows?.get(0).and_then(|row| row.get(0)) == Some("1"))
    }

    /// Deletes the log with all its records and cursors.
    ///
    /// # Errors
    /// The error of the session or the server, for example because the role is not the owner.
    pub async fn drop_log(&self) -> Result<(), Error> {
        let mut session = self.session();
        let result = session.run(&self.names.fill(include_str!("sql/drop.sql"))).await;
        session.close().await;
        result
    }

    /// Makes the positions valid after the log was copied to another cluster: by a dump and its restore, by `pg_upgrade`, or by logical replication.
    ///
    /// Each cluster assigns its own xids, so positions of another one would skip or repeat records. This call waits for all writers, and moves each
    /// cursor to its first record that was not acknowledged. **Guarantee:** no record is skipped; a record that was acknowledged can be received
    /// again, if its id is above that of one that was not. After logical replication, which copies no sequences, call it before the first record is written
    /// in the new cluster.
    ///
    /// # Errors
    /// The error of the session or the server.
    pub async fn rebase(&self) -> Result<(), Error> {
        let mut session = self.session();
        let result = session.run(&self.names.fill(include_str!("sql/rebase.sql"))).await;
        session.close().await;
        result
    }
}

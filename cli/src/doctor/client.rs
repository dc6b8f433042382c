//! [`Client`]: the session of the checks.

use std::time::Duration;

use pgbell::{Config, Connection, Error, Rows};

/// A session whose statements change nothing, end by themselves, and find only objects of the server itself.
///
/// The role of this program often has all rights. A user of the database can make functions and operators with the names of those of the server:
/// `search_path` keeps the server from choosing them. `row_security` keeps it from running the policies of a table, and the transaction is read-only.
pub(super) struct Client {
    connection: Connection,
    /// The longest time of a statement.
    limit: Duration,
}

impl Client {
    pub(super) async fn connect(config: Config, limit: Duration) -> Result<Self, Error> {
        Ok(Self { connection: Connection::connect(config).await?, limit })
    }

    /// Runs a query in a transaction of its own.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Rows, Error> {
        self.query_with(sql, &[]).await
    }

    /// Runs a query with parameters: names of the database are never a part of its text.
    pub(super) async fn query_with(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Rows, Error> {
        let millis = self.limit.as_millis();
        let begin = format!(
            "BEGIN TRANSACTION READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL row_security = off; \
             SET LOCAL lock_timeout = {millis}; SET LOCAL statement_timeout = {millis}"
        );
        self.run(&begin, sql, parameters).await
    }

    /// Runs a query that shows the settings of the session, which are not changed for it.
    pub(super) async fn query_settings(&mut self, sql: &str) -> Result<Rows, Error> {
        self.run(
            "BEGIN TRANSACTION READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp",
            sql,
            &[],
        )
        .await
    }

    async fn run(
        &mut self,
        begin: &str,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Rows, Error> {
        self.connection.simple_query(begin).await?;
        let rows = self.connection.query(sql, parameters).await;
        let end = if rows.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.connection.simple_query(end).await;
        let rows = rows?;
        ended.map(|_| rows)
    }

    /// Sends a notification on a channel of this program. A commit that waits for the lock of NOTIFY is ended by `lock_timeout` alone: without it, the
    /// server would go on after this program has ended.
    pub(super) async fn notify(&mut self, channel: &str, number: u32) -> Result<(), Error> {
        let millis = self.limit.as_millis();
        // The channel is made by this program, of letters and digits.
        let sql = format!(
            "BEGIN; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL lock_timeout = {millis}; \
             SELECT pg_catalog.pg_notify('{channel}', '{number}'); COMMIT"
        );
        let sent = self.connection.simple_query(&sql).await;
        if sent.as_ref().is_err_and(|error| error.db_error().is_some_and(|error| !error.is_fatal()))
        {
            self.connection.simple_query("ROLLBACK").await?;
        }
        sent.map(drop)
    }

    /// Returns the session itself, for what is no query.
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(super) async fn close(self) {
        self.connection.close().await;
    }
}

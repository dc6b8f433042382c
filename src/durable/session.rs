//! [`LogSession`]: a session for the queries of a log or a queue, which is opened when it is needed.

use std::time::Duration;

use tokio::time::timeout;

use super::prepared::Prepared;
use super::refusal::explained;
use crate::config::Config;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::net;
use crate::proto::session::Rows;

/// The SQLSTATE of a statement that the session does not have: a pooler has used another session, or has reset it.
const NO_STATEMENT: &str = "26000";

/// A session, or none after it was lost.
///
/// A statement that takes too long, or whose future is dropped with the session, is cancelled on the server too: otherwise it would go on there, and
/// what it does later would be unknown.
#[derive(Debug)]
pub(super) struct LogSession {
    config: Config,
    connection: Option<Connection>,
    /// The longest time of a statement. After it the session is given up.
    limit: Duration,
    usage: SessionUse,
    /// How many sessions there were.
    opened: u64,
    /// False after the server did not have a prepared statement: it is behind a pooler.
    keeps_statements: bool,
}

/// What a session is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionUse {
    /// Its name in errors.
    pub(super) name: &'static str,
    /// Gives an error of the server the kind and the hint that it has there.
    pub(super) explained: fn(Error) -> Error,
}

const LOG: SessionUse = SessionUse { name: "log", explained };

impl LogSession {
    pub(super) fn new(config: Config, limit: Duration) -> Self {
        Self::with_use(config, limit, LOG)
    }

    pub(super) fn with_use(config: Config, limit: Duration, usage: SessionUse) -> Self {
        Self { config, connection: None, limit, usage, opened: 0, keeps_statements: true }
    }

    /// Gives the session up, if there is one, without waiting for its server.
    pub(super) fn discard(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.abandon();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Opens a session, if there is none.
    pub(super) async fn open(&mut self) -> Result<&mut Connection, Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connecting = Connection::connect_to_primary(self.config.clone());
                let connection = connecting.await.map_err(self.usage.explained)?;
                self.opened += 1;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Runs one statement.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Rows, Error> {
        let (limit, name) = (self.limit, self.usage.name);
        let connection = self.open().await?;
        let answer = timeout(limit, connection.query(sql, parameters)).await;
        self.checked(answer.unwrap_or_else(|_| Err(too_slow(name, limit))))
    }

    /// Runs a statement that is used often: the server keeps it for a time. Outside a transaction only.
    pub(super) async fn execute(
        &mut self,
        statement: &mut Prepared,
        parameters: &[Option<&str>],
    ) -> Result<Rows, Error> {
        while self.keeps_statements {
            let (limit, name) = (self.limit, self.usage.name);
            self.open().await?;
            let (number, now) = (self.opened, net::now());
            let is_kept = statement.is_kept(number, now);
            let sql = Some(statement.sql()).filter(|_| !is_kept);
            let connection = self.open().await?;
            let running = connection.query_prepared(statement.name(), sql, parameters);
            let answer = timeout(limit, running).await;
            let answer = answer.unwrap_or_else(|_| Err(too_slow(name, limit)));
            match &answer {
                Ok(_) if is_kept => {}
                Ok(_) => statement.keep(number, now),
                Err(error) => {
                    statement.forget();
                    if is_kept && error.sqlstate() == Some(NO_STATEMENT) {
                        // It has had no effect.
                        self.keeps_statements = false;
                        continue;
                    }
                }
            }
            return self.checked(answer);
        }
        self.query(statement.sql(), parameters).await
    }

    /// Runs several statements without parameters: all of them or none, if there is no transaction.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Error> {
        let (limit, name) = (self.limit, self.usage.name);
        let connection = self.open().await?;
        let answer = timeout(limit, connection.simple_query(sql)).await;
        self.checked(answer.unwrap_or_else(|_| Err(too_slow(name, limit)))).map(drop)
    }

    /// Gives the session up after an error that is not that of a statement.
    fn checked<T>(&mut self, answer: Result<T, Error>) -> Result<T, Error> {
        answer.map_err(|error| {
            let is_of_statement = error.db_error().is_some_and(|error| !error.is_fatal())
                || matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Misuse);
            if !is_of_statement || error.kind() == ErrorKind::InDoubt {
                self.discard();
            }
            (self.usage.explained)(error)
        })
    }

    /// Ends the session with Terminate. If a statement whose future was dropped is still being executed, it is cancelled: the server would read Terminate
    /// after it.
    pub(super) async fn close(&mut self) {
        match self.connection.take() {
            Some(connection) if connection.is_executing() => connection.abandon(),
            Some(connection) => connection.close().await,
            None => {}
        }
    }
}

impl Drop for LogSession {
    fn drop(&mut self) {
        self.discard();
    }
}

#[cold]
fn too_slow(name: &str, limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("a statement of a {name} took longer than {limit:?}"))
}

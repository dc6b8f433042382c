//! [`LogSession`]: a session for the queries of a log or a queue, which is opened when it is needed.

use std::time::Duration;

use tokio::time::timeout;

use super::refusal::explained;
use crate::config::Config;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::proto::session::Rows;

/// A session, or none after it was lost.
#[derive(Debug)]
pub(super) struct LogSession {
    config: Config,
    connection: Option<Connection>,
    /// The longest time of a statement. After it the session is given up.
    limit: Duration,
    usage: SessionUse,
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
        Self { config, connection: None, limit, usage }
    }

    /// Gives the session up, if there is one, without waiting for its server.
    pub(super) fn discard(&mut self) {
        self.connection = None;
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
                connecting.await.map_err(self.usage.explained)?
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
                self.connection = None;
            }
            (self.usage.explained)(error)
        })
    }

    /// Ends the session with Terminate.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }
}

#[cold]
fn too_slow(name: &str, limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("a statement of a {name} took longer than {limit:?}"))
}

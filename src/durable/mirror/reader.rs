//! [`Reader`]: the statements of a mirror, one after the other in one session.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::refusal::{self, explained};
use super::source::{CURSOR, Statements};
use crate::config::Config;
use crate::durable::array;
use crate::durable::session::{LogSession, SessionUse};
use crate::error::{Error, ErrorKind};
use crate::proto::session::Rows;

/// The highest number of rows of one FETCH.
const FETCH_ROWS_MAX: usize = 10_000;

/// The number of rows of the first FETCH, from whose size that of the next ones follows.
const FETCH_ROWS_FIRST: usize = 1_000;

/// The bytes of values that one FETCH should return: 4 MiB.
const FETCH_BYTES: usize = 4 * 1024 * 1024;

/// The setting makes the server plan for all rows, and not for the first tenth of them.
const BEGIN: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL cursor_tuple_fraction = 1";

/// The highest number of keys that are not valid for which a read looks. Each takes up to 20 statements. The keys after them wait for the load.
const INVALID_MAX: usize = 32;

/// The rows of some keys.
#[derive(Debug)]
pub(super) struct Refreshed {
    pub(super) answers: Vec<Rows>,
    /// The keys that were read.
    pub(super) keys: BTreeSet<String>,
    pub(super) invalid: Invalid,
}

/// Keys that are not valid: the type of the key column does not have such a value.
#[derive(Debug, Default)]
pub(super) struct Invalid {
    pub(super) count: usize,
    /// The error of the first one.
    pub(super) error: Option<Error>,
}

#[derive(Debug)]
pub(super) struct Reader {
    session: LogSession,
    statements: Statements,
    fetch_rows: usize,
    fetch_bytes: usize,
    /// The last load failed because a result was too large.
    is_oversize: bool,
}

impl Reader {
    pub(super) fn new(config: Config, limit: Duration, statements: Statements) -> Self {
        let session = LogSession::with_use(config, limit, SessionUse { name: "mirror", explained });
        Self {
            session,
            statements,
            fetch_rows: FETCH_ROWS_FIRST,
            fetch_bytes: FETCH_BYTES,
            is_oversize: false,
        }
    }

    /// Reads all rows, in one transaction, and passes each part of them to `add`, which returns their bytes.
    pub(super) async fn load(
        &mut self,
        mut add: impl FnMut(&Rows) -> Result<usize, Error>,
    ) -> Result<(), Error> {
        let result = self.fetch(&mut add).await;
        // After a lost session there is no transaction.
        if self.session.is_open() {
            let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
            if self.session.run(end).await.is_err() {
                self.session.discard();
            }
        }
        match result {
            Ok(()) => Ok(()),
            Err(error) => Err(self.judged(error).await),
        }
    }

    async fn fetch(
        &mut self,
        add: &mut impl FnMut(&Rows) -> Result<usize, Error>,
    ) -> Result<(), Error> {
        self.session.run(BEGIN).await?;
        self.session.query(&self.statements.declare, &[]).await?;
        let mut asked = self.fetch_rows;
        let answer = self.session.query(&fetch_sql(asked), &[]).await;
        let mut rows = answer.inspect_err(|error| self.is_oversize = is_too_large(error))?;
        while rows.len() >= asked {
            let asked_before = mem::replace(&mut asked, self.fetch_rows);
            let sql = fetch_sql(asked);
            let mut next = pin!(self.session.query(&sql, &[]));
            // Polled once, it is sent: the server makes the next rows while these are added.
            let early = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
            let added = add(&rows);
            let answer = match early {
                Poll::Ready(answer) => answer,
                Poll::Pending => next.await,
            };
            let fitting = self.fetch_bytes.saturating_mul(asked_before) / added?.max(1);
            self.fetch_rows = fitting.clamp(1, FETCH_ROWS_MAX);
            rows = answer.inspect_err(|error| self.is_oversize = is_too_large(error))?;
        }
        // Large parts may be tried again.
        self.fetch_bytes = self.fetch_bytes.saturating_mul(2).min(FETCH_BYTES);
        add(&rows).map(drop)
    }

    /// Returns whether a load that has failed can be repeated with less rows at a time, because a result was too large.
    pub(super) fn fetches_less(&mut self) -> bool {
        let is_less = mem::take(&mut self.is_oversize) && self.fetch_rows > 1;
        if is_less {
            self.fetch_rows = (self.fetch_rows / 4).max(1);
            self.fetch_bytes /= 4;
        }
        is_less
    }

    /// Reads the rows of some keys. Those that the type of the key column does not have are left out.
    pub(super) async fn refresh(&mut self, keys: BTreeSet<String>) -> Result<Refreshed, Error> {
        match self.refreshed(keys).await {
            Ok(refreshed) => Ok(refreshed),
            Err(error) => Err(self.judged(error).await),
        }
    }

    async fn refreshed(&mut self, mut keys: BTreeSet<String>) -> Result<Refreshed, Error> {
        let error = match self.rows(&keys).await {
            Ok(answers) => return Ok(Refreshed { answers, keys, invalid: Invalid::default() }),
            Err(error) if refusal::may_be_of_keys(&error) => error,
            Err(error) => return Err(error),
        };
        let (unread, invalid) = self.invalid(&keys).await?;
        if invalid.count == 0 {
            // An expression of the source has no value for one of the rows.
            return Err(error);
        }
        keys.retain(|key| !unread.contains(key));
        let answers = if keys.is_empty() { Vec::new() } else { self.rows(&keys).await? };
        Ok(Refreshed { answers, keys, invalid })
    }

    /// Reads the rows of some keys. If they are too large for one result, there are several.
    async fn rows(&mut self, keys: &BTreeSet<String>) -> Result<Vec<Rows>, Error> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (mut parts, mut answers) = (vec![&keys[..]], Vec::new());
        while let Some(part) = parts.pop() {
            let array = array::texts(part.iter().copied());
            match self.session.query(&self.statements.refresh, &[Some(&array)]).await {
                Ok(rows) => answers.push(rows),
                Err(error) if is_too_large(&error) && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    /// Looks for the keys that are not valid, by halves. Returns the keys that are not to be read: those, and, after many of them, the rest.
    async fn invalid(
        &mut self,
        keys: &BTreeSet<String>,
    ) -> Result<(BTreeSet<String>, Invalid), Error> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (mut parts, mut unread, mut invalid) =
            (vec![&keys[..]], BTreeSet::new(), Invalid::default());
        while let Some(part) = parts.pop() {
            if invalid.count >= INVALID_MAX {
                unread.extend(part.iter().map(|&key| key.to_owned()));
                continue;
            }
            match self.server_texts(part).await {
                Ok(_) => {}
                Err(error) if !refusal::may_be_of_keys(&error) => return Err(error),
                Err(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) => {
                    unread.extend(part.iter().map(|&key| key.to_owned()));
                    invalid.count += 1;
                    invalid.error.get_or_insert(error);
                }
            }
        }
        Ok((unread, invalid))
    }

    /// Returns these keys as the server writes them: `07` of an integer is `7`. A domain can refuse one that the refresh has compared.
    pub(super) async fn canonical(
        &mut self,
        keys: BTreeSet<String>,
    ) -> Result<(Vec<String>, Invalid), Error> {
        let all: Vec<&str> = keys.iter().map(String::as_str).collect();
        match self.server_texts(&all).await {
            Err(error) if refusal::may_be_of_keys(&error) => {}
            texts => return Ok((texts?, Invalid::default())),
        }
        let (unread, invalid) = self.invalid(&keys).await?;
        let valid: Vec<_> = keys.difference(&unread).map(String::as_str).collect();
        let texts = self.server_texts(&valid).await?;
        Ok((texts, invalid))
    }

    async fn server_texts(&mut self, keys: &[&str]) -> Result<Vec<String>, Error> {
        let array = array::texts(keys.iter().copied());
        let rows = self.session.query(&self.statements.canonical, &[Some(&array)]).await?;
        Ok(rows.iter().filter_map(|row| row.get(0)).map(str::to_owned).collect())
    }

    /// Returns an error of the server with the kind and the hint that it has for a user of a mirror. Code of the database that the source uses, such as a
    /// function that a view calls, can have the same errors as a source that does not exist: so it is checked whether the source can be parsed.
    async fn judged(&mut self, error: Error) -> Error {
        if !refusal::may_be_of_source(&error) || !self.session.is_open() {
            return error;
        }
        match self.session.run(&self.statements.check).await {
            Ok(()) => refusal::of_inner_code(error),
            Err(found) if refusal::may_be_of_source(&found) => refusal::of_source(found),
            // It is not known. If it stays, the next read has the same error.
            Err(_) => error,
        }
    }

    /// Lets the next read open another session.
    pub(super) fn reopen(&mut self) {
        self.session.discard();
    }

    /// Ends the session with Terminate.
    pub(super) async fn close(&mut self) {
        self.session.close().await;
    }
}

fn fetch_sql(rows: usize) -> String {
    format!("FETCH {rows} FROM {CURSOR}")
}

fn is_too_large(error: &Error) -> bool {
    error.kind() == ErrorKind::Unsupported && error.db_error().is_none()
}

//! [`ServerCursor`]: the queries of a cursor, and how it waits.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::batch::Receipt;
use super::names::Names;
use super::page::{Newest, Page};
use super::position::Position;
use super::refusal::{malformed, no_cursor, wrong_cluster};
use super::rotation::Rotation;
use super::session::LogSession;
use crate::error::{Error, ErrorKind};
use crate::proto::session::Rows;
use crate::wakeups::{WakeWorker, Wakeups};

/// How many times the limit of a page is divided by four because its result is too large.
const DIVISIONS_MAX: u32 = 16;

/// After how many pages a larger one is tried again.
const DIVIDED_PAGES: u32 = 16;

/// The texts of the statements, with the names of the tables.
#[derive(Debug)]
struct Statements {
    read: String,
    position: String,
    ack: String,
    rotate: String,
    renew: String,
    release: String,
    identity: String,
}

/// The part of a cursor that speaks with a server.
#[derive(Debug)]
pub(super) struct ServerCursor {
    pub(super) id: i64,
    session: LogSession,
    statements: Statements,
    worker: WakeWorker,
    /// `None` if the user has given the worker.
    wakeups: Option<Wakeups>,
    interval: Duration,
    lease: Duration,
    renewed: Instant,
    /// How many times the limit is divided by four at the moment, because a result was too large.
    division: u32,
    /// The pages that were read with this division.
    divided_pages: u32,
}

/// How a cursor waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) worker: WakeWorker,
    pub(super) wakeups: Option<Wakeups>,
    pub(super) interval: Duration,
    pub(super) lease: Duration,
    /// When the lease began.
    pub(super) renewed: Instant,
}

impl ServerCursor {
    pub(super) fn new(names: &Names, id: i64, session: LogSession, waiting: Waiting) -> Self {
        let read = "SELECT * FROM {read}($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let renew = "UPDATE {cursors} SET leased_until = clock_timestamp() + lease WHERE cursor_id = $1 AND token = $2";
        let release = "UPDATE {cursors} SET leased_until = NULL, holder = NULL WHERE cursor_id = $1 AND token = $2";
        let statements = Statements {
            read: names.fill(read),
            position: names.fill("SELECT text FROM {positions} WHERE cursor_id = $1"),
            ack: names.fill("SELECT {ack}($1)"),
            rotate: names.fill(Rotation::SQL),
            renew: names.fill(renew),
            release: names.fill(release),
            identity: names.fill(include_str!("sql/identity.sql")),
        };
        let Waiting { worker, wakeups, interval, lease, renewed } = waiting;
        Self {
            id,
            session,
            statements,
            worker,
            wakeups,
            interval,
            lease,
            renewed,
            division: 0,
            divided_pages: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.session.is_open()
    }

    /// Runs a statement, after the cluster of a new session was checked.
    async fn query(&mut self, sql: Sql, parameters: &[Option<&str>]) -> Result<Rows, Error> {
        if !self.session.is_open() {
            let found = self.session.query(&self.statements.identity, &[]).await?;
            if found.get(0).and_then(|row| row.get(0)) != Some("t") {
                // The next call asks again.
                self.session.close().await;
                return Err(wrong_cluster());
            }
        }
        let sql = match sql {
            Sql::Read => &self.statements.read,
            Sql::Position => &self.statements.position,
            Sql::Ack => &self.statements.ack,
            Sql::Rotate => &self.statements.rotate,
            Sql::Renew => &self.statements.renew,
            Sql::Release => &self.statements.release,
        };
        self.session.query(sql, parameters).await
    }

    /// Reads a page, and renews the lease if a third of it has passed.
    pub(super) async fn read(
        &mut self,
        token: i64,
        place: &Position,
        limit: usize,
    ) -> Result<(Page, usize), Error> {
        loop {
            let limit = (limit >> (2 * self.division.min(DIVISIONS_MAX))).max(1);
            match self.read_up_to(token, place, limit).await {
                // The statement has only read.
                Err(error) if error.kind() == ErrorKind::Unsupported && limit > 1 => {
                    (self.division, self.divided_pages) = (self.division.saturating_add(1), 0);
                }
                Ok(page) => {
                    self.divided_pages += 1;
                    if self.divided_pages >= DIVIDED_PAGES {
                        (self.division, self.divided_pages) = (self.division.saturating_sub(1), 0);
                    }
                    return Ok((page, limit));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_up_to(
        &mut self,
        token: i64,
        place: &Position,
        limit: usize,
    ) -> Result<Page, Error> {
        let renews = self.renewed.elapsed() >= self.lease / 3;
        let begun = Instant::now();
        let place_text = place.to_string();
        let mut fields =
            place_text.split(' ').map(|field| Some(field).filter(|field| *field != "-"));
        let mut field = || fields.next().flatten();
        let (id, token, limit_text) = (self.id.to_string(), token.to_string(), limit.to_string());
        let parameters = [
            Some(id.as_str()),
            Some(&token),
            Some(if renews { "t" } else { "f" }),
            Some(&limit_text),
            field(),
            field(),
            field(),
            field(),
            field(),
            field(),
            field(),
        ];
        let rows = self.query(Sql::Read, &parameters).await?;
        if renews {
            self.renewed = begun;
        }
        Page::from_rows(rows, place, limit)?.ok_or_else(no_cursor)
    }

    pub(super) async fn ack(&mut self, receipt: &Receipt) -> Result<(), Error> {
        self.query(Sql::Ack, &[Some(&receipt.to_string())]).await.map(drop)
    }

    pub(super) async fn renew(&mut self, token: i64) -> Result<bool, Error> {
        let begun = Instant::now();
        let (id, token_text) = (self.id.to_string(), token.to_string());
        let rows = self.query(Sql::Renew, &[Some(&id), Some(&token_text)]).await?;
        if rows.rows_affected() != Some(1) {
            // It was deleted, or another reader has it.
            self.position().await?;
            return Ok(false);
        }
        self.renewed = begun;
        Ok(true)
    }

    pub(super) async fn rotate(&mut self) -> Result<Rotation, Error> {
        Rotation::from_rows(&self.query(Sql::Rotate, &[]).await?)
    }

    /// Returns the stored position.
    pub(super) async fn position(&mut self) -> Result<Newest, Error> {
        let rows = self.query(Sql::Position, &[Some(&self.id.to_string())]).await?;
        let row = rows.get(0).ok_or_else(no_cursor)?;
        row.get(0).and_then(Newest::parse).ok_or_else(malformed)
    }

    /// Waits for a wake-up, or for the interval.
    pub(super) async fn wait(&mut self) {
        if !self.worker.changed().await {
            // The wake-ups of the user are closed.
            sleep(self.interval).await;
        }
    }

    /// Ends the lease, if there is a session.
    pub(super) async fn release(&mut self, token: i64) {
        if self.session.is_open() {
            let (id, token) = (self.id.to_string(), token.to_string());
            // If it fails, the lease ends by itself.
            let _ = self.query(Sql::Release, &[Some(&id), Some(&token)]).await;
        }
    }

    pub(super) async fn close(mut self) {
        self.session.close().await;
        if let Some(wakeups) = self.wakeups.take() {
            wakeups.close().await;
        }
    }
}

/// A statement of a cursor.
#[derive(Debug, Clone, Copy)]
enum Sql {
    Read,
    Position,
    Ack,
    Rotate,
    Renew,
    Release,
}

//! [`JobStore`]: the statements of a consumer.

use std::time::Duration;

use super::machine::{Answer, Claim, Command};
use super::message::{MESSAGE_COLUMNS, Message};
use super::queue::{
    QUEUE_SQL, Queue, THROTTLE_SQL, channel_of_table, ids, quantity, read_sql, seconds, throttle,
};
use super::refusal::{explained, missing_queue, missing_rights};
use super::settings::{Finish, TIME_MAX};
use super::telemetry;
use super::version::{VERSION_SQL, Version};
use crate::config::Config;
use crate::durable::array;
use crate::durable::prepared::Prepared;
use crate::durable::refusal::malformed;
use crate::durable::session::{LogSession, SessionUse};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Row, Rows};
use crate::proto::wire::quote_identifier;

/// The throttle of pgmq, if the role may not read it.
const THROTTLE: Duration = Duration::from_millis(250);

/// How many times the quantity of a read is divided by four because its result is too large.
const DIVISIONS_MAX: u32 = 16;

/// A session, and the statements for a queue.
#[derive(Debug)]
pub(super) struct JobStore {
    session: LogSession,
    queue: Queue,
    visibility: String,
    finish: Finish,
    dead_letter: Option<Queue>,
    /// `None` before the first session.
    statements: Option<Statements>,
    /// That of the notifications of the queue, as it was when the session began.
    throttle: Option<Duration>,
    /// How many more reads are smaller, because a result was too large.
    division: u32,
}

/// The texts of the statements, with the name of the table of the queue.
#[derive(Debug)]
struct Statements {
    table: String,
    read: Prepared,
    set_visibility: Prepared,
    release: Prepared,
    finish: Prepared,
    finish_and_read: Prepared,
    bury: Prepared,
    find: Prepared,
}

impl JobStore {
    pub(super) fn new(
        config: Config,
        limit: Duration,
        queue: Queue,
        visibility: Duration,
        finish: Finish,
        dead_letter: Option<Queue>,
    ) -> Self {
        let usage = SessionUse { name: "queue", explained };
        Self {
            session: LogSession::with_use(config, limit, usage),
            queue,
            visibility: seconds(visibility),
            finish,
            dead_letter,
            statements: None,
            throttle: None,
            division: 0,
        }
    }

    /// Opens a session, if there is none, and checks pgmq and the queues.
    pub(super) async fn open(&mut self) -> Result<(), Error> {
        if self.session.is_open() && self.statements.is_some() {
            return Ok(());
        }
        let result = self.check().await;
        if result.is_err() {
            // The next session is checked again.
            self.session.close().await;
        }
        result
    }

    async fn check(&mut self) -> Result<(), Error> {
        let version = Version::from_rows(&self.session.query(VERSION_SQL, &[]).await?)?;
        if let Some(dead_letter) = self.dead_letter.clone() {
            self.table(&dead_letter).await?;
        }
        let (table, is_notified) = self.table(&self.queue.clone()).await?;
        self.throttle = match is_notified && version.has_throttle() {
            true => self.stored_throttle(&table).await?,
            false => None,
        };
        self.statements = Some(Statements::new(table, self.finish, self.dead_letter.is_some()));
        Ok(())
    }

    /// Checks a queue. Returns the name of its table, and whether pgmq sends notifications for it.
    async fn table(&mut self, queue: &Queue) -> Result<(String, bool), Error> {
        let rows = self.session.query(QUEUE_SQL, &[Some(queue.name())]).await?;
        let row = rows.get(0).ok_or_else(malformed)?;
        if row.get(1) != Some("t") {
            return Err(missing_queue(queue.name()));
        }
        if let Some(rights) = row.get(2).filter(|rights| !rights.is_empty()) {
            return Err(missing_rights(queue.name(), rights));
        }
        Ok((row.get(0).ok_or_else(malformed)?.to_owned(), row.get(3) == Some("t")))
    }

    async fn stored_throttle(&mut self, table: &str) -> Result<Option<Duration>, Error> {
        match self.session.query(THROTTLE_SQL, &[Some(table)]).await {
            Ok(rows) => {
                let found = throttle(&rows);
                if found.is_none() {
                    telemetry::not_notified(self.queue.name());
                }
                Ok(found.filter(|throttle| !throttle.is_zero()))
            }
            Err(error) if error.sqlstate() == Some("42501") => Ok(Some(THROTTLE)),
            Err(error) => Err(error),
        }
    }

    pub(super) fn throttle(&self) -> Option<Duration> {
        self.throttle
    }

    /// Returns the channel of pgmq's notifications, if LISTEN takes it: lower case can be longer than what it is made of.
    pub(super) fn channel(&self) -> Option<String> {
        let table = &self.statements.as_ref()?.table;
        Some(channel_of_table(table)).filter(|channel| channel.len() <= 63)
    }

    pub(super) async fn execute(&mut self, command: &Command) -> Result<Answer, Error> {
        self.open().await?;
        match command {
            Command::Read(limit) => self.read(*limit).await,
            Command::SetVisibility(jobs) => {
                let millis =
                    array::numbers(jobs.iter().map(|(_, time)| time.min(&TIME_MAX).as_millis()));
                let (msg_ids, attempts) = claims(jobs.iter().map(|(claim, _)| claim));
                let sql = &mut self.statements.as_mut().ok_or_else(malformed)?.set_visibility;
                let parameters = [Some(&*msg_ids), Some(&attempts), Some(&millis)];
                changed(self.session.execute(sql, &parameters).await)
            }
            Command::Release(jobs) => {
                let (msg_ids, attempts) = claims(jobs);
                let sql = &mut self.statements.as_mut().ok_or_else(malformed)?.release;
                changed(self.session.execute(sql, &[Some(&*msg_ids), Some(&attempts)]).await)
            }
            Command::Finish(jobs) => {
                let (msg_ids, attempts) = claims(jobs);
                let sql = &mut self.statements.as_mut().ok_or_else(malformed)?.finish;
                let parameters = [Some(&*msg_ids), Some(&attempts), Some(self.queue.name())];
                changed(self.session.execute(sql, &parameters).await)
            }
            Command::FinishAndRead(jobs, limit) => self.finish_and_read(jobs, *limit).await,
            Command::Find(msg_ids) => {
                let sql = &mut self.statements.as_mut().ok_or_else(malformed)?.find;
                let msg_ids = array::numbers(msg_ids);
                changed(self.session.execute(sql, &[Some(&*msg_ids)]).await)
            }
            Command::Bury(jobs) => {
                let reasons = array::texts(jobs.iter().map(|(_, reason)| &**reason));
                let (msg_ids, attempts) = claims(jobs.iter().map(|(claim, _)| claim));
                let sql = &mut self.statements.as_mut().ok_or_else(malformed)?.bury;
                let queue = Some(self.queue.name());
                let mut parameters = vec![Some(&*msg_ids), Some(&attempts), queue];
                if let Some(dead_letter) = &self.dead_letter {
                    parameters.extend([Some(&*reasons), Some(dead_letter.name())]);
                }
                changed(self.session.execute(sql, &parameters).await)
            }
        }
    }

    async fn read(&mut self, limit: usize) -> Result<Answer, Error> {
        let limit = self.divided(limit);
        let sql = &mut self.statements.as_mut().ok_or_else(malformed)?.read;
        let text = quantity(limit);
        let parameters = [Some(self.queue.name()), Some(&self.visibility), Some(&text)];
        let answer = self.session.execute(sql, &parameters).await;
        let messages = Message::from_rows(&self.checked_size(answer)?)?;
        Ok(Answer::Read { is_full: messages.len() >= limit, messages })
    }

    async fn finish_and_read(&mut self, jobs: &[Claim], limit: usize) -> Result<Answer, Error> {
        let limit = self.divided(limit);
        let sql = &mut self.statements.as_mut().ok_or_else(malformed)?.finish_and_read;
        let ((msg_ids, attempts), text) = (claims(jobs), quantity(limit));
        let name = Some(self.queue.name());
        let parameters =
            [Some(&*msg_ids), Some(&attempts), name, Some(&self.visibility), Some(&text)];
        let answer = self.session.execute(sql, &parameters).await;
        let rows = self.checked_size(answer)?;
        // The ids of those that are finished have no other value.
        let is_message = |row: &Row<'_>| row.get(1).is_some();
        let changed =
            rows.iter().filter(|row| !is_message(row)).map(|row| row.get(0)?.parse().ok());
        let changed = changed.collect::<Option<_>>().ok_or_else(malformed)?;
        let messages = Message::from_each(rows.iter().filter(is_message))?;
        Ok(Answer::FinishedAndRead { changed, is_full: messages.len() >= limit, messages })
    }

    /// Returns how many messages are read, if results were too large.
    fn divided(&self, limit: usize) -> usize {
        (limit >> (2 * self.division.min(DIVISIONS_MAX))).max(1)
    }

    /// Lets the next reads be smaller if a result was too large. Those that were read are visible again after their timeout.
    fn checked_size(&mut self, answer: Result<Rows, Error>) -> Result<Rows, Error> {
        self.division = match &answer {
            Ok(_) => self.division.saturating_sub(1),
            Err(error) if error.kind() == ErrorKind::Unsupported => self.division.saturating_add(1),
            Err(_) => self.division,
        };
        answer
    }

    pub(super) async fn close(&mut self) {
        self.session.close().await;
    }
}

impl Statements {
    fn new(table: String, finish: Finish, has_dead_letter: bool) -> Self {
        let mut name = String::from("pgmq.");
        quote_identifier(&table, &mut name);
        let jobs = "ROWS FROM (pg_catalog.unnest($1::bigint[]), pg_catalog.unnest($2::integer[])";
        let is_held = "queue.msg_id = job.msg_id AND queue.read_ct = job.attempt";
        let set_visibility = format!(
            "UPDATE {name} AS queue SET vt = pg_catalog.clock_timestamp() + job.millis * interval '1 millisecond' \
             FROM {jobs}, pg_catalog.unnest($3::bigint[])) AS job (msg_id, attempt, millis) WHERE {is_held} RETURNING queue.msg_id"
        );
        let release = format!(
            "UPDATE {name} AS queue SET vt = pg_catalog.clock_timestamp(), read_ct = queue.read_ct - 1 \
             FROM {jobs}) AS job (msg_id, attempt) WHERE {is_held} RETURNING queue.msg_id"
        );
        let held = |columns: &str, more: &str, alias: &str| {
            format!(
                "held AS MATERIALIZED (SELECT queue.msg_id{columns} FROM {name} AS queue \
                 JOIN {jobs}{more}) AS job (msg_id, attempt{alias}) ON {is_held} ORDER BY queue.msg_id FOR UPDATE OF queue)"
            )
        };
        let end = |function: &str, from: &str| {
            format!(
                "SELECT done.msg_id FROM (SELECT pg_catalog.array_agg(msg_id) AS msg_ids FROM {from}) AS jobs, \
                 LATERAL pgmq.{function}($3::text, jobs.msg_ids) AS done (msg_id)"
            )
        };
        let function = match finish {
            Finish::Archive => "archive",
            Finish::Delete => "delete",
        };
        // The quantity depends on what is finished, so the server finishes first.
        let finish_and_read = format!(
            "WITH {}, finished AS MATERIALIZED ({}) \
             SELECT msg_id, NULL::integer, NULL::bigint, NULL::bigint, NULL::text, NULL::text FROM finished UNION ALL \
             (SELECT {MESSAGE_COLUMNS} FROM pgmq.read($3::text, $4::integer, $5::integer + 0 * (SELECT pg_catalog.count(*) FROM finished)::integer) \
             ORDER BY msg_id)",
            held("", "", ""),
            end(function, "held")
        );
        let finish = format!("WITH {} {}", held("", "", ""), end(function, "held"));
        let bury = match has_dead_letter {
            // Without another queue the archive is the only place where it is left.
            false => format!("WITH {} {}", held("", "", ""), end("archive", "held")),
            true => format!(
                "WITH {}, sent AS MATERIALIZED (SELECT msg_id, pgmq.send($5::text, pg_catalog.jsonb_build_object(\
                 'queue', $3::text, 'msg_id', msg_id, 'attempts', read_ct, 'reason', reason, \
                 'enqueued_at', enqueued_at, 'message', message, 'headers', headers), 0) FROM held) {}",
                held(
                    ", queue.read_ct, queue.enqueued_at, queue.message, queue.headers, job.reason",
                    ", pg_catalog.unnest($4::text[])",
                    ", reason"
                ),
                end(function, "sent")
            ),
        };
        let find = format!("SELECT msg_id FROM {name} WHERE msg_id = ANY ($1::bigint[])");
        Self {
            table,
            read: Prepared::new(read_sql()),
            set_visibility: Prepared::new(set_visibility),
            release: Prepared::new(release),
            finish: Prepared::new(finish),
            finish_and_read: Prepared::new(finish_and_read),
            bury: Prepared::new(bury),
            find: Prepared::new(find),
        }
    }
}

/// Writes the ids and the attempts as two arrays.
fn claims<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> (String, String) {
    let claims: Vec<_> = claims.into_iter().collect();
    let msg_ids = array::numbers(claims.iter().map(|claim| claim.msg_id));
    (msg_ids, array::numbers(claims.iter().map(|claim| claim.attempt)))
}

fn changed(rows: Result<Rows, Error>) -> Result<Answer, Error> {
    Ok(Answer::Changed(ids(&rows?)?))
}

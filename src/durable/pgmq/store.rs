//! [`JobStore`]: the statements of a consumer.

use std::time::Duration;

use super::fate::Fates;
use super::found::Found;
use super::machine::{Answer, Claim, Command};
use super::message::MESSAGE_COLUMNS;
use super::queue::{QUEUE_SQL, Queue, THROTTLE_SQL, channel_of_table, quantity, seconds, throttle};
use super::refusal::{explained, missing_dead_letter_rights, missing_queue, missing_rights};
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

/// The statement that checks a dead-letter queue. It returns whether it exists, and the rights that the role lacks to send to it.
const DEAD_LETTER_SQL: &str = include_str!("sql/dead_letter.sql");

/// The throttle of pgmq, if the role may not read it.
const THROTTLE: Duration = Duration::from_millis(250);

/// How many times the quantity of a read is divided by four because its result is too large.
const DIVISIONS_MAX: u32 = 16;

/// After how many full reads a larger one is tried again.
const DIVIDED_READS: u32 = 16;

/// The part of the limit of a result that is left for the columns and for what a statement returns of finished jobs: an eighth, which is 8 KiB of
/// the least limit.
const RESULT_RESERVE: u64 = 8;

/// What a message needs in a result besides its data: the text of its numbers, and the places of its values.
const ROW_BYTES: u64 = 256;

/// The longest name of a channel.
const CHANNEL_BYTES_MAX: usize = 63;

/// The least limit of a result: `Config::result_limit_bytes`.
const RESULT_BYTES_MIN: usize = 64 * 1024;

/// The longest wait of a send to the dead-letter queue for a lock, in milliseconds: that of its table, or of a row that the trigger for notifications
/// updates. The other jobs of the consumer wait too.
const LOCK_MILLIS: u64 = 500;

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
    /// That of the notifications of the queue, as it was at the last poll, or when the session began.
    throttle: Option<Duration>,
    /// It is read again before the next read.
    is_throttle_old: bool,
    has_throttle: bool,
    /// pgmq sends notifications.
    is_notified: bool,
    /// That it sends none was logged.
    is_unannounced: bool,
    /// The bytes of messages that fit into a result.
    limit: u64,
    /// How many times the quantity of a read is divided by four at the moment, because not all messages fitted into a result.
    division: u32,
    /// The full reads with this division.
    divided_reads: u32,
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
    look_ahead: Prepared,
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
        let bytes = config.effective().result_limit_bytes().max(RESULT_BYTES_MIN) as u64;
        Self {
            session: LogSession::with_use(config, limit, usage),
            queue,
            visibility: seconds(visibility),
            finish,
            dead_letter,
            statements: None,
            throttle: None,
            is_throttle_old: false,
            has_throttle: false,
            is_notified: false,
            is_unannounced: false,
            limit: bytes - bytes / RESULT_RESERVE,
            division: 0,
            divided_reads: 0,
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
        // Later a dead-letter queue that was dropped or refuses is no reason to handle no more jobs.
        if let Some(dead_letter) = self.dead_letter.clone()
            && self.statements.is_none()
        {
            self.check_dead_letter(&dead_letter).await?;
        }
        let (table, is_notified, is_sent_as_stored) = self.table(&self.queue.clone()).await?;
        self.has_throttle = version.has_throttle();
        self.find_throttle(is_notified, &table).await?;
        let size = Size { limit: self.limit, is_sent_as_stored };
        self.statements =
            Some(Statements::new(table, self.finish, self.dead_letter.is_some(), size));
        Ok(())
    }

    /// Checks that the role can send to the dead-letter queue.
    async fn check_dead_letter(&mut self, queue: &Queue) -> Result<(), Error> {
        let rows = self.session.query(DEAD_LETTER_SQL, &[Some(queue.name())]).await?;
        let row = rows.get(0).ok_or_else(malformed)?;
        match (row.get(0), row.get(1)) {
            (Some("t"), None | Some("")) => Ok(()),
            (Some("t"), Some(rights)) => Err(missing_dead_letter_rights(queue.name(), rights)),
            _ => Err(missing_queue(queue.name())),
        }
    }

    /// Checks a queue. Returns the name of its table, whether pgmq sends notifications for it, and whether texts are sent as they are stored.
    async fn table(&mut self, queue: &Queue) -> Result<(String, bool, bool), Error> {
        let rows = self.session.query(QUEUE_SQL, &[Some(queue.name())]).await?;
        let row = rows.get(0).ok_or_else(malformed)?;
        if row.get(1) != Some("t") {
            return Err(missing_queue(queue.name()));
        }
        if let Some(rights) = row.get(2).filter(|rights| !rights.is_empty()) {
            return Err(missing_rights(queue.name(), rights));
        }
        let table = row.get(0).ok_or_else(malformed)?.to_owned();
        Ok((table, row.get(3) == Some("t"), row.get(4) == Some("t")))
    }

    /// Finds out whether pgmq sends notifications, and their throttle. `has_trigger`: the queue has its trigger.
    async fn find_throttle(&mut self, has_trigger: bool, table: &str) -> Result<(), Error> {
        self.is_throttle_old = false;
        (self.is_notified, self.throttle) = match has_trigger && self.has_throttle {
            true => {
                let found = self.stored_throttle(table).await?;
                (found.is_some(), found.filter(|throttle| !throttle.is_zero()))
            }
            false => (has_trigger, None),
        };
        // It is logged once, not at each poll.
        let was_logged = std::mem::replace(&mut self.is_unannounced, !self.is_notified);
        if !self.is_notified && !was_logged {
            telemetry::not_notified(self.queue.name(), has_trigger);
        }
        Ok(())
    }

    async fn stored_throttle(&mut self, table: &str) -> Result<Option<Duration>, Error> {
        match self.session.query(THROTTLE_SQL, &[Some(table)]).await {
            Ok(rows) => Ok(throttle(&rows)),
            Err(error) if error.sqlstate() == Some("42501") => Ok(Some(THROTTLE)),
            Err(error) => Err(error),
        }
    }

    /// Returns whether pgmq sends notifications of inserts, as it was found last.
    pub(super) fn is_notified(&self) -> bool {
        self.is_notified
    }

    pub(super) fn throttle(&self) -> Option<Duration> {
        self.throttle
    }

    /// Lets the next read be preceded by a look at the notifications, which may have been enabled, or their throttle changed.
    pub(super) fn refresh_throttle(&mut self) {
        self.is_throttle_old = true;
    }

    async fn read_throttle(&mut self) -> Result<(), Error> {
        let Some(table) = self.statements.as_ref().map(|one| one.table.clone()) else {
            return Ok(());
        };
        let name = self.queue.name().to_owned();
        let rows = self.session.query(QUEUE_SQL, &[Some(&name)]).await?;
        let has_trigger = rows.get(0).and_then(|row| row.get(3)) == Some("t");
        self.find_throttle(has_trigger, &table).await
    }

    /// Returns the channel of pgmq's notifications, if LISTEN takes it: lower case can be longer than what it is made of.
    pub(super) fn channel(&self) -> Option<String> {
        let table = &self.statements.as_ref()?.table;
        Some(channel_of_table(table)).filter(|channel| channel.len() <= CHANNEL_BYTES_MAX)
    }

    pub(super) async fn execute(&mut self, command: &Command) -> Result<Answer, Error> {
        self.open().await?;
        // Not before a statement that stores ends: they are not the cause if this fails.
        if self.is_throttle_old && matches!(command, Command::Read(_)) {
            self.read_throttle().await?;
        }
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
                let unchanged = self.session.execute(sql, &parameters).await?;
                Ok(Answer::Changed(Fates::of_jobs(jobs, unchanged.iter(), 1)?))
            }
            Command::FinishAndRead(jobs, limit) => self.finish_and_read(jobs, *limit).await,
            Command::LookAhead { held, since } => self.look_ahead(held, *since).await,
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

    async fn look_ahead(&mut self, held: &[i64], since: Duration) -> Result<Answer, Error> {
        let sql = &mut self.statements.as_mut().ok_or_else(malformed)?.look_ahead;
        // A part of a millisecond is one: a message must not be missed.
        let (held, since) = (array::numbers(held), (since.as_millis() + 1).to_string());
        let rows = self.session.execute(sql, &[Some(&*held), Some(&since)]).await?;
        let Some(row) = rows.get(0) else { return Ok(Answer::VisibleIn(None)) };
        let millis = row.get(0).and_then(|text| text.parse::<i64>().ok()).ok_or_else(malformed)?;
        // A negative time has passed.
        let left = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
        Ok(Answer::VisibleIn(Some(left)))
    }

    async fn read(&mut self, limit: usize) -> Result<Answer, Error> {
        let limit = self.divided(limit);
        let sql = &mut self.statements.as_mut().ok_or_else(malformed)?.read;
        let text = quantity(limit);
        let parameters = [Some(self.queue.name()), Some(&self.visibility), Some(&text)];
        let answer = self.session.execute(sql, &parameters).await;
        let rows = self.checked_size(answer)?;
        Ok(Answer::Read(self.found(rows.iter(), limit)?))
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
        // A job that was to be finished has the number of its reads nowhere.
        let is_message = |row: &Row<'_>| row.get(1).is_some();
        let unchanged = rows.iter().filter(|row| !is_message(row));
        let fates = Fates::of_jobs(jobs, unchanged, 4)?;
        let found = self.found(rows.iter().filter(is_message), limit)?;
        Ok(Answer::FinishedAndRead(fates, found))
    }

    /// Returns how many messages are read, if not all fitted into a result.
    fn divided(&self, limit: usize) -> usize {
        (limit >> (2 * self.division.min(DIVISIONS_MAX))).max(1)
    }

    /// Parses messages. The next reads are smaller if not all have fitted, and larger after several that were full: each message that does not fit
    /// is read and given back, which the server writes twice.
    fn found<'a>(
        &mut self,
        rows: impl Iterator<Item = Row<'a>>,
        quantity: usize,
    ) -> Result<Found, Error> {
        let found = Found::from_each(rows, quantity, self.limit)?;
        if !found.left_out.is_empty() {
            self.divide();
        } else if self.division > 0 && found.is_full {
            self.divided_reads += 1;
            if self.divided_reads >= DIVIDED_READS {
                (self.division, self.divided_reads) = (self.division - 1, 0);
            }
        }
        Ok(found)
    }

    fn divide(&mut self) {
        (self.division, self.divided_reads) = (self.division.saturating_add(1), 0);
    }

    /// Lets the next reads be smaller if a result was too large nevertheless, because it has so many messages. Those that were read are visible again
    /// after their timeout, with an attempt more.
    fn checked_size(&mut self, answer: Result<Rows, Error>) -> Result<Rows, Error> {
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unsupported) {
            self.divide();
        }
        answer
    }

    pub(super) async fn close(&mut self) {
        self.session.close().await;
    }
}

impl Statements {
    /// None of them waits for the lock of a job. One that changes jobs returns the [fate](Fates) of each; one that finishes jobs, of those that it could not.
    fn new(table: String, finish: Finish, has_dead_letter: bool, size: Size) -> Self {
        let mut name = String::from("pgmq.");
        quote_identifier(&table, &mut name);
        let jobs = "ROWS FROM (pg_catalog.unnest($1::bigint[]), pg_catalog.unnest($2::integer[])";
        // Jobs that are locked are left out.
        let held = |columns: &str, more: &str, alias: &str| {
            format!(
                "held AS MATERIALIZED (SELECT queue.msg_id{columns} FROM {name} AS queue \
                 JOIN {jobs}{more}) AS job (msg_id, attempt{alias}) ON queue.msg_id = job.msg_id AND queue.read_ct = job.attempt \
                 ORDER BY queue.msg_id FOR UPDATE OF queue SKIP LOCKED)"
            )
        };
        // The row of a job that was not changed is searched for alone: a queue can be long.
        let fate = format!(
            "CASE WHEN changed.msg_id IS NOT NULL THEN 'changed' ELSE (SELECT CASE WHEN queue.read_ct = job.attempt THEN 'locked' ELSE 'taken' END \
             FROM {name} AS queue WHERE queue.msg_id = job.msg_id LIMIT 1) END"
        );
        let from = format!(
            "FROM {jobs}) AS job (msg_id, attempt) LEFT JOIN changed ON changed.msg_id = job.msg_id"
        );
        // Another consumer may have a free handler. It listens to the channel of pgmq, also if pgmq sends nothing. One that is too long has no listener.
        let channel = channel_of_table(&table);
        let notified = |is_visible: &str| match channel.len() <= CHANNEL_BYTES_MAX {
            false => String::new(),
            true => {
                let channel = channel.replace('\\', "\\\\").replace('\'', "''");
                format!(
                    ", (SELECT pg_catalog.pg_notify(E'{channel}', '') FROM changed WHERE {is_visible} LIMIT 1)"
                )
            }
        };
        let set_visibility = format!(
            "WITH {}, changed AS (UPDATE {name} AS queue SET vt = pg_catalog.clock_timestamp() + held.millis * interval '1 millisecond' \
             FROM held WHERE queue.msg_id = held.msg_id RETURNING queue.msg_id, held.millis) SELECT job.msg_id, {fate}{} {from}",
            held(", job.millis", ", pg_catalog.unnest($3::bigint[])", ", millis"),
            notified("changed.millis = 0")
        );
        let release = format!(
            "WITH {}, changed AS (UPDATE {name} AS queue SET vt = pg_catalog.clock_timestamp(), read_ct = queue.read_ct - 1 \
             FROM held WHERE queue.msg_id = held.msg_id RETURNING queue.msg_id) SELECT job.msg_id, {fate}{} {from}",
            held("", "", ""),
            notified("true")
        );
        let end = |function: &str, from: &str| {
            format!(
                "changed AS MATERIALIZED (SELECT done.msg_id FROM (SELECT pg_catalog.array_agg(msg_id) AS msg_ids FROM {from}) AS jobs, \
                 LATERAL pgmq.{function}($3::text, jobs.msg_ids) AS done (msg_id))"
            )
        };
        let function = match finish {
            Finish::Archive => "archive",
            Finish::Delete => "delete",
        };
        // The jobs that are finished are most of them, and need no row.
        let finish = format!(
            "WITH {}, {} SELECT job.msg_id, {fate} {from} WHERE changed.msg_id IS NULL",
            held("", "", ""),
            end(function, "held")
        );
        // The quantity depends on what is finished, so the server finishes first.
        let finish_and_read = format!(
            "WITH {}, {} SELECT job.msg_id, NULL::integer, NULL::bigint, NULL::bigint, {fate}, NULL::text, NULL::bigint {from} \
             WHERE changed.msg_id IS NULL UNION ALL ({})",
            held("", "", ""),
            end(function, "held"),
            found_sql(
                "$4::integer, $5::integer + 0 * (SELECT pg_catalog.count(*) FROM changed)::integer",
                "$3::text",
                size
            )
        );
        let bury = match has_dead_letter {
            // Without another queue the archive is the only place where it is left.
            false => format!(
                "WITH {}, {} SELECT job.msg_id, {fate} {from}",
                held("", "", ""),
                end("archive", "held")
            ),
            true => format!(
                "WITH bounded AS MATERIALIZED (SELECT pg_catalog.set_config('lock_timeout', '{LOCK_MILLIS}', true) AS timeout), \
                 {}, sent AS MATERIALIZED (SELECT msg_id, pgmq.send($5::text, pg_catalog.jsonb_build_object(\
                 'queue', $3::text, 'msg_id', msg_id, 'attempts', read_ct, 'reason', reason, \
                 'enqueued_at', enqueued_at, 'message', message, 'headers', headers), 0) FROM bounded JOIN held ON bounded.timeout <> ''), \
                 {} SELECT job.msg_id, {fate} {from}",
                held(
                    ", queue.read_ct, queue.enqueued_at, queue.message, queue.headers, job.reason",
                    ", pg_catalog.unnest($4::text[])",
                    ", reason"
                ),
                end(function, "sent")
            ),
        };
        let read = found_sql("$2::integer, $3::integer", "$1::text", size);
        // The time of the statement is known to the planner, so it uses the index of `vt`.
        let look_ahead = format!(
            "SELECT pg_catalog.ceil(extract(epoch FROM vt - pg_catalog.clock_timestamp()) * 1000)::bigint FROM {name} \
             WHERE vt > pg_catalog.statement_timestamp() - $2::bigint * interval '1 millisecond' AND vt < 'infinity' AND msg_id <> ALL ($1::bigint[]) \
             ORDER BY vt LIMIT 1"
        );
        Self {
            table,
            read: Prepared::new(read),
            set_visibility: Prepared::new(set_visibility),
            release: Prepared::new(release),
            finish: Prepared::new(finish),
            finish_and_read: Prepared::new(finish_and_read),
            bury: Prepared::new(bury),
            look_ahead: Prepared::new(look_ahead),
        }
    }
}

/// What fits into the result of a read.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// The bytes of messages.
    limit: u64,
    /// The session gets the bytes of a text that the server has. It gets UTF-8.
    is_sent_as_stored: bool,
}

/// The statement that reads messages and leaves out the data of those that do not fit. It returns the size of these. A message that fits into no result
/// counts for none of the others.
fn found_sql(arguments: &str, queue: &str, size: Size) -> String {
    let Size { limit, is_sent_as_stored } = size;
    // The order of what `UPDATE … RETURNING` returns is not that of the ids.
    let bytes = |column: &str| match is_sent_as_stored {
        true => format!("coalesce(pg_catalog.octet_length({column}), 0)"),
        false => {
            format!("coalesce(pg_catalog.octet_length(pg_catalog.convert_to({column}, 'UTF8')), 0)")
        }
    };
    let (message, headers) = (bytes("message"), bytes("headers"));
    format!(
        "SELECT msg_id, read_ct, enqueued, visible, CASE WHEN fits THEN message END, CASE WHEN fits THEN headers END, CASE WHEN NOT fits THEN size END \
         FROM (SELECT *, size <= {limit} AND pg_catalog.sum(CASE WHEN size <= {limit} THEN size ELSE 0 END) OVER (ORDER BY msg_id) <= {limit} AS fits \
         FROM (SELECT *, {ROW_BYTES}::bigint + {message} + {headers} AS size FROM (SELECT {MESSAGE_COLUMNS} FROM pgmq.read({queue}, {arguments}) OFFSET 0) \
         AS found (msg_id, read_ct, enqueued, visible, message, headers) OFFSET 0) AS measured) AS chosen ORDER BY msg_id"
    )
}

/// Writes the ids and the attempts as two arrays.
fn claims<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> (String, String) {
    let claims: Vec<_> = claims.into_iter().collect();
    let msg_ids = array::numbers(claims.iter().map(|claim| claim.msg_id));
    (msg_ids, array::numbers(claims.iter().map(|claim| claim.attempt)))
}

fn changed(rows: Result<Rows, Error>) -> Result<Answer, Error> {
    Ok(Answer::Changed(Fates::from_each(rows?.iter(), 1)?))
}

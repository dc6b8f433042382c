//! [`Queue`]: the name of a queue, and the calls of pgmq for it.

use std::time::Duration;

use super::message::{MESSAGE_COLUMNS, Message};
use super::metrics::QueueMetrics;
use super::refusal::{explained, missing_queue};
use super::version::Version;
use crate::connection::Connection;
use crate::durable::array;
use crate::durable::refusal::malformed;
use crate::error::{Error, ErrorKind};
use crate::proto::session::Rows;

/// The longest name, in bytes. pgmq allows this number of characters, and makes names of indexes of it that have 16 bytes more: 63 is the limit.
const NAME_BYTES_MAX: usize = 47;

/// A queue of pgmq.
///
/// This type is the checked name. The methods take the connection, so they can be part of a transaction of the application. For other drivers there
/// are the texts of the statements, for example [`send_sql`](Self::send_sql).
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::Connection;
/// use pgbell::durable::pgmq::Queue;
///
/// let mut connection = Connection::connect("postgres://localhost/shop").await?;
/// let mail = Queue::new("mail")?;
/// mail.create(&mut connection).await?;
/// mail.send(&mut connection, r#"{"to": "anna"}"#, Duration::ZERO).await?;
///
/// for message in mail.read(&mut connection, Duration::from_secs(30), 10).await? {
///     println!("{}: {}", message.msg_id(), message.message());
///     mail.archive(&mut connection, &[message.msg_id()]).await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// Messages are JSON as text. The server checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    name: String,
}

impl Queue {
    /// Checks the name of a queue. Nothing is sent.
    ///
    /// pgmq makes the names of tables of it in lower case, so `Jobs` and `jobs` have the same tables. It sends no notifications for a name with
    /// upper case letters, from 1.8 on: its trigger searches the name in lower case.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for a name that is empty, longer than 47 bytes, or contains `$`, `;`, `--`, `'` or a NUL.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let refuse = |why: String| {
            let hint = "for example \"jobs\" or \"mail_out\": lower case letters, digits and _";
            Err(Error::new(ErrorKind::Misuse, why).with_hint(hint))
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let length = name.len();
            return refuse(format!(
                "the name of a queue has {length} bytes, expected 1 to {NAME_BYTES_MAX}"
            ));
        }
        if name.contains(['$', ';', '\'', '\0']) || name.contains("--") {
            return refuse(format!("the name {name:?} of a queue contains $, ;, --, ' or a NUL"));
        }
        Ok(Self { name })
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the channel of the notifications that pgmq sends for inserts, if [`enable_notifications`](Self::enable_notifications) was called:
    /// `pgmq.q_jobs.INSERT` for the queue `jobs`. The payload is empty.
    ///
    /// ```
    /// # fn main() -> Result<(), pgbell::Error> {
    /// use pgbell::durable::pgmq::Queue;
    ///
    /// assert_eq!(Queue::new("jobs")?.channel(), "pgmq.q_jobs.INSERT");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn channel(&self) -> String {
        channel_of_table(&format!("q_{}", self.name.to_lowercase()))
    }

    // ---- texts for the transaction of the application ----

    /// Returns the statement that sends a message. Its parameters are the name of the queue, the message as JSON, and the delay in seconds after which
    /// it is visible. It returns the id.
    ///
    /// ```
    /// use pgbell::durable::pgmq::Queue;
    ///
    /// let sql = Queue::send_sql();
    /// assert_eq!(sql, "SELECT * FROM pgmq.send($1::text, $2::text::jsonb, $3::integer)");
    /// ```
    ///
    /// In a transaction with `NOTIFY`, both are committed or neither is:
    ///
    /// ```sql
    /// BEGIN;
    /// SELECT * FROM pgmq.send('jobs', '{"job_id": 123}', 0);
    /// NOTIFY jobs_channel;
    /// COMMIT;
    /// ```
    #[must_use]
    pub const fn send_sql() -> &'static str {
        "SELECT * FROM pgmq.send($1::text, $2::text::jsonb, $3::integer)"
    }

    /// Returns the statement that sends a message with headers. Its parameters are the name of the queue, the message and the headers as JSON, and the
    /// delay in seconds. It returns the id.
    #[must_use]
    pub const fn send_with_headers_sql() -> &'static str {
        "SELECT * FROM pgmq.send($1::text, $2::text::jsonb, $3::text::jsonb, $4::integer)"
    }

    /// Returns the statement that sends several messages. Its parameters are the name of the queue, an array of texts with JSON, and the delay in
    /// seconds. It returns the ids, in the order of the array.
    #[must_use]
    pub const fn send_batch_sql() -> &'static str {
        "SELECT * FROM pgmq.send_batch($1::text, $2::text[]::jsonb[], $3::integer)"
    }

    /// Returns the statement that archives messages. Its parameters are the name of the queue and an array of ids. It returns the ids of those that
    /// were in the queue. In a transaction of the application, its effects and the end of the job are committed together.
    #[must_use]
    pub const fn archive_sql() -> &'static str {
        "SELECT * FROM pgmq.archive($1::text, $2::bigint[])"
    }

    /// Returns the statement that deletes messages. See [`archive_sql`](Self::archive_sql).
    #[must_use]
    pub const fn delete_sql() -> &'static str {
        "SELECT * FROM pgmq.delete($1::text, $2::bigint[])"
    }

    // ---- calls ----

    /// Creates the queue and its archive, unless they exist.
    ///
    /// # Errors
    /// [`ErrorKind::Schema`] without pgmq; otherwise the error of the session or the server.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call.
    pub async fn create(&self, connection: &mut Connection) -> Result<(), Error> {
        self.call(connection, "SELECT pgmq.create($1::text)", &[]).await.map(drop)
    }

    /// Drops the queue and its archive, with all messages. Returns false if there was none.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call.
    pub async fn drop_queue(&self, connection: &mut Connection) -> Result<bool, Error> {
        let rows = self.call(connection, "SELECT pgmq.drop_queue($1::text)", &[]).await?;
        Ok(rows.get(0).and_then(|row| row.get(0)) == Some("t"))
    }

    /// Lets pgmq send a notification for inserts, at most one in `throttle`, by default of pgmq 250 ms. Zero means for each insert, which makes commits
    /// wait for each other. It is rounded to milliseconds.
    ///
    /// pgmq sends it in the transaction of the sender, so commits that send it wait for each other: with [`Notifier::nudge`](crate::Notifier::nudge)
    /// after the commit they do not. With a throttle, a message that is inserted within the throttle and committed later than it is not announced:
    /// the poll of a consumer finds it.
    ///
    /// From 1.8 on, pgmq keeps this setting in an unlogged table, which a crash of the server and a failover empty. Then it sends none until this is called
    /// again. [`notifications`](Self::notifications) returns whether it sends them; a consumer logs that it does not, and polls.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`] for a pgmq before 1.7, for a throttle other than zero before 1.8, and for a name with upper case letters from 1.8
    ///   on, for which pgmq would never send one.
    /// - [`ErrorKind::Schema`] without pgmq.
    /// - Otherwise the error of the session or the server, for example because the queue does not exist.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call.
    pub async fn enable_notifications(
        &self,
        connection: &mut Connection,
        throttle: Duration,
    ) -> Result<(), Error> {
        let version = Version::of(connection).await?;
        if !version.has_notifications() || !version.has_throttle() && !throttle.is_zero() {
            let message = format!(
                "pgmq {version} has no notifications of inserts (from 1.7 on), or none with a throttle (from 1.8 on)"
            );
            let hint = "update pgmq, or send NOTIFY in the transaction of the sender";
            return Err(Error::new(ErrorKind::Unsupported, message).with_hint(hint));
        }
        if version.has_throttle() && self.name != self.name.to_lowercase() {
            let message = format!(
                "pgmq {version} sends no notifications for the queue {:?}, because its name has upper case letters",
                self.name
            );
            let hint = "use a name in lower case, or send NOTIFY in the transaction of the sender";
            return Err(Error::new(ErrorKind::Unsupported, message).with_hint(hint));
        }
        if !version.has_throttle() {
            let sql = "SELECT pgmq.enable_notify_insert($1::text)";
            return self.call(connection, sql, &[]).await.map(drop);
        }
        // With both arguments: after an update from 1.7 there is a second function with one, whose notifications are never sent.
        let sql = "SELECT pgmq.enable_notify_insert($1::text, $2::integer)";
        let millis = i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX).to_string();
        self.call(connection, sql, &[&millis]).await.map(drop)
    }

    /// Returns the throttle of the notifications that pgmq sends for inserts, zero without one. `None`: it sends none, because
    /// [`enable_notifications`](Self::enable_notifications) was not called, or the server has crashed since.
    ///
    /// # Errors
    /// [`ErrorKind::Schema`] without pgmq or without the queue; otherwise the error of the session or the server.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn notifications(
        &self,
        connection: &mut Connection,
    ) -> Result<Option<Duration>, Error> {
        let version = Version::of(connection).await?;
        let rows = self.call(connection, QUEUE_SQL, &[]).await?;
        let row = rows.get(0).ok_or_else(malformed)?;
        if row.get(1) != Some("t") {
            return Err(missing_queue(&self.name));
        }
        if row.get(3) != Some("t") {
            return Ok(None);
        }
        if !version.has_throttle() {
            return Ok(Some(Duration::ZERO));
        }
        let table = row.get(0).ok_or_else(malformed)?;
        let rows = connection.query(THROTTLE_SQL, &[Some(table)]).await.map_err(explained)?;
        Ok(throttle(&rows))
    }

    /// Ends the notifications of inserts.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call.
    pub async fn disable_notifications(&self, connection: &mut Connection) -> Result<(), Error> {
        let sql = "SELECT pgmq.disable_notify_insert($1::text)";
        self.call(connection, sql, &[]).await.map(drop)
    }

    /// Sends a message, which is visible after `delay`, in whole seconds, rounded up. Returns its id.
    ///
    /// # Errors
    /// [`ErrorKind::Schema`] without pgmq or without the queue; otherwise the error of the session or the server, for example for a text that is not
    /// JSON.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call.
    pub async fn send(
        &self,
        connection: &mut Connection,
        message: &str,
        delay: Duration,
    ) -> Result<i64, Error> {
        let delay = seconds(delay);
        let rows = self.call(connection, Self::send_sql(), &[message, &delay]).await?;
        ids(&rows)?.first().copied().ok_or_else(malformed)
    }

    /// Sends a message with headers. See [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_with_headers(
        &self,
        connection: &mut Connection,
        message: &str,
        headers: &str,
        delay: Duration,
    ) -> Result<i64, Error> {
        let (sql, delay) = (Self::send_with_headers_sql(), seconds(delay));
        let rows = self.call(connection, sql, &[message, headers, &delay]).await?;
        ids(&rows)?.first().copied().ok_or_else(malformed)
    }

    /// Sends several messages in one statement. Returns their ids, in the order of the messages. See [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_batch<'a>(
        &self,
        connection: &mut Connection,
        messages: impl IntoIterator<Item = &'a str>,
        delay: Duration,
    ) -> Result<Vec<i64>, Error> {
        let messages = array::texts(messages);
        if messages == "{}" {
            return Ok(Vec::new());
        }
        let delay = seconds(delay);
        ids(&self.call(connection, Self::send_batch_sql(), &[&messages, &delay]).await?)
    }

    /// Reads up to `limit` visible messages, those with the lowest ids. For the time of `visibility`, in whole seconds, rounded up, no other read returns
    /// them. They are sorted by id.
    ///
    /// # Errors
    /// [`ErrorKind::Schema`] without pgmq or without the queue; [`ErrorKind::Unsupported`] for messages that are larger together than
    /// [`Config::result_limit_bytes`](crate::Config::result_limit_bytes): they were read, and are visible again after the time; otherwise the error of
    /// the session or the server.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call: messages may have been read.
    pub async fn read(
        &self,
        connection: &mut Connection,
        visibility: Duration,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        let (visibility, limit) = (seconds(visibility), quantity(limit));
        let rows = self.call(connection, &read_sql(), &[&visibility, &limit]).await?;
        Message::from_rows(&rows)
    }

    /// Reads a message and deletes it, in one statement: at most once, because nothing is left if the application fails afterwards.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call: a message may be deleted.
    pub async fn pop(&self, connection: &mut Connection) -> Result<Option<Message>, Error> {
        let sql = format!("SELECT {MESSAGE_COLUMNS} FROM pgmq.pop($1::text)");
        Ok(Message::from_rows(&self.call(connection, &sql, &[]).await?)?.pop())
    }

    /// Makes messages visible after `visibility` from now, in whole seconds, rounded up: zero is at once. Returns the ids of those that are in the queue.
    ///
    /// pgmq does not check which reader has a message: one whose visibility timeout has passed may be in the hands of another reader.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call.
    pub async fn set_visibility(
        &self,
        connection: &mut Connection,
        msg_ids: &[i64],
        visibility: Duration,
    ) -> Result<Vec<i64>, Error> {
        // pgmq has a function for several ids from 1.8 on.
        let sql = "SELECT moved.msg_id FROM pg_catalog.unnest($2::bigint[]) AS wanted (id), LATERAL pgmq.set_vt($1::text, wanted.id, $3::integer) AS moved ORDER BY 1";
        let (msg_ids, visibility) = (array::numbers(msg_ids), seconds(visibility));
        ids(&self.call(connection, sql, &[&msg_ids, &visibility]).await?)
    }

    /// Moves messages to the archive. Returns the ids of those that were in the queue.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call.
    pub async fn archive(
        &self,
        connection: &mut Connection,
        msg_ids: &[i64],
    ) -> Result<Vec<i64>, Error> {
        let msg_ids = array::numbers(msg_ids);
        ids(&self.call(connection, Self::archive_sql(), &[&msg_ids]).await?)
    }

    /// Deletes messages. Returns the ids of those that were in the queue.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call.
    pub async fn delete(
        &self,
        connection: &mut Connection,
        msg_ids: &[i64],
    ) -> Result<Vec<i64>, Error> {
        let msg_ids = array::numbers(msg_ids);
        ids(&self.call(connection, Self::delete_sql(), &[&msg_ids]).await?)
    }

    /// Deletes all messages of the queue, not those of the archive. Returns their number.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call.
    pub async fn purge(&self, connection: &mut Connection) -> Result<u64, Error> {
        let rows = self.call(connection, "SELECT pgmq.purge_queue($1::text)", &[]).await?;
        rows.get(0).and_then(|row| row.get(0)?.parse().ok()).ok_or_else(malformed)
    }

    /// Returns the sizes of the queue.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn metrics(&self, connection: &mut Connection) -> Result<QueueMetrics, Error> {
        let sql = "SELECT queue_length, queue_visible_length, newest_msg_age_sec, oldest_msg_age_sec, total_messages FROM pgmq.metrics($1::text)";
        QueueMetrics::from_rows(&self.call(connection, sql, &[]).await?)
    }

    /// Calls a function of pgmq, whose first argument is the name.
    async fn call(
        &self,
        connection: &mut Connection,
        sql: &str,
        others: &[&str],
    ) -> Result<Rows, Error> {
        let parameters: Vec<_> =
            std::iter::once(self.name()).chain(others.iter().copied()).map(Some).collect();
        connection.query(sql, &parameters).await.map_err(|error| self.explained(error))
    }

    /// Names the queue if it is the cause.
    fn explained(&self, error: Error) -> Error {
        // pgmq's own text for enable_notify_insert.
        let is_missing = error.sqlstate() == Some("P0001")
            && error
                .db_error()
                .is_some_and(|error| error.message().ends_with("using pgmq.create()"));
        if is_missing { missing_queue(&self.name) } else { explained(error) }
    }
}

/// The statement that reads. Its parameters are the name, the time in seconds and the quantity.
pub(super) fn read_sql() -> String {
    // The order of what `UPDATE … RETURNING` returns is not that of the ids.
    format!(
        "SELECT {MESSAGE_COLUMNS} FROM pgmq.read($1::text, $2::integer, $3::integer) ORDER BY msg_id"
    )
}

/// The statement that checks a queue. It returns the name of its table, whether it exists, the rights that the role lacks for it, whether it has the
/// trigger of the notifications, and whether texts are sent with the bytes that the server has.
pub(super) const QUEUE_SQL: &str = include_str!("sql/queue.sql");

/// The statement that reads the throttle of a table. The trigger searches the name of the table without `q_`.
pub(super) const THROTTLE_SQL: &str = "SELECT throttle_interval_ms FROM pgmq.notify_insert_throttle WHERE queue_name = pg_catalog.substr($1::text, 3)";

/// Parses the answer to [`THROTTLE_SQL`]. Without a row, no notification is sent.
pub(super) fn throttle(rows: &Rows) -> Option<Duration> {
    rows.get(0)?.get(0)?.parse().ok().map(Duration::from_millis)
}

/// Returns the channel of the notifications of a table.
pub(super) fn channel_of_table(table: &str) -> String {
    format!("pgmq.{table}.INSERT")
}

/// Rounds a time up to whole seconds.
pub(super) fn seconds(time: Duration) -> String {
    let more = u64::from(time.subsec_nanos() > 0);
    let seconds = time.as_secs().saturating_add(more);
    i32::try_from(seconds).unwrap_or(i32::MAX).to_string()
}

pub(super) fn quantity(limit: usize) -> String {
    i32::try_from(limit).unwrap_or(i32::MAX).to_string()
}

/// Parses the ids in the first column.
pub(super) fn ids(rows: &Rows) -> Result<Vec<i64>, Error> {
    let id = |row: crate::proto::session::Row<'_>| row.get(0)?.parse().ok();
    rows.iter().map(|row| id(row).ok_or_else(malformed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_as_pgmq_refuses_them() {
        let longest = "a".repeat(47);
        for name in ["jobs", "Jobs", "a b", "a-b", "größe", "\"", longest.as_str()] {
            let queue = Queue::new(name).unwrap();
            assert!(queue.channel().len() <= 63, "{name}");
        }
        let too_long = "a".repeat(48);
        for name in ["", "a$", "a;b", "a--b", "it's", "\0", too_long.as_str()] {
            let error = Queue::new(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse);
            assert!(error.hint().unwrap().contains("lower case letters, digits and _"));
        }
    }

    #[test]
    fn times_are_rounded_up_to_whole_seconds() {
        let rounded = |nanos| seconds(Duration::from_nanos(nanos));
        let found = [rounded(0), rounded(1), rounded(1_000_000_000), rounded(1_000_000_001)];
        assert_eq!(found, ["0", "1", "1", "2"]);
        assert_eq!(seconds(Duration::MAX), i32::MAX.to_string());
        assert_eq!(quantity(usize::MAX), i32::MAX.to_string());
    }
}

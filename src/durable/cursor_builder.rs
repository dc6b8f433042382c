//! [`CursorBuilder`]: the settings of a cursor.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::check::check;
use super::cursor::Cursor;
use super::cursor_wait::{CursorWait, Waits};
use super::memory::MemoryOutbox;
use super::names::Names;
use super::refusal::malformed;
use super::server::{ServerCursor, Waiting};
use super::session::LogSession;
use super::source::Source;
use super::start::Start;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::net;
use crate::proto::supervisor::{Backoff, Reconnect};
use crate::wakeups::{Listen, WakeTask, WakeWorker, Wakeups};

/// How often a reader looks whether the cursor is free.
const OPEN_INTERVAL: Duration = Duration::from_secs(1);

/// The largest page size. A batch is in memory as a whole.
pub(super) const PAGE_SIZE_MAX: usize = 1_000_000;

/// The SQLSTATE of a lock timeout: an acknowledgement is in a transaction that is still open.
const LOCK_TIMEOUT: &str = "55P03";

/// Where the log is.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Server { config: Box<Config>, names: Names },
    Memory(MemoryOutbox),
}

/// The settings of a [`Cursor`]. Made by [`Outbox::cursor`](crate::durable::Outbox::cursor).
#[derive(Debug)]
#[must_use = "nothing happens before open"]
pub struct CursorBuilder {
    target: Target,
    name: String,
    start: Start,
    page_size: usize,
    interval: Duration,
    lease: Option<Duration>,
    listen: Listen,
    worker: Option<WakeWorker>,
    reader: String,
    takes_over: bool,
    statement_timeout: Duration,
    rotates: bool,
    backoff: (Duration, Duration),
    waits: Waits,
}

impl CursorBuilder {
    pub(super) fn new(target: Target, name: String) -> Self {
        let Reconnect { min, max, .. } = Reconnect::default();
        Self {
            target,
            name,
            start: Start::default(),
            page_size: 1_000,
            interval: Duration::from_secs(5),
            lease: None,
            listen: Listen::Automatic,
            worker: None,
            reader: format!("process {}", std::process::id()),
            takes_over: false,
            statement_timeout: Duration::from_secs(60),
            rotates: true,
            backoff: (min, max),
            waits: Waits::default(),
        }
    }

    /// Sets where the cursor begins if it does not exist yet, by default with the oldest record.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets the highest number of records of a batch, by default 1,000. If their result is larger than
    /// [`Config::result_limit_bytes`](crate::Config::result_limit_bytes), 64 MiB by default, batches are smaller for a while.
    pub fn page_size(mut self, records: usize) -> Self {
        self.page_size = records;
        self
    }

    /// Sets the interval of the poll, by default 5 s: the log is read at least as often, in case a notification is lost or the writers send none.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the lease: how long the cursor stays with this reader after its last read, by default the longer of 30 s and three intervals. A shorter one than three
    /// intervals is refused. A
    /// reader that waits gets the cursor at most one second after the lease has passed.
    ///
    /// Reads renew it when a third of it has passed. While a batch is handled nothing is read: if that can take longer than the lease, call
    /// [`Batch::renew`](crate::durable::Batch::renew), or set a longer one. If the lease passes and no other reader waits, nothing happens.
    ///
    /// It is measured by the clock of the server. If that is set back by more than the lease, the lease counts as passed.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Sets whether notifications wake the cursor, by default [`Listen::Automatic`]: if they do not arrive, for example behind a pooler in transaction
    /// mode, it polls.
    pub fn listen(mut self, listen: Listen) -> Self {
        self.listen = listen;
        self
    }

    /// Lets a worker of the user's [`Wakeups`] wake the cursor, instead of a session of its own: so many cursors have one listening session. Its task
    /// must listen to [`Outbox::channel`](crate::durable::Outbox::channel), and its interval is that of the poll. No other worker of the task may be
    /// used, because each wake-up goes to one of them.
    pub fn woken_by(mut self, worker: WakeWorker) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Sets the name of the reader, which is only shown to operators. By default it is the process id.
    pub fn reader(mut self, name: impl Into<String>) -> Self {
        self.reader = name.into();
        self
    }

    /// Takes the cursor from its reader without waiting for the end of the lease. It waits only for a transaction that has acknowledged and is open. What that reader acknowledges later is refused.
    pub fn take_over(mut self) -> Self {
        self.takes_over = true;
        self
    }

    /// Sets the longest time of a statement, by default 60 s. After it the session is given up, and another one is opened.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Sets whether the cursor [rotates](crate::durable::Outbox::rotate) the log, by default true: after it has acknowledged something, once in a
    /// minute until the log is empty, and when it is [closed](Cursor::close). What a limit of the log removes is counted then, which takes about a
    /// second for 10 million records: with large partitions, let a scheduler rotate instead.
    pub fn rotate(mut self, rotates: bool) -> Self {
        self.rotates = rotates;
        self
    }

    /// Sets the shortest and the longest delay before a call of the server is made again, by default 50 ms and 30 s. They are also the delays before a
    /// batch is received again that was not acknowledged twice or more in a row, but at most the interval of the poll.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max);
        self
    }

    /// Sets a function that is called while [`open`](Self::open) waits, when it begins to wait and when the reason changes.
    ///
    /// ```
    /// # use pgbell::durable::Outbox;
    /// # fn example(outbox: &Outbox) {
    /// let builder = outbox.cursor("billing").on_wait(|wait| eprintln!("waiting for the cursor: {wait}"));
    /// # }
    /// ```
    pub fn on_wait(mut self, call: impl FnMut(CursorWait) + Send + 'static) -> Self {
        self.waits.set(call);
        self
    }

    /// Opens the cursor: waits until no other reader has it, and creates it if it does not exist.
    ///
    /// An acknowledgement in a transaction that is still open is waited for too: whether its records are received again depends on its end. There is no
    /// limit of the time: for one, use [`tokio::time::timeout`]. [`on_wait`](Self::on_wait) reports why it waits.
    ///
    /// # Errors
    /// - [`ErrorKind::Config`] for settings that are not valid.
    /// - [`ErrorKind::Schema`] if the log does not exist, is not as expected, or was copied from another cluster.
    /// - [`ErrorKind::Standby`] if the server is a standby.
    /// - Otherwise the error of the first attempt to connect, or of the server.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime without timers or I/O. If the function of [`on_wait`](Self::on_wait) panics.
    ///
    /// # Cancel safety
    /// If the future is dropped, the cursor may be taken for the time of its lease.
    pub async fn open(mut self) -> Result<Cursor, Error> {
        net::check_runtime();
        let lease = self.check()?;
        // A pause is shorter than a lease.
        let longest = self.backoff.1.min(self.interval).min(lease / 3);
        let backoff = (self.backoff_to(self.backoff.1)?, self.backoff_to(longest)?);
        let (name, page_size, rotates) = (self.name.clone(), self.page_size, self.rotates);
        let (source, token) = match self.target.clone() {
            Target::Server { config, names } => self.open_on_server(*config, &names, lease).await?,
            Target::Memory(log) => loop {
                if let Some((cursor, token)) =
                    log.take(&self.name, self.start, lease, self.takes_over).await
                {
                    break (Source::Memory(cursor), token);
                }
                self.waits.report(&self.name, CursorWait::OtherReader);
                sleep(OPEN_INTERVAL).await;
            },
        };
        Ok(Cursor::new(name, source, token, page_size, rotates, backoff))
    }

    /// Returns delays up to `max`.
    fn backoff_to(&self, max: Duration) -> Result<Backoff, Error> {
        let reconnect = Reconnect { min: self.backoff.0.min(max), max, ..Reconnect::default() };
        Ok(Backoff::new(&reconnect, u64::from_le_bytes(net::random()?)))
    }

    async fn open_on_server(
        mut self,
        config: Config,
        names: &Names,
        lease: Duration,
    ) -> Result<(Source, i64), Error> {
        let mut session = LogSession::new(config.clone(), self.statement_timeout);
        check(&mut session, names).await?;
        let (worker, wakeups) = match self.worker.clone() {
            Some(worker) => (worker, None),
            None => {
                let task = WakeTask::new("cursor")
                    .channel(names.qualified())
                    .interval(self.interval)
                    .batch_size(self.page_size);
                let wakeups = Wakeups::builder(config)
                    .task(task)
                    .listen(self.listen)
                    .backoff(self.backoff.0, self.backoff.1)
                    .connect()
                    .await?;
                (wakeups.worker("cursor")?, Some(wakeups))
            }
        };
        // Last: if something before fails, the cursor is not taken.
        let (id, token) = self.take(&mut session, names, lease).await?;
        let renewed = Instant::now();
        let waiting = Waiting { worker, wakeups, interval: self.interval, lease, renewed };
        let server = ServerCursor::new(names, id, session, waiting);
        Ok((Source::Server(Box::new(server)), token))
    }

    /// Checks the settings, and returns the lease.
    fn check(&self) -> Result<Duration, Error> {
        let refuse = |what: &str| Err(Error::new(ErrorKind::Config, what.to_owned()));
        let shortest = self.interval.saturating_mul(3);
        let lease = self.lease.unwrap_or_else(|| shortest.max(Duration::from_secs(30)));
        if self.name.is_empty() || self.name.contains('\0') {
            return refuse("the name of a cursor is empty or contains a NUL");
        } else if !(1..=PAGE_SIZE_MAX).contains(&self.page_size) {
            return refuse("the page size of a cursor is zero, or above 1,000,000");
        } else if self.interval.is_zero() || self.statement_timeout.is_zero() {
            return refuse("the interval or the statement timeout of a cursor is zero");
        } else if lease < shortest && self.worker.is_none() {
            let what = format!(
                "the lease of a cursor is {lease:?}, shorter than three times its interval of {:?}",
                self.interval
            );
            let hint = format!(
                "set a lease of at least {shortest:?}, or an interval of at most {:?}",
                lease / 3
            );
            return Err(Error::new(ErrorKind::Config, what).with_hint(hint));
        } else if self.backoff.0 > self.backoff.1 || self.backoff.1.is_zero() {
            return refuse("the longest delay of a cursor is zero, or shorter than the shortest");
        }
        Ok(lease.min(LEASE_MAX))
    }

    /// Waits for the cursor. Returns its id and the token of this reader.
    async fn take(
        &mut self,
        session: &mut LogSession,
        names: &Names,
        lease: Duration,
    ) -> Result<(i64, i64), Error> {
        let take = names.fill("SELECT taken_cursor, taken_token FROM {take}($1, $2, $3, $4, $5)");
        let lease = format!("{} milliseconds", lease.as_millis());
        let start = self.start.to_sql();
        let takes_over = if self.takes_over { "t" } else { "f" };
        let arguments =
            [&self.name, &start, &self.reader, &lease, takes_over].map(|text: &str| Some(text));
        loop {
            match session.query(&take, &arguments).await {
                Ok(rows) => {
                    if let Some(row) = rows.get(0) {
                        let number = |column| row.get(column).and_then(|text| text.parse().ok());
                        return number(0).zip(number(1)).ok_or_else(malformed);
                    }
                    self.waits.report(&self.name, CursorWait::OtherReader);
                }
                Err(error) if error.sqlstate() == Some(LOCK_TIMEOUT) => {
                    self.waits.report(&self.name, CursorWait::OpenTransaction);
                }
                Err(error) => return Err(error),
            }
            sleep(OPEN_INTERVAL).await;
        }
    }
}

/// The longest lease: a hundred years.
const LEASE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

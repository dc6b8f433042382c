//! [`MirrorBuilder`]: the settings of a mirror.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Mirror;
use super::machine::Machine;
use super::pace::Pace;
use super::polls::Polls;
use super::reader::Reader;
use super::reads::Reads;
use super::row::MirrorRow;
use super::rules::Rules;
use super::shared::Shared;
use super::source::MirrorSource;
use super::task::Task;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::net;
use crate::proto::supervisor::{Backoff, Reconnect};
use crate::wakeups::{Listen, WakeTask, WakeWorker, Wakeups};

/// The interval of the load, by default.
const INTERVAL: Duration = Duration::from_secs(60);

/// The shortest and the longest pause between two loads, by default.
const LOAD_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The highest number of rows, by default.
const MAX_ROWS: usize = 1_000_000;

/// The name of the task of the wake-ups.
const TASK: &str = "mirror";

/// The settings of a [`Mirror`]. Made by [`Mirror::builder`].
#[derive(Debug)]
#[must_use = "nothing happens before load"]
pub struct MirrorBuilder {
    config: Result<Config, Error>,
    source: MirrorSource,
    name: Option<String>,
    channels: Vec<String>,
    interval: Duration,
    listen: Option<Listen>,
    worker: Option<WakeWorker>,
    max_rows: usize,
    statement_timeout: Duration,
    backoff: (Duration, Duration),
    load_pause: (Duration, Duration),
}

impl MirrorBuilder {
    pub(super) fn new(config: Result<Config, Error>, source: MirrorSource) -> Self {
        let Reconnect { min, max, .. } = Reconnect::default();
        Self {
            config,
            source,
            name: None,
            channels: Vec::new(),
            interval: INTERVAL,
            listen: None,
            worker: None,
            max_rows: MAX_ROWS,
            statement_timeout: Duration::from_secs(60),
            backoff: (min, max),
            load_pause: LOAD_PAUSE,
        }
    }

    /// Adds a channel. The payload of its notifications is the key of a row that has changed, was inserted or was deleted, as text; without a payload
    /// all rows are read, with a [pause](Self::load_pause) between two loads. A payload that is no value of the type of the key is counted and logged, and all rows
    /// are read, at most once in a second; the other keys of its read do not wait for that, unless there are more than 32 such payloads in
    /// one read.
    pub fn channel(mut self, name: impl Into<String>) -> Self {
        self.channels.push(name.into());
        self
    }

    /// Sets the interval at which all rows are read, by default a minute, in case a notification is lost on its way or a writer sends none. A mirror without a
    /// channel has changes only after it. A load reads the whole table, so the interval should be a hundred times as long as a load takes. `Duration::MAX`
    /// means never.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets whether notifications are used, by default [`Listen::Automatic`]: if they do not arrive, for example behind a pooler in transaction mode,
    /// all rows are read at the [interval](Self::interval). Without a channel the default is [`Listen::Disabled`].
    pub fn listen(mut self, listen: Listen) -> Self {
        self.listen = Some(listen);
        self
    }

    /// Lets a worker of the user's [`Wakeups`] wake the mirror, instead of a session of its own: so many mirrors have one listening session. The
    /// channels and the interval are those of its task. No other worker of the task may be used, because each wake-up goes to one of them. If the wake-ups
    /// are closed, all rows are read at the [interval](Self::interval) of the mirror.
    ///
    /// Whether notifications arrive is in [`Wakeups::status`] and not in that of the mirror:
    /// [`MirrorStatus::is_current`](crate::durable::MirrorStatus::is_current) is not enough then.
    pub fn woken_by(mut self, worker: WakeWorker) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Sets the highest number of rows, by default 1,000,000. If there are more, [`load`](Self::load) fails, and a later read too: the mirror keeps what it
    /// has, is stale, and tries again.
    pub fn max_rows(mut self, rows: usize) -> Self {
        self.max_rows = rows;
        self
    }

    /// Sets the longest time of a statement, by default 60 s. After it the session is given up, and another one is opened. If the listening session was lost
    /// and is there again, a read that runs is given up at once: its server may not be there any more.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Sets the shortest and the longest delay after a read that has failed, by default 50 ms and 30 s. It is used for the listening session too.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max);
        self
    }

    /// Sets the shortest and the longest pause between the end of a load and the begin of the next one, by default 100 ms and 10 s. Between them the pause
    /// is as long as the load took. So a stream of notifications without a key, or of more than 1,024 keys at once, lets the mirror load for about half of
    /// the time, and what they are for is found after the pause. Meanwhile rows of keys are read at once.
    ///
    /// There is no pause before a load if the last one was long ago, and none before one that follows a loss or that [`Mirror::reload`] asks for.
    pub fn load_pause(mut self, min: Duration, max: Duration) -> Self {
        self.load_pause = (min, max);
        self
    }

    /// Sets the name of the mirror in logs, by default that of the table.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Listens, and then loads all rows: what is committed meanwhile is read afterwards.
    ///
    /// `decode` makes a value of a row. It is called once for each row that is new or has changed, by the task of the mirror, so it must not block, and its result must
    /// depend on nothing but the row. Here it must decode every row. Later, a row that it does not decode, or with which it panics, is left out until it
    /// changes: it is counted, logged, and the [`last_error`](Mirror::last_error).
    ///
    /// # Errors
    /// - [`ErrorKind::Config`] for settings that are not valid.
    /// - [`ErrorKind::Schema`] if the table or the key column does not exist, if a key is NULL or in two rows, or if the query is none. The
    ///   [hint](Error::hint) says which. A table or a function that is missing inside of a view or a function is [`ErrorKind::Server`].
    /// - [`ErrorKind::Decode`] with the key of the first row that was not decoded.
    /// - [`ErrorKind::Unsupported`] for more rows than [`max_rows`](Self::max_rows), and for a row that is larger than
    ///   [`Config::result_limit_bytes`](crate::Config::result_limit_bytes).
    /// - [`ErrorKind::Standby`] if the server is a standby.
    /// - Otherwise the error of the first attempt to connect, to listen, or of the server. Nothing is tried again here.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime without timers or I/O.
    ///
    /// # Cancel safety
    /// Dropping the future closes the sockets.
    pub async fn load<V, E>(
        self,
        decode: impl Fn(MirrorRow<'_>) -> Result<V, E> + Send + Sync + 'static,
    ) -> Result<Mirror<V>, Error>
    where
        V: Send + Sync + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        net::check_runtime();
        self.check()?;
        let statements = self.source.statements()?;
        let config = self.config.clone()?;
        let (worker, wakeups) = match self.worker.clone() {
            Some(worker) => (worker, None),
            None => {
                let wakeups = self.wakeups(config.clone()).await?;
                (wakeups.worker(TASK)?, Some(wakeups))
            }
        };
        // What was rung before is in the first load. What is rung from now on is read after it.
        let _ = timeout(Duration::ZERO, worker.wake()).await;
        let name = self.name.unwrap_or_else(|| self.source.name().to_owned());
        let shared = Arc::new(Shared::new(name, wakeups));
        let rules = Rules {
            decode: Box::new(move |row| decode(row).map_err(Into::into)),
            key: self.source.key().to_owned(),
            max_rows: self.max_rows,
        };
        let reader = Reader::new(config, self.statement_timeout, statements);
        let (min, max) = self.backoff;
        let reconnect = Reconnect { min, max, ..Reconnect::default() };
        let backoff = Backoff::new(&reconnect, u64::from_le_bytes(net::random()?));
        let polls = Polls::new(worker, self.interval);
        let machine = Machine::new(backoff, min, Pace::new(self.load_pause.0, self.load_pause.1));
        let reads = Reads::new(shared.clone(), rules, reader);
        let mut task = Box::new(Task::new(shared.clone(), reads, machine, polls));
        Box::pin(task.first_load()).await?;
        let mirror = Mirror::new(shared);
        tokio::spawn((*task).run());
        Ok(mirror)
    }

    async fn wakeups(&self, config: Config) -> Result<Wakeups, Error> {
        let task = WakeTask::new(TASK).channels(&self.channels).interval(self.interval);
        let listen = match self.listen {
            None if self.channels.is_empty() => Listen::Disabled,
            None => Listen::Automatic,
            Some(listen) => listen,
        };
        let builder = Wakeups::builder(config).task(task).listen(listen);
        builder.backoff(self.backoff.0, self.backoff.1).connect().await
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::new(ErrorKind::Config, what.to_owned()));
        if self.max_rows == 0 {
            return refuse("the highest number of rows of a mirror is zero");
        } else if self.interval.is_zero() || self.statement_timeout.is_zero() {
            return refuse("the interval or the statement timeout of a mirror is zero");
        } else if self.backoff.0 > self.backoff.1 || self.backoff.1.is_zero() {
            return refuse("the longest delay of a mirror is zero, or shorter than the shortest");
        } else if self.load_pause.0 > self.load_pause.1 {
            return refuse("the longest pause of a mirror is shorter than the shortest");
        } else if self.worker.is_some() && (!self.channels.is_empty() || self.listen.is_some()) {
            return refuse(
                "a mirror that a worker wakes has the channels of its task, and no others",
            );
        }
        Ok(())
    }
}

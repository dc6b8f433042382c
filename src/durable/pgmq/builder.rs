//! [`ConsumerBuilder`]: the settings of a consumer.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::job::{DeadJob, Job};
use super::machine::ConsumerMachine;
use super::queue::Queue;
use super::running::RunningConsumer;
use super::runs::{OnDead, UserFunctions};
use super::settings::{ConsumerSettings, Finish};
use super::shared::ConsumerShared;
use super::store::JobStore;
use super::task::{ConsumerParts, ConsumerTask};
use crate::config::Config;
use crate::dispatcher::{HandlerOutput, erased};
use crate::error::{Error, ErrorKind};
use crate::net;
use crate::proto::supervisor::{Backoff, Reconnect};
use crate::wakeups::{Listen, WakeTask, WakeWorker, Wakeups};

/// The settings of a consumer, which calls a handler for each job of a queue. Made by [`Queue::consumer`].
///
/// ```no_run
/// # async fn send(_: &str) -> Result<(), std::io::Error> { Ok(()) }
/// # async fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::durable::pgmq::{Job, Queue};
///
/// let running = Queue::new("mail")?
///     .consumer("postgres://localhost/shop")
///     .concurrency(4)
///     .max_attempts(5)
///     .dead_letter(Queue::new("mail_dead")?)
///     .run(|job: Job| async move { send(job.message()).await })
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// # How it reads
/// It reads the queue once at the start, then whenever it is woken: by pgmq's notifications of inserts, by those of the
/// [channels](Self::channel) of the application, by nudges, after the [interval](Self::interval), and when a retry is due. It reads until a read
/// returns less than a whole batch. What happens while it reads is one wake-up, and so is what happens within 10 ms after a wake-up, or
/// 100 ms while a burst is arriving: a burst of notifications causes one more read. In a full queue, the statement that finishes jobs also reads the next ones.
///
/// pgmq notifies only after [`Queue::enable_notifications`]: without it, a job waits for the interval. It sends at most one notification in its throttle. If the queue has one, the consumer reads once more when the throttle has
/// passed after a wake-up. The throttle is read with each poll. A message whose transaction commits later than that, and one that was sent with a delay, is found
/// by the poll. The functions of pgmq that read by group (`read_grouped` and others) are not used: messages with the same `x-pgmq-group` header may run at once.
///
/// # At least once
/// A job is finished by a statement after its handler has succeeded. If the process ends between the two, or the session is lost for longer than the
/// [visibility timeout](Self::visibility_timeout), the job is read again, by this consumer or by another one. While the session is open, the timeout of all
/// jobs is extended whenever a third of it has passed.
///
/// pgmq does not check which reader has a message. This consumer does: its statements change a job only if nothing else has read it since. So what it
/// stores late neither removes nor moves a job that another reader has. Such jobs are counted:
/// [`overtaken`](super::ConsumerStats::overtaken), [`lapsed`](super::ConsumerStats::lapsed). If it reads a job again whose handler still runs here, the
/// handler is not called a second time: the run continues as the new attempt.
///
/// # Exactly once in the same database
/// A handler can finish its job itself, in the transaction of its effects: then both are committed, or neither is. The job is counted as
/// [`removed`](super::ConsumerStats::removed).
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::durable::pgmq::{Job, Queue};
/// use pgbell::{Connection, Error};
///
/// async fn handle(job: Job) -> Result<(), Error> {
///     let mut connection = Connection::connect("postgres://localhost/shop").await?;
///     let msg_id = job.msg_id().to_string();
///     connection.simple_query("BEGIN").await?;
///     // The lock of the row keeps other readers from the job until COMMIT.
///     let archived =
///         connection.query(Queue::archive_sql(), &[Some("orders"), Some(&format!("{{{msg_id}}}"))]).await?;
///     if archived.len() == 1 {
///         connection.query("INSERT INTO invoices (order_id) VALUES ($1)", &[Some(&msg_id)]).await?;
///     }
///     connection.simple_query("COMMIT").await?;
///     Ok(())
/// }
///
/// let running = Queue::new("orders")?.consumer("postgres://localhost/shop").run(handle).await?;
/// # Ok(())
/// # }
/// ```
///
/// While a transaction has the row of a job locked, the consumer leaves it out of its statements, and tries again at most a second later:
/// [`locked`](super::ConsumerStats::locked). Other jobs are extended and finished meanwhile. If the transaction is rolled back after the visibility timeout has
/// passed, another reader can read the job before that.
///
/// # Failed attempts
/// An attempt fails if the handler returns an error or panics. The job is read again after a [delay](Self::backoff). After the last
/// [attempt](Self::max_attempts) it is put aside: sent to the [dead-letter queue](Self::dead_letter), or archived. The number of attempts is how often
/// the message was read, so a job that ends its process in each attempt is put aside too.
///
/// If the server refuses to put a job aside, or to finish it, for example because a role has lost a right or a trigger of the other queue fails, that concerns
/// only this job: [`refused`](super::ConsumerStats::refused). It is read again after its visibility timeout. One that was to be put aside is put aside then, without
/// another attempt; one that was to be finished is handled again. Other errors of the server are tried again, and other jobs go before it.
///
/// # Order
/// pgmq returns the visible messages with the lowest ids, and jobs start in the order of their ids. With a [concurrency](Self::concurrency) of 1 one job
/// runs at a time, so a single consumer keeps the order of the ids, with these exceptions: a job that is tried again runs after those that were read
/// meanwhile, and a job whose transaction commits late has a lower id than some that were read before.
///
/// # Limits
/// At most [`concurrency`](Self::concurrency) and one [batch](Self::batch_size) of jobs are read and not finished, and up to 1,000 whose end could not be
/// stored yet. A whole batch is read although handlers are busy, so that they have jobs between two reads. What waits for a third of the visibility timeout is
/// given back, without an attempt and with a notification on [`Queue::channel`] that wakes other consumers; then no more is read than handlers are free, until
/// one needs less than that.
///
/// Seven eighths of [`Config::result_limit_bytes`](crate::Config::result_limit_bytes) are for the messages of a read. The server leaves out the data of what does
/// not fit, so a read does not fail. Messages that would fit alone are given back without an attempt, and the next reads are smaller. One that is
/// larger is put aside without an attempt; the server copies it. The other eighth is for the numbers of the messages: that of the least limit is enough for
/// batches of 20. If it is not, the read has used an attempt of each of its messages, and the next one is smaller.
///
/// # Rights
/// The role needs `USAGE` on the schema `pgmq`, and `SELECT`, `UPDATE` and `DELETE` on the table of the queue, `SELECT` and `INSERT` on that of its archive;
/// with a dead-letter queue `SELECT` and `INSERT` on its table and, if it has notifications of pgmq 1.8 or later, `SELECT` and `UPDATE` on
/// `pgmq.notify_insert_throttle`. Without them the consumer does not start.
#[must_use = "nothing happens before run"]
pub struct ConsumerBuilder {
    config: Result<Config, Error>,
    queue: Queue,
    settings: ConsumerSettings,
    finish: Finish,
    dead_letter: Option<Queue>,
    on_dead: Option<OnDead>,
    interval: Duration,
    channels: Vec<String>,
    listen: Listen,
    worker: Option<WakeWorker>,
    statement_timeout: Duration,
    reconnect: (Duration, Duration),
}

impl Queue {
    /// Returns the settings of a consumer of the queue.
    ///
    /// `config` is a URL, a `key=value` string or a [`Config`]. Parameters that it does not set are taken from the `PG*` environment variables.
    pub fn consumer(&self, config: impl TryInto<Config, Error: Into<Error>>) -> ConsumerBuilder {
        let Reconnect { min, max, .. } = Reconnect::default();
        ConsumerBuilder {
            config: config.try_into().map_err(Into::into),
            queue: self.clone(),
            settings: ConsumerSettings {
                concurrency: 8,
                batch_size: 10,
                visibility: Duration::from_secs(30),
                max_attempts: 20,
                backoff: (Duration::from_secs(1), Duration::from_secs(600)),
            },
            finish: Finish::default(),
            dead_letter: None,
            on_dead: None,
            interval: Duration::from_secs(30),
            channels: Vec::new(),
            listen: Listen::Automatic,
            worker: None,
            statement_timeout: Duration::from_secs(10),
            reconnect: (min, max),
        }
    }
}

impl ConsumerBuilder {
    /// Sets for how long a read keeps a job from other readers, by default 30 s, at least one second. It is rounded up to whole seconds, and extended
    /// while the handler runs. A job whose consumer has crashed is tried again after this time, and at most one
    /// [interval](Self::interval) later.
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.settings.visibility = timeout;
        self
    }

    /// Sets how many jobs one statement reads at most, by default 10.
    pub fn batch_size(mut self, jobs: usize) -> Self {
        self.settings.batch_size = jobs;
        self
    }

    /// Sets how many handlers run at once, by default 8. Each has a task of its own, except that handlers that have ended at once, without a
    /// wait, run one after the other, until one takes longer than a millisecond.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.concurrency = handlers;
        self
    }

    /// Sets the interval of the poll, by default 30 s: the queue is read at least as often, in case a notification is lost.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Adds a channel whose notifications wake the consumer, besides [that of pgmq](Queue::channel).
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.channels.push(channel.into());
        self
    }

    /// Sets whether notifications wake the consumer, by default [`Listen::Automatic`]: if they do not arrive, for example behind a pooler in transaction
    /// mode, it polls.
    pub fn listen(mut self, listen: Listen) -> Self {
        self.listen = listen;
        self
    }

    /// Lets a worker of the user's [`Wakeups`] wake the consumer, instead of a session of its own. Its task should listen to [`Queue::channel`], and its
    /// interval is that of the poll. No other worker of the task may be used, because each wake-up goes to one of them. Whether notifications arrive is
    /// then in [`Wakeups::status`], and not in [`RunningConsumer::status`].
    pub fn woken_by(mut self, worker: WakeWorker) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Sets how often a job is tried, by default 20.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts;
        self
    }

    /// Sets the delays after failed attempts, by default 1 s to 10 min. They double from the shortest to the longest one, and up to half of each is
    /// random.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.settings.backoff = (min, max);
        self
    }

    /// Sets what becomes of the message of a finished job, by default [`Finish::Archive`].
    pub fn finish(mut self, finish: Finish) -> Self {
        self.finish = finish;
        self
    }

    /// Sets the queue to which a job is sent after its last attempt. It must exist. In the same statement the job leaves its own queue, as
    /// [`finish`](Self::finish) says. The message is an object with `queue`, `msg_id`, `attempts`, `reason`, `enqueued_at`, `message` and `headers`. The reason is
    /// the text of the error.
    ///
    /// Without one, the job is archived, also with [`Finish::Delete`].
    pub fn dead_letter(mut self, queue: Queue) -> Self {
        self.dead_letter = Some(queue);
        self
    }

    /// Sets a function that is called when a job was put aside. It is called in the task of the consumer, so it must return soon; a panic is contained.
    pub fn on_dead(mut self, call: impl Fn(DeadJob) + Send + Sync + 'static) -> Self {
        self.on_dead = Some(Box::new(call));
        self
    }

    /// Sets the longest time of a statement, by default 10 s. After it the session is given up, and another one is opened.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Sets the shortest and the longest delay before a failed statement is tried again, by default 50 ms and 30 s. While there are jobs, it is at most a
    /// sixth of the [visibility timeout](Self::visibility_timeout), so that they can be extended in time.
    pub fn reconnect(mut self, min: Duration, max: Duration) -> Self {
        self.reconnect = (min, max);
        self
    }

    /// Checks pgmq and the queues, and starts the consumer.
    ///
    /// The handler is a function whose future handles one job. Its output is a [`HandlerOutput`](crate::HandlerOutput): nothing, or a `Result` whose error is a
    /// failed attempt.
    ///
    /// # Errors
    /// - [`ErrorKind::Config`] for settings that are not valid; [`ErrorKind::Misuse`] for a channel that is not.
    /// - [`ErrorKind::Schema`] if there is no pgmq, its version is not known, a queue does not exist, or the role lacks rights.
    /// - [`ErrorKind::Standby`] if the server is a standby.
    /// - Otherwise the error of the first attempt to connect, or of the server.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime without timers or I/O.
    ///
    /// # Cancel safety
    /// Dropping the future closes the sockets. Nothing was read.
    pub async fn run<F, Fut>(self, handler: F) -> Result<RunningConsumer, Error>
    where
        F: Fn(Job) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        net::check_runtime();
        self.check()?;
        let config = self.config?;
        let functions = UserFunctions { handler: Some(erased(handler)), on_dead: self.on_dead };
        let mut store = JobStore::new(
            config.clone(),
            self.statement_timeout,
            self.queue.clone(),
            self.settings.visibility,
            self.finish,
            self.dead_letter,
        );
        store.open().await?;
        let (worker, wakeups) = match self.worker {
            Some(worker) => (worker, None),
            None => {
                let task = WakeTask::new("jobs")
                    .channels(store.channel())
                    .channels(&self.channels)
                    .interval(self.interval)
                    .batch_size(self.settings.batch_size);
                let wakeups = Wakeups::builder(config)
                    .task(task)
                    .listen(self.listen)
                    .backoff(self.reconnect.0, self.reconnect.1)
                    .connect()
                    .await?;
                (wakeups.worker("jobs")?, Some(wakeups))
            }
        };
        let reconnect =
            Reconnect { min: self.reconnect.0, max: self.reconnect.1, ..Reconnect::default() };
        let seed = || net::random().map(u64::from_le_bytes);
        // A sixth: the timeout of a job is extended when it has two thirds left.
        let pause_max = self.settings.visibility / 6;
        let mut machine = ConsumerMachine::new(self.settings, seed()?);
        machine.set_throttle(net::now(), store.throttle());
        let (stopped, report) = watch::channel(None);
        let shared = Arc::new(ConsumerShared::new(wakeups, store.is_notified(), report));
        let task = ConsumerTask::new(ConsumerParts {
            queue: self.queue.name().to_owned(),
            machine,
            store,
            backoff: Backoff::new(&reconnect, seed()?),
            pause_max,
            worker,
            interval: self.interval,
            functions,
            shared: shared.clone(),
            stopped,
        });
        tokio::spawn(task.run());
        Ok(RunningConsumer::new(shared))
    }

    fn check(&self) -> Result<(), Error> {
        self.settings.check()?;
        let refuse = |what: &str| Err(Error::new(ErrorKind::Config, what.to_owned()));
        if self.interval.is_zero() || self.statement_timeout.is_zero() {
            return refuse("the interval or the statement timeout of a consumer is zero");
        } else if self.reconnect.0 > self.reconnect.1 || self.reconnect.0.is_zero() {
            return refuse("the shortest delay of a consumer is zero, or longer than the longest");
        } else if self.dead_letter.as_ref().is_some_and(|queue| self.is_same(queue)) {
            return refuse("the dead-letter queue of a consumer is its own queue");
        }
        Ok(())
    }

    /// pgmq makes names of tables in lower case.
    fn is_same(&self, queue: &Queue) -> bool {
        queue.name().to_lowercase() == self.queue.name().to_lowercase()
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("queue", &self.queue)
            .field("settings", &self.settings)
            .field("finish", &self.finish)
            .field("dead_letter", &self.dead_letter)
            .finish_non_exhaustive()
    }
}

//! [`Job`]: a message that a handler handles. [`DeadJob`]: one that was put aside.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::message::Message;
use crate::error::{Error, ErrorKind};

/// A request of a handler for more time.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) msg_id: i64,
    pub(super) time: Duration,
    pub(super) reply: oneshot::Sender<Result<(), Error>>,
}

/// A message of a queue, for the handler of a [consumer](super::ConsumerBuilder).
///
/// ```no_run
/// # async fn send(_: &str) -> Result<(), std::io::Error> { Ok(()) }
/// use pgbell::durable::pgmq::Job;
///
/// async fn handle(job: Job) -> Result<(), std::io::Error> {
///     println!("attempt {} of job {}", job.attempts(), job.msg_id());
///     send(job.message()).await
/// }
/// ```
pub struct Job {
    message: Message,
    wanted: mpsc::Sender<Wanted>,
}

impl Job {
    pub(super) fn new(message: Message, wanted: mpsc::Sender<Wanted>) -> Self {
        Self { message, wanted }
    }

    /// Returns the id of the message.
    #[must_use]
    pub fn msg_id(&self) -> i64 {
        self.message.msg_id()
    }

    /// Returns the number of attempts, this one included: how often the message was read. A job that its consumer has given back has used no
    /// attempt; one that was unstarted when the process of its consumer ended has used one.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.message.read_count()
    }

    /// Returns the message, JSON as text.
    #[must_use]
    pub fn message(&self) -> &str {
        self.message.message()
    }

    /// Decodes the message from JSON. A handler that returns the error lets the attempt fail, as every other error.
    ///
    /// # Errors
    /// If it is not JSON of this type.
    #[cfg(feature = "json")]
    pub fn json<'a, T: serde_core::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        self.message.json()
    }

    /// Returns the headers, JSON as text, if the sender set any.
    #[must_use]
    pub fn headers(&self) -> Option<&str> {
        self.message.headers()
    }

    /// Returns when the message was sent, by the clock of the server.
    #[must_use]
    pub fn enqueued_at(&self) -> SystemTime {
        self.message.enqueued_at()
    }

    /// Keeps the job from other readers for at least `time` from now. It is not needed: while the handler runs, the consumer extends the visibility
    /// timeout whenever a third of it has passed. It helps before a step that must not be interrupted by the loss of the session.
    ///
    /// # Errors
    /// - [`ErrorKind::Fenced`] if another reader has taken the job, it was removed, or its handler has returned.
    /// - [`ErrorKind::Closed`] if the consumer has ended.
    /// - [`ErrorKind::Misuse`] if a transaction has locked the job, for example one in which the handler has finished it. The lock keeps other readers
    ///   from it.
    /// - Otherwise the error of the session: it is unknown then whether the time was extended.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the call.
    pub async fn extend(&self, time: Duration) -> Result<(), Error> {
        let ended = || Error::new(ErrorKind::Closed, "the consumer has ended");
        let (reply, answer) = oneshot::channel();
        let wanted = Wanted { msg_id: self.msg_id(), time, reply };
        self.wanted.send(wanted).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// Shows the numbers and the sizes, because the rest is data of the application.
impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("message", &self.message).finish_non_exhaustive()
    }
}

/// A job that was put aside, because its last attempt has failed: [`ConsumerBuilder::on_dead`](super::ConsumerBuilder::on_dead).
///
/// ```no_run
/// # fn example(queue: &pgbell::durable::pgmq::Queue) {
/// let consumer = queue.consumer("postgres://localhost/shop").on_dead(|job| {
///     eprintln!("job {} has failed {} times: {}", job.msg_id(), job.attempts(), job.reason());
/// });
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadJob {
    pub(super) msg_id: i64,
    pub(super) attempts: u32,
    pub(super) reason: Arc<str>,
}

impl DeadJob {
    /// Returns the id that the message had in its queue.
    #[must_use]
    pub fn msg_id(&self) -> i64 {
        self.msg_id
    }

    /// Returns how often it was read.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the error of the last attempt, or the message of its panic, at most 2,048 characters; or that the message is larger than a result, or that
    /// it was read too often.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

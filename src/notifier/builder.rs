//! How a notifier is set up.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Notifier;
use super::gate::{Gate, Shared};
use super::pipeline::Pipeline;
use super::task::Task;
use crate::net::{self, Purpose};
use crate::{Config, Error, ErrorKind};

/// How long the server may be silent while an answer is due, by default: as long as LISTEN may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of calls that wait or have no answer, by default: 8 MiB, as many as the queue of a listener has.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// Most bytes that can be asked for: 256 MiB. Below the count of permits that a semaphore has on any platform.
const QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A notifier to be connected. Made by [`Notifier::builder`].
///
/// # Time
/// With the [answer timeout](Self::answer_timeout) T, 30 s by default, whatever the server does:
///
/// | what | takes at most |
/// |---|---|
/// | a call that is not sent | T, then [`ErrorKind::Timeout`]: nothing was sent |
/// | any call | 2 T, then [`ErrorKind::InDoubt`] |
/// | silence while an answer is due | T, then the connection is over, and with it every call |
/// | [`close`](Notifier::close), and the task after the last clone was dropped | T + 1 s |
///
/// # Memory
/// Calls that were accepted and have no answer take at most [`queue_bytes`](Self::queue_bytes), 8 MiB by default,
/// and their encoded commands at most twice as much until they are written. A single call that is larger is
/// accepted alone. Further calls wait, and what they were given belongs to them meanwhile.
#[derive(Debug, Clone)]
#[must_use = "nothing happens before connect"]
pub struct NotifierBuilder {
    config: Result<Config, Error>,
    answer_timeout: Duration,
    queue_bytes: usize,
}

impl NotifierBuilder {
    pub(super) fn new(config: Result<Config, Error>) -> Self {
        Self { config, answer_timeout: ANSWER_TIMEOUT, queue_bytes: QUEUE_BYTES }
    }

    /// How long the server may be silent while an answer is due, by default 30 s; above zero. After that the
    /// connection is over: commands that were written are [`ErrorKind::InDoubt`], other calls are
    /// [`ErrorKind::Closed`], and nothing of them was sent.
    ///
    /// Each answer begins the time anew, and so does each write of the command whose answer is due. A server that
    /// answers slowly has until twice this time from the call. See [time](Self#time).
    ///
    /// Raise it where commits take that long, for example behind a synchronous standby, or where a
    /// [`notify_many`](Notifier::notify_many) of very many bytes goes over a slow network.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Most bytes of calls that were accepted and have no answer: 1 to 268,435,456 (256 MiB), by default 8 MiB.
    /// Each call counts 512 bytes besides its texts. Further calls wait, and get room in their order.
    ///
    /// Poll the future of a call that waits, or drop it: until then it keeps the room that it has got, and calls behind it
    /// may wait for that room. See [memory](Self#memory).
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Connects, and starts the task that drives the connection.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that cannot work; else as
    /// [`Connection::connect`](crate::Connection::connect).
    ///
    /// # Panics
    /// Outside a tokio runtime, and in one without timers or without I/O: `enable_all` of
    /// [`tokio::runtime::Builder`] gives both.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(self) -> Result<Notifier, Error> {
        net::check_runtime();
        let Self { config, answer_timeout, queue_bytes } = self;
        let config = config?;
        if answer_timeout.is_zero() {
            return Err(Error::new(ErrorKind::Config, "answer_timeout is zero"));
        }
        if !(1..=QUEUE_BYTES_MAX).contains(&queue_bytes) {
            let message =
                format!("queue_bytes is {queue_bytes}, allowed are 1 to {QUEUE_BYTES_MAX}");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let driver = net::establish(config, Purpose::Notify).await?.driver;
        let process_id = driver.session.process_id();
        let shared = Arc::new(Shared::new(process_id, answer_timeout, queue_bytes));
        let (requests, inbox) = mpsc::unbounded_channel();
        let (closes, ends) = mpsc::unbounded_channel();
        let pipeline = Pipeline::new(answer_timeout, driver.written());
        tokio::spawn(Task::new(driver, pipeline, inbox, ends, shared.clone()).run());
        Ok(Notifier { gate: Gate::new(requests, closes, shared) })
    }
}

/// A builder can be awaited: that is [`connect`](NotifierBuilder::connect).
impl IntoFuture for NotifierBuilder {
    type Output = Result<Notifier, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect())
    }
}

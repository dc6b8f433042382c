//! The settings of a notifier.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Notifier;
use super::link::{SessionOpener, TaskLink};
use super::machine::{NotifierMachine, NotifierPolicy};
use super::nudge::{NudgePolicy, NudgeStart, Nudges};
use super::queue::{NotifierShared, RequestQueue};
use super::task::NotifierTask;
use super::waiting::GroupLimits;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::net::{self, SessionPurpose};
use crate::notification::topic;
use crate::proto::supervisor::Reconnect;

/// The default answer timeout: the same as that of LISTEN.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The default of [`NotifierBuilder::queue_bytes`]: 8 MiB, as for the queue of a listener.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// The largest value of [`NotifierBuilder::queue_bytes`]: 256 MiB. A semaphore has more permits on every platform.
const QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The default of [`NotifierBuilder::nudge_window`].
const NUDGE_WINDOW: Duration = Duration::from_millis(10);

/// The shortest [`NotifierBuilder::nudge_window`]: one tick of the timer.
const NUDGE_WINDOW_MIN: Duration = Duration::from_millis(1);

/// The longest [`NotifierBuilder::nudge_window`]: later than that, a poll has found what a nudge reports.
const NUDGE_WINDOW_MAX: Duration = Duration::from_secs(60);

/// Builds a [`Notifier`]. Returned by [`Notifier::builder`].
///
/// # Timeouts
/// With the [answer timeout](Self::answer_timeout) T, 30 s by default, whatever the server does:
///
/// | what | takes at most |
/// |---|---|
/// | a call whose command cannot be sent | T, then [`ErrorKind::Timeout`]: nothing was sent |
/// | any call | 2 T, then [`ErrorKind::InDoubt`] |
/// | silence of the server while a command is unanswered | T, then the connection ends, and with it every call that was sent |
/// | [`close`](Notifier::close), and the task after the last clone was dropped | T + 1 s |
///
/// # Memory
/// Q is [`queue_bytes`](Self::queue_bytes), 8 MiB by default:
///
/// | what | takes at most |
/// |---|---|
/// | the queue, which holds all unanswered calls | Q |
/// | their encoded commands, until they are written | 4 Q: each `"` and `\` of a group is escaped, and the buffer may be twice as large as its content |
/// | the group that is being encoded | 4 × (256 KiB + 3 bytes for each of its calls), about 1 MiB |
/// | [nudges](Notifier::nudge) that wait | 1 MiB of keys, with 64 bytes for each, and 1,024 channels of 63 bytes |
/// | nudges that were sent | the same once more, and one group |
///
/// The limit of a group, 256 KiB, is that of its channels and payloads before they are escaped. A call that is larger than the queue is
/// accepted when the queue is empty: then Q is its size. Further calls wait, and keep their arguments meanwhile.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::Notifier;
///
/// let notifier = Notifier::builder("postgres://localhost/shop")
///     .answer_timeout(Duration::from_secs(5))
///     .queue_bytes(1024 * 1024)
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens before connect"]
pub struct NotifierBuilder {
    config: Result<Config, Error>,
    answer_timeout: Duration,
    queue_bytes: usize,
    separator: u8,
    reconnect: bool,
    retry_refusals: Option<bool>,
    backoff: (Duration, Duration),
    nudge_window: Duration,
}

impl NotifierBuilder {
    pub(super) fn new(config: Result<Config, Error>) -> Self {
        let delays = Reconnect::default();
        Self {
            config,
            answer_timeout: ANSWER_TIMEOUT,
            queue_bytes: QUEUE_BYTES,
            separator: topic::SEPARATOR,
            reconnect: true,
            retry_refusals: None,
            backoff: (delays.min, delays.max),
            nudge_window: NUDGE_WINDOW,
        }
    }

    /// Sets how long the server may be silent while a command is unanswered: 30 s by default, more than zero. After that
    /// the connection ends. Commands that were written return [`ErrorKind::InDoubt`]; other calls wait for the next session until
    /// this time has passed since the call, or return [`ErrorKind::Closed`] if there is [none](Self::reconnect). They were not sent.
    ///
    /// The time begins again with each answer, and with each write of the oldest unanswered command. If the server
    /// answers slowly, a call takes at most twice this time. See [timeouts](Self#timeouts).
    ///
    /// Raise it if commits take that long, for example with a synchronous standby, or if a large
    /// [`notify_many`](Notifier::notify_many) is sent over a slow network.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Returns the `answer_timeout`.
    #[cfg(feature = "blocking")]
    pub(crate) fn answer_limit(&self) -> Duration {
        self.answer_timeout
    }

    /// Sets the size of the queue, which holds all unanswered calls: 1 to 268,435,456 bytes (256 MiB), by default 8 MiB.
    /// Each call takes 512 bytes and its channels and payloads. Further calls wait, and get room in the order in which
    /// they were made.
    ///
    /// Poll the future of a waiting call, or drop it: it keeps the room that it was given, and later calls
    /// may wait for that room. See [memory](Self#memory).
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Sets the byte between topic and payload that [`notify_topic`](Notifier::notify_topic) writes, an ASCII character: by default
    /// `:`. The receivers must use the same, see [`TopicOf::Prefix`](crate::TopicOf::Prefix).
    pub fn topic_separator(mut self, separator: u8) -> Self {
        self.separator = separator;
        self
    }

    /// Sets whether the notifier reconnects after a session is lost, by default true. If it does not, it ends: calls that were
    /// sent return [`ErrorKind::InDoubt`], and all others [`ErrorKind::Closed`], both with the cause. The
    /// [nudges](Notifier::nudge) end when their session is lost, and when the first attempt to open it fails.
    ///
    /// Each attempt tries every host of the configuration in its order, and reads its files again. A refusal ends the notifier,
    /// unless [`retry_refusals`](Self::retry_refusals) is set.
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Sets whether the notifier tries again after a refusal, as after every other failure to reconnect. A refusal is a wrong
    /// password or parameter, or a database that does not exist. By default it does if there are several hosts or a password
    /// provider, as [`ListenerBuilder::retry_refusals`](crate::ListenerBuilder::retry_refusals).
    ///
    /// The session of the [nudges](Notifier::nudge), which is opened later, is tried again after a refusal in any case.
    pub fn retry_refusals(mut self, retry: bool) -> Self {
        self.retry_refusals = Some(retry);
        self
    }

    /// Sets the shortest and the longest delay before an attempt to reconnect, by default 50 ms and 30 s: as
    /// [`ListenerBuilder::backoff`](crate::ListenerBuilder::backoff). Calls wait meanwhile, at most one
    /// [answer timeout](Self::answer_timeout).
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max);
        self
    }

    /// Sets the least time between the beginnings of two flushes of [nudges](Notifier::nudge), 1 ms to 60 s, by default 10 ms. Nudges that are
    /// made meanwhile are coalesced: each channel and key is sent once.
    ///
    /// A flush is one transaction if it has at most 1,000 nudges and 256 KiB, otherwise several, one after the other. The window does not
    /// apply between these, nor after [`close`](Notifier::close).
    pub fn nudge_window(mut self, window: Duration) -> Self {
        self.nudge_window = window;
        self
    }

    /// Connects, and starts the task that drives the connection.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for invalid settings; otherwise as
    /// [`Connection::connect`](crate::Connection::connect).
    ///
    /// # Panics
    /// Outside a tokio runtime, and in a runtime without timers or I/O: use `#[tokio::main]`, or `enable_all` of the runtime's
    /// [`Builder`](tokio::runtime::Builder).
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(self) -> Result<Notifier, Error> {
        net::check_runtime();
        let Self { config, answer_timeout, queue_bytes, separator, .. } = self;
        let config = config?;
        topic::check_separator(separator)?;
        if answer_timeout.is_zero() {
            return Err(Error::new(ErrorKind::Config, "answer_timeout is zero"));
        }
        if !(1..=QUEUE_BYTES_MAX).contains(&queue_bytes) {
            let message = format!("queue_bytes is {queue_bytes}, expected 1 to {QUEUE_BYTES_MAX}");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let (min, max) = self.backoff;
        if min.is_zero() || max < min {
            let message = format!(
                "backoff from {min:?} to {max:?}: the shortest delay must be above zero, and not above the longest"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        if !(NUDGE_WINDOW_MIN..=NUDGE_WINDOW_MAX).contains(&self.nudge_window) {
            let window = self.nudge_window;
            let message = format!(
                "nudge_window is {window:?}, expected {NUDGE_WINDOW_MIN:?} to {NUDGE_WINDOW_MAX:?}"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        let established = net::establish(config.clone(), SessionPurpose::Notify).await?;
        let (driver, resolved) = (established.driver, established.config);
        let retry_refusals = match self.retry_refusals {
            Some(retry) => retry,
            None => resolved.has_password_provider() || resolved.servers()?.len() > 1,
        };
        let timeout = resolved.effective().connect_timeout();
        let delays = Reconnect { min, max, retry_refusals };
        let limits = GroupLimits::default();
        let connect_timeout = timeout.saturating_add(timeout / 50);
        let policy = NotifierPolicy {
            answer_timeout,
            limits,
            connect_timeout,
            reconnect: self.reconnect.then_some(delays),
        };
        let seed = u64::from_ne_bytes(net::random()?);
        let machine = NotifierMachine::new(&policy, net::now(), driver.written(), seed);
        let process_id = driver.session.process_id();
        let shared = Arc::new(NotifierShared::new(process_id, answer_timeout, queue_bytes));
        let (requests, inbox) = mpsc::unbounded_channel();
        let (closes, ends) = mpsc::unbounded_channel();
        // Later attempts are made by the task, which slow code of the user must not block.
        let opener = SessionOpener {
            config: net::with_provider_thread(config),
            purpose: SessionPurpose::Notify,
            timeout,
        };
        let nudges = Nudges::new(NudgeStart {
            policy: NudgePolicy {
                window: self.nudge_window,
                answer_timeout,
                limits,
                connect_timeout,
                delays,
                reconnects: self.reconnect,
            },
            seed: seed.rotate_left(16),
            opener: SessionOpener { purpose: SessionPurpose::Nudge, ..opener.clone() },
            runtime: Handle::current(),
        });
        let link = TaskLink::new(Some(driver), opener);
        let task = NotifierTask::new(link, machine, inbox, ends, shared.clone());
        tokio::spawn(task.run());
        let queue = RequestQueue::new(requests, closes, shared);
        Ok(Notifier { queue, nudges, separator })
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

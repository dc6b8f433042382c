//! How a listener is set up.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::Listener;
use super::first_connect::{self, Retrying};
use super::guarded::Guarded;
use super::hook::Hook;
use super::outside::Means;
use super::shared::Shared;
use super::sink::RingSink;
use super::task::Task;
use super::telemetry::Telemetry;
use crate::ring::Pins;
use crate::supervisor::{Heartbeat, HookPolicy, Live, Overflow, Policy, Reconnect, Supervisor};
use crate::{Config, Connection, Error, ErrorKind, net, ring, wire};

/// Most notifications that a queue can be made for. The [ring](crate::ring) has room for twice as many.
const QUEUE_CAPACITY_MAX: usize = 524_288;

/// Most notifications in the queue, by default.
pub(super) const QUEUE_CAPACITY: usize = 16_384;

/// Most bytes of notifications in the queue, by default: 8 MiB.
pub(super) const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// Most bytes of receive buffers that are pinned, by default: 8 MiB, as many as may be queued. A consumer
/// that hands whole batches on can have as much on its way as waits for it, and the sum stays below 32 MiB.
pub(super) const PIN_LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// Slots beyond the capacity, each for one read: what arrives while a command waits for its answer may
/// exceed the capacity. With the ring's own slot and its positions they take 128 KiB.
pub(super) const SURPLUS_SLOTS: u64 = 1_016;

/// Fewest bytes a queue can have: the longest notification must fit.
const QUEUE_BYTES_MIN: usize = wire::limits::NOTIFICATION_FRAME_BYTES_MAX as usize + 1;

/// How long a clean close may take, by default.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Shortest and longest delay before an attempt to come back, by default.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// When a live session is proven to be one, by default: a dead one is noticed within 18 seconds.
const HEARTBEAT: Heartbeat =
    Heartbeat { every: Duration::from_secs(10), deadline: Duration::from_secs(8) };

/// How long the hook may run, by default.
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// Shortest lifetime of a session that can be asked for.
const LIFETIME_MIN: Duration = Duration::from_secs(1);

/// A listener to be connected. Made by [`Listener::builder`].
///
/// # Memory
/// The queue, the receive buffers and what is pinned of them take at most
/// ```text
/// 256 KiB × (⌈queue_bytes / 232 KiB⌉ + 3) + pin_limit_bytes + 128 B × queue_capacity + 128 KiB
/// ```
/// whatever a consumer does: 20 MiB by default. A buffer is 256 KiB, of which the last 24 may stay
/// unused; one more is in the reader's hand, one in the consumer's, and one is for what is dropped. They are
/// made when they are needed.
///
/// A server that sends messages longer than a buffer, as PostgreSQL's errors may be, can make that
/// `queue_bytes + 4 MiB` more: 32 MiB by default. So does a query of yours on the listening session
/// ([`simple_query`](Listener::simple_query)) whose rows are so long, and while one row comes in, it takes up to four
/// times its length beside; what the query returns is yours, and limited by
/// [`Config::result_limit_bytes`](crate::Config::result_limit_bytes). Each channel takes its name, and 5 KB more while the server
/// refuses it. Copies belong to whoever asked for them.
#[derive(Debug, Clone)]
#[must_use = "nothing happens before connect"]
pub struct ListenerBuilder {
    config: Result<Config, Error>,
    channels: Vec<String>,
    capacity: usize,
    bytes: usize,
    pin_limit: usize,
    overflow: Overflow,
    reconnect: bool,
    retry_refusals: Option<bool>,
    retry_first_connect: Duration,
    retrying: Option<Retrying>,
    backoff: (Duration, Duration),
    heartbeat: Heartbeat,
    max_lifetime: Option<Duration>,
    close_timeout: Duration,
    hook: Option<Hook>,
    hook_policy: HookPolicy,
}

impl ListenerBuilder {
    pub(super) fn new(config: Result<Config, Error>) -> Self {
        Self {
            config,
            channels: Vec::new(),
            capacity: QUEUE_CAPACITY,
            bytes: QUEUE_BYTES,
            pin_limit: PIN_LIMIT_BYTES,
            overflow: Overflow::default(),
            reconnect: true,
            retry_refusals: None,
            retry_first_connect: Duration::ZERO,
            retrying: None,
            backoff: (BACKOFF_MIN, BACKOFF_MAX),
            heartbeat: HEARTBEAT,
            max_lifetime: None,
            close_timeout: CLOSE_TIMEOUT,
            hook: None,
            hook_policy: HookPolicy { timeout: HOOK_TIMEOUT, failures_max: None },
        }
    }

    /// Channels to listen to. [`connect`](Self::connect) returns when all of them are active. Keep them below 1,000: see
    /// [`listen_all`](crate::ListenerHandle::listen_all).
    pub fn channels(mut self, channels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.channels.extend(channels.into_iter().map(Into::into));
        self
    }

    /// Most notifications in the queue: 1 to 524,288, by default 16,384.
    pub fn queue_capacity(mut self, notifications: usize) -> Self {
        self.capacity = notifications;
        self
    }

    /// Most bytes of notifications in the queue, by default 8 MiB; at least 256 KiB and one byte, the
    /// longest notification. See [memory](Self#memory).
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Most bytes of receive buffers that [shared batches](crate::Batch::share) and
    /// [retained](crate::NotificationRef::retain) notifications hold together, by default 8 MiB. See
    /// [memory](Self#memory).
    ///
    /// What is held is whole buffers of 256 KiB, each counted once, however many views of it are kept. What
    /// would exceed the limit is copied instead, and nothing is lost by it: the queue has its own buffers
    /// beside. With less than 256 KiB everything is copied. [`Stats::pinned_bytes`](crate::Stats::pinned_bytes)
    /// says how many there are.
    pub fn pin_limit_bytes(mut self, bytes: usize) -> Self {
        self.pin_limit = bytes;
        self
    }

    /// What to do with notifications that the full queue cannot take. By default
    /// `Block { max_stall: 1 s }`.
    ///
    /// Under `Block` the socket is read on, and what the full queue cannot take is dropped and told, while an answer
    /// is waited for that lies behind the notifications: to a command of yours, or of a
    /// [drain](crate::ListenerHandle::drain).
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Whether a lost session is followed by another one: by default it is. If not, its loss ends the listener:
    /// [`recv`](Listener::recv) returns the cause.
    ///
    /// Every attempt looks names up again, tries all hosts and asks the password provider again. It lasts at
    /// most `connect_timeout`. A refusal ends the listener, unless [`retry_refusals`](Self::retry_refusals) says
    /// otherwise.
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Whether a refusal is tried again like any other failure of an attempt to come back: a wrong password, a role
    /// or a database that does not exist, a server that asks for what this build does not do. By default it is where
    /// the next attempt may be another one: with several hosts, or a password provider.
    ///
    /// Say `true` where a file of passwords (`.pgpass`) or the server's roles change under a running service: the
    /// file is read again at every attempt. It holds for the attempts of [`retry_first_connect`](Self::retry_first_connect)
    /// too, where only `true` says so.
    ///
    /// A refusal with SQLSTATE 28000 is tried again in any case where `sslcert` names a file that does not exist: perhaps
    /// the server wants this certificate. N153.
    pub fn retry_refusals(mut self, retry: bool) -> Self {
        self.retry_refusals = Some(retry);
        self
    }

    /// For how long [`connect`](Self::connect) tries again while the server cannot be reached, is starting, or has no
    /// connection left: by default not at all. For a program that may start before its database.
    ///
    /// An attempt that has failed is followed by another one after a delay, as [`backoff`](Self::backoff) says, where the
    /// error is [transient](Error::is_transient), until `limit` has passed; then `connect` returns the last error. Other
    /// errors, such as a wrong password, are returned at once. No attempt begins later than `limit` after the first one.
    /// Each takes at most twice `connect_timeout` (a service file is read once before it and once in it), the time of the
    /// LISTEN to the channels, and that of the first run of the [hook](Self::on_live). `Duration::MAX` is no limit.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), pgbell::Error> {
    /// use std::time::Duration;
    /// use pgbell::Listener;
    ///
    /// let listener = Listener::builder("postgres://localhost/shop")
    ///     .channels(["orders"])
    ///     .retry_first_connect(Duration::from_secs(60))
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_first_connect(mut self, limit: Duration) -> Self {
        self.retry_first_connect = limit;
        self
    }

    /// Calls `call` with the error of each attempt of [`retry_first_connect`](Self::retry_first_connect) that another one
    /// follows, and with the delay before that one. For a program that says why it still waits. The error of the last attempt is
    /// returned by [`connect`](Self::connect).
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), pgbell::Error> {
    /// use std::time::Duration;
    /// use pgbell::Listener;
    ///
    /// let listener = Listener::builder("postgres://localhost/shop")
    ///     .channels(["orders"])
    ///     .retry_first_connect(Duration::from_secs(60))
    ///     .on_first_connect_retry(|error, delay| eprintln!("{error:#}; the next attempt is in {delay:?}"))
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// A panic in `call` is one of [`connect`](Self::connect).
    pub fn on_first_connect_retry(
        mut self,
        call: impl Fn(&Error, Duration) + Send + Sync + 'static,
    ) -> Self {
        self.retrying = Some(Retrying::new(call));
        self
    }

    /// Shortest and longest delay before an attempt to come back, by default 50 ms and 30 s.
    ///
    /// A delay is anything from the shortest to a limit that doubles with every attempt, at random, so that
    /// many clients of one server do not come back at once. After a session that was live for as long as
    /// the longest delay it is short again.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max);
        self
    }

    /// How often a session is proven to live and to listen to what it should, by default every 10 s, and for
    /// how long nothing at all may come while the proof is due, by default 8 s.
    ///
    /// So a connection that is dead without an end, a server that is stuck, or a pooler that has forgotten
    /// the subscription are noticed within the sum. The proof is one short query, or what
    /// [`Config::delivery_proof`] says. The same patience is had with the
    /// answer to a `listen` or `unlisten` of yours on a live session, but for 30 s at most; while a new session
    /// subscribes, the server has 30 s for each answer, because the first LISTEN may read a long queue.
    ///
    /// Whatever comes counts as a sign of life: a server under a flood, which answers when it has caught up, has five
    /// minutes. While a query of your own runs on the listening session there is no proof: TCP's keepalive and user
    /// timeout alone watch then.
    pub fn heartbeat(mut self, every: Duration, deadline: Duration) -> Self {
        self.heartbeat = Heartbeat { every, deadline };
        self
    }

    /// How long a session may live before another one takes its place, without a gap: for servers or proxies
    /// that end sessions of some age, and for credentials that expire. Up to a tenth is taken off at random.
    /// By default there is no limit.
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// How long the clean end of a session may take, by default a second: see [`close`](Listener::close).
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Runs `hook` whenever every channel is listened to, at the start and after every
    /// [`Gap`](crate::Gap), before any notification is delivered: to read the state that notifications change.
    /// What it reads is complete, because what is committed later arrives after it.
    ///
    /// It gets a connection of its own, to the server that the session is on, whatever other hosts there are. It
    /// fails when that server takes no other connection, or is a standby. Notifications that arrive meanwhile wait in
    /// the queue, within its bounds. The state of the listener is [`State::CatchingUp`](crate::State::CatchingUp)
    /// until the hook is done.
    ///
    /// [`connect`](Self::connect) waits for the first run. If that fails or panics, or the session is lost meanwhile,
    /// `connect` ends the session and returns the error. So the hook must not wait for something that happens after
    /// `connect` has returned: for the listener itself, or for a task that is started later.
    ///
    /// A later run that fails, panics, or takes longer than [`on_live_timeout`](Self::on_live_timeout) is repeated
    /// after a delay, as [`backoff`](Self::backoff) says, with the state `CatchingUp`;
    /// [`Stats::hook_failures`](crate::Stats::hook_failures) counts these, and
    /// [`last_error`](crate::ListenerHandle::last_error) has the reason. Nothing is delivered meanwhile. See
    /// [`on_live_failures_max`](Self::on_live_failures_max) for a limit. If the session is lost, the run is cancelled:
    /// it ends at its next await. The next one begins after that, when the next session listens.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), pgbell::Error> {
    /// use pgbell::{Listener, Live};
    ///
    /// let listener = Listener::builder("postgres://localhost/shop")
    ///     .channels(["orders"])
    ///     .on_live(|mut connection, live| async move {
    ///         if let Live::AfterGap(gap) = &live {
    ///             eprintln!("{gap}");
    ///         }
    ///         let orders = connection.simple_query("SELECT id FROM orders").await?;
    ///         // ... remember them ...
    ///         connection.close().await
    ///     })
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_live<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Connection, Live) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.hook = Some(Hook::new(hook));
        self
    }

    /// How long a run of the [hook](Self::on_live) may take, its connection included: by default 30 s. A run that takes
    /// longer is cancelled at its next await, and has failed. The next run begins when the cancelled one has ended, and its
    /// time begins then. A run that cannot begin within this time has failed, too.
    pub fn on_live_timeout(mut self, timeout: Duration) -> Self {
        self.hook_policy.timeout = timeout;
        self
    }

    /// After how many failures of the [hook](Self::on_live) in a row the listener ends, with the last one as the cause:
    /// at least 1. Its session is closed as [`close`](Listener::close) does it: what was read is still delivered, or
    /// counted, before [`recv`](Listener::recv) returns the cause. By default the listener does not end, and the hook runs
    /// again and again.
    pub fn on_live_failures_max(mut self, failures: u32) -> Self {
        self.hook_policy.failures_max = Some(failures);
        self
    }

    /// Connects, listens to the channels, starts the task that reads the socket, and waits for the first run of the
    /// [hook](Self::on_live).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for parameters that cannot work, [`ErrorKind::Misuse`] for a channel name
    /// that is empty, longer than 63 bytes or holds a NUL; else what kept the first session from being
    /// ready, or the error of the first run of the [hook](Self::on_live). The first attempt is the only one, unless
    /// [`retry_first_connect`](Self::retry_first_connect) says otherwise. A panic in code of yours that the attempt runs, such as a [password provider](Config::password_provider), is
    /// [`ErrorKind::Other`].
    ///
    /// # Panics
    /// Outside a tokio runtime, and in one without timers or without I/O: `enable_all` of
    /// [`tokio::runtime::Builder`] gives both. Where the call of [`on_first_connect_retry`](Self::on_first_connect_retry)
    /// panics.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(self) -> Result<Listener, Error> {
        net::check_runtime();
        // The future of a caller stays small.
        if self.retry_first_connect.is_zero() {
            return Box::pin(self.connect_once()).await;
        }
        let limit = self.retry_first_connect;
        let (min, max) = self.backoff;
        let retry_refusals = self.retry_refusals.unwrap_or(false);
        let reconnect = Reconnect { min, max, retry_refusals };
        let retrying = self.retrying.clone();
        Box::pin(first_connect::connect(self, limit, reconnect, retrying)).await
    }

    pub(super) async fn connect_once(self) -> Result<Listener, Error> {
        let config = self.config?;
        let limit = |what: &str, found: usize, min: usize, max: usize| {
            if (min..=max).contains(&found) {
                return Ok(());
            }
            let allowed = match max {
                usize::MAX => format!("at least {min} is needed"),
                _ => format!("allowed are {min} to {max}"),
            };
            Err(Error::new(ErrorKind::Config, format!("{what} is {found}, {allowed}")))
        };
        limit("queue_capacity", self.capacity, 1, QUEUE_CAPACITY_MAX)?;
        limit("queue_bytes", self.bytes, QUEUE_BYTES_MIN, usize::MAX)?;
        if let Overflow::Block { max_stall: Duration::ZERO } = self.overflow {
            return Err(Error::new(ErrorKind::Config, "max_stall is zero: that is DropNewest"));
        }
        let (min, max) = self.backoff;
        if min.is_zero() || max < min {
            let message = format!(
                "backoff from {min:?} to {max:?}: the shortest delay must be above zero, and not above the longest"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        let Heartbeat { every, deadline } = self.heartbeat;
        if every.is_zero() || deadline.is_zero() {
            let message = format!(
                "heartbeat every {every:?} with a deadline of {deadline:?}: neither may be zero"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        if let Some(lifetime) = self.max_lifetime.filter(|lifetime| *lifetime < LIFETIME_MIN) {
            let message =
                format!("max_lifetime is {lifetime:?}, at least {LIFETIME_MIN:?} is needed");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let HookPolicy { timeout, failures_max } = self.hook_policy;
        if timeout.is_zero() || failures_max == Some(0) {
            let message = "on_live_timeout and on_live_failures_max must be above zero";
            return Err(Error::new(ErrorKind::Config, message));
        }
        for channel in &self.channels {
            wire::check_channel(channel)?;
        }
        // As it will be used, so that what cannot work is told at once and by its name.
        let resolved = net::resolve(config.clone(), net::now()).await?;
        let connect_timeout = resolved.effective_connect_timeout();
        let policy = Policy {
            channels: self.channels,
            overflow: self.overflow,
            // The attempt itself is the first to notice, and says at which address the time was spent.
            connect_timeout: connect_timeout.saturating_add(connect_timeout / 50),
            close_timeout: self.close_timeout,
            reconnect: self.reconnect.then_some(Reconnect {
                min,
                max,
                retry_refusals: match self.retry_refusals {
                    Some(retry) => retry,
                    None => resolved.has_password_provider() || resolved.servers()?.len() > 1,
                },
            }),
            heartbeat: self.heartbeat,
            max_lifetime: self.max_lifetime,
            hook: self.hook.is_some().then_some(self.hook_policy),
        };
        let capacity = self.capacity as u64;
        let (producer, consumer) = ring::channel(capacity + SURPLUS_SLOTS);
        let shared = Arc::new(Shared::new(Pins::new(self.pin_limit as u64)));
        let sink = RingSink::new(producer, capacity, self.bytes, self.overflow, shared.clone());
        let (requests, inbox) = mpsc::unbounded_channel();
        let secret = net::random()?;
        let telemetry = Telemetry::new(&resolved, &policy);
        let supervisor = Supervisor::new(net::now(), SystemTime::now(), secret, policy);
        let (connected, wait) = oneshot::channel();
        let config = net::ask_apart(config);
        let means = Means { config, connect_timeout, hook: self.hook, telemetry, sink };
        let task = Task::new(means, supervisor, inbox, shared.clone(), connected);
        let task = tokio::spawn(Guarded(task));
        // The listener exists from here on: dropping this future drops it, which ends the task.
        let listener = Listener::new(consumer, requests, shared, task);
        match wait.await {
            Ok(()) => Ok(listener),
            Err(_) => Err(listener.cause()),
        }
    }
}

/// A builder can be awaited: that is [`connect`](ListenerBuilder::connect).
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// let listener = pgbell::Listener::builder("postgres://localhost/shop").channels(["orders"]).await?;
/// # Ok(())
/// # }
/// ```
impl IntoFuture for ListenerBuilder {
    type Output = Result<Listener, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect())
    }
}

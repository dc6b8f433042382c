//! [`ListenerBuilder`]: the settings of a listener.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Listener;
use super::first_connect::{self, ConnectFuture, Retrying};
use super::hook::Hook;
use super::running::Prepared;
use super::shared::ListenerShared;
use crate::config::Config;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::net;
use crate::proto::ring::Pins;
use crate::proto::session::READ_DELAY_MAX;
use crate::proto::supervisor::{Heartbeat, HookPolicy, Live, Overflow, Owner, Policy, Reconnect};
use crate::proto::{ring, wire};
use crate::queue::RingSink;
use crate::queue::limits::{PIN_LIMIT_BYTES, QUEUE_BYTES, QUEUE_CAPACITY, SURPLUS_SLOTS};

/// The highest number of notifications that `queue_capacity` accepts. The [ring](crate::proto::ring) has room for twice as many.
const QUEUE_CAPACITY_MAX: usize = 524_288;

/// The lowest number of bytes of a queue: the longest notification must fit.
const QUEUE_BYTES_MIN: usize = wire::limits::NOTIFICATION_FRAME_BYTES_MAX as usize + 1;

/// The shortest `max_lifetime`.
const LIFETIME_MIN: Duration = Duration::from_secs(1);

/// The settings of a listener. Made by [`Listener::builder`].
///
/// # Memory
/// The queue, the receive buffers and the pinned buffers take at most
/// ```text
/// 288 KiB × (⌈queue_bytes / 232 KiB⌉ + 4) + pin_limit_bytes + 128 B × queue_capacity + 132 KiB
/// ```
/// for every behaviour of the consumer: 22 MiB by default. A buffer has 256 KiB, of which the last 24 KiB may stay unused;
/// the other 32 KiB are for copies. The formula includes one buffer that is read into, one that the consumer receives from,
/// one for notifications that are dropped, and smaller buffers. Buffers are allocated when they are needed, the slots of the
/// queue (`128 B × queue_capacity + 132 KiB`) at once. So an idle listener takes 2.2 MiB by default, and 160 KiB with a capacity
/// of 64; 1,000 of them take 2.2 GiB, or 160 MiB.
///
/// The receive buffers of a listener take less if less is unread:
///
/// | flow, and consumer | receive buffers and copies |
/// |---|---|
/// | sparse (reads of less than 4 KiB), and the consumer keeps up | 16 KiB, 32 KiB after the first 16 KiB |
/// | sparse for a while, and less than 8 KiB are unread since the consumer stopped to receive | 64 KiB |
/// | the consumer is behind, and has `u` unread bytes | 768 KiB + 9 × `u` |
///
/// So a consumer that sleeps does not keep a buffer for each notification: if it is two buffers behind, the first eighth of
/// each further buffer that is for it is copied. Buffers that are no longer used are freed after 16 sparse reads. Pinned buffers are
/// counted separately. Below the full size, notifications that are kept are copied and pin nothing.
///
/// More memory is used in these cases:
/// - A server sends messages that are longer than a buffer, as errors of PostgreSQL can be: up to `queue_bytes + 4 MiB`
///   more, 33 MiB in all by default.
/// - A query on the listening session ([`simple_query`](Listener::simple_query)) returns such long rows: the same, and up to
///   four times the length of a row while it is received. The result is limited by
///   [`Config::result_limit_bytes`](crate::Config::result_limit_bytes).
/// - Each session over TLS takes up to 512 KiB.
/// - Up to 64 unread gaps take up to 5 KB each.
/// - Each channel takes the length of its name, and 5 KB more while the server refuses it.
/// - The [command queue](crate::ListenerHandle#the-command-queue) holds up to 1 MiB, and one command if that is larger. The
///   encoded commands take up to twice as much until they are written.
/// - Copies that the application makes.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::{Listener, Overflow};
///
/// let listener = Listener::builder("postgres://localhost/shop")
///     .channels(["orders", "stock"])
///     .queue_capacity(4_096)
///     .overflow(Overflow::DropOldest)
///     .heartbeat(Duration::from_secs(5), Duration::from_secs(5))
///     .backoff(Duration::from_millis(100), Duration::from_secs(10))
///     .max_lifetime(Duration::from_secs(3_600))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
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
    read_delay: Duration,
    close_timeout: Duration,
    hook: Option<Hook>,
    hook_policy: HookPolicy,
    owner: Owner,
}

impl ListenerBuilder {
    pub(crate) fn new(config: Result<Config, Error>) -> Self {
        let defaults = Policy::default();
        let Reconnect { min, max, .. } = Reconnect::default();
        Self {
            config,
            channels: Vec::new(),
            capacity: QUEUE_CAPACITY,
            bytes: QUEUE_BYTES,
            pin_limit: PIN_LIMIT_BYTES,
            overflow: defaults.overflow,
            reconnect: true,
            retry_refusals: None,
            retry_first_connect: Duration::ZERO,
            retrying: None,
            backoff: (min, max),
            heartbeat: defaults.heartbeat,
            max_lifetime: None,
            read_delay: READ_DELAY_MAX,
            close_timeout: defaults.close_timeout,
            hook: None,
            hook_policy: HookPolicy::default(),
            owner: Owner::Listener,
        }
    }

    /// Sets what the task belongs to, for the texts of errors and log events.
    pub(crate) fn owner(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// Adds channels to listen to. [`connect`](Self::connect) returns when all of them are active. Keep their number below
    /// 1,000: see [`listen_all`](crate::ListenerHandle::listen_all).
    pub fn channels(mut self, channels: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.channels.extend(channels.into_iter().map(|channel| channel.as_ref().to_owned()));
        self
    }

    /// Sets the highest number of notifications in the queue: 1 to 524,288, by default 16,384.
    pub fn queue_capacity(mut self, notifications: usize) -> Self {
        self.capacity = notifications;
        self
    }

    /// Sets the highest number of bytes of notifications in the queue, by default 8 MiB. The lowest value is 256 KiB and one
    /// byte, the longest notification. See [memory](Self#memory).
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets the highest number of bytes of receive buffers that [shared batches](crate::Batch::share) and
    /// [retained](crate::NotificationRef::retain) notifications pin together, by default 8 MiB. See
    /// [memory](Self#memory).
    ///
    /// Whole buffers of 256 KiB are pinned, and each counts once. Notifications that would exceed the limit are copied
    /// instead, and nothing is lost: the buffers of the queue do not count. With a limit below 256 KiB everything is copied.
    /// [`Stats::pinned_bytes`](crate::Stats::pinned_bytes) is the current number.
    pub fn pin_limit_bytes(mut self, bytes: usize) -> Self {
        self.pin_limit = bytes;
        self
    }

    /// Sets what happens to notifications when the queue is full. By default `Block { max_stall: 1 s }`.
    ///
    /// Even with `Block`, the socket is read while a command or a [drain](crate::ListenerHandle::drain) waits for its answer,
    /// which the server sends after the notifications. Notifications that the full queue cannot take are then dropped and
    /// reported.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets whether the listener reconnects after a session is lost, by default true. If it does not, the listener ends, and
    /// [`recv`](Listener::recv) returns the error.
    ///
    /// Every attempt looks up names again, tries all hosts, and calls the password provider again. It takes at most
    /// `connect_timeout`. A refusal ends the listener, unless [`retry_refusals`](Self::retry_refusals) is set.
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Sets whether the listener tries again after a refusal, as after every other failure to reconnect. A refusal is a wrong
    /// password, a role or a database that does not exist, or an authentication method that this build does not support. By
    /// default it tries again if there are several hosts or a password provider, because the next attempt may succeed.
    ///
    /// Use `true` if the password file (`.pgpass`) or the roles of the server can change while the service runs: every attempt
    /// reads the file again. It also applies to [`retry_first_connect`](Self::retry_first_connect), where the default is
    /// false.
    ///
    /// A refusal with SQLSTATE 28000 is tried again in any case if `sslcert` names a file that does not exist, because the
    /// server may require this certificate.
    pub fn retry_refusals(mut self, retry: bool) -> Self {
        // Of a missing `sslcert`: N153.
        self.retry_refusals = Some(retry);
        self
    }

    /// Sets how long [`connect`](Self::connect) tries again while the server cannot be reached, is starting, or has too many
    /// connections. By default it does not try again. Use it if a program may start before its database.
    ///
    /// After a [transient](Error::is_transient) error the next attempt follows after a delay, see [`backoff`](Self::backoff).
    /// Other errors, such as a wrong password, are returned at once. The last attempt begins when `limit` has passed since the
    /// first one, and `connect` returns its error. Each attempt takes at most twice `connect_timeout` (a service
    /// file is read before and during the attempt), the time to listen to the channels, and the time of the first run of the
    /// [hook](Self::on_live). `Duration::MAX` means no limit.
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

    /// Calls `call` after each failed attempt of [`retry_first_connect`](Self::retry_first_connect) except the last, with its
    /// error and the delay before the next attempt. So a program can say why it still waits. [`connect`](Self::connect) returns
    /// the error of the last attempt.
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

    /// Sets the shortest and the longest delay before an attempt to reconnect, by default 50 ms and 30 s.
    ///
    /// Each delay is random, between the shortest and a limit that doubles with every attempt, so that many clients of one
    /// server do not reconnect at the same time. The limit is reset by a session that was live for at least the longest delay.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max);
        self
    }

    /// Sets the interval of the heartbeat, by default 10 s, and its timeout, by default 8 s. The heartbeat checks that the session
    /// is alive and listens to every wanted channel.
    ///
    /// A half-open connection, a server that hangs, or a pooler that has lost the subscription is detected within the sum of
    /// both. The heartbeat is one short query, or what [`Config::delivery_proof`] sets. The timeout counts from the last
    /// data of the server. The same timeout, but at most 30 s, applies to the answer to `listen` and `unlisten` on a live session.
    /// When a new session listens to its channels, the server has 30 s for each answer, because the first LISTEN may read
    /// a long queue.
    ///
    /// Because all data of the server restarts the timeout, a server that sends many notifications has more time for its
    /// answer: five minutes. While a query of the application runs on the listening session, there is no heartbeat. Then
    /// only TCP keepalive and the TCP user timeout check the connection.
    pub fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        self.heartbeat = Heartbeat { interval, timeout };
        self
    }

    /// Sets the age at which a session is replaced by a new one, without a gap. By default there is no limit.
    ///
    /// Use it if a server or a proxy ends sessions of a certain age, or if credentials expire. A random part of up to a tenth
    /// is subtracted.
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// Turns the delay of reads while notifications arrive densely on or off. A millisecond or more, by default, turns it on: a read
    /// is delayed by at most a millisecond. Less turns it off, because the runtime's timer has no shorter ticks.
    ///
    /// A server that sends many notifications writes 8 KiB, and some microseconds later another 8 KiB. To be woken for each of
    /// them costs more processor time than everything else. So after two reads of at least 8 KiB within half a millisecond, the
    /// next one waits for the next tick of the runtime's timer. A read that finds less than 16 KiB after that ends this. The rate
    /// stays the same.
    ///
    /// A notification arrives at most a millisecond later, plus what the operating system adds to every wait. Reads of less than
    /// 8 KiB never begin a delay. So notifications that arrive alone, of any length, or in groups of less than 8 KiB, are not
    /// delayed, also if each comes directly after the one before was received. There is one exception: a delay that has already
    /// begun also applies to what arrives first after a burst, or after an answer of at least 16 KiB. No read is delayed while the
    /// answer to a command or a heartbeat is missing, in a handover, and while the listener is closing.
    ///
    /// It has an effect only on Linux, and only over TCP, with and without TLS. [`Stats::reads_delayed`](crate::Stats::reads_delayed) counts the delays.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), pgbell::Error> {
    /// use std::time::Duration;
    ///
    /// let listener = pgbell::Listener::builder("postgres://localhost/shop")
    ///     .channels(["orders"])
    ///     .read_delay(Duration::ZERO)
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_delay(mut self, limit: Duration) -> Self {
        self.read_delay = net::whole_ticks(limit);
        self
    }

    /// Sets the longest time of [`close`](Listener::close), by default a second.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Returns the `close_timeout`.
    #[cfg(feature = "blocking")]
    pub(crate) fn close_limit(&self) -> Duration {
        self.close_timeout
    }

    /// Sets the hook: a function that runs when the session listens to every channel, at the start and after every
    /// [`Gap`](crate::Gap), before any notification is delivered.
    ///
    /// The hook reads the data that the notifications are about. It misses nothing, because notifications of later commits
    /// arrive after it.
    ///
    /// It gets a connection of its own to the server of the listening session, even if there are other hosts. The connection
    /// fails if that server has no free connection, or is a standby. Notifications that arrive during the run are queued,
    /// within the limits of the queue. The state of the listener is [`State::CatchingUp`](crate::State::CatchingUp) until
    /// the hook has returned.
    ///
    /// [`connect`](Self::connect) waits for the first run. If that run fails or panics, or the session is lost during it,
    /// `connect` ends the session and returns the error. So the hook must not wait for anything that happens after `connect`
    /// has returned, such as an event of the listener, or a task that is started later.
    ///
    /// A later run that fails, panics, or takes longer than [`on_live_timeout`](Self::on_live_timeout) is repeated after a
    /// delay, see [`backoff`](Self::backoff). The state is `CatchingUp` during that time, and nothing is delivered.
    /// [`Stats::hook_failures`](crate::Stats::hook_failures) counts these runs, and
    /// [`last_error`](crate::ListenerHandle::last_error) returns the reason. For a limit see
    /// [`on_live_failures_max`](Self::on_live_failures_max). If the session is lost, the run is cancelled, and ends at its next
    /// await. The next run begins after that, when the next session listens to every channel.
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
    ///         // ... store them ...
    ///         connection.close().await;
    ///         Ok(())
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
        self.hook = Some(Hook::new(self.owner, hook));
        self
    }

    /// Sets the longest time of a run of the [hook](Self::on_live), its connection included, by default 30 s. A run that takes
    /// longer is cancelled at its next await, and counts as failed. The next run begins when the cancelled one has ended, and
    /// its time begins then. A run that cannot begin within this time counts as failed too.
    pub fn on_live_timeout(mut self, timeout: Duration) -> Self {
        self.hook_policy.timeout = timeout;
        self
    }

    /// Sets the number of consecutive failures of the [hook](Self::on_live) after which the listener ends, at least 1. By
    /// default there is no limit, and the hook is repeated.
    ///
    /// The session is closed as by [`close`](Listener::close): notifications that were read are still delivered, or reported as
    /// [`Lagged`](crate::Lagged), before [`recv`](Listener::recv) returns the last error of the hook.
    pub fn on_live_failures_max(mut self, failures: u32) -> Self {
        self.hook_policy.failures_max = Some(failures);
        self
    }

    /// Connects, listens to the channels, starts the task that reads the socket, and waits for the first run of the
    /// [hook](Self::on_live).
    ///
    /// # Errors
    /// - [`ErrorKind::Config`] for parameters that are not valid.
    /// - [`ErrorKind::Misuse`] for a channel name that is empty, longer than 63 bytes, or contains a NUL.
    /// - The error of the first attempt to open a session, or of the first run of the [hook](Self::on_live). There is only one
    ///   attempt, unless [`retry_first_connect`](Self::retry_first_connect) is set.
    /// - [`ErrorKind::Other`] after a panic in code of the application that the attempt runs, such as a
    ///   [password provider](Config::password_provider).
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime without timers or without I/O: use `#[tokio::main]`, or `enable_all` of the
    /// runtime's [`Builder`](tokio::runtime::Builder). Where the call of
    /// [`on_first_connect_retry`](Self::on_first_connect_retry) panics.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(self) -> Result<Listener, Error> {
        // Boxed, so that the future of the caller stays small.
        self.connect_by(|builder| Box::pin(builder.connect_once())).await
    }

    /// Connects with `attempt`, which is repeated if [`retry_first_connect`](Self::retry_first_connect) is set.
    pub(crate) async fn connect_by<T>(
        mut self,
        attempt: impl Fn(Self) -> ConnectFuture<T>,
    ) -> Result<T, Error> {
        net::check_runtime();
        // Once for all attempts, because one call of the provider runs at a time.
        self.config = self.config.map(net::with_provider_thread);
        if self.retry_first_connect.is_zero() {
            return attempt(self).await;
        }
        let limit = self.retry_first_connect;
        let (min, max) = self.backoff;
        let retry_refusals = self.retry_refusals.unwrap_or(false);
        let reconnect = Reconnect { min, max, retry_refusals };
        let retrying = self.retrying.clone();
        let attempt = || attempt(self.clone());
        Box::pin(first_connect::connect(attempt, limit, reconnect, retrying)).await
    }

    async fn connect_once(self) -> Result<Listener, Error> {
        let (capacity, bytes, overflow) = (self.capacity as u64, self.bytes, self.overflow);
        let pins = Pins::new(self.pin_limit as u64);
        let owner = self.owner;
        let prepared = self.prepare().await?;
        let (producer, consumer) = ring::channel(capacity + SURPLUS_SLOTS);
        let shared = Arc::new(ListenerShared::new(owner, pins.clone()));
        let sink = RingSink::new(producer, capacity, bytes, overflow, pins, shared.queue());
        let running = prepared.start(sink, shared).await?;
        Ok(Listener::new(consumer, running))
    }

    /// Checks the settings, and reads the sources of the configuration.
    pub(crate) async fn prepare(self) -> Result<Prepared, Error> {
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
            return Err(Error::new(ErrorKind::Config, "max_stall is zero: use DropNewest instead"));
        }
        let (min, max) = self.backoff;
        if min.is_zero() || max < min {
            let message = format!(
                "backoff from {min:?} to {max:?}: the shortest delay must be above zero, and not above the longest"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        let Heartbeat { interval, timeout } = self.heartbeat;
        if interval.is_zero() || timeout.is_zero() {
            let message = format!(
                "the heartbeat has an interval of {interval:?} and a timeout of {timeout:?}: neither may be zero"
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
            let hook = self.owner.hook();
            let message = format!("{hook}_timeout and {hook}_failures_max must be above zero");
            return Err(Error::new(ErrorKind::Config, message));
        }
        for channel in &self.channels {
            wire::check_channel(channel)?;
        }
        // All sources are read here too, so that a wrong parameter is reported at once and by its name.
        let resolved = net::resolve(config.clone(), net::now()).await?;
        let connect_timeout = resolved.effective().connect_timeout();
        let policy = Policy {
            channels: self.channels,
            overflow: self.overflow,
            // Longer than the timeout of the attempt itself, whose error names the address that took the time.
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
            read_delay: self.read_delay,
            hook: self.hook.is_some().then_some(self.hook_policy),
            owner: self.owner,
        };
        Ok(Prepared { config, resolved, connect_timeout, policy, hook: self.hook })
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

//! [`ListenerBuilder`]: the settings of a blocking listener.

use std::time::Duration;

use super::connection::Connection;
use super::hook::Hook;
use super::listener::{self, Listener};
use crate::config::Config;
use crate::error::Error;
use crate::proto::supervisor::{Live, Overflow};

/// The settings of a blocking [`Listener`]. Made by [`Listener::builder`].
///
/// Its methods set what those of [`pgbell::ListenerBuilder`](crate::ListenerBuilder) set, with the same defaults and limits. Only the
/// [hook](Self::on_live) is another function.
///
/// ```no_run
/// # fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::blocking::Listener;
///
/// let mut listener = Listener::builder("postgres://localhost/shop")
///     .channels(["orders"])
///     .queue_capacity(256)
///     .retry_first_connect(Duration::from_secs(60))
///     .connect()?;
/// println!("{}", listener.recv()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens before connect"]
pub struct ListenerBuilder {
    builder: crate::ListenerBuilder,
    /// Becomes the hook of `builder` when a listener is made: what the runs of one listener share, those of another one do not.
    hook: Option<Hook>,
}

impl ListenerBuilder {
    pub(super) fn new(config: impl TryInto<Config, Error: Into<Error>>) -> Self {
        Self { builder: crate::Listener::builder(config), hook: None }
    }

    fn map(self, set: impl FnOnce(crate::ListenerBuilder) -> crate::ListenerBuilder) -> Self {
        Self { builder: set(self.builder), hook: self.hook }
    }

    /// See [`channels`](crate::ListenerBuilder::channels).
    pub fn channels(self, channels: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.map(|builder| builder.channels(channels))
    }

    /// See [`queue_capacity`](crate::ListenerBuilder::queue_capacity).
    pub fn queue_capacity(self, notifications: usize) -> Self {
        self.map(|builder| builder.queue_capacity(notifications))
    }

    /// See [`queue_bytes`](crate::ListenerBuilder::queue_bytes).
    pub fn queue_bytes(self, bytes: usize) -> Self {
        self.map(|builder| builder.queue_bytes(bytes))
    }

    /// See [`pin_limit_bytes`](crate::ListenerBuilder::pin_limit_bytes).
    pub fn pin_limit_bytes(self, bytes: usize) -> Self {
        self.map(|builder| builder.pin_limit_bytes(bytes))
    }

    /// See [`overflow`](crate::ListenerBuilder::overflow).
    pub fn overflow(self, overflow: Overflow) -> Self {
        self.map(|builder| builder.overflow(overflow))
    }

    /// See [`reconnect`](crate::ListenerBuilder::reconnect).
    pub fn reconnect(self, reconnect: bool) -> Self {
        self.map(|builder| builder.reconnect(reconnect))
    }

    /// See [`retry_refusals`](crate::ListenerBuilder::retry_refusals).
    pub fn retry_refusals(self, retry: bool) -> Self {
        self.map(|builder| builder.retry_refusals(retry))
    }

    /// See [`retry_first_connect`](crate::ListenerBuilder::retry_first_connect).
    pub fn retry_first_connect(self, limit: Duration) -> Self {
        self.map(|builder| builder.retry_first_connect(limit))
    }

    /// See [`on_first_connect_retry`](crate::ListenerBuilder::on_first_connect_retry). `call` is called in the thread that connects.
    ///
    /// # Panics
    /// A panic in `call` is one of [`connect`](Self::connect).
    pub fn on_first_connect_retry(
        self,
        call: impl Fn(&Error, Duration) + Send + Sync + 'static,
    ) -> Self {
        self.map(|builder| builder.on_first_connect_retry(call))
    }

    /// See [`backoff`](crate::ListenerBuilder::backoff).
    pub fn backoff(self, min: Duration, max: Duration) -> Self {
        self.map(|builder| builder.backoff(min, max))
    }

    /// See [`heartbeat`](crate::ListenerBuilder::heartbeat).
    pub fn heartbeat(self, interval: Duration, timeout: Duration) -> Self {
        self.map(|builder| builder.heartbeat(interval, timeout))
    }

    /// See [`max_lifetime`](crate::ListenerBuilder::max_lifetime).
    pub fn max_lifetime(self, lifetime: Duration) -> Self {
        self.map(|builder| builder.max_lifetime(lifetime))
    }

    /// See [`read_delay`](crate::ListenerBuilder::read_delay).
    pub fn read_delay(self, limit: Duration) -> Self {
        self.map(|builder| builder.read_delay(limit))
    }

    /// See [`close_timeout`](crate::ListenerBuilder::close_timeout).
    pub fn close_timeout(self, timeout: Duration) -> Self {
        self.map(|builder| builder.close_timeout(timeout))
    }

    /// Sets the hook: a function that runs when the session listens to every channel, at the start and after every
    /// [`Gap`](crate::Gap), before any notification is delivered. See [`on_live`](crate::ListenerBuilder::on_live).
    ///
    /// It is called in a thread of its own, with a blocking connection, and may block. A run that is cancelled, because the session is
    /// lost or by [`on_live_timeout`](Self::on_live_timeout), continues to the next call of its connection, which returns
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed); a call that waits returns that at once. The next run begins when it has
    /// returned. After the run its connection cannot be used any more. The runs of two listeners, also of two clones of this builder, do
    /// not wait for each other.
    ///
    /// The thread counts as one [inside of a tokio runtime](crate::blocking#inside-of-a-tokio-runtime), that of the listener: a
    /// [`Connection`] that is opened in the hook has a background thread, and a drop does not wait for the end of its session.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), pgbell::Error> {
    /// use pgbell::blocking::Listener;
    ///
    /// let listener = Listener::builder("postgres://localhost/shop")
    ///     .channels(["orders"])
    ///     .on_live(|mut connection, _live| {
    ///         let orders = connection.simple_query("SELECT id FROM orders")?;
    ///         // ... store them ...
    ///         connection.close();
    ///         Ok(())
    ///     })
    ///     .connect()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_live(
        self,
        hook: impl Fn(Connection, Live) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        Self { hook: Some(Hook::new(hook)), ..self }
    }

    /// See [`on_live_timeout`](crate::ListenerBuilder::on_live_timeout).
    pub fn on_live_timeout(self, timeout: Duration) -> Self {
        self.map(|builder| builder.on_live_timeout(timeout))
    }

    /// See [`on_live_failures_max`](crate::ListenerBuilder::on_live_failures_max).
    pub fn on_live_failures_max(self, failures: u32) -> Self {
        self.map(|builder| builder.on_live_failures_max(failures))
    }

    /// Connects, listens to the channels, starts the background thread, and waits for the first run of the [hook](Self::on_live).
    /// See [`connect`](crate::ListenerBuilder::connect).
    ///
    /// Blocks as long as that takes: `connect_timeout` limits an attempt, and [`on_live_timeout`](Self::on_live_timeout) the hook.
    ///
    /// # Errors
    /// See there.
    /// - [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) where a call [cannot wait](crate::blocking#where-a-call-cannot-wait).
    /// - [`ErrorKind::Connect`](crate::ErrorKind::Connect) if the system has no threads or file descriptors left.
    pub fn connect(self) -> Result<Listener, Error> {
        listener::connect(match self.hook {
            Some(hook) => self.builder.on_live(hook.in_thread()),
            None => self.builder,
        })
    }
}

//! [`HubBuilder`]: the settings of a hub.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Hub;
use super::handle::HubHandle;
use super::keeper::keep;
use super::shared::HubShared;
use super::sink::HubSink;
use super::topic_rules::TopicRules;
use crate::config::Config;
use crate::connection::Connection;
use crate::error::Error;
use crate::listener::ListenerBuilder;
use crate::listener::shared::ListenerShared;
use crate::notification::TopicOf;
use crate::proto::ring::Pins;
use crate::proto::supervisor::{Live, Overflow, Owner};

/// The settings of a hub. Made by [`Hub::builder`].
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::{Hub, TopicOf};
///
/// let hub = Hub::builder("postgres://localhost/shop")
///     .topic_of(TopicOf::Prefix(b'/'))
///     .retry_first_connect(Duration::from_secs(60))
///     .on_resync(|connection, _| async move {
///         // Read again what the notifications are about.
///         connection.close().await;
///         Ok(())
///     })
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens before connect"]
pub struct HubBuilder {
    listener: ListenerBuilder,
    topics: TopicRules,
}

impl HubBuilder {
    pub(super) fn new(config: Result<Config, Error>) -> Self {
        // A hub never stalls: each queue has its own policy.
        let listener =
            ListenerBuilder::new(config).owner(Owner::Hub).overflow(Overflow::DropNewest);
        Self { listener, topics: TopicRules::default() }
    }

    /// Changes a setting that a hub has in common with a listener.
    fn with(mut self, change: impl FnOnce(ListenerBuilder) -> ListenerBuilder) -> Self {
        self.listener = change(self.listener);
        self
    }

    /// Sets how the topic of a notification is found in its payload, by default up to the first `:`.
    pub fn topic_of(mut self, topic_of: TopicOf) -> Self {
        self.topics.topic_of = topic_of;
        self
    }

    /// Sets how topics are found in the payloads of one channel.
    pub fn channel_topic_of(mut self, channel: impl Into<String>, topic_of: TopicOf) -> Self {
        self.topics.topics_of.insert(channel.into(), topic_of);
        self
    }

    /// See [`ListenerBuilder::reconnect`].
    pub fn reconnect(self, reconnect: bool) -> Self {
        self.with(|listener| listener.reconnect(reconnect))
    }

    /// See [`ListenerBuilder::retry_refusals`].
    pub fn retry_refusals(self, retry: bool) -> Self {
        self.with(|listener| listener.retry_refusals(retry))
    }

    /// See [`ListenerBuilder::retry_first_connect`].
    pub fn retry_first_connect(self, limit: Duration) -> Self {
        self.with(|listener| listener.retry_first_connect(limit))
    }

    /// See [`ListenerBuilder::on_first_connect_retry`].
    ///
    /// # Panics
    /// A panic in `call` is one of [`connect`](Self::connect).
    pub fn on_first_connect_retry(
        self,
        call: impl Fn(&Error, Duration) + Send + Sync + 'static,
    ) -> Self {
        self.with(|listener| listener.on_first_connect_retry(call))
    }

    /// See [`ListenerBuilder::backoff`].
    pub fn backoff(self, min: Duration, max: Duration) -> Self {
        self.with(|listener| listener.backoff(min, max))
    }

    /// See [`ListenerBuilder::heartbeat`].
    pub fn heartbeat(self, interval: Duration, timeout: Duration) -> Self {
        self.with(|listener| listener.heartbeat(interval, timeout))
    }

    /// See [`ListenerBuilder::max_lifetime`].
    pub fn max_lifetime(self, lifetime: Duration) -> Self {
        self.with(|listener| listener.max_lifetime(lifetime))
    }

    /// See [`ListenerBuilder::read_delay`].
    pub fn read_delay(self, limit: Duration) -> Self {
        self.with(|listener| listener.read_delay(limit))
    }

    /// Sets the longest time of [`close`](Hub::close), by default a second.
    pub fn close_timeout(self, timeout: Duration) -> Self {
        self.with(|listener| listener.close_timeout(timeout))
    }

    /// Sets a function that runs when the session listens to every channel, at the start and after every [`Gap`](crate::Gap), before any
    /// notification is delivered to a subscription. It reads again, once for the whole process, what the notifications are about. See
    /// [`ListenerBuilder::on_live`].
    ///
    /// At the start there is no subscription yet.
    pub fn on_resync<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(Connection, Live) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.with(|listener| listener.on_live(hook))
    }

    /// See [`ListenerBuilder::on_live_timeout`].
    pub fn on_resync_timeout(self, timeout: Duration) -> Self {
        self.with(|listener| listener.on_live_timeout(timeout))
    }

    /// See [`ListenerBuilder::on_live_failures_max`].
    pub fn on_resync_failures_max(self, failures: u32) -> Self {
        self.with(|listener| listener.on_live_failures_max(failures))
    }

    /// Connects, starts the task that reads the socket, and waits for the first run of the [hook](Self::on_resync).
    ///
    /// # Errors
    /// - [`ErrorKind::Config`](crate::ErrorKind::Config) for settings that are not valid.
    /// - [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) for a channel of [`channel_topic_of`](Self::channel_topic_of) that is empty, longer than 63
    ///   bytes, or contains a NUL.
    /// - Otherwise as [`ListenerBuilder::connect`].
    ///
    /// # Panics
    /// As [`ListenerBuilder::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(self) -> Result<Hub, Error> {
        let Self { listener, topics } = self;
        topics.check()?;
        // Boxed, so that the future of the caller stays small.
        listener.connect_by(|listener| Box::pin(connect_once(listener, topics.clone()))).await
    }
}

async fn connect_once(listener: ListenerBuilder, topics: TopicRules) -> Result<Hub, Error> {
    let prepared = listener.prepare().await?;
    let listener = Arc::new(ListenerShared::new(Owner::Hub, Pins::new(0)));
    let shared = Arc::new(HubShared::new(topics, listener.clone()));
    let running = prepared.start(HubSink::new(shared.clone()), listener).await?;
    let handle = HubHandle::new(shared.clone(), running.handle.clone());
    tokio::spawn(keep(shared, running.handle.clone()));
    Ok(Hub::new(handle, running))
}

/// A builder can be awaited: that is [`connect`](HubBuilder::connect).
impl IntoFuture for HubBuilder {
    type Output = Result<Hub, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect())
    }
}

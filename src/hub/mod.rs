//! [`Hub`]: one connection, and any number of subscriptions.
//!
//! ```text
//!                    ┌─ routes: channels, topics, who receives what ─┐
//! subscribe, drop ──▶│                                               │──▶ keeper: LISTEN, UNLISTEN ──▶ command queue
//!                    └───────────────────────▲───────────────────────┘
//! socket ─▶ listener's task ─▶ supervisor ─▶ sink ─▶ mailbox ─▶ Subscription
//!                                                    mailbox ─▶ Subscription
//! ```
//! The task, the supervisor and the session are those of a listener; only the sink is another one. A mailbox is the queue of one
//! subscription.

mod builder;
mod channel;
mod filter;
mod frame_runs;
mod handle;
mod keeper;
mod mailbox;
mod members;
mod routes;
mod shared;
mod sink;
mod stats;
mod subscribe;
mod subscription;
#[cfg(test)]
pub(crate) mod tests;
mod topic_rules;
mod topic_runs;

use std::time::Duration;

pub use self::builder::HubBuilder;
pub(crate) use self::frame_runs::by_channel;
pub use self::handle::HubHandle;
pub use self::mailbox::SubscriptionStats;
pub use self::stats::HubStats;
pub(crate) use self::subscribe::QUEUE_BYTES_MIN;
pub use self::subscribe::Subscribe;
pub use self::subscription::Subscription;
use crate::config::Config;
use crate::error::Error;
use crate::listener::RunningTask;
use crate::proto::supervisor::State;

/// One connection for a whole process: any number of subscriptions, on any task and thread, each with its own queue.
///
/// Up to PostgreSQL 18, every NOTIFY wakes every session that listens in its database, and every channel costs a session time for every
/// notification of the database. So a connection for each subscriber does not scale, and neither does a channel for each. A hub has one
/// session, which listens to each channel once; and a [topic](Self::subscribe_topic), which the hub finds in the payload, needs no channel
/// of its own.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::{Event, Hub};
///
/// let hub = Hub::connect("postgres://localhost/shop").await?;
/// for user in ["ann", "bob"] {
///     let mut subscription = hub.subscribe_topic("messages", user).await?;
///     tokio::spawn(async move {
///         while let Ok(event) = subscription.recv().await {
///             match event {
///                 Event::Notification(n) => println!("for {user}: {}", n.payload()),
///                 loss => println!("{user} must read again: {loss}"),
///             }
///         }
///     });
/// }
/// # Ok(())
/// # }
/// ```
///
/// Dropping the hub ends its session in the background. [`close`](Self::close) waits for the end. Subscriptions then receive what is in
/// their queues, and after that [`ErrorKind::Closed`](crate::ErrorKind::Closed).
///
/// # Memory
/// A subscription that has received everything takes less than 1 KiB, its name and its topic included. The bytes of unread
/// notifications are stored once for all subscriptions that receive them, and each subscription takes up to 512 bytes more for what one read has
/// brought it. So a subscription takes at most
/// ```text
/// 1 KiB + 4 × queue_bytes + 512 B × queue_capacity
/// ```
/// for every behaviour of its consumer: at most twice `queue_bytes` in the queue, and as much in the batch that was received last. Up to 16 unread
/// gaps are shared too, unless they were merged. The hub itself takes up to 1 MiB, and what
/// [`ListenerBuilder`](crate::ListenerBuilder#memory) says of long messages, TLS and commands.
#[derive(Debug)]
pub struct Hub {
    handle: HubHandle,
    running: RunningTask,
}

impl Hub {
    /// Connects, and starts the task that reads the socket.
    ///
    /// `config` is a URL, a `key=value` string or a [`Config`]. Parameters that it does not set are taken from the `PG*`
    /// environment variables.
    ///
    /// # Errors
    /// See [`HubBuilder::connect`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime without timers or without I/O: use `#[tokio::main]`, or `enable_all` of the
    /// runtime's [`Builder`](tokio::runtime::Builder).
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<Self, Error> {
        Self::builder(config).connect().await
    }

    /// Returns a builder, to change the settings of the hub.
    pub fn builder(config: impl TryInto<Config, Error: Into<Error>>) -> HubBuilder {
        HubBuilder::new(config.try_into().map_err(Into::into))
    }

    fn new(handle: HubHandle, running: RunningTask) -> Self {
        Self { handle, running }
    }

    /// Subscribes to a channel. Await the result, or change its settings before: [`Subscribe`].
    ///
    /// It resolves when the server has committed the LISTEN, or at once if the hub listens to the channel already: what is committed from
    /// then on arrives, or a loss is reported. While there is no session it resolves at once, and the first event is a
    /// [`Gap`](crate::Gap).
    ///
    /// ```no_run
    /// # async fn example(hub: pgbell::Hub) -> Result<(), pgbell::Error> {
    /// let mut orders = hub.subscribe("orders").await?;
    /// let mut prices = hub.subscribe("prices").queue_capacity(16).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self, channel: impl AsRef<str>) -> Subscribe {
        self.handle.subscribe(channel)
    }

    /// Subscribes to several channels, whose notifications arrive in the order in which the server sent them. A list without channels is an
    /// error. See [`subscribe`](Self::subscribe).
    pub fn subscribe_many(&self, channels: impl IntoIterator<Item = impl AsRef<str>>) -> Subscribe {
        self.handle.subscribe_many(channels)
    }

    /// Subscribes to a topic of a channel: to the notifications whose payload has this topic. See [`subscribe`](Self::subscribe).
    ///
    /// By default the topic is the payload up to the first `:`, as [`Notifier::notify_topic`](crate::Notifier::notify_topic) writes it, and the
    /// subscription receives what follows. [`HubBuilder::topic_of`] sets another rule. Notifications without a topic reach only the
    /// subscriptions to the whole channel, which receive every payload unchanged.
    ///
    /// ```no_run
    /// # async fn example(hub: pgbell::Hub, notifier: pgbell::Notifier) -> Result<(), pgbell::Error> {
    /// let mut order = hub.subscribe_topic("orders", "42").await?;
    /// notifier.notify_topic("orders", "42", "paid").await?;
    /// let event = order.recv().await?;
    /// assert_eq!(event.notification().map(|n| n.payload()), Some("paid"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe_topic(&self, channel: impl AsRef<str>, topic: impl AsRef<str>) -> Subscribe {
        self.handle.subscribe_topic(channel, topic)
    }

    /// Returns a handle for other tasks.
    #[must_use]
    pub fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// Returns the state of the hub: that of its session.
    #[must_use]
    pub fn state(&self) -> State {
        self.handle.state()
    }

    /// Returns the process id of the session in the server. See [`HubHandle::process_id`].
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.handle.process_id()
    }

    /// Returns the last error. See [`HubHandle::last_error`].
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.handle.last_error()
    }

    /// Returns the statistics of the hub.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        self.handle.stats()
    }

    /// See [`HubHandle::drain`].
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// See there.
    pub async fn drain(&self, timeout: Duration) -> Result<(), Error> {
        self.handle.drain(timeout).await
    }

    /// Ends the session with Terminate, and waits for the end of the task. Every subscription still receives what is in its queue.
    ///
    /// This takes at most [`close_timeout`](HubBuilder::close_timeout), by default a second, and one more second if a
    /// run of the hook has not reached its next await.
    ///
    /// # Cancel safety
    /// The hub closes even if the future is dropped.
    pub async fn close(self) {
        self.handle.close().await;
        self.running.close().await;
    }
}

/// Returns [`Hub::handle`], for functions that need no more than a handle.
impl From<&Hub> for HubHandle {
    fn from(hub: &Hub) -> Self {
        hub.handle()
    }
}

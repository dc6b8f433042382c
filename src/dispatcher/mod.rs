//! [`Dispatcher`]: calls handlers with the notifications of a listener or a hub.
//!
//! ```text
//! listener ─▶ reader ─▶ router ─┬▶ queue ─▶ lane ─▶ run ─▶ handler
//!                               └▶ queue ─▶ lane ─▶ run ─▶ handler      control: waits for all of them, and bounds a stop
//!
//! hub ─┬▶ subscription ─▶ lane ─▶ run ─▶ handler
//!      └▶ subscription ─▶ lane ─▶ run ─▶ handler
//! ```
//! A lane is a channel or a topic with its handlers, and a task. A run is one call of a handler with its retries. It waits for one of the
//! permits that limit the handlers that run at once.

mod barrier;
mod byte_budget;
mod contained;
mod control;
mod drain;
mod failure;
mod handle;
mod handler;
#[cfg(feature = "json")]
mod json;
mod key;
mod lane;
mod lane_queue;
mod loss;
mod phase;
mod reader;
mod retry;
mod router;
mod run;
mod running;
mod shared;
mod source;
mod start;
mod stats;
mod stopped;
#[cfg(all(test, feature = "testing"))]
mod tests;
mod until;

use std::collections::BTreeMap;
use std::future::Future;

#[cfg(feature = "durable")]
pub(crate) use self::contained::{ContainedRun, Outcome};
pub use self::failure::{Failure, FailureCause};
pub use self::handle::DispatcherHandle;
#[cfg(feature = "durable")]
pub(crate) use self::handler::Function;
pub use self::handler::HandlerOutput;
pub(crate) use self::handler::erased;
use self::handler::{Handler, Reports};
use self::key::LaneKey;
pub use self::loss::DispatchLoss;
#[cfg(feature = "durable")]
pub(crate) use self::phase::{Demand, Phase, deadline_in};
pub use self::retry::Retry;
pub use self::running::RunningDispatcher;
pub use self::stats::DispatcherStats;
pub use self::stopped::Stopped;
use crate::error::Error;
use crate::hub::HubHandle;
use crate::listener::Listener;
use crate::notification::{Notification, TopicOf};

/// Calls handlers with the notifications of channels and topics, over a [`Listener`] or a [`Hub`](crate::Hub).
///
/// ```no_run
/// # async fn store(_: &str) -> Result<(), pgbell::Error> { Ok(()) }
/// # async fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::{Dispatcher, Listener, Notification, Retry};
///
/// let listener = Listener::connect("postgres://localhost/shop").await?;
/// let running = Dispatcher::new()
///     .on("orders", |n: Notification| async move { store(n.payload()).await })
///     .on_batch("stock", 100, |batch: Vec<Notification>| async move {
///         println!("{} changes", batch.len());
///     })
///     .on_loss(|loss| async move { println!("read your tables again: {loss}") })
///     .on_failure(|failure| async move { println!("{failure}") })
///     .retry(Retry::new(5).backoff(Duration::from_millis(100), Duration::from_secs(5)))
///     .run(listener)
///     .await?;
/// running.wait().await
/// # }
/// ```
///
/// # Order
/// The handlers of a channel, or of a topic, are a *lane*. In a lane one handler runs at a time, in the order in which the server sent the
/// notifications: all handlers of the lane, in the order in which they were added, handle one notification before the next one. If one of
/// them takes [batches](Self::on_batch), they all handle one batch before the next one. There is no order between lanes: a notification of a
/// channel with a handler for all of it and one for its topic is in two lanes.
///
/// At most [`concurrency`](Self::concurrency) handlers run at once. The order in which lanes wait for their turn is that in which they
/// began to wait.
///
/// # Errors and panics of handlers
/// A handler that returns an error is called again with the same notifications, as [`retry`](Self::retry) says, while its lane waits and other
/// lanes run. After the last attempt, and after a panic, [`on_failure`](Self::on_failure) gets the [`Failure`], and the lane continues with
/// the next handler or notification. A payload that a handler for JSON cannot decode is a failure too: the handler is not called, and there is
/// no further attempt. A panic is contained where the handler creates its future, in the future, and in the drop of the future, of
/// the error, and of what the handler has captured, also if several of them panic.
///
/// A handler that blocks its thread also keeps a thread of the runtime from other tasks. Use
/// [`spawn_blocking`](tokio::task::spawn_blocking) for it.
///
/// # Losses
/// Over a [`Hub`](crate::Hub) each lane has its own losses: the [loss handler](Self::on_loss) is called for a lane after all notifications of
/// the lane that were received before the loss, and before all later ones. It can run for several lanes at once.
///
/// Over a [`Listener`] a loss concerns all lanes. The loss handler is called once, after all lanes have handled everything that was received
/// before the loss, retries included. Nothing that was received after the loss is handled before it has ended.
///
/// A loss handler that fails is tried again as any other handler. Without one, losses are only counted: [`DispatcherStats::losses`].
///
/// # A slow handler
/// Over a [`Hub`](crate::Hub) each lane is a subscription, and [`lane_capacity`](Self::lane_capacity) and [`lane_bytes`](Self::lane_bytes) are
/// the limits of its queue. A lane whose queue is full loses notifications, which its loss handler gets as [`Lagged`](crate::Lagged). Other lanes are not concerned.
///
/// Over a [`Listener`] nothing is received while the queue of one lane is full. Then other lanes wait too, and the queue of the listener fills,
/// until its [overflow policy](crate::ListenerBuilder::overflow) applies. Use a hub if a slow handler must not delay the others.
///
/// # Memory
/// [`lane_capacity`](Self::lane_capacity) and [`lane_bytes`](Self::lane_bytes) limit the queue of each lane. Over a [`Listener`] it has at most
/// ```text
/// lane_bytes + 256 B × lane_capacity
/// ```
/// or one notification that is larger than `lane_bytes`. Over a [`Hub`](crate::Hub) it takes what
/// [a subscription](crate::Hub#memory) with these limits takes:
/// ```text
/// 1 KiB + 4 × lane_bytes + 512 B × lane_capacity
/// ```
/// In addition each lane has its task, and the notifications of one run twice, because the handler gets a copy. A run has one notification, or
/// those of a batch with `limit`:
/// ```text
/// 2 × (lane_bytes + one notification + 256 B × limit)
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before it is run"]
pub struct Dispatcher {
    lanes: BTreeMap<LaneKey, Vec<Handler>>,
    reports: Reports,
    topic_of: TopicOf,
    concurrency: usize,
    lane_capacity: usize,
    lane_bytes: usize,
    retry: Retry,
}

impl Dispatcher {
    /// Returns a dispatcher without handlers: at most 8 run at once, nothing is tried again, and 1,024 notifications or 1 MiB of them wait for
    /// each channel or topic.
    pub fn new() -> Self {
        Self {
            lanes: BTreeMap::new(),
            reports: Reports::default(),
            topic_of: TopicOf::default(),
            concurrency: 8,
            lane_capacity: 1_024,
            lane_bytes: 1024 * 1024,
            retry: Retry::default(),
        }
    }

    /// Adds a handler for a channel: a function whose future handles one notification. It returns nothing, or a `Result` whose error is tried
    /// again: [`HandlerOutput`].
    ///
    /// Several handlers of one channel run in the order in which they were added.
    ///
    /// ```
    /// use pgbell::{Dispatcher, Notification};
    ///
    /// async fn audit(order: Notification) -> Result<(), std::io::Error> {
    ///     println!("{}", order.payload());
    ///     Ok(())
    /// }
    ///
    /// let dispatcher = Dispatcher::new()
    ///     .on("orders", audit)
    ///     .on("orders", |order: Notification| async move { println!("after it: {order}") });
    /// ```
    pub fn on<F, Fut>(self, channel: impl AsRef<str>, handler: F) -> Self
    where
        F: Fn(Notification) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        self.with(channel.as_ref(), None, Handler::Single(erased(handler)))
    }

    /// Adds a handler for a topic of a channel. See [`on`](Self::on).
    ///
    /// Over a [`Hub`](crate::Hub), topics are found as [the hub](crate::HubBuilder::topic_of) does it. Over a [`Listener`], they are found as
    /// [`topic_of`](Self::topic_of) says. With [`TopicOf::Prefix`](crate::TopicOf::Prefix), the handler gets the payload without the topic and the
    /// separator, otherwise the whole payload.
    pub fn on_topic<F, Fut>(
        self,
        channel: impl AsRef<str>,
        topic: impl AsRef<str>,
        handler: F,
    ) -> Self
    where
        F: Fn(Notification) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        let handler = Handler::Single(erased(handler));
        self.with(channel.as_ref(), Some(topic.as_ref()), handler)
    }

    /// Adds a handler for a channel that gets several notifications at once: those that wait when it is called, at most `limit`, at least one.
    /// If more wait, it is called again at once when it has ended. It does not wait until a batch is full.
    ///
    /// A batch has at most [`lane_capacity`](Self::lane_capacity) notifications, ends when it has [`lane_bytes`](Self::lane_bytes) or more, and
    /// does not extend over a loss. An error or a panic is a failure of the whole batch, and a retry gets the whole batch again. With several
    /// batch handlers on one channel, the lowest limit is that of all.
    pub fn on_batch<F, Fut>(self, channel: impl AsRef<str>, limit: usize, handler: F) -> Self
    where
        F: Fn(Vec<Notification>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        self.with(channel.as_ref(), None, Handler::Batch(limit, erased(handler)))
    }

    /// Adds a handler for a topic of a channel that gets several notifications at once. See [`on_batch`](Self::on_batch) and
    /// [`on_topic`](Self::on_topic).
    pub fn on_topic_batch<F, Fut>(
        self,
        channel: impl AsRef<str>,
        topic: impl AsRef<str>,
        limit: usize,
        handler: F,
    ) -> Self
    where
        F: Fn(Vec<Notification>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        let handler = Handler::Batch(limit, erased(handler));
        self.with(channel.as_ref(), Some(topic.as_ref()), handler)
    }

    /// Sets the handler for [losses](Self#losses). A later one replaces it.
    pub fn on_loss<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(DispatchLoss) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        self.reports.loss = Some(erased(handler));
        self
    }

    /// Sets the handler for [failures](Self#errors-and-panics-of-handlers): it can write what was not handled to a log or a table. The lane
    /// continues when it has ended. What it returns is not used, and it is not tried again. A later handler replaces it.
    ///
    /// Without one, failures are only counted: [`DispatcherStats::failures`].
    pub fn on_failure<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Failure) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        self.reports.failure = Some(erased(handler));
        self
    }

    /// Sets how many handlers run at once, across all channels and topics, by default 8, at least 1. The handlers for losses and failures
    /// count too.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// Sets how often and when a handler is tried that returns an error. By default there is one attempt.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how many notifications wait for each channel or topic, by default 1,024, at least 1. See [A slow handler](Self#a-slow-handler).
    pub fn lane_capacity(mut self, notifications: usize) -> Self {
        self.lane_capacity = notifications;
        self
    }

    /// Sets how many bytes of notifications wait for each channel or topic, by default 1 MiB, at least 8 KiB. A notification counts with its
    /// channel and 11 bytes. See [A slow handler](Self#a-slow-handler) and [Memory](Self#memory).
    ///
    /// Over a [`Hub`](crate::Hub) it is [`queue_bytes`](crate::Subscribe::queue_bytes) of the subscriptions. Over a [`Listener`] a notification that is
    /// larger waits until the queue of its lane is empty. There more than 4 GiB count as 4 GiB.
    pub fn lane_bytes(mut self, bytes: usize) -> Self {
        self.lane_bytes = bytes;
        self
    }

    /// Sets how topics are found in payloads over a [`Listener`], by default up to the first `:`. A hub has
    /// [its own setting](crate::HubBuilder::topic_of). A panic of a [function](TopicOf::function) is contained: the notification has no topic.
    pub fn topic_of(mut self, topic_of: TopicOf) -> Self {
        self.topic_of = topic_of;
        self
    }

    /// Listens to the channels of the handlers, and starts the tasks. The listener belongs to the dispatcher then: take a
    /// [handle](Listener::handle) of it before, to read its state or to listen to more.
    ///
    /// If the listener has no session, its next one listens to the channels, and the loss handler gets the gap.
    ///
    /// Notifications that are in the queue of the listener, and those of channels without a handler, are handled or
    /// [counted](DispatcherStats::unclaimed) too.
    ///
    /// # Errors
    /// Before anything is sent:
    /// - [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) without a handler of notifications, for a channel that is empty, longer than 63 bytes or
    ///   contains a NUL, and for a topic that is empty or contains the separator;
    /// - [`ErrorKind::Config`](crate::ErrorKind::Config) for a limit, a capacity or a number of attempts of zero, for less than 8 KiB in
    ///   `lane_bytes`, for a longest delay of retries that is less than the shortest one, for a separator that is not ASCII, and for a field of JSON without
    ///   a name.
    ///
    /// After that as [`Listener::listen_all`]. After an error the listener is dropped.
    ///
    /// # Cancel safety
    /// Dropping the future drops the listener.
    pub async fn run(self, listener: Listener) -> Result<RunningDispatcher, Error> {
        start::over_listener(self, listener).await
    }

    /// Makes a subscription for each channel and each topic of the handlers, and starts the tasks. The hub stays: other subscriptions
    /// receive from it, and the dispatcher ends with it.
    ///
    /// It takes a reference to a [`Hub`](crate::Hub), or a [`HubHandle`] by value or by reference.
    ///
    /// ```no_run
    /// # async fn example(hub: pgbell::Hub) -> Result<(), pgbell::Error> {
    /// use pgbell::{Dispatcher, Notification};
    ///
    /// let print = || Dispatcher::new().on("orders", |n: Notification| async move { println!("{n}") });
    /// let running = print().run_hub(&hub).await?;
    ///
    /// let handle = hub.handle();
    /// let more = tokio::spawn(async move { print().run_hub(handle).await });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run), except that topics are checked by the hub. After that as [`Subscribe`](crate::Subscribe). After an error no
    /// subscription is left.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind.
    pub async fn run_hub(self, hub: impl Into<HubHandle>) -> Result<RunningDispatcher, Error> {
        start::over_hub(self, hub.into()).await
    }

    fn with(mut self, channel: &str, topic: Option<&str>, handler: Handler) -> Self {
        let key = LaneKey { channel: channel.into(), topic: topic.map(Into::into) };
        self.lanes.entry(key).or_default().push(handler);
        self
    }
}

impl Default for Dispatcher {
    fn default() -> Self {
        Self::new()
    }
}

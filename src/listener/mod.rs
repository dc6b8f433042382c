//! [`Listener`]: a task reads the socket into a queue, and the listener receives from the queue.

mod builder;
pub(crate) mod command_queue;
pub(crate) mod environment;
mod facades;
mod first_connect;
mod guarded;
pub(crate) mod handle;
mod hook;
mod links;
#[cfg(feature = "metrics")]
mod metrics;
mod running;
mod scope;
pub(crate) mod shared;
mod stats;
pub(crate) mod task;
mod telemetry;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

pub use self::builder::ListenerBuilder;
pub use self::handle::ListenerHandle;
pub(crate) use self::running::RunningTask;
use self::scope::Leaving;
pub use self::scope::ListenScope;
pub use self::stats::Stats;
use crate::config::Config;
use crate::error::Error;
use crate::notification::{Batch, Event, Gap};
#[cfg(feature = "json")]
use crate::notification::{JsonStream, TryRecv};
use crate::proto::ring::Consumer;
use crate::proto::session::{Rows, channel_names};
use crate::proto::supervisor::{Listening, State};
use crate::queue::{Chunk, CurrentRun, Receiver, Recv, RingSource};
use futures_core::{FusedStream, Stream};

/// A listener that reconnects and reports every loss. A task of its own reads the socket into a bounded queue.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::{Event, Listener};
///
/// let mut listener = Listener::connect("postgres://localhost/shop").await?;
/// listener.listen("orders").await?;
/// loop {
///     match listener.recv().await? {
///         Event::Notification(n) => println!("{}: {}", n.channel(), n.payload()),
///         loss => println!("read your tables again: {loss}"),
///     }
/// }
/// # }
/// ```
///
/// The methods that receive take `&mut self`. All other methods are also available on a [`handle`](Self::handle), from any
/// task, while this receives.
///
/// Dropping a listener ends its session in the background. [`close`](Self::close) waits for the end.
pub struct Listener {
    receiver: Receiver<RingSource>,
    running: RunningTask,
    /// The unanswered UNLISTEN of a scope that was dropped.
    leaving: Option<Leaving>,
}

impl Listener {
    /// Connects, and starts the task that reads the socket.
    ///
    /// `config` is a URL, a `key=value` string or a [`Config`]. Parameters that it does not set are taken from the `PG*`
    /// environment variables.
    ///
    /// # Errors
    /// See [`ListenerBuilder::connect`].
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

    /// Returns a builder, to change the settings of the listener.
    pub fn builder(config: impl TryInto<Config, Error: Into<Error>>) -> ListenerBuilder {
        ListenerBuilder::new(config.try_into().map_err(Into::into))
    }

    /// Creates a listener that receives from `consumer`.
    pub(crate) fn new(consumer: Consumer<Chunk, Gap>, running: RunningTask) -> Self {
        let shared = running.handle.shared();
        let receiver = Receiver::new(
            RingSource::new(consumer, shared.counters.queue.consumer.clone()),
            CurrentRun::in_buffers(shared.pins.clone()),
            shared.end.clone(),
        );
        Self { receiver, running, leaving: None }
    }

    // ---- receiving ----

    /// Waits for the next event.
    ///
    /// # Errors
    /// After the end of the listener, when everything that was received is delivered:
    /// - the error that the listener ended with, once: the session was lost and reconnecting is disabled, or a server
    ///   refused the next session;
    /// - [`Other`](crate::ErrorKind::Other) with the message of the panic, once, if the task of the listener panicked, for
    ///   example in the waker of a future that receives;
    /// - [`Closed`](crate::ErrorKind::Closed) from then on, and after [`close`](ListenerHandle::close) through a handle.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing.
    #[inline(always)]
    pub fn recv(&mut self) -> impl Future<Output = Result<Event, Error>> + Send {
        Recv(&mut self.receiver)
    }

    /// Polls for the next event. The waker of the last call is woken.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    #[inline(always)]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        self.receiver.poll_recv(cx)
    }

    /// Returns the next event, if one is queued.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        self.receiver.try_recv()
    }

    /// Waits for the notifications of one read of the socket, and returns them as a batch, without a copy.
    ///
    /// The batch may contain a [loss](Batch::loss), and may contain only that.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// A dropped future loses nothing. A batch that was returned counts as delivered.
    pub async fn recv_batch(&mut self) -> Result<Batch<'_>, Error> {
        self.recv_batch_max(usize::MAX).await
    }

    /// Waits for a [batch](Self::recv_batch) of at most `max` notifications. Zero counts as one.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// A dropped future loses nothing. A batch that was returned counts as delivered.
    pub async fn recv_batch_max(&mut self, max: usize) -> Result<Batch<'_>, Error> {
        poll_fn(|cx| self.receiver.poll_batch(cx)).await?;
        Ok(self.receiver.batch(max))
    }

    /// Receives with the payloads decoded as JSON.
    ///
    /// ```no_run
    /// # async fn example(listener: pgbell::Listener) -> Result<(), pgbell::Error> {
    /// use pgbell::JsonEvent;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct UserEvent {
    ///     user_id: i64,
    /// }
    ///
    /// let mut events = listener.json::<UserEvent>();
    /// loop {
    ///     match events.recv().await? {
    ///         JsonEvent::Value(event, _) => println!("user {}", event.user_id),
    ///         JsonEvent::Invalid(error) => println!("{error}"),
    ///         loss => println!("read the users again: {loss}"),
    ///     }
    /// }
    /// # }
    /// ```
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    #[must_use]
    pub fn json<T>(self) -> JsonStream<Self, T> {
        JsonStream::new(self)
    }

    /// Returns the receiving half, for a thread that waits without async.
    #[cfg(feature = "blocking")]
    #[inline(always)]
    pub(crate) fn receiver(&mut self) -> &mut Receiver<RingSource> {
        &mut self.receiver
    }

    // ---- everything else, through the handle too ----

    /// Returns a handle for other tasks.
    #[must_use]
    pub fn handle(&self) -> ListenerHandle {
        self.running.handle.clone()
    }

    /// See [`ListenerHandle::listen`].
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// See there.
    pub async fn listen(&self, channel: impl AsRef<str>) -> Result<Listening, Error> {
        self.running.handle.listen(channel).await
    }

    /// See [`ListenerHandle::listen_all`].
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// See there.
    pub async fn listen_all(
        &self,
        channels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Listening, Error> {
        self.running.handle.listen_all(channels).await
    }

    /// Listens to channels until the returned scope is left, and receives through it.
    ///
    /// The scope is left by [`leave`](ListenScope::leave), which waits for the server, or by its drop: after a `break` or `?`, or when the
    /// future that owns it is cancelled. Then the listener stops listening to the channels of the scope. It still listens to those that it
    /// listened to before.
    ///
    /// If a scope was dropped before, this first waits for the answer to its UNLISTEN.
    ///
    /// ```no_run
    /// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
    /// use pgbell::Event;
    ///
    /// let mut scope = listener.scope(["orders", "cancellations"]).await?;
    /// loop {
    ///     match scope.recv().await? {
    ///         Event::Notification(n) if n.channel() == "cancellations" => break,
    ///         Event::Notification(n) => println!("{} from {}", n.payload(), n.process_id()),
    ///         loss => println!("read the orders again: {loss}"),
    ///     }
    /// }
    /// scope.leave().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`listen_all`](Self::listen_all). A list without channels is [`ErrorKind::Misuse`](crate::ErrorKind::Misuse).
    ///
    /// # Cancel safety
    /// If the future is dropped, the listener does not stay on the channels: if LISTEN was sent, UNLISTEN follows in the background.
    pub async fn scope(
        &mut self,
        channels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<ListenScope<'_>, Error> {
        ListenScope::enter(self, channel_names(channels)?).await
    }

    /// See [`ListenerHandle::unlisten`].
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// See there.
    pub async fn unlisten(&self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.running.handle.unlisten(channel).await
    }

    /// See [`ListenerHandle::unlisten_all`].
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// See there.
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        self.running.handle.unlisten_all().await
    }

    /// See [`ListenerHandle::simple_query`].
    ///
    /// # Errors
    /// See [`ListenerHandle::simple_query`]. Among them are [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) if the query was
    /// executed and left a transaction open, and [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) if the session was lost
    /// before the answer, or the error may be a stray error.
    ///
    /// # Cancel safety
    /// See there.
    pub async fn simple_query(&self, sql: impl Into<String>) -> Result<Vec<Rows>, Error> {
        self.running.handle.simple_query(sql).await
    }

    /// Returns the state of the listener.
    #[must_use]
    pub fn state(&self) -> State {
        self.running.handle.state()
    }

    /// See [`ListenerHandle::last_error`].
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.running.handle.last_error()
    }

    /// See [`ListenerHandle::last_error_at`].
    #[must_use]
    pub fn last_error_at(&self) -> Option<(SystemTime, Error)> {
        self.running.handle.last_error_at()
    }

    /// Returns the statistics of the listener.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.running.handle.stats()
    }

    /// Returns the process id of the session in the server. `None` while there is no session, after the end, and if the server
    /// sent none in the login (BackendKeyData).
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.running.handle.process_id()
    }

    /// See [`ListenerHandle::drain`]. To receive while the listener drains, call it on a [`handle`](Self::handle). What the full
    /// queue cannot take is dropped and reported as [`Lagged`](crate::Lagged); `drain` still returns `Ok`.
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// See there.
    pub async fn drain(&self, timeout: Duration) -> Result<(), Error> {
        self.running.handle.drain(timeout).await
    }

    /// Ends the session with Terminate, and waits for the end of the task. Unread notifications are dropped: to receive them,
    /// call [`close`](ListenerHandle::close) or [`drain`](ListenerHandle::drain) on a [`handle`](Self::handle), and receive until
    /// an error of the kind `Closed`.
    ///
    /// This takes at most [`close_timeout`](ListenerBuilder::close_timeout), by default a second, and one more second if a
    /// run of the hook has not reached its next await. A name lookup in progress continues in a thread of the runtime; only
    /// the end of the runtime waits for it.
    ///
    /// # Cancel safety
    /// The listener closes even if the future is dropped.
    pub async fn close(self) {
        self.running.close().await;
    }
}

#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
impl TryRecv for Listener {
    fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        self.try_recv()
    }
}

impl Stream for Listener {
    type Item = Result<Event, Error>;

    /// Ends after the error that the listener ended with, or at once after a close.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().receiver.poll_next(cx)
    }
}

impl FusedStream for Listener {
    /// Returns true once the stream has returned `None`. It does so again each time it is polled.
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("state", &self.state())
            .field("receiver", &self.receiver)
            .finish_non_exhaustive()
    }
}

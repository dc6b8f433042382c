//! [`Listener`]: a task reads the socket into a queue, and the listener receives from the queue.

mod attempt;
mod builder;
mod chunk;
pub(crate) mod command_queue;
mod copied_part;
mod current;
// Used by tests until there are wake-ups.
#[cfg_attr(not(test), expect(dead_code, reason = "used by tests until there are wake-ups"))]
mod doorbell_outlet;
pub(crate) mod environment;
mod facades;
mod first_connect;
mod guarded;
pub(crate) mod handle;
mod hook;
mod intake;
mod links;
#[cfg(feature = "metrics")]
mod metrics;
mod outlet;
mod ring_outlet;
pub(crate) mod shared;
pub(crate) mod sink;
mod stats;
pub(crate) mod task;
mod telemetry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use futures_core::{FusedStream, Stream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, coop};

pub use self::builder::ListenerBuilder;
use self::command_queue::QueuedCall;
use self::current::CurrentRun;
pub use self::handle::ListenerHandle;
use self::shared::ListenerShared;
use self::sink::Chunk;
use self::stats::Counters;
pub use self::stats::Stats;
use crate::config::Config;
use crate::error::Error;
use crate::notification::{Batch, Event, Gap, Lagged, Loss, ReceiveInfo};
use crate::proto::ring::{Consumer, Taken};
use crate::proto::session::Rows;
use crate::proto::supervisor::{Listening, State};

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
    consumer: Consumer<Chunk, Gap>,
    current: CurrentRun,
    /// The loss of the last batch.
    loss: Option<Loss>,
    /// What batches return that contain only a loss.
    info: ReceiveInfo,
    /// The error that the listener ended with was returned.
    is_cause_returned: bool,
    /// The stream has returned `None`.
    is_terminated: bool,
    handle: ListenerHandle,
    /// `None` before it is started, and after `close` has taken it.
    task: Option<JoinHandle<()>>,
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

    /// Creates a listener without its task.
    pub(crate) fn new(
        consumer: Consumer<Chunk, Gap>,
        requests: mpsc::UnboundedSender<QueuedCall>,
        shared: Arc<ListenerShared>,
    ) -> Self {
        Self {
            consumer,
            current: CurrentRun::new(shared.pins.clone()),
            loss: None,
            info: ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 1 },
            is_cause_returned: false,
            is_terminated: false,
            handle: ListenerHandle::new(requests, shared),
            task: None,
        }
    }

    /// Returns the error that the listener ended with.
    fn cause(&self) -> Error {
        let shared = self.handle.shared();
        shared.cause().cloned().unwrap_or_else(|| shared.closed())
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
    // Not an `async fn`: that would move the event once more.
    #[inline(always)]
    pub fn recv(&mut self) -> impl Future<Output = Result<Event, Error>> + Send {
        Recv(self)
    }

    /// Polls for the next event. The waker of the last call is woken.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    #[inline(always)]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        // Only the usual case is inlined, and returns where it makes the event: each further move of the event would cost
        // measurable time.
        if let Some(notification) = self.current.next_inline() {
            Counters::add(&self.handle.shared().counters.consumer.delivered, 1);
            return Poll::Ready(Ok(Event::Notification(notification)));
        }
        self.poll_recv_slow(cx)
    }

    #[inline(never)]
    fn poll_recv_slow(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        loop {
            if let Some(event) = self.next_in_run() {
                return Poll::Ready(Ok(event));
            }
            match ready!(self.poll_run(cx)) {
                Ok(None) => {}
                Ok(Some(loss)) => return Poll::Ready(Ok(loss)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Waits for the next run, or for a loss before it.
    #[inline(never)]
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>, Error>> {
        // A loss of the last batch was delivered with that batch.
        self.loss = None;
        self.current.clear();
        let taken = ready!(self.poll_take(cx));
        Poll::Ready(self.take(taken).map(|()| self.loss.take().map(Event::from)))
    }

    /// Returns the next event, if one is queued.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        self.loss = None;
        loop {
            if let Some(event) = self.next_in_run().or_else(|| self.next_loss()) {
                return Ok(Some(event));
            }
            match self.consumer.try_take() {
                Taken::Empty => return Ok(None),
                taken => self.take(taken)?,
            }
        }
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
        self.loss = None;
        self.drop_empty_run();
        while self.current.is_empty() && self.loss.is_none() {
            let taken = poll_fn(|cx| self.poll_take(cx)).await;
            self.take(taken)?;
            self.drop_empty_run();
        }
        if let Some(loss) = &self.loss {
            return Ok(Batch::new(&[], 0, self.consumer.sequence(), &self.info).after(loss));
        }
        let batch = self.current.batch(max);
        Counters::add(&self.handle.shared().counters.consumer.delivered, batch.len() as u64);
        Ok(batch)
    }

    // ---- everything else, through the handle too ----

    /// Returns a handle for other tasks.
    #[must_use]
    pub fn handle(&self) -> ListenerHandle {
        self.handle.clone()
    }

    /// See [`ListenerHandle::listen`].
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// See there.
    pub async fn listen(&self, channel: impl AsRef<str>) -> Result<Listening, Error> {
        self.handle.listen(channel).await
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
        self.handle.listen_all(channels).await
    }

    /// See [`ListenerHandle::unlisten`].
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// See there.
    pub async fn unlisten(&self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.handle.unlisten(channel).await
    }

    /// See [`ListenerHandle::unlisten_all`].
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// See there.
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        self.handle.unlisten_all().await
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
        self.handle.simple_query(sql).await
    }

    /// Returns the state of the listener.
    #[must_use]
    pub fn state(&self) -> State {
        self.handle.state()
    }

    /// See [`ListenerHandle::last_error`].
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.handle.last_error()
    }

    /// See [`ListenerHandle::last_error_at`].
    #[must_use]
    pub fn last_error_at(&self) -> Option<(SystemTime, Error)> {
        self.handle.last_error_at()
    }

    /// Returns the statistics of the listener.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Returns the process id of the session in the server. `None` while there is no session, after the end, and if the server
    /// sent none in the login (BackendKeyData).
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.handle.process_id()
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
        self.handle.drain(timeout).await
    }

    /// Ends the session with Terminate, and waits for the end of the task.
    ///
    /// This takes at most [`close_timeout`](ListenerBuilder::close_timeout), by default a second, and one more second if a
    /// run of the hook has not reached its next await. A name lookup in progress continues in a thread of the runtime; only
    /// the end of the runtime waits for it.
    ///
    /// # Cancel safety
    /// The listener closes even if the future is dropped.
    pub async fn close(mut self) {
        self.handle.close().await;
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }

    // ---- the queue ----

    /// Waits for the next element of the ring. It takes part in the cooperative scheduling of tokio: a queue that is never
    /// empty must not block the timers and the other futures of the caller's task.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<Chunk, Gap>> {
        let turn = ready!(coop::poll_proceed(cx));
        let taken = ready!(self.consumer.poll_take(cx));
        turn.made_progress();
        Poll::Ready(taken)
    }

    /// Handles an element of the ring.
    fn take(&mut self, taken: Taken<Chunk, Gap>) -> Result<(), Error> {
        match taken {
            Taken::Item { value: chunk, first, skip } => {
                self.current.replace(chunk, first, skip);
                let counters = &self.handle.shared().counters;
                Counters::set(&counters.consumer.taken, self.consumer.taken());
                Counters::set(&counters.consumer.taken_bytes, self.consumer.taken_bytes());
            }
            Taken::Lost { first, count } => {
                Counters::set(&self.handle.shared().counters.consumer.lagged, self.consumer.lost());
                self.loss = Some(Loss::Lagged(Lagged { first_sequence: first, count }));
            }
            Taken::Mark(gap) => self.loss = Some(Loss::Gap(gap)),
            Taken::Empty => {}
            Taken::Closed => {
                let shared = self.handle.shared();
                return Err(match shared.cause() {
                    Some(cause) if !self.is_cause_returned => {
                        self.is_cause_returned = true;
                        cause.clone()
                    }
                    _ => shared.closed(),
                });
            }
        }
        Ok(())
    }

    /// Returns the next notification of the current run, if there is one.
    fn next_in_run(&mut self) -> Option<Event> {
        let notification = self.current.next_copied()?;
        Counters::add(&self.handle.shared().counters.consumer.delivered, 1);
        Some(Event::Notification(notification))
    }

    /// Returns the loss after the current run, if there is one.
    fn next_loss(&mut self) -> Option<Event> {
        self.current.clear();
        self.loss.take().map(Event::from)
    }

    /// Drops the current run, and the view of its buffer, if all of it was delivered.
    fn drop_empty_run(&mut self) {
        if self.current.is_empty() {
            self.current.clear();
        }
    }
}

/// The future of [`Listener::recv`].
struct Recv<'a>(&'a mut Listener);

impl Future for Recv<'_> {
    type Output = Result<Event, Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll_recv(cx)
    }
}

impl Stream for Listener {
    type Item = Result<Event, Error>;

    /// Ends after the error that the listener ended with, or at once after a close.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let listener = self.get_mut();
        let was_returned = listener.is_cause_returned;
        Poll::Ready(match ready!(listener.poll_recv(cx)) {
            // The kind of the error does not decide: the cause may be of any kind, `Closed` too.
            Err(_) if listener.is_cause_returned == was_returned => {
                listener.is_terminated = true;
                None
            }
            item => Some(item),
        })
    }
}

impl FusedStream for Listener {
    /// Returns true once the stream has returned `None`. It does so again each time it is polled.
    fn is_terminated(&self) -> bool {
        self.is_terminated
    }
}

impl Drop for Listener {
    /// Ends the session in the background, even if there are handles.
    fn drop(&mut self) {
        self.handle.send_close();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("state", &self.state())
            .field("consumer", &self.consumer)
            .finish_non_exhaustive()
    }
}

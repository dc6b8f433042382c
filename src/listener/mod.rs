//! The supervised path: a task reads the socket into the ring, whatever the consumer does.

mod attempt;
mod builder;
mod current;
mod facades;
mod first_connect;
mod guarded;
mod handle;
mod hook;
mod link;
mod links;
#[cfg(feature = "metrics")]
mod meters;
mod outside;
mod shared;
#[cfg(all(test, feature = "testing"))]
mod simulator;
mod sink;
mod stream;
mod task;
mod telemetry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, coop};

pub use self::builder::ListenerBuilder;
use self::current::Current;
pub use self::handle::ListenerHandle;
use self::handle::Request;
pub use self::shared::Stats;
use self::shared::{Counters, Shared};
use self::sink::Chunk;
use crate::notification::{Batch, Event, Gap, Lagged, Loss, Stamp};
use crate::ring::{Consumer, Taken};
use crate::session::Rows;
use crate::supervisor::{Listening, State};
use crate::{Config, Error};

/// A listener whose socket is always read, into a bounded queue that never lies about loss.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::{Event, Listener};
///
/// let mut listener = Listener::connect("postgres://localhost/shop").await?;
/// listener.listen("orders").await?;
/// loop {
///     match listener.recv().await? {
///         Event::Notification(n) => println!("{}: {}", n.channel(), n.payload_str().unwrap_or("?")),
///         loss => println!("read the state again: {loss}"),
///     }
/// }
/// # }
/// ```
///
/// It receives with one method at a time, `&mut self`; everything else goes through a
/// [`handle`](Self::handle) too, from any task, meanwhile.
///
/// Dropping it ends the session in the background; [`close`](Self::close) waits for that.
pub struct Listener {
    consumer: Consumer<Chunk, Gap>,
    current: Current,
    /// What the last batch lent.
    loss: Option<Loss>,
    /// For batches that carry a loss only.
    stamp: Stamp,
    /// The cause of the end was handed out. Set by nothing else.
    told: bool,
    /// The stream has returned `None`.
    is_terminated: bool,
    handle: ListenerHandle,
    /// Taken when it is waited for.
    task: Option<JoinHandle<()>>,
}

impl Listener {
    /// Connects, and starts the task that reads the socket.
    ///
    /// `config` is a URL, a `key=value` string or a [`Config`]. What it leaves open is taken from the
    /// `PG*` environment variables.
    ///
    /// # Errors
    /// As [`ListenerBuilder::connect`].
    ///
    /// # Panics
    /// Outside a tokio runtime, and in one without timers or without I/O: `enable_all` of
    /// [`tokio::runtime::Builder`] gives both.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<Self, Error> {
        Self::builder(config).connect().await
    }

    /// A listener with other than the default settings.
    pub fn builder(config: impl TryInto<Config, Error: Into<Error>>) -> ListenerBuilder {
        ListenerBuilder::new(config.try_into().map_err(Into::into))
    }

    fn new(
        consumer: Consumer<Chunk, Gap>,
        requests: mpsc::UnboundedSender<Request>,
        shared: Arc<Shared>,
        task: JoinHandle<()>,
    ) -> Self {
        Self {
            consumer,
            current: Current::new(shared.pins.clone()),
            loss: None,
            stamp: Stamp { received_at: SystemTime::UNIX_EPOCH, epoch: 1 },
            told: false,
            is_terminated: false,
            handle: ListenerHandle::new(requests, shared),
            task: Some(task),
        }
    }

    /// Why there is no listener.
    fn cause(&self) -> Error {
        let shared = self.handle.shared();
        shared.cause().cloned().unwrap_or_else(|| shared.closed())
    }

    // ---- receiving ----

    /// Waits for the next event.
    ///
    /// # Errors
    /// When the listener has ended, because a lost session was not to be followed by another one or a new one
    /// was refused for good: the cause once, after everything that was received; from then on
    /// [`Closed`](crate::ErrorKind::Closed). After [`close`](Self::close) through a handle: the same. When its task has
    /// panicked, as in the waker of a future that receives: [`Other`](crate::ErrorKind::Other), with the panic's message.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing.
    // Not `async fn`: that moves the event once more.
    #[inline(always)]
    pub fn recv(&mut self) -> impl Future<Output = Result<Event, Error>> + Send {
        Recv(self)
    }

    /// [`recv`](Self::recv) as a poll. The waker of the last call is the one that is woken.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    #[inline(always)]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        // The usual case alone is inlined, and returns where it makes the event: each further move of it
        // would be felt.
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

    /// Waits for the next run, or a loss before it.
    #[inline(never)]
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>, Error>> {
        // What a batch has lent was told with it.
        self.loss = None;
        self.current.let_go();
        let taken = ready!(self.poll_take(cx));
        Poll::Ready(self.take(taken).map(|()| self.loss.take().map(Event::from)))
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
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

    /// Waits for notifications and lends all that one read of the socket brought, without copying.
    ///
    /// The batch may carry a [loss](Batch::loss), and may be empty but for it.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// A dropped future loses nothing. A batch that was returned counts as delivered.
    pub async fn recv_batch(&mut self) -> Result<Batch<'_>, Error> {
        self.recv_batch_max(usize::MAX).await
    }

    /// As [`recv_batch`](Self::recv_batch), with at most `max` notifications, at least one.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// As [`recv_batch`](Self::recv_batch).
    pub async fn recv_batch_max(&mut self, max: usize) -> Result<Batch<'_>, Error> {
        self.loss = None;
        self.skip_spent();
        while self.current.is_spent() && self.loss.is_none() {
            let taken = poll_fn(|cx| self.poll_take(cx)).await;
            self.take(taken)?;
            self.skip_spent();
        }
        if let Some(loss) = &self.loss {
            return Ok(Batch::new(&[], 0, self.consumer.sequence(), &self.stamp).after(loss));
        }
        let batch = self.current.batch(max);
        Counters::add(&self.handle.shared().counters.consumer.delivered, batch.len() as u64);
        Ok(batch)
    }

    // ---- everything else, through the handle too ----

    /// A handle for other tasks.
    #[must_use]
    pub fn handle(&self) -> ListenerHandle {
        self.handle.clone()
    }

    /// See [`ListenerHandle::listen`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn listen(&self, channel: impl Into<String>) -> Result<Listening, Error> {
        self.handle.listen(channel).await
    }

    /// See [`ListenerHandle::listen_all`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn listen_all(
        &self,
        channels: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Listening, Error> {
        self.handle.listen_all(channels).await
    }

    /// See [`ListenerHandle::unlisten`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn unlisten(&self, channel: impl Into<String>) -> Result<(), Error> {
        self.handle.unlisten(channel).await
    }

    /// See [`ListenerHandle::unlisten_all`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        self.handle.unlisten_all().await
    }

    /// See [`ListenerHandle::simple_query`].
    ///
    /// # Errors
    /// As there: [`ErrorKind::Misuse`](crate::ErrorKind::Misuse), after the query was carried out, when it left a transaction
    /// open; [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when the session was lost before the answer, or the error may
    /// be no answer.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn simple_query(&self, sql: impl Into<String>) -> Result<Vec<Rows>, Error> {
        self.handle.simple_query(sql).await
    }

    /// The state of the listener.
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

    /// Figures as of now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Process id of the server's end.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.handle.process_id()
    }

    /// See [`ListenerHandle::drain`]. To receive meanwhile, use a [`handle`](Self::handle).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn drain(&self, deadline: Duration) -> Result<(), Error> {
        self.handle.drain(deadline).await
    }

    /// Ends the session cleanly and waits for the task: the server sees Terminate. Takes at most a second, or what
    /// [`close_timeout`](ListenerBuilder::close_timeout) says; a hook that was running has a second to come to its next
    /// await. The lookup of a name goes on in a thread of the runtime's, whose end waits for it.
    ///
    /// # Errors
    /// None at present.
    ///
    /// # Cancel safety
    /// A dropped future does not take it back.
    pub async fn close(mut self) -> Result<(), Error> {
        self.handle.close().await?;
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
        Ok(())
    }

    // ---- the queue ----

    /// Waits for what the ring brings. Now and then it lets go though there is something: a queue that is
    /// never empty must not keep the task from its timers and its other futures.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<Chunk, Gap>> {
        let turn = ready!(coop::poll_proceed(cx));
        let taken = ready!(self.consumer.poll_take(cx));
        turn.made_progress();
        Poll::Ready(taken)
    }

    /// Takes in what the ring brought.
    fn take(&mut self, taken: Taken<Chunk, Gap>) -> Result<(), Error> {
        match taken {
            Taken::Item { value: chunk, first, skip } => {
                self.current.take(chunk, first, skip);
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
                    Some(cause) if !self.told => {
                        self.told = true;
                        cause.clone()
                    }
                    _ => shared.closed(),
                });
            }
        }
        Ok(())
    }

    /// Takes the next notification of the current run, if there is one.
    fn next_in_run(&mut self) -> Option<Event> {
        let notification = self.current.next_copied()?;
        Counters::add(&self.handle.shared().counters.consumer.delivered, 1);
        Some(Event::Notification(notification))
    }

    /// What is at hand when the current run is at its end: a loss before the next.
    fn next_loss(&mut self) -> Option<Event> {
        self.current.let_go();
        self.loss.take().map(Event::from)
    }

    /// Lets go of a run that was handed out whole, and so of its buffer.
    fn skip_spent(&mut self) {
        if self.current.is_spent() {
            self.current.let_go();
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

impl Drop for Listener {
    /// Nobody will receive: the task ends the session, also if there are handles.
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

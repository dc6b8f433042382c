//! [`Listener`]: the listener of a thread.

use std::fmt;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use super::background::{Background, BackgroundTask};
use super::builder::ListenerBuilder;
use super::handle::ListenerHandle;
use super::iter::{IntoIter, Iter};
use super::scope::ListenScope;
use super::waiter::{Waiter, deadline};
use crate::config::Config;
use crate::error::Error;
use crate::listener::Stats;
use crate::notification::{Batch, Event};
use crate::proto::session::Rows;
use crate::proto::supervisor::{Listening, State};

/// A [`Listener`](crate::Listener) for threads without async. It reconnects and reports every loss.
///
/// A background thread reads the socket into a bounded queue, also while no thread receives. The thread that receives takes from that
/// queue directly: there is no channel in between, and nothing is allocated for a notification.
///
/// ```no_run
/// # fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::Event;
/// use pgbell::blocking::Listener;
///
/// let mut listener = Listener::connect("postgres://localhost/shop")?;
/// listener.listen("orders")?;
/// loop {
///     match listener.recv_timeout(Duration::from_secs(30))? {
///         Some(Event::Notification(n)) => println!("{}: {}", n.channel(), n.payload()),
///         Some(loss) => println!("read your tables again: {loss}"),
///         None => println!("nothing happened for half a minute"),
///     }
/// }
/// # }
/// ```
///
/// The methods that receive take `&mut self`. All other methods are also available on a [`handle`](Self::handle), from any thread, while
/// this receives.
///
/// # Errors
/// Besides those of the asynchronous methods, every method that waits returns [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) where
/// it [cannot wait](crate::blocking#where-a-call-cannot-wait), and has no effect then.
///
/// # Dropping
/// A drop ends the session. It waits for that for at most a second, and [inside of a tokio
/// runtime](crate::blocking#inside-of-a-tokio-runtime) not at all. [`close`](Self::close) waits longer.
pub struct Listener {
    // Dropped first: it ends the task, for which the background thread waits.
    listener: crate::Listener,
    handle: ListenerHandle,
    background: Background,
}

pub(super) fn connect(builder: crate::ListenerBuilder) -> Result<Listener, Error> {
    // First, because it starts nothing.
    Waiter::new().check()?;
    let close_timeout = builder.close_limit();
    let mut background = Background::start()?;
    let listener = background.run(Box::pin(builder.connect()))?;
    background.set_task(BackgroundTask::Listener(listener.handle()));
    let handle = ListenerHandle::new(listener.handle(), background.waiter(), close_timeout);
    Ok(Listener { listener, handle, background })
}

pub(super) fn try_recv(
    listener: &mut crate::Listener,
    waiter: Waiter,
) -> Result<Option<Event>, Error> {
    let event = listener.try_recv()?;
    if event.is_none() {
        // After a fork, nothing else will arrive.
        waiter.check_process()?;
    }
    Ok(event)
}

impl Listener {
    /// Connects, and starts the background thread. See [`pgbell::Listener::connect`](crate::Listener::connect).
    ///
    /// Blocks until the login has succeeded or failed, at most `connect_timeout`, 10 s by default.
    ///
    /// # Errors
    /// See [`ListenerBuilder::connect`].
    pub fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<Self, Error> {
        Self::builder(config).connect()
    }

    /// Returns a builder, to change the settings of the listener.
    pub fn builder(config: impl TryInto<Config, Error: Into<Error>>) -> ListenerBuilder {
        ListenerBuilder::new(config)
    }

    // ---- receiving ----

    /// Waits for the next event. See [`pgbell::Listener::recv`](crate::Listener::recv).
    ///
    /// Blocks without a time limit. [`close`](ListenerHandle::close) through a handle ends it.
    ///
    /// # Errors
    /// See there.
    #[inline(always)]
    pub fn recv(&mut self) -> Result<Event, Error> {
        // The usual case, as in the `poll_recv` of a receiver: a notification of the current run, which is not moved.
        if let Some(notification) = self.listener.receiver().next_short() {
            return Ok(Event::Notification(notification));
        }
        loop {
            self.wait_for_other(None);
            if let Poll::Ready(event) = self.listener.receiver().take_other() {
                return event;
            }
        }
    }

    /// Waits for the next event for this time. Returns `None` if there is none. Zero takes what is queued.
    ///
    /// Blocks for at most `timeout`, and longer only by what the operating system adds to every wait. A time that is too long for the
    /// clock is no limit.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    #[inline(always)]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        if let Some(notification) = self.listener.receiver().next_short() {
            return Ok(Some(Event::Notification(notification)));
        }
        self.wait_for_other(Some(timeout));
        match self.listener.receiver().take_other() {
            Poll::Ready(event) => event.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Waits for an event that is not the usual case, which the receiver keeps until `take_other`.
    #[inline(never)]
    fn wait_for_other(&mut self, timeout: Option<Duration>) {
        let until = timeout.and_then(deadline);
        let receiver = self.listener.receiver();
        let prepared = poll_fn(|cx| receiver.poll_prepared(cx).map(Ok));
        if let Err(refusal) = self.background.waiter().wait_until(until, prepared) {
            self.listener.receiver().set_other(refusal);
        }
    }

    /// Returns the next event, if one is queued.
    ///
    /// # Errors
    /// See [`recv`](Self::recv). [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) in a process that was forked since, when everything that
    /// was queued before is returned.
    pub fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        try_recv(&mut self.listener, self.background.waiter())
    }

    /// Waits for the notifications of one read of the socket. See [`pgbell::Listener::recv_batch`](crate::Listener::recv_batch).
    ///
    /// Blocks without a time limit.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    pub fn recv_batch(&mut self) -> Result<Batch<'_>, Error> {
        self.recv_batch_max(usize::MAX)
    }

    /// Waits for a [batch](Self::recv_batch) of at most `max` notifications. Zero counts as one.
    ///
    /// Blocks without a time limit.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    pub fn recv_batch_max(&mut self, max: usize) -> Result<Batch<'_>, Error> {
        self.background.waiter().wait(self.listener.recv_batch_max(max))
    }

    /// Waits for a [batch](Self::recv_batch) for this time. Returns `None` if there is none. Zero takes what is queued.
    ///
    /// Blocks as [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    pub fn recv_batch_timeout(&mut self, timeout: Duration) -> Result<Option<Batch<'_>>, Error> {
        self.background.waiter().wait_timeout(timeout, self.listener.recv_batch())
    }

    /// Returns an iterator over the events, which waits for each. `for event in &mut listener` is the same.
    ///
    /// It ends as the stream of a [`pgbell::Listener`](crate::Listener): after the error that the listener ended with, or at once after
    /// a close. It can be dropped at any time, and loses nothing. Each call of its `next` blocks without a time limit.
    pub fn iter(&mut self) -> Iter<'_> {
        Iter::new(&mut self.listener, self.background.waiter())
    }

    // ---- everything else, through the handle too ----

    /// Returns a handle for other threads.
    #[must_use]
    pub fn handle(&self) -> ListenerHandle {
        self.handle.clone()
    }

    /// Listens to a channel. See [`ListenerHandle::listen`].
    ///
    /// Blocks as [`ListenerHandle::listen`].
    ///
    /// # Errors
    /// See there.
    pub fn listen(&self, channel: impl AsRef<str>) -> Result<Listening, Error> {
        self.handle.listen(channel)
    }

    /// Listens to channels. See [`ListenerHandle::listen_all`].
    ///
    /// Blocks as [`ListenerHandle::listen_all`].
    ///
    /// # Errors
    /// See there.
    pub fn listen_all(
        &self,
        channels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Listening, Error> {
        self.handle.listen_all(channels)
    }

    /// Listens to channels until the returned scope is left, and receives through it. See
    /// [`pgbell::Listener::scope`](crate::Listener::scope).
    ///
    /// Blocks until the server has answered.
    ///
    /// # Errors
    /// See there.
    pub fn scope(
        &mut self,
        channels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<ListenScope<'_>, Error> {
        let waiter = self.background.waiter();
        Ok(ListenScope::new(waiter.wait(self.listener.scope(channels))?, waiter))
    }

    /// Stops listening to a channel. See [`ListenerHandle::unlisten`].
    ///
    /// Blocks as [`ListenerHandle::unlisten`].
    ///
    /// # Errors
    /// See there.
    pub fn unlisten(&self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.handle.unlisten(channel)
    }

    /// Stops listening to every channel. See [`ListenerHandle::unlisten_all`].
    ///
    /// Blocks as [`ListenerHandle::unlisten_all`].
    ///
    /// # Errors
    /// See there.
    pub fn unlisten_all(&self) -> Result<(), Error> {
        self.handle.unlisten_all()
    }

    /// Runs SQL on the listening session. See [`ListenerHandle::simple_query`].
    ///
    /// Blocks as [`ListenerHandle::simple_query`].
    ///
    /// # Errors
    /// See there.
    pub fn simple_query(&self, sql: impl Into<String>) -> Result<Vec<Rows>, Error> {
        self.handle.simple_query(sql)
    }

    /// See [`ListenerHandle::state`].
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

    /// See [`ListenerHandle::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// See [`ListenerHandle::process_id`].
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.handle.process_id()
    }

    /// Stops listening, and ends the listener when everything that was committed before is in the queue. See
    /// [`ListenerHandle::drain`]. Receive the rest after it, or call it on a [`handle`](Self::handle) and receive meanwhile.
    ///
    /// Blocks as [`ListenerHandle::drain`].
    ///
    /// # Errors
    /// See there.
    pub fn drain(&self, timeout: Duration) -> Result<(), Error> {
        self.handle.drain(timeout)
    }

    /// Ends the session with Terminate, and the background thread. Unread notifications are dropped. See
    /// [`pgbell::Listener::close`](crate::Listener::close).
    ///
    /// Blocks as [`ListenerHandle::close`]. It does not wait for a run of the hook. Where it
    /// [cannot wait](crate::blocking#where-a-call-cannot-wait), and after that time, the thread ends by itself.
    pub fn close(self) {
        let Self { listener, handle, mut background } = self;
        drop(listener);
        background.end(handle.begin_close());
    }

    pub(super) fn parts(&mut self) -> (&mut crate::Listener, Waiter) {
        (&mut self.listener, self.background.waiter())
    }
}

impl IntoIterator for Listener {
    type Item = Result<Event, Error>;
    type IntoIter = IntoIter;

    /// As [`iter`](Self::iter). The session ends when the iterator is dropped, which blocks as the drop of the listener.
    fn into_iter(self) -> IntoIter {
        IntoIter::new(self)
    }
}

impl<'a> IntoIterator for &'a mut Listener {
    type Item = Result<Event, Error>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listener.fmt(f)
    }
}

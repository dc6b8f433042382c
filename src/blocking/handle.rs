//! [`ListenerHandle`]: commands to a blocking listener from any thread.

use std::time::{Duration, Instant, SystemTime};

use super::background::BLOCKED_TIMEOUT;
use super::waiter::{Waiter, deadline};
use crate::error::Error;
use crate::listener::Stats;
use crate::proto::session::Rows;
use crate::proto::supervisor::{ChannelState, Listening, State};

/// A handle to a blocking [`Listener`](super::Listener): it listens, queries, reads the state and closes, from any thread, while
/// another one receives. `Clone + Send + Sync`.
///
/// Each method does what that of [`pgbell::ListenerHandle`](crate::ListenerHandle) does, also with the
/// [command queue](crate::ListenerHandle#the-command-queue). A call that waits returns
/// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) where it [cannot wait](crate::blocking#where-a-call-cannot-wait), and nothing is
/// sent then.
///
/// ```no_run
/// # fn example() -> Result<(), pgbell::Error> {
/// use std::thread;
/// use pgbell::blocking::Listener;
///
/// let mut listener = Listener::builder("postgres://localhost/shop").channels(["orders"]).connect()?;
/// let handle = listener.handle();
/// let consumer = thread::spawn(move || {
///     for event in &mut listener {
///         println!("{}", event?);
///     }
///     Ok::<_, pgbell::Error>(())
/// });
/// // ... until the program ends:
/// handle.close();
/// consumer.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ListenerHandle {
    handle: crate::ListenerHandle,
    waiter: Waiter,
    close_timeout: Duration,
}

impl ListenerHandle {
    pub(super) fn new(
        handle: crate::ListenerHandle,
        waiter: Waiter,
        close_timeout: Duration,
    ) -> Self {
        Self { handle, waiter, close_timeout }
    }

    /// Requests the end, and returns how long a close waits for it.
    pub(super) fn begin_close(&self) -> Option<Instant> {
        self.handle.send_close();
        deadline(self.close_timeout.saturating_add(BLOCKED_TIMEOUT))
    }

    /// Listens to a channel. See [`listen`](crate::ListenerHandle::listen).
    ///
    /// Blocks until the server has answered, or at once returns `Pending` if there is no session.
    ///
    /// # Errors
    /// See there.
    pub fn listen(&self, channel: impl AsRef<str>) -> Result<Listening, Error> {
        self.waiter.wait(self.handle.listen(channel))
    }

    /// Listens to channels. See [`listen_all`](crate::ListenerHandle::listen_all).
    ///
    /// Blocks as [`listen`](Self::listen).
    ///
    /// # Errors
    /// See there.
    pub fn listen_all(
        &self,
        channels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Listening, Error> {
        self.waiter.wait(self.handle.listen_all(channels))
    }

    /// Stops listening to a channel. See [`unlisten`](crate::ListenerHandle::unlisten).
    ///
    /// Blocks as [`listen`](Self::listen).
    ///
    /// # Errors
    /// See there.
    pub fn unlisten(&self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.waiter.wait(self.handle.unlisten(channel))
    }

    /// Stops listening to every channel. See [`unlisten_all`](crate::ListenerHandle::unlisten_all).
    ///
    /// Blocks as [`listen`](Self::listen).
    ///
    /// # Errors
    /// See there.
    pub fn unlisten_all(&self) -> Result<(), Error> {
        self.waiter.wait(self.handle.unlisten_all())
    }

    /// Runs SQL on the listening session. See [`simple_query`](crate::ListenerHandle::simple_query).
    ///
    /// Blocks until the server has answered, without a time limit.
    ///
    /// # Errors
    /// See there.
    pub fn simple_query(&self, sql: impl Into<String>) -> Result<Vec<Rows>, Error> {
        self.waiter.wait(self.handle.simple_query(sql))
    }

    /// Returns how full the notification queue of the server is. See
    /// [`notification_queue_usage`](crate::ListenerHandle::notification_queue_usage).
    ///
    /// Blocks until the server has answered.
    ///
    /// # Errors
    /// See there.
    pub fn notification_queue_usage(&self) -> Result<f64, Error> {
        self.waiter.wait(self.handle.notification_queue_usage())
    }

    /// Begins a handover. See [`rotate`](crate::ListenerHandle::rotate).
    ///
    /// Blocks until it has begun.
    ///
    /// # Errors
    /// See there.
    pub fn rotate(&self) -> Result<(), Error> {
        self.waiter.wait(self.handle.rotate())
    }

    /// Returns the wanted channels. See [`channels`](crate::ListenerHandle::channels).
    ///
    /// Blocks until the background thread has answered.
    ///
    /// # Errors
    /// See there.
    pub fn channels(&self) -> Result<Vec<(String, ChannelState)>, Error> {
        self.waiter.wait(self.handle.channels())
    }

    /// See [`state`](crate::ListenerHandle::state).
    #[must_use]
    pub fn state(&self) -> State {
        self.handle.state()
    }

    /// Waits for a state. See [`wait_state`](crate::ListenerHandle::wait_state).
    ///
    /// Blocks without a time limit.
    ///
    /// # Errors
    /// See there.
    pub fn wait_state(&self, state: State) -> Result<(), Error> {
        self.waiter.wait(self.handle.wait_state(state))
    }

    /// Waits for a state for this time. Returns whether the listener is in it, or was in it since the call.
    ///
    /// Blocks for at most `timeout`.
    ///
    /// # Errors
    /// See [`wait_state`](crate::ListenerHandle::wait_state).
    pub fn wait_state_timeout(&self, state: State, timeout: Duration) -> Result<bool, Error> {
        Ok(self.waiter.wait_timeout(timeout, self.handle.wait_state(state))?.is_some())
    }

    /// See [`last_error`](crate::ListenerHandle::last_error).
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.handle.last_error()
    }

    /// See [`last_error_at`](crate::ListenerHandle::last_error_at).
    #[must_use]
    pub fn last_error_at(&self) -> Option<(SystemTime, Error)> {
        self.handle.last_error_at()
    }

    /// See [`stats`](crate::ListenerHandle::stats).
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// See [`process_id`](crate::ListenerHandle::process_id).
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.handle.process_id()
    }

    /// Stops listening, and ends the listener when everything that was committed before is in the queue. See
    /// [`drain`](crate::ListenerHandle::drain).
    ///
    /// Blocks for at most `timeout` and the time of [`close`](Self::close). Another thread must receive meanwhile, if the queue may be
    /// too small for the rest.
    ///
    /// # Errors
    /// See there.
    pub fn drain(&self, timeout: Duration) -> Result<(), Error> {
        self.waiter.wait(self.handle.drain(timeout))
    }

    /// Ends the session and the listener. A thread that receives gets what is queued, and then
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed); an iterator ends. See [`close`](crate::ListenerHandle::close).
    ///
    /// Blocks for at most [`close_timeout`](crate::ListenerBuilder::close_timeout), by default a second, and for one more second if code
    /// of the application blocks the background thread. Where it [cannot wait](crate::blocking#where-a-call-cannot-wait), the listener
    /// ends in the background.
    pub fn close(&self) {
        let until = self.begin_close();
        self.waiter.wait_end(until, self.handle.close());
    }
}

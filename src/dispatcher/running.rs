//! [`RunningDispatcher`]: a dispatcher that was started.

use std::time::Duration;

use super::handle::DispatcherHandle;
use super::phase::Phase;
use super::stats::DispatcherStats;
use super::stopped::Stopped;
use crate::error::Error;

/// A [`Dispatcher`](crate::Dispatcher) that was started: its tasks receive notifications and call handlers.
///
/// Dropping it cancels all handlers in the background, and over a [`Listener`](crate::Listener) ends the session.
///
/// | | handlers that run | what was received | sessions |
/// |---|---|---|---|
/// | [`drain`](Self::drain) | finish | is handled | over a listener: stops listening first |
/// | [`stop`](Self::stop) | finish | is dropped, and counted; losses too, which are not | over a listener: ends |
/// | drop | are cancelled | is dropped | over a listener: ends |
///
/// ```no_run
/// # async fn example(hub: pgbell::Hub) -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::{Dispatcher, Notification};
///
/// let running = Dispatcher::new()
///     .on("orders", |order: Notification| async move { println!("{}", order.payload()) })
///     .run_hub(&hub)
///     .await?;
/// // At the end of the program:
/// let stopped = running.drain(Duration::from_secs(20)).await;
/// println!("{} were not handled", stopped.unhandled);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it cancels all handlers"]
pub struct RunningDispatcher {
    handle: DispatcherHandle,
}

impl RunningDispatcher {
    pub(super) fn new(handle: DispatcherHandle) -> Self {
        Self { handle }
    }

    /// Returns a handle for other tasks, and for handlers.
    #[must_use]
    pub fn handle(&self) -> DispatcherHandle {
        self.handle.clone()
    }

    /// Returns the statistics.
    #[must_use]
    pub fn stats(&self) -> DispatcherStats {
        self.handle.stats()
    }

    /// Waits for the end: of the listener or the hub, when everything that was received is handled, or of a stop or drain that a
    /// [handle](Self::handle) has requested.
    ///
    /// # Errors
    /// The error that the listener or the hub has ended with, or that of its drain.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn wait(&self) -> Result<(), Error> {
        self.handle.wait().await
    }

    /// Begins no handler run any more, also no retry, gives running ones `timeout`, and then cancels them: their futures are dropped at their
    /// next await. The failure handler is still called for a run that fails in that time. Over a [`Listener`](crate::Listener) the session ends at once; over a [`Hub`](crate::Hub) each subscription ends with its lane.
    ///
    /// It takes at most `timeout`, and a second more if a handler has not reached its next await, and over a listener the time of its
    /// [`close`](crate::Listener::close), and a second more if the function that finds topics has not returned. It returns at once if the dispatcher has ended.
    ///
    /// Inside a handler, use [`DispatcherHandle::request_stop`]: this waits for the handler that calls it, until it is cancelled.
    ///
    /// # Cancel safety
    /// The dispatcher stops even if the future is dropped.
    pub async fn stop(&self, timeout: Duration) -> Stopped {
        self.handle.request_stop(timeout);
        self.handle.stopped().await
    }

    /// Handles everything that was committed before the call, retries included, and ends. At the end of `timeout`, running handlers are
    /// cancelled, and what is left is not handled.
    ///
    /// Over a [`Listener`](crate::Listener) it [drains](crate::ListenerHandle::drain) the listener. Over a [`Hub`](crate::Hub), whose other
    /// subscriptions stay, it makes one round trip to the server, handles what is in the queues then, and ends the subscriptions. What a full
    /// queue cannot take is a loss, as before.
    ///
    /// If the hub has no session, loses it before the server has answered, or holds back what followed an outage, the drain handles only what is in the queues, and
    /// [`Stopped::error`] contains the error: what was committed before the call may not have arrived. If the hub is closed or
    /// drained in the meantime, the drain handles what was received until the hub has ended, and that is no error.
    ///
    /// It takes no longer than a [`stop`](Self::stop) with this timeout.
    ///
    /// ```no_run
    /// # async fn example(running: pgbell::RunningDispatcher) {
    /// let stopped = running.drain(std::time::Duration::from_secs(30)).await;
    /// if stopped.unhandled > 0 {
    ///     println!("{} notifications were not handled", stopped.unhandled);
    /// }
    /// if let Some(error) = stopped.error {
    ///     println!("some may not have arrived: {error:#}");
    /// }
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// The dispatcher drains even if the future is dropped.
    pub async fn drain(&self, timeout: Duration) -> Stopped {
        self.handle.request_drain(timeout);
        self.handle.stopped().await
    }
}

impl Drop for RunningDispatcher {
    fn drop(&mut self) {
        self.handle.shared.advance(Phase::Cancelled, None);
    }
}

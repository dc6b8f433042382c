//! [`DispatcherHandle`]: a handle to a running dispatcher, for any task and for its own handlers.

use std::sync::Arc;
use std::time::Duration;

use super::phase::{Phase, deadline_in};
use super::shared::DispatcherShared;
use super::stats::DispatcherStats;
use super::stopped::Stopped;
use crate::error::{Error, ErrorKind};

/// A handle to a running [`Dispatcher`](crate::Dispatcher): it reads the statistics, requests the end and waits for it, from any task. Cheap to
/// clone.
///
/// A handler can stop its own dispatcher: the requests do not wait, so that the handler can return.
///
/// ```no_run
/// # async fn example(running: pgbell::RunningDispatcher) -> Result<(), pgbell::Error> {
/// use std::time::Duration;
///
/// let handle = running.handle();
/// tokio::spawn(async move {
///     tokio::time::sleep(Duration::from_secs(60)).await;
///     handle.request_drain(Duration::from_secs(10));
/// });
/// running.wait().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DispatcherHandle {
    pub(super) shared: Arc<DispatcherShared>,
}

impl DispatcherHandle {
    /// Requests a [stop](crate::RunningDispatcher::stop), and returns at once. No handler run begins from now on. Of several timeouts, also of
    /// drains, the one that ends first counts.
    pub fn request_stop(&self, timeout: Duration) {
        self.shared.advance(Phase::Stopping, deadline_in(timeout));
    }

    /// Requests a [drain](crate::RunningDispatcher::drain), and returns at once. Of several timeouts, also of stops, the one that ends first
    /// counts. After a stop it changes nothing else.
    pub fn request_drain(&self, timeout: Duration) {
        self.shared.advance(Phase::Draining, deadline_in(timeout));
    }

    /// Returns the statistics.
    #[must_use]
    pub fn stats(&self) -> DispatcherStats {
        self.shared.counters.stats(self.shared.lanes)
    }

    /// Waits for the end. See [`RunningDispatcher::wait`](crate::RunningDispatcher::wait).
    ///
    /// A handler that waits for its own dispatcher is cancelled at the end of the timeout, and waits without a limit if nothing ends the
    /// dispatcher.
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn wait(&self) -> Result<(), Error> {
        match self.stopped().await.error {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits for the end, and returns its report.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn stopped(&self) -> Stopped {
        let mut stopped = self.shared.stopped.clone();
        match stopped.wait_for(Option::is_some).await.map(|report| report.clone()) {
            Ok(report) => report.unwrap_or_default(),
            Err(_) => {
                let message = "the runtime of the dispatcher has ended";
                let error = Some(Error::new(ErrorKind::Closed, message));
                let unhandled = self.shared.counters.unhandled();
                Stopped { unhandled, error, ..Stopped::default() }
            }
        }
    }
}

//! [`Control`]: the task that waits for the end of a dispatcher, and bounds the time of a stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;

use super::drain::drain;
use super::phase::{Demand, Phase, deadline_in};
use super::shared::DispatcherShared;
use super::stopped::Stopped;
use super::until::until;
use crate::error::{Error, ErrorKind};
use crate::hub::HubHandle;
use crate::listener::ListenerHandle;

/// The time in which a cancelled handler must reach its next await, and a function that finds topics must return.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the notifications of a dispatcher come from.
#[derive(Debug)]
pub(super) enum Origin {
    Listener(ListenerHandle, JoinHandle<Option<Error>>),
    Hub(HubHandle),
}

/// What ends a dispatcher.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) shared: Arc<DispatcherShared>,
    pub(super) lanes: JoinSet<Option<Error>>,
    pub(super) origin: Origin,
    pub(super) stopped: watch::Sender<Option<Stopped>>,
}

impl Control {
    /// Waits for the end of all tasks, cancels handlers at the deadline, and reports the end.
    pub(super) async fn run(mut self) {
        let mut error = None;
        let mut draining = None;
        let shared = self.shared.clone();
        let mut demands = shared.demands();
        loop {
            let Demand { phase, deadline } = *demands.borrow_and_update();
            if phase == Phase::Draining && draining.is_none() {
                draining = Some(tokio::spawn(drain(&self.origin, deadline, shared.clone())));
            }
            if phase == Phase::Cancelled {
                break;
            }
            let changed = until(at(deadline), demands.changed());
            if until(changed, join(&mut self.lanes, &mut error, &shared)).await.is_some() {
                break;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                let is_drained = draining.as_ref().is_none_or(JoinHandle::is_finished);
                if phase == Phase::Draining && !is_drained {
                    let message = "the drain has not ended in time";
                    error = error.or_else(|| Some(Error::new(ErrorKind::Timeout, message)));
                }
                shared.advance(Phase::Cancelled, None);
            }
        }
        let rest = join(&mut self.lanes, &mut error, &shared);
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, rest).await;
        let mut blocked = self.lanes.len() as u64;
        self.lanes.abort_all();
        if let Origin::Listener(listener, reader) = self.origin {
            match end_reader(&listener, reader).await {
                Some(cause) => error = error.or(cause),
                None => blocked += 1,
            }
        }
        if let Some(draining) = draining {
            error = error.or(draining.await.ok().flatten());
        }
        let (unhandled, cancelled) = (shared.counters.unhandled(), shared.counters.cancelled.get());
        let _ = self.stopped.send(Some(Stopped { unhandled, cancelled, blocked, error }));
    }
}

/// Waits for the end of all lanes, and keeps the first error.
async fn join(
    lanes: &mut JoinSet<Option<Error>>,
    error: &mut Option<Error>,
    shared: &DispatcherShared,
) {
    while let Some(ended) = lanes.join_next().await {
        let cause = ended.unwrap_or_else(|failed| {
            // Without the lane, the others cannot end by themselves.
            shared.advance(Phase::Stopping, deadline_in(CANCEL_TIMEOUT));
            Some(panicked(failed))
        });
        *error = error.take().or(cause);
    }
}

/// Ends the listener, and waits for its reader. Returns the cause of the end, or `None` if the reader is blocked: it calls the function of the
/// user that finds topics.
async fn end_reader(
    listener: &ListenerHandle,
    mut reader: JoinHandle<Option<Error>>,
) -> Option<Option<Error>> {
    // The reader does it too, unless it is blocked.
    listener.close().await;
    match tokio::time::timeout(CANCEL_TIMEOUT, &mut reader).await {
        Ok(ended) => Some(ended.unwrap_or_else(|failed| Some(panicked(failed)))),
        Err(_) => {
            reader.abort();
            None
        }
    }
}

/// Waits for a deadline.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Returns the error of a task that has panicked, or was cancelled with its runtime.
#[cold]
fn panicked(failed: JoinError) -> Error {
    Error::other(failed)
}

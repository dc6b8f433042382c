//! [`drain`]: what a drain waits for outside of the dispatcher.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::control::Origin;
use super::phase::Phase;
use super::shared::DispatcherShared;
use super::until::until;
use crate::error::{Error, ErrorKind};
use crate::hub::HubHandle;
use crate::listener::ListenerHandle;
use crate::proto::supervisor::State;

/// The time between the answer to a query that has failed and the state that says why. The listener's task sets both in one poll.
const STATE_TIMEOUT: Duration = Duration::from_secs(1);

/// Drains the listener. Over a hub, whose other subscriptions stay, waits for what was committed before. Returns the error, if that may not
/// have arrived.
pub(super) fn drain(
    origin: &Origin,
    deadline: Option<Instant>,
    shared: Arc<DispatcherShared>,
) -> impl Future<Output = Option<Error>> + Send + use<> {
    let (listener, hub) = match origin {
        Origin::Listener(listener, _) => (Some(listener.clone()), None),
        Origin::Hub(hub) => (None, Some(hub.clone())),
    };
    async move {
        match (listener, hub) {
            (Some(listener), _) => drain_listener(&listener, deadline).await,
            (None, Some(hub)) => {
                until(shared.reached(Phase::Stopping), fence(&hub, &shared)).await?
            }
            (None, None) => None,
        }
    }
}

async fn drain_listener(listener: &ListenerHandle, deadline: Option<Instant>) -> Option<Error> {
    let timeout =
        deadline.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
    let drained = listener.drain(timeout).await;
    drained.err().filter(|error| error.kind() != ErrorKind::Closed)
}

/// Waits for a round trip to the server, and then lets the lanes end with what is in their queues.
async fn fence(hub: &HubHandle, shared: &DispatcherShared) -> Option<Error> {
    let result = round_trip(hub).await;
    // The state of the hub decides. The kind of an error does not: it may have a source of the user, as the error of a hook.
    if result.is_err() && hub.state() == State::Closed {
        // The streams of the lanes end, and return the cause if there is one.
        return None;
    }
    shared.advance(Phase::Fenced, None);
    result.err().map(|error| error.within("the drain of the dispatcher"))
}

/// Returns when everything that was committed before the call is in the queues of the subscriptions: it arrives before the answer of any
/// query.
async fn round_trip(hub: &HubHandle) -> Result<(), Error> {
    require_session(hub)?;
    match hub.notification_queue_usage().await {
        // An error of the server is an answer.
        Err(error) if error.kind() != ErrorKind::Server => {
            wait_for_the_reason(hub, &error).await;
            Err(error)
        }
        // Another session may have answered, and what it has received is held back.
        _ => {
            require_session(hub)?;
            require_release(hub)
        }
    }
}

/// Waits until the state of the hub says why its query has failed: its session is lost, or the hub has ended.
async fn wait_for_the_reason(hub: &HubHandle, error: &Error) {
    let _ = match error.kind() {
        // A hub that is being closed or drained refuses the query. It ends in the time of that.
        ErrorKind::Closed => hub.wait_state(State::Closed).await,
        // This wait ends with the hub too. A query can also be in doubt in a session that continues.
        _ => {
            let reconnects = hub.wait_state(State::Reconnecting);
            tokio::time::timeout(STATE_TIMEOUT, reconnects).await.unwrap_or(Ok(()))
        }
    };
}

/// Returns an error if something is held back. The end of an outage sets the state first, and then releases.
fn require_release(hub: &HubHandle) -> Result<(), Error> {
    if hub.holds_back() {
        let message =
            "the hub holds notifications back, and what was committed may not have been delivered";
        return Err(Error::new(ErrorKind::Connect, message));
    }
    Ok(())
}

/// Returns an error without a session whose notifications are delivered.
fn require_session(hub: &HubHandle) -> Result<(), Error> {
    match hub.state() {
        State::Connected => Ok(()),
        State::Closed => Err(Error::new(ErrorKind::Closed, "the hub has ended")),
        state => {
            let message =
                format!("the hub is {state}, and what was committed may not have arrived");
            Err(match hub.last_error() {
                Some(cause) => Error::caused(ErrorKind::Connect, message, cause),
                None => Error::new(ErrorKind::Connect, message),
            })
        }
    }
}

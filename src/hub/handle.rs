//! [`HubHandle`]: a handle to a hub, for any task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::routes::Route;
use super::shared::HubShared;
use super::stats::HubStats;
use super::subscribe::Subscribe;
use crate::error::Error;
use crate::listener::ListenerHandle;
use crate::proto::session::{channel_name, channel_names};
use crate::proto::supervisor::{ChannelState, State};

/// A handle to a [`Hub`](crate::Hub): it subscribes, reads the state and closes, from any task. Cheap to clone.
///
/// A handle does not keep the hub: the hub ends when its [`Hub`](crate::Hub) is dropped.
///
/// ```no_run
/// # async fn example(hub: pgbell::Hub) -> Result<(), pgbell::Error> {
/// let handle = hub.handle();
/// tokio::spawn(async move {
///     let mut orders = handle.subscribe("orders").await?;
///     println!("{}", orders.recv().await?);
///     Ok::<_, pgbell::Error>(())
/// });
/// println!("{}: {:?}", hub.state(), hub.last_error());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct HubHandle {
    shared: Arc<HubShared>,
    listener: ListenerHandle,
}

impl HubHandle {
    pub(super) fn new(shared: Arc<HubShared>, listener: ListenerHandle) -> Self {
        Self { shared, listener }
    }

    /// See [`Hub::subscribe`](crate::Hub::subscribe).
    pub fn subscribe(&self, channel: impl AsRef<str>) -> Subscribe {
        self.subscribe_many([channel])
    }

    /// See [`Hub::subscribe_many`](crate::Hub::subscribe_many).
    pub fn subscribe_many(&self, channels: impl IntoIterator<Item = impl AsRef<str>>) -> Subscribe {
        let routes = || {
            let names: BTreeSet<Arc<str>> = channel_names(channels)?;
            Ok(names.into_iter().map(|channel| Route { channel, topic: None }).collect())
        };
        Subscribe::new(self.shared.clone(), routes())
    }

    /// See [`Hub::subscribe_topic`](crate::Hub::subscribe_topic).
    pub fn subscribe_topic(&self, channel: impl AsRef<str>, topic: impl AsRef<str>) -> Subscribe {
        let (channel, topic) = (channel.as_ref(), topic.as_ref());
        let routes = || {
            let name = channel_name(channel)?;
            self.shared.topics.of(channel).check_topic(topic)?;
            Ok([Route { channel: name, topic: Some(topic.into()) }].into())
        };
        Subscribe::new(self.shared.clone(), routes())
    }

    /// Returns the state of the hub: that of its session.
    #[must_use]
    pub fn state(&self) -> State {
        self.listener.state()
    }

    /// Waits until the hub is in this state, or was in it since the call. Returns at once if it is in this state.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) if the hub has ended and cannot enter this state.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn wait_state(&self, state: State) -> Result<(), Error> {
        self.listener.wait_state(state).await
    }

    /// Returns the last error: of a lost session, or a failed attempt, heartbeat, handover, hook or topic function.
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.listener.last_error()
    }

    /// Returns the last error and its time. The error stays after the hub has recovered.
    #[must_use]
    pub fn last_error_at(&self) -> Option<(SystemTime, Error)> {
        self.listener.last_error_at()
    }

    /// Returns the statistics of the hub.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        self.shared.stats(self.listener.stats())
    }

    /// Returns the process id of the session in the server. `None` while there is no session, after the end, and if the server
    /// sent none in the login (BackendKeyData).
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.listener.process_id()
    }

    /// Returns the channels that the session listens to, sorted, with their states.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) if the hub has ended.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn channels(&self) -> Result<Vec<(String, ChannelState)>, Error> {
        self.listener.channels().await
    }

    /// Begins a handover: a new session replaces the current one, without a gap and without duplicates. See
    /// [`ListenerHandle::rotate`].
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) if the hub has ended.
    ///
    /// # Cancel safety
    /// As [`ListenerHandle::rotate`].
    pub async fn rotate(&self) -> Result<(), Error> {
        self.listener.rotate().await
    }

    /// Returns how full the notification queue of the server is, from 0 to 1. See
    /// [`ListenerHandle::notification_queue_usage`].
    ///
    /// # Errors
    /// As [`ListenerHandle::notification_queue_usage`].
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn notification_queue_usage(&self) -> Result<f64, Error> {
        self.listener.notification_queue_usage().await
    }

    /// Stops listening to every channel, waits until all notifications that were committed before are in the queues of the subscriptions, and
    /// ends the hub as [`close`](Self::close) does. Every further subscribe returns [`ErrorKind::Closed`](crate::ErrorKind::Closed), and so does
    /// a subscribe that waits.
    ///
    /// # Errors
    /// As [`ListenerHandle::drain`]. A second call returns [`ErrorKind::Closed`](crate::ErrorKind::Closed) at once: the first one decides.
    ///
    /// # Cancel safety
    /// The hub drains even if the future is dropped.
    pub async fn drain(&self, timeout: Duration) -> Result<(), Error> {
        self.refuse(&self.listener.shared().draining());
        self.listener.drain(timeout).await
    }

    /// Ends the session and the hub. Every subscription still receives what is in its queue, and then [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// This takes at most [`close_timeout`](crate::HubBuilder::close_timeout), by default a second. It returns at once if the hub has ended.
    ///
    /// # Cancel safety
    /// The hub closes even if the future is dropped.
    pub async fn close(&self) {
        self.refuse(&self.listener.shared().owner().closed());
        self.listener.close().await;
    }

    /// Returns whether notifications for some subscription are held back. The state can be `Connected` already.
    pub(crate) fn holds_back(&self) -> bool {
        self.shared.lock().holds_back()
    }

    /// Refuses further subscriptions, and those that wait.
    fn refuse(&self, refusal: &Error) {
        let mut woken = self.shared.lock().refuse(refusal);
        woken.wake();
        self.shared.changed.notify_one();
    }
}

/// Clones the handle.
impl From<&Self> for HubHandle {
    fn from(handle: &Self) -> Self {
        handle.clone()
    }
}

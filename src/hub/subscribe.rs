//! [`Subscribe`]: the settings of a subscription, which is made when this is awaited.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::filter::{Filter, IgnoredSender};
use super::mailbox::{Limits, Mailbox};
use super::routes::{Route, Subscribed};
use super::shared::HubShared;
use super::subscription::{Membership, Subscription};
use crate::error::{Error, ErrorKind};
use crate::notifier::Notifier;
use crate::proto::supervisor::Overflow;

/// The lowest number of bytes of a queue: the longest notification of PostgreSQL fits.
pub(crate) const QUEUE_BYTES_MIN: usize = 8 * 1024;

/// A subscription that is made when this is awaited. Made by [`Hub::subscribe`](crate::Hub::subscribe),
/// [`subscribe_many`](crate::Hub::subscribe_many) and [`subscribe_topic`](crate::Hub::subscribe_topic).
///
/// ```no_run
/// # async fn example(hub: pgbell::Hub) -> Result<(), pgbell::Error> {
/// use pgbell::Overflow;
///
/// let mut prices = hub
///     .subscribe("prices")
///     .queue_capacity(16)
///     .overflow(Overflow::DropOldest)
///     .payload_prefix("EUR")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing happens until this is awaited"]
pub struct Subscribe {
    hub: Arc<HubShared>,
    routes: Result<Arc<[Route]>, Error>,
    capacity: usize,
    bytes: usize,
    overflow: Overflow,
    filter: Filter,
}

impl Subscribe {
    pub(super) fn new(hub: Arc<HubShared>, routes: Result<Arc<[Route]>, Error>) -> Self {
        Self {
            hub,
            routes,
            capacity: 1_024,
            bytes: 1024 * 1024,
            overflow: Overflow::DropNewest,
            filter: Filter::default(),
        }
    }

    /// Sets the highest number of notifications in the queue of the subscription, at least 1, by default 1,024. The queue takes memory only for
    /// what is unread.
    pub fn queue_capacity(mut self, notifications: usize) -> Self {
        self.capacity = notifications;
        self
    }

    /// Sets the highest number of bytes of notifications in the queue, at least 8 KiB, by default 1 MiB. A notification counts with its channel
    /// and 11 bytes.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets what is dropped when the queue is full: by default [`Overflow::DropNewest`]. [`Overflow::Block`] is refused, because it would stop
    /// all subscriptions.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Receives only notifications whose payload begins with `prefix`. With a topic of [`TopicOf::Prefix`](crate::TopicOf::Prefix), it is the
    /// payload without the topic. Others do not count as received.
    pub fn payload_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.filter.prefix = prefix.as_ref().as_bytes().into();
        self
    }

    /// Does not receive notifications of the server process `process_id`. Can be called several times.
    pub fn ignore_process_id(mut self, process_id: i32) -> Self {
        self.filter.ignored.push(IgnoredSender::Process(process_id));
        self
    }

    /// Does not receive what `notifier` sends, also after its process id has changed. Can be called several times.
    pub fn ignore_notifier(mut self, notifier: &Notifier) -> Self {
        let session = notifier.session_process_id().clone();
        self.filter.ignored.push(IgnoredSender::Session(session));
        self
    }

    async fn subscribe(self) -> Result<Subscription, Error> {
        let Self { hub, routes, capacity, bytes, overflow, filter } = self;
        let routes = routes?;
        let drop_oldest = match overflow {
            Overflow::DropNewest => false,
            Overflow::DropOldest => true,
            Overflow::Block { .. } => {
                let message = "a subscription cannot block: it would stop all others of its hub";
                return Err(Error::new(ErrorKind::Config, message));
            }
        };
        for (what, found, least) in
            [("queue_capacity", capacity, 1), ("queue_bytes", bytes, QUEUE_BYTES_MIN)]
        {
            if found < least {
                let message = format!("{what} is {found}, at least {least} is needed");
                return Err(Error::new(ErrorKind::Config, message));
            }
        }
        let limits = Limits { capacity: capacity as u64, bytes: bytes as u64, drop_oldest };
        let is_filtered = !(filter.prefix.is_empty() && filter.ignored.is_empty());
        let filter = is_filtered.then(|| Box::new(filter));
        let mailbox = Arc::new(Mailbox::new(limits, filter, routes.len() > 1));
        let (reply, answer) = oneshot::channel();
        let subscribed = hub.lock().subscribe(&mailbox, &routes, reply)?;
        let (number, joined) = match subscribed {
            Subscribed::Joined(listening) => (None, Some(listening)),
            Subscribed::Waits(number) => (Some(number), None),
        };
        // Dropped with the future, it leaves.
        let membership = Membership::new(hub, mailbox, routes, number);
        let listening = match joined {
            Some(listening) => listening,
            None => {
                membership.hub.changed.notify_one();
                match answer.await {
                    Ok(Ok(listening)) => listening,
                    Ok(Err(error)) => return Err(membership.failed(error)),
                    Err(_) => return Err(membership.hub.end().closed()),
                }
            }
        };
        Ok(Subscription::new(membership, listening))
    }
}

/// # Errors
/// - [`ErrorKind::Misuse`] for a channel that is empty, longer than 63 bytes or contains a NUL, for a list without channels, and for a topic
///   that is empty or contains the separator.
/// - [`ErrorKind::Config`] for [`Overflow::Block`], and for a queue that is too small.
/// - The error of the server, if it refuses a channel.
/// - [`ErrorKind::Closed`] if the hub drains or has ended.
///
/// # Cancel safety
/// A dropped future leaves nothing behind.
impl IntoFuture for Subscribe {
    type Output = Result<Subscription, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.subscribe())
    }
}

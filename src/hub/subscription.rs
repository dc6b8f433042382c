//! [`Subscription`]: receives from channels or a topic of a hub.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use super::mailbox::{Mailbox, MailboxSource, SubscriptionStats};
use super::routes::Route;
use super::shared::HubShared;
use crate::error::Error;
use crate::notification::{Batch, Event};
#[cfg(feature = "json")]
use crate::notification::{JsonStream, TryRecv};
use crate::proto::supervisor::Listening;
use crate::queue::{CurrentRun, Receiver, Recv};

/// Receives the notifications of channels, or of a topic of a channel, from a [`Hub`](crate::Hub).
///
/// Each subscription has a queue of its own. If it is full, the subscription loses notifications, and no other one does. Losses are reported
/// at their place, as by a [`Listener`](crate::Listener): a [`Gap`](crate::Gap) to all subscriptions that it concerns, a
/// [`Lagged`](crate::Lagged) to the one whose queue was full. [`sequence`](crate::Notification::sequence) counts the notifications of this
/// subscription.
///
/// A channel that the server refuses to a session is named in the gap. If the server accepts it later within the session, because another
/// subscription asks for it, another gap follows at once; it can come behind the first notifications.
///
/// Dropping it ends it. If it was the last one of a channel, the hub stops listening to the channel.
///
/// ```no_run
/// # async fn example(hub: pgbell::Hub) -> Result<(), pgbell::Error> {
/// use pgbell::Event;
///
/// let mut subscription = hub.subscribe_topic("orders", "42").await?;
/// loop {
///     match subscription.recv().await? {
///         Event::Notification(n) => println!("order 42: {}", n.payload()),
///         loss => println!("read order 42 again: {loss}"),
///     }
/// }
/// # }
/// ```
pub struct Subscription {
    receiver: Receiver<MailboxSource>,
    membership: Membership,
    listening: Listening,
}

impl Subscription {
    pub(super) fn new(membership: Membership, listening: Listening) -> Self {
        let source = MailboxSource::new(membership.mailbox.clone());
        let receiver = Receiver::new(source, CurrentRun::of_shared(), membership.hub.end());
        Self { receiver, membership, listening }
    }

    /// Waits for the next event.
    ///
    /// A notification of up to 79 bytes, channel included, is copied. A longer one is shared with the other subscriptions that receive it, or
    /// copied if it arrived with many others.
    ///
    /// # Errors
    /// After the end of the hub, when everything that was received is delivered:
    /// - the error that the hub ended with, once;
    /// - [`Closed`](crate::ErrorKind::Closed) from then on, and after [`close`](crate::HubHandle::close).
    ///
    /// # Cancel safety
    /// A dropped future loses nothing.
    // Not an `async fn`: that would move the event once more.
    #[inline(always)]
    pub fn recv(&mut self) -> impl Future<Output = Result<Event, Error>> + Send {
        Recv(&mut self.receiver)
    }

    /// Polls for the next event. The waker of the last call is woken.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    #[inline(always)]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        self.receiver.poll_recv(cx)
    }

    /// Returns the next event, if one is queued.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        self.receiver.try_recv()
    }

    /// Returns the next event of the stream, if one is queued, or the end of the stream with its cause.
    pub(crate) fn try_next(&mut self) -> Result<Option<Event>, Option<Error>> {
        self.receiver.try_next()
    }

    /// Waits for notifications that arrived together, and returns them as a batch, without a copy.
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
        poll_fn(|cx| self.receiver.poll_batch(cx)).await?;
        Ok(self.receiver.batch(max))
    }

    /// Receives with the payloads decoded as JSON.
    ///
    /// ```no_run
    /// # async fn example(subscription: pgbell::Subscription) -> Result<(), pgbell::Error> {
    /// use pgbell::JsonEvent;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct UserEvent {
    ///     user_id: i64,
    /// }
    ///
    /// let mut events = subscription.json::<UserEvent>();
    /// loop {
    ///     match events.recv().await? {
    ///         JsonEvent::Value(event, _) => println!("user {}", event.user_id),
    ///         JsonEvent::Invalid(error) => println!("{error}"),
    ///         loss => println!("read the users again: {loss}"),
    ///     }
    /// }
    /// # }
    /// ```
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    #[must_use]
    pub fn json<T>(self) -> JsonStream<Self, T> {
        JsonStream::new(self)
    }

    /// Returns whether the server had confirmed LISTEN when the subscription was made. `Pending`: there was no session. Then the first event
    /// is a [`Gap`](crate::Gap), as soon as there is one.
    #[must_use]
    pub fn listening(&self) -> Listening {
        self.listening
    }

    /// Returns the channels.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.membership.routes.iter().map(|route| &*route.channel)
    }

    /// Returns the topic, unless the subscription receives whole channels.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.membership.routes.first()?.topic.as_deref()
    }

    /// Returns the statistics of the subscription.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        self.membership.mailbox.stats()
    }

    /// Ends the subscription, as its drop does. What is unread is dropped.
    pub fn close(self) {
        drop(self);
    }
}

#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
impl TryRecv for Subscription {
    fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        self.try_recv()
    }
}

impl Stream for Subscription {
    type Item = Result<Event, Error>;

    /// Ends after the error that the hub ended with, or at once after a close.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().receiver.poll_next(cx)
    }
}

impl FusedStream for Subscription {
    /// Returns true once the stream has returned `None`. It does so again each time it is polled.
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("channels", &self.channels().collect::<Vec<_>>())
            .field("topic", &self.topic())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The place of a subscription in its hub. Its drop leaves.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) hub: Arc<HubShared>,
    mailbox: Arc<Mailbox>,
    routes: Arc<[Route]>,
    /// The number with which it waits or has waited.
    number: Option<u64>,
    has_left: bool,
}

impl Membership {
    pub(super) fn new(
        hub: Arc<HubShared>,
        mailbox: Arc<Mailbox>,
        routes: Arc<[Route]>,
        number: Option<u64>,
    ) -> Self {
        Self { hub, mailbox, routes, number, has_left: false }
    }

    /// Returns the error with which the hub has ended the wait. It has left already.
    pub(super) fn failed(mut self, error: Error) -> Error {
        self.has_left = true;
        error
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !self.has_left {
            let has_changes = {
                let mut routes = self.hub.lock();
                routes.leave(&self.mailbox, &self.routes, self.number);
                routes.has_changes()
            };
            if has_changes {
                self.hub.changed.notify_one();
            }
        }
        self.mailbox.clear();
    }
}

//! [`Source`]: where a lane takes its notifications from.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::barrier::Barrier;
use super::lane_queue::LaneReceiver;
use crate::error::Error;
use crate::hub::{Subscription, SubscriptionStats};
use crate::notification::{Event, Loss, Notification};

/// What a lane handles.
#[derive(Debug)]
pub(super) enum Item {
    Notification(Notification),
    Loss(Loss),
}

/// The bytes of a NotificationResponse besides its channel and its payload: tag, length, process id, and two NULs.
const FRAME_REST_BYTES: usize = 11;

impl Item {
    /// Returns the bytes that it counts with in the limit of a lane: those of its message, as in the queue of a subscription. A loss has
    /// none.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Notification(notification) => notification_bytes(notification),
            Self::Loss(_) => 0,
        }
    }
}

/// Returns the bytes that a notification counts with in the limit of a lane.
pub(super) fn notification_bytes(notification: &Notification) -> usize {
    let (channel, payload) = (notification.channel_bytes(), notification.payload_bytes());
    FRAME_REST_BYTES + channel.len() + payload.len()
}

impl From<Event> for Item {
    fn from(event: Event) -> Self {
        match event {
            Event::Notification(notification) => Self::Notification(notification),
            Event::Gap(gap) => Self::Loss(Loss::Gap(gap)),
            Event::Lagged(lagged) => Self::Loss(Loss::Lagged(lagged)),
        }
    }
}

/// An item, or the end with its cause.
#[derive(Debug)]
pub(super) enum Received {
    Item(Item),
    End(Option<Error>),
}

/// The queue of a lane.
#[derive(Debug)]
pub(super) enum Source {
    /// What the reader of a listener has put into it.
    Queue(LaneReceiver, Arc<Barrier>),
    Subscription(Box<SubscriptionSource>),
}

/// A subscription to a hub.
#[derive(Debug)]
pub(super) struct SubscriptionSource {
    subscription: Subscription,
    /// After the fence: the number of notifications that are still handled.
    left: Option<u64>,
    /// The cause of the end, if it was received after notifications that go first.
    cause: Option<Error>,
}

impl Source {
    pub(super) fn subscription(subscription: Subscription) -> Self {
        Self::Subscription(Box::new(SubscriptionSource { subscription, left: None, cause: None }))
    }

    /// Polls for the next item.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        match self {
            Self::Queue(queue, _) => {
                let item = ready!(queue.poll_recv(cx));
                Poll::Ready(item.map_or(Received::End(None), Received::Item))
            }
            Self::Subscription(source) => source.poll_next(cx),
        }
    }

    /// Returns the next item, if there is one.
    pub(super) fn try_next(&mut self) -> Option<Item> {
        match self {
            Self::Queue(queue, _) => queue.try_recv(),
            Self::Subscription(source) => source.try_next(),
        }
    }

    /// Sets the fence: what is in the queue now is still returned, and then the end. Only the queue of a subscription has one; returns whether
    /// it was set now.
    pub(super) fn fence(&mut self) -> bool {
        match self {
            Self::Subscription(source) if source.left.is_none() => {
                source.left = Some(source.queued());
                true
            }
            _ => false,
        }
    }

    /// Returns whether the fence can be set.
    pub(super) fn is_unfenced(&self) -> bool {
        matches!(self, Self::Subscription(source) if source.left.is_none())
    }

    /// Reports that items were handled.
    pub(super) fn handled(&self, items: usize) {
        if let Self::Queue(_, barrier) = self {
            barrier.remove(items);
        }
    }

    /// Returns the number of notifications in the queue that were not counted as received. The fence leaves later ones out.
    pub(super) fn unread(&self) -> u64 {
        match self {
            Self::Queue(..) => 0,
            Self::Subscription(source) => {
                let queued = source.queued();
                source.left.map_or(queued, |left| left.min(queued))
            }
        }
    }
}

impl SubscriptionSource {
    /// Returns the number of notifications that were not received from the subscription. `queued` leaves out those of a part of the queue that
    /// is being received.
    fn queued(&self) -> u64 {
        let SubscriptionStats { received, delivered, dropped, .. } = self.subscription.stats();
        received.saturating_sub(delivered).saturating_sub(dropped)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        if self.left.is_some() {
            return Poll::Ready(self.next_before_fence());
        }
        if let Some(cause) = self.cause.take() {
            return Poll::Ready(Received::End(Some(cause)));
        }
        // As a stream, because that says whether an error is the cause of the end.
        let item = ready!(Pin::new(&mut self.subscription).poll_next(cx));
        Poll::Ready(match item {
            Some(Ok(event)) => Received::Item(event.into()),
            Some(Err(cause)) => Received::End(Some(cause)),
            None => Received::End(None),
        })
    }

    /// Returns the next item without waiting. Nothing is pending because of the scheduling of tokio, so nothing is left out.
    fn next_before_fence(&mut self) -> Received {
        match self.subscription.try_next() {
            Ok(Some(Event::Notification(_))) if self.left == Some(0) => Received::End(None),
            Ok(Some(event)) => Received::Item(self.counted(event)),
            Ok(None) => Received::End(self.cause.take()),
            Err(cause) => Received::End(self.cause.take().or(cause)),
        }
    }

    fn try_next(&mut self) -> Option<Item> {
        if self.left == Some(0) || self.cause.is_some() {
            return None;
        }
        match self.subscription.try_next() {
            Ok(event) => event.map(|event| self.counted(event)),
            Err(cause) => {
                self.cause = cause;
                None
            }
        }
    }

    fn counted(&mut self, event: Event) -> Item {
        if let (Some(left), Event::Notification(_)) = (&mut self.left, &event) {
            *left = left.saturating_sub(1);
        }
        event.into()
    }
}

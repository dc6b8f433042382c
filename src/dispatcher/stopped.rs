//! [`Stopped`]: the report of the end of a dispatcher.

use crate::error::Error;

/// How a dispatcher has ended.
///
/// ```no_run
/// # async fn example(running: pgbell::RunningDispatcher) {
/// use std::time::Duration;
///
/// let stopped = running.stop(Duration::from_secs(5)).await;
/// println!("{} not handled, {} cancelled", stopped.unhandled, stopped.cancelled);
/// if let Some(error) = stopped.error {
///     println!("{error:#}");
/// }
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stopped {
    /// Notifications that were received and that not all handlers of their channel or topic have handled: those in queues, and those of
    /// cancelled runs. One that belongs to a channel and to a topic counts for each. Zero after a drain that was complete.
    ///
    /// Not counted are:
    /// - what a full queue has dropped. A drain reports it to the loss handler, as [`Lagged`](crate::Lagged). A stop does not: losses that are
    ///   unread then are dropped with the queue, and the statistics of the listener or the hub count them;
    /// - over a [`Hub`](crate::Hub), the queue of a lane whose run is [`blocked`](Self::blocked), and what the hub held back when it ended during
    ///   an outage: its subscriptions count that as [`dropped`](crate::SubscriptionStats::dropped);
    /// - over a [`Listener`](crate::Listener), the rest of its queue if the [function](crate::TopicOf::function) that finds topics is blocked, and
    ///   the topics in that rest after a panic of the function: it is called for the count, and not again after a panic.
    pub unhandled: u64,
    /// Handler runs that were cancelled: their futures were dropped.
    pub cancelled: u64,
    /// Lanes whose handler did not reach its next await within a second after it was cancelled. Its run ends when it does, or with the
    /// process. Over a [`Listener`](crate::Listener), the [function](crate::TopicOf::function) that finds topics counts as one more if it has not
    /// returned a second after the lanes and the listener have ended.
    pub blocked: u64,
    /// The error that the listener or the hub has ended with, or that of the drain. `None` if the listener or the hub was closed, or the
    /// dispatcher was stopped.
    ///
    /// An error of a drain says that what was committed before the drain may not have arrived: the deadline has passed before the server
    /// answered, or over a [`Hub`](crate::Hub) there was no session, or it was lost during the drain. What has arrived was handled, unless it
    /// counts as [`unhandled`](Self::unhandled).
    pub error: Option<Error>,
}

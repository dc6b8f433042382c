//! [`Reader`]: receives from a listener, and puts what it receives into the queues of the lanes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream;

use super::barrier::Barrier;
use super::lane_queue::LaneSender;
use super::phase::Phase;
use super::router::{Router, Targets};
use super::shared::DispatcherShared;
use super::source::Item;
use super::until::until;
use crate::error::Error;
use crate::listener::Listener;
use crate::notification::{Event, Loss, Notification};

/// The task that receives from a listener.
///
/// ```text
/// listener ─▶ reader ─▶ queue of a lane ─▶ handlers of a channel, one after the other
///                    ─▶ queue of a lane ─▶ handlers of a topic
///                    ─▶ queue of losses ─▶ loss handler, while all other queues are empty and no other handler runs
/// ```
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) listener: Listener,
    pub(super) router: Router,
    pub(super) losses: LaneSender,
    pub(super) barrier: Arc<Barrier>,
    pub(super) shared: Arc<DispatcherShared>,
}

impl Reader {
    /// Receives until the listener ends or the dispatcher stops. Returns the cause of the end.
    pub(super) async fn run(mut self) -> Option<Error> {
        let shared = self.shared.clone();
        let ended = until(shared.reached(Phase::Stopping), self.read()).await;
        if ended.is_none() {
            // What was sent before the end of the session is counted too.
            self.listener.handle().close().await;
            self.count_unread().await;
        }
        let Self { listener, router, .. } = self;
        // Its function that finds topics is of the user.
        shared.drop_contained(router);
        if let Some(cause) = ended {
            return cause;
        }
        listener.close().await;
        None
    }

    /// Counts what is left in the queue of a listener that has ended, once for each lane that it is for.
    async fn count_unread(&mut self) {
        let counters = &self.shared.counters;
        while let Some(Ok(event)) = poll_fn(|cx| Pin::new(&mut self.listener).poll_next(cx)).await {
            let Event::Notification(notification) = event else { continue };
            let targets = self.router.targets(notification);
            counters.unread.add(targets.lanes());
            if targets.has_panicked {
                counters.panics.add(1);
                // The function is not called again: only the count is left to do.
                self.router.forget_topics();
            }
        }
    }

    /// Receives until the listener ends. Dropped, it leaves out at most the item in hand, which is counted as received.
    async fn read(&mut self) -> Option<Error> {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut self.listener).poll_next(cx)).await;
            match event {
                Some(Ok(event)) => match event.into() {
                    Item::Notification(notification) => self.put(notification).await,
                    Item::Loss(loss) => self.put_loss(loss).await,
                },
                Some(Err(cause)) => return Some(cause),
                None => return None,
            }
        }
    }

    /// Puts a notification into the queues of its lanes, and waits for room.
    async fn put(&self, notification: Notification) {
        let counters = &self.shared.counters;
        let targets = self.router.targets(notification);
        let lanes = targets.lanes();
        let Targets { whole, topic, has_panicked } = targets;
        if has_panicked {
            counters.panics.add(1);
        }
        if lanes == 0 {
            counters.unclaimed.add(1);
        }
        counters.received.add(lanes);
        for (queue, notification) in whole.into_iter().chain(topic) {
            self.send(queue, Item::Notification(notification)).await;
        }
    }

    /// Waits until everything before the loss is handled, and then until the loss is.
    async fn put_loss(&self, loss: Loss) {
        self.shared.counters.losses.add(1);
        self.barrier.passed().await;
        self.send(&self.losses, Item::Loss(loss)).await;
        self.barrier.passed().await;
    }

    async fn send(&self, queue: &LaneSender, item: Item) {
        self.barrier.add();
        if !queue.send(item).await {
            // A lane ends before its reader only when the dispatcher stops.
            self.barrier.remove(1);
        }
    }
}

//! [`LaneSender`] and [`LaneReceiver`]: the queue of a lane over a listener, limited in notifications and in bytes.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{Semaphore, mpsc};

use super::byte_budget::ByteBudget;
use super::source::Item;

/// The end of a queue that its reader puts items into.
#[derive(Debug, Clone)]
pub(super) struct LaneSender {
    queue: mpsc::Sender<Item>,
    budget: Arc<ByteBudget>,
}

/// The end of a queue that its lane takes items out of.
#[derive(Debug)]
pub(super) struct LaneReceiver {
    queue: mpsc::Receiver<Item>,
    budget: Arc<ByteBudget>,
}

/// Creates the queue of a lane: at most `capacity` items, whose notifications have at most `bytes`, or one that has more.
pub(super) fn lane_queue(capacity: usize, bytes: usize) -> (LaneSender, LaneReceiver) {
    let (sender, receiver) = mpsc::channel(capacity.min(Semaphore::MAX_PERMITS));
    let budget = Arc::new(ByteBudget::new(bytes));
    (LaneSender { queue: sender, budget: budget.clone() }, LaneReceiver { queue: receiver, budget })
}

impl LaneSender {
    /// Waits for room, and puts an item into the queue. Returns false if the lane has ended. Dropped, it leaves the item out, and takes no
    /// room.
    pub(super) async fn send(&self, item: Item) -> bool {
        let Ok(slot) = self.queue.reserve().await else { return false };
        self.budget.take(item.bytes()).await;
        slot.send(item);
        true
    }
}

impl LaneReceiver {
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.queue.poll_recv(cx).map(|item| self.taken(item))
    }

    /// Returns the next item, if there is one.
    pub(super) fn try_recv(&mut self) -> Option<Item> {
        let item = self.queue.try_recv().ok();
        self.taken(item)
    }

    fn taken(&self, item: Option<Item>) -> Option<Item> {
        if let Some(item) = &item {
            self.budget.give_back(item.bytes());
        }
        item
    }
}

impl Drop for LaneReceiver {
    fn drop(&mut self) {
        self.queue.close();
        self.budget.close();
    }
}

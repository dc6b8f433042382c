//! [`Barrier`]: a reader waits until its lanes have handled everything.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The number of items that a reader has put into lanes and that are not handled. One task waits for zero.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    items: AtomicUsize,
    none: Notify,
}

impl Barrier {
    /// Counts an item that is put into a lane.
    pub(super) fn add(&self) {
        self.items.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts items that were handled.
    pub(super) fn remove(&self, items: usize) {
        if self.items.fetch_sub(items, Ordering::AcqRel) == items {
            // It is stored, if the reader does not wait yet.
            self.none.notify_one();
        }
    }

    /// Waits until everything is handled.
    pub(super) async fn passed(&self) {
        while self.items.load(Ordering::Acquire) > 0 {
            self.none.notified().await;
        }
    }
}

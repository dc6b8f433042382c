//! [`Changes`]: counts what a reader or a call that waits must see.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::queue::WakeAll;

/// Counts what a reader or a call that waits must see: a commit, another reader, the end of a cursor.
#[derive(Debug, Default)]
pub(super) struct Changes {
    count: AtomicU64,
    added: WakeAll,
}

impl Changes {
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.added.wake();
    }

    /// Waits until the count is another one than `seen`, and returns it.
    ///
    /// # Cancel safety
    /// If the future is dropped, the change is not lost: the next call returns it.
    pub(super) async fn wait(&self, seen: u64) -> u64 {
        self.added.wait_until(|| Some(self.count()).filter(|count| *count != seen)).await
    }
}

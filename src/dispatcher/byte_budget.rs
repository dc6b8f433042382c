//! [`ByteBudget`]: the bytes of notifications that may wait in a queue.

use tokio::sync::Semaphore;

/// A number of bytes, which one side takes and the other side gives back.
#[derive(Debug)]
pub(super) struct ByteBudget {
    /// A permit for each byte.
    free: Semaphore,
    limit: u32,
}

impl ByteBudget {
    /// Creates a budget of at most 4 GiB.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        let limit = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { free: Semaphore::new(bytes.min(limit as usize)), limit }
    }

    /// Waits until there are so many bytes, and takes them. More than the limit count as all of it. Does not wait after
    /// [`close`](Self::close).
    pub(super) async fn take(&self, bytes: usize) {
        if let Ok(permits) = self.free.acquire_many(self.counted(bytes)).await {
            permits.forget();
        }
    }

    /// Gives back what was taken with the same number.
    pub(super) fn give_back(&self, bytes: usize) {
        self.free.add_permits(self.counted(bytes) as usize);
    }

    /// Ends every wait: nothing is given back any more.
    pub(super) fn close(&self) {
        self.free.close();
    }

    fn counted(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll(future: &mut std::pin::Pin<Box<impl Future<Output = ()>>>) -> Poll<()> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_does_not_fit_waits_until_enough_is_given_back() {
        let budget = ByteBudget::new(10);
        assert!(poll(&mut Box::pin(budget.take(6))).is_ready());
        assert!(poll(&mut Box::pin(budget.take(4))).is_ready());
        let mut waits = Box::pin(budget.take(5));
        assert!(poll(&mut waits).is_pending());
        budget.give_back(4);
        assert!(poll(&mut waits).is_pending());
        budget.give_back(6);
        assert!(poll(&mut waits).is_ready());
    }

    #[test]
    fn more_than_the_limit_counts_as_all_of_it() {
        let budget = ByteBudget::new(10);
        assert!(poll(&mut Box::pin(budget.take(1))).is_ready());
        let mut large = Box::pin(budget.take(usize::MAX));
        assert!(poll(&mut large).is_pending());
        budget.give_back(1);
        assert!(poll(&mut large).is_ready());
        assert!(poll(&mut Box::pin(budget.take(1))).is_pending());
        budget.give_back(usize::MAX);
        assert!(poll(&mut Box::pin(budget.take(10))).is_ready());
        assert!(poll(&mut Box::pin(ByteBudget::new(usize::MAX).take(usize::MAX))).is_ready());
    }

    #[test]
    fn a_wait_ends_when_the_budget_is_closed() {
        let budget = ByteBudget::new(10);
        assert!(poll(&mut Box::pin(budget.take(10))).is_ready());
        let mut waits = Box::pin(budget.take(1));
        assert!(poll(&mut waits).is_pending());
        budget.close();
        assert!(poll(&mut waits).is_ready());
    }
}

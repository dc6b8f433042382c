//! [`WakeAll`]: wakes everything that waits.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::error::contain;

/// Wakes everything that waits, each by a call of its own.
///
/// A waker is code of the user, and may panic. `Notify::notify_waiters` and `watch::Sender` call several in a row, and forget those after one that
/// panics, so what they belong to would sleep forever.
#[derive(Debug, Default)]
pub(crate) struct WakeAll {
    notify: Notify,
    /// At least as many as wait.
    waits: AtomicUsize,
}

/// One that waits. While it exists, [`WakeAll::wake`] wakes it.
pub(crate) struct Wait<'a>(&'a AtomicUsize);

impl<'a> Wait<'a> {
    fn new(waits: &'a AtomicUsize) -> Self {
        waits.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Self(waits)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl WakeAll {
    /// Wakes one of those that wait, or the next one that will.
    pub(crate) fn wake_one(&self) {
        let _ = contain(|| self.notify.notify_one());
    }

    /// Wakes all that wait. What they wait for must be so already: stored in any ordering.
    pub(crate) fn wake(&self) {
        // With the one in `Wait::new`: what was stored before is seen by the check of a waiter that is not counted here yet.
        fence(Ordering::SeqCst);
        // The oldest first, so one that waits again is not woken in place of another one.
        for _ in 0..self.waits.load(Ordering::SeqCst) {
            self.wake_one();
        }
    }

    /// Counts one that waits, before it calls [`woken`](Self::woken) and checks whether it must.
    pub(crate) fn begin_wait(&self) -> Wait<'_> {
        Wait::new(&self.waits)
    }

    /// Waits for a wake-up. Before the check, `enable` it: then what happens after the check wakes it.
    pub(crate) fn woken(&self) -> Notified<'_> {
        self.notify.notified()
    }

    /// Waits until `is_ready` returns a value. It is called at first, and after each wake-up.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing: its wake-up goes to another one.
    pub(crate) async fn wait_until<T>(&self, mut is_ready: impl FnMut() -> Option<T>) -> T {
        let _wait = self.begin_wait();
        loop {
            let mut woken = pin!(self.woken());
            woken.as_mut().enable();
            if let Some(value) = is_ready() {
                return value;
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Poll, Wake, Waker};

    use futures_util::FutureExt;

    use super::*;

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("of a test");
        }
    }

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// `Notify::notify_waiters` and `watch::Sender::send` forget the rest of a row of wakers behind one that panics.
    #[test]
    fn a_waker_that_panics_leaves_no_other_one_asleep() {
        let (all, is_set) = (WakeAll::default(), AtomicBool::new(false));
        let wait = || Box::pin(all.wait_until(|| is_set.load(Ordering::SeqCst).then_some(())));
        let flags: Vec<_> = (0..50).map(|_| Arc::new(Flag::default())).collect();
        let mut waits: Vec<_> = (0..50).map(|_| (wait(), wait())).collect();
        for ((bad, good), flag) in waits.iter_mut().zip(&flags) {
            let (panics, wakes) = (Waker::from(Arc::new(Panics)), Waker::from(flag.clone()));
            assert!(bad.poll_unpin(&mut Context::from_waker(&panics)).is_pending());
            assert!(good.poll_unpin(&mut Context::from_waker(&wakes)).is_pending());
        }
        is_set.store(true, Ordering::SeqCst);
        all.wake();
        assert!(flags.iter().all(|flag| flag.0.load(Ordering::SeqCst)));
        for (_, good) in &mut waits {
            assert_eq!(good.poll_unpin(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
        }
    }

    #[test]
    fn a_wake_up_of_a_dropped_future_goes_to_another_one() {
        let (all, is_set) = (WakeAll::default(), AtomicBool::new(false));
        let wait = || Box::pin(all.wait_until(|| is_set.load(Ordering::SeqCst).then_some(())));
        let (mut first, mut second) = (wait(), wait());
        let flag = Arc::new(Flag::default());
        assert!(first.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(second.poll_unpin(&mut Context::from_waker(&flag.clone().into())).is_pending());
        is_set.store(true, Ordering::SeqCst);
        all.wake_one();
        assert!(!flag.0.load(Ordering::SeqCst));
        drop(first);
        assert!(flag.0.load(Ordering::SeqCst));
        assert_eq!(second.now_or_never(), Some(()));
        // Nothing waits, and no wake-up is left over.
        all.wake();
    }
}

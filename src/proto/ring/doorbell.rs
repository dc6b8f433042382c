//! A doorbell: a consumer that only has to know that something arrived, not what. There is no queue.
//!
//! ```text
//! Ringer ── count of notifications, one merged mark, waker ──▶ Doorbell
//! ```
//! Between two wake-ups the notifications become a number, and the marks one mark. So the memory does not depend on the consumer, and
//! neither side waits for the other.
//!
//! Models: `ring/loom/doorbell.rs`.

use std::fmt;
use std::task::{Context, Poll};

use super::marks::{LastMark, Marks};
use super::sync::{Arc, AtomicBool, AtomicU64, Ordering};
use super::wake::WakeCell;

#[derive(Debug)]
struct DoorbellShared<M> {
    /// Notifications that were published. Release by the ringer, Acquire by the doorbell.
    seen: AtomicU64,
    /// At most one.
    marks: Marks<M>,
    closed: AtomicBool,
    is_dropped: AtomicBool,
    waker: WakeCell,
}

/// The ringing half.
pub(crate) struct Ringer<M> {
    shared: Arc<DoorbellShared<M>>,
    /// Notifications received.
    seen: u64,
    last_mark: Option<LastMark<M>>,
    is_holding: bool,
}

/// The waiting half.
pub(crate) struct Doorbell<M> {
    shared: Arc<DoorbellShared<M>>,
    /// Notifications that were reported.
    reported: u64,
}

/// What happened since the last wake-up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rung<M> {
    /// Notifications arrived, or may be missing, or both.
    Arrived {
        /// The number of notifications that arrived.
        notified: u64,
        /// All marks since the last wake-up, merged into one.
        mark: Option<M>,
    },
    /// Nothing happened.
    Nothing,
    /// The ringer was dropped, and everything was reported.
    Closed,
}

/// Creates a doorbell.
pub(crate) fn doorbell<M>() -> (Ringer<M>, Doorbell<M>) {
    let shared = Arc::new(DoorbellShared {
        seen: AtomicU64::new(0),
        marks: Marks::new(1),
        closed: AtomicBool::new(false),
        is_dropped: AtomicBool::new(false),
        waker: WakeCell::new(),
    });
    let ringer = Ringer { shared: shared.clone(), seen: 0, last_mark: None, is_holding: false };
    (ringer, Doorbell { shared, reported: 0 })
}

impl<M> Ringer<M> {
    /// Returns the number of notifications that were received: a position in the stream.
    pub(crate) fn position(&self) -> u64 {
        self.seen
    }

    /// Returns whether the doorbell was dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.shared.is_dropped.load(Ordering::Acquire)
    }

    /// Counts notifications. They are shown by [`publish`](Self::publish).
    pub(crate) fn count(&mut self, notifications: u64) {
        self.seen += notifications;
    }

    /// Adds a mark. If the last one was not reported, `merge` merges this one into it; its last argument is true if nothing was
    /// received between the two.
    pub(crate) fn mark_at(&mut self, position: u64, mark: M, merge: impl FnOnce(&mut M, M, bool))
    where
        M: Clone,
    {
        let position = position.min(self.seen);
        self.shared.marks.add(&mut self.last_mark, position, mark, merge);
        self.shared.waker.wake();
    }

    /// Shows the doorbell what was counted, and rings, unless that is held back.
    pub(crate) fn publish(&mut self) {
        if self.is_holding {
            return;
        }
        // Release: pairs with the load in `take`.
        self.shared.seen.store(self.seen, Ordering::Release);
        self.shared.waker.wake();
    }

    /// Publishes everything up to here, and then nothing until [`release`](Self::release).
    pub(crate) fn hold(&mut self) {
        self.publish();
        self.is_holding = true;
    }

    /// Publishes everything that was held back.
    pub(crate) fn release(&mut self) {
        self.is_holding = false;
        self.publish();
    }
}

impl<M> Drop for Ringer<M> {
    /// Publishes everything that is not held back, and ends the doorbell.
    fn drop(&mut self) {
        self.publish();
        self.shared.closed.store(true, Ordering::Release);
        self.shared.waker.wake();
    }
}

impl<M> Doorbell<M> {
    /// Returns what happened since the last call. It never waits.
    pub(crate) fn take(&mut self) -> Rung<M> {
        // In this order: before the end, everything else was stored.
        let closed = self.shared.closed.load(Ordering::Acquire);
        let seen = self.shared.seen.load(Ordering::Acquire);
        let mark = self.shared.marks.take();
        let notified = seen.saturating_sub(self.reported);
        self.reported = seen;
        match notified {
            0 if mark.is_none() && closed => Rung::Closed,
            0 if mark.is_none() => Rung::Nothing,
            _ => Rung::Arrived { notified, mark },
        }
    }

    /// Waits until something happened. It never returns `Ready(Rung::Nothing)`. The waker of the last call is woken.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Rung<M>> {
        match self.take() {
            Rung::Nothing => {}
            rung => return Poll::Ready(rung),
        }
        self.shared.waker.prepare(cx);
        match self.take() {
            Rung::Nothing => Poll::Pending,
            rung => {
                self.shared.waker.cancel();
                Poll::Ready(rung)
            }
        }
    }
}

impl<M> Drop for Doorbell<M> {
    /// Drops the waker, so that nothing of the caller's task remains.
    fn drop(&mut self) {
        self.shared.is_dropped.store(true, Ordering::Release);
        self.shared.waker.clear();
    }
}

impl<M> fmt::Debug for Ringer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ringer").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for Doorbell<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorbell").field("reported", &self.reported).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::task::{Wake, Waker};

    use super::*;

    fn mark(ringer: &mut Ringer<Vec<u64>>, value: u64) {
        let position = ringer.position();
        ringer.mark_at(position, vec![value], |last, more, _| last.extend(more));
    }

    #[test]
    fn wake_ups_are_counted_and_marks_are_merged_between_two_of_them() {
        let (mut ringer, mut doorbell) = doorbell();
        assert_eq!(doorbell.take(), Rung::Nothing);
        for value in 0..1_000 {
            ringer.count(3);
            mark(&mut ringer, value);
            ringer.publish();
        }
        let all = Some((0..1_000).collect());
        assert_eq!(doorbell.take(), Rung::Arrived { notified: 3_000, mark: all });
        assert_eq!(doorbell.take(), Rung::Nothing);
        mark(&mut ringer, 7);
        assert_eq!(doorbell.take(), Rung::Arrived { notified: 0, mark: Some(vec![7]) });
        ringer.count(1);
        drop(ringer);
        assert_eq!(doorbell.take(), Rung::Arrived { notified: 1, mark: None });
        assert_eq!(doorbell.take(), Rung::Closed);
    }

    #[test]
    fn a_ringer_that_is_dropped_while_it_holds_back_shows_nothing() {
        let (mut ringer, mut doorbell) = doorbell::<()>();
        ringer.count(2);
        ringer.hold();
        ringer.count(5);
        ringer.publish();
        drop(ringer);
        assert_eq!(doorbell.take(), Rung::Arrived { notified: 2, mark: None });
        assert_eq!(doorbell.take(), Rung::Closed);
    }

    #[test]
    fn a_doorbell_that_is_dropped_frees_its_waker() {
        struct Counted;
        impl Wake for Counted {
            fn wake(self: Arc<Self>) {}
        }
        let counted = Arc::new(Counted);
        let waker = Waker::from(counted.clone());
        let (mut ringer, mut doorbell) = doorbell::<()>();
        assert!(doorbell.poll_take(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(Arc::strong_count(&counted), 3);
        drop(doorbell);
        assert_eq!(Arc::strong_count(&counted), 2);
        assert!(ringer.is_abandoned());
        ringer.count(1);
        ringer.publish();
    }
}

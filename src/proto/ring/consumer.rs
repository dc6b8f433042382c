//! [`Consumer`]: takes items in order, and computes the losses from their sequence numbers.

use std::fmt;
use std::task::{Context, Poll};

use super::shared::{RingItem, RingShared, Slot, SlotPosition};
use super::sync::{Arc, Ordering};

/// The next element of the stream.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Taken<T, M> {
    /// An item. Its first `skip` notifications are lost, and were reported as lost.
    Item {
        /// The value of the item.
        value: T,
        /// The sequence number of its first notification, skipped ones included.
        first: u64,
        /// The number of notifications at its beginning that must be skipped.
        skip: u64,
    },
    /// Notifications that were received and lost.
    Lost {
        /// The sequence number of the first of them.
        first: u64,
        /// Their number.
        count: u64,
    },
    /// A mark of the producer.
    Mark(M),
    /// There is no element at the moment.
    Empty,
    /// The end: the producer was dropped, and everything that it published was taken.
    Closed,
}

/// The state of the producer when the consumer last loaded it.
#[derive(Debug, Default)]
struct Snapshot {
    tail: u64,
    seen: u64,
    closed: bool,
    /// The position of the first unread mark. A mark that was made later is after everything in this snapshot.
    mark_at: u64,
}

/// The reading half of a ring. Made by [`channel`](super::channel).
pub struct Consumer<T, M> {
    shared: Arc<RingShared<T, M>>,
    /// The position of the next item to take.
    head: SlotPosition,
    snapshot: Snapshot,
    /// The sequence number of the next notification: all lower ones were returned or reported as lost.
    next: u64,
    /// An item that was taken out of its slot, and has a loss or a mark before it that must be returned first.
    stash: Option<RingItem<T>>,
    taken: u64,
    taken_bytes: u64,
    lost: u64,
}

impl<T, M> Consumer<T, M> {
    pub(super) fn new(shared: Arc<RingShared<T, M>>) -> Self {
        Self {
            shared,
            head: SlotPosition::default(),
            snapshot: Snapshot::default(),
            next: 0,
            stash: None,
            taken: 0,
            taken_bytes: 0,
            lost: 0,
        }
    }

    /// Returns the sequence number of the next notification. It is the number of notifications that were returned or
    /// reported as lost.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.next
    }

    /// Returns the number of notifications that were reported as lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns the number of notifications that were taken out of the ring.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns the number of bytes of notifications that were taken out of the ring.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// Takes the next element. It never waits.
    #[inline]
    pub fn try_take(&mut self) -> Taken<T, M> {
        let mut is_fresh = false;
        loop {
            if self.stash.is_some() {
                match self.take_stash() {
                    Some(found) => return found,
                    None => continue,
                }
            }
            if self.head.position >= self.snapshot.tail {
                self.refresh();
                is_fresh = true;
            }
            if let Some(item) = self.take_item() {
                if !self.is_next(&item) {
                    self.stash = Some(item);
                    continue;
                }
                self.next = item.first + item.count;
                return Taken::Item { value: item.value, first: item.first, skip: 0 };
            }
            if is_fresh {
                return self.take_at_end();
            }
        }
    }

    /// Loads the state of the producer.
    #[inline]
    fn refresh(&mut self) {
        let published = &self.shared.published;
        // The order of the loads matters. After `closed` the producer stores nothing. Items that were accepted below
        // `seen` are below `tail`. A mark below one of them is among the unread ones.
        self.snapshot.closed = published.closed.load(Ordering::Acquire);
        self.snapshot.seen = published.seen.load(Ordering::Acquire);
        self.snapshot.tail = published.tail.load(Ordering::Acquire);
        self.refresh_marks();
        // Items more than a round behind the tail are lost.
        let round = self.shared.slots() as u64;
        self.shared.jump(&mut self.head, self.snapshot.tail.saturating_sub(round));
    }

    #[inline]
    fn refresh_marks(&mut self) {
        self.snapshot.mark_at = self.shared.marks.first_position();
    }

    /// Returns true if there is no mark or loss before the item, and nothing of it is lost.
    #[inline]
    fn is_next(&self, item: &RingItem<T>) -> bool {
        self.next == item.first
            && self.snapshot.mark_at > item.first
            && self.shared.consumed.floor.load(Ordering::Acquire) <= item.first
    }

    /// Returns the mark or the loss before the item in the stash, or the item. `None` if all of it is lost.
    #[cold]
    fn take_stash(&mut self) -> Option<Taken<T, M>> {
        let item = self.stash.as_ref()?;
        let (first, end) = (item.first, item.first + item.count);
        let floor = self.shared.consumed.floor.load(Ordering::Acquire).clamp(first, end);
        self.refresh_marks();
        // There is no mark inside an item.
        if let Some(found) = self.take_before(floor) {
            return Some(found);
        }
        let item = self.stash.take()?;
        if self.next >= end {
            return None;
        }
        let skip = self.next.saturating_sub(first);
        self.next = end;
        Some(Taken::Item { value: item.value, first, skip })
    }

    /// Returns the mark or the loss after the last item that was published, or the end.
    fn take_at_end(&mut self) -> Taken<T, M> {
        match self.take_before(self.snapshot.seen) {
            Some(found) => found,
            None if self.snapshot.closed => Taken::Closed,
            None => Taken::Empty,
        }
    }

    /// Waits for the next element and takes it.
    ///
    /// It never returns `Ready(Taken::Empty)`. The waker of the last call is woken.
    pub fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<T, M>> {
        match self.try_take() {
            Taken::Empty => {}
            found => return Poll::Ready(found),
        }
        self.shared.published.consumer_waker.prepare(cx);
        match self.try_take() {
            Taken::Empty => {
                // The caller has dropped the last item by now. A waiting producer may need its memory.
                self.shared.consumed.producer_waker.wake();
                Poll::Pending
            }
            found => {
                self.shared.published.consumer_waker.cancel();
                Poll::Ready(found)
            }
        }
    }

    /// Takes the next item out of the slots below the tail of the snapshot, without regard to marks and losses before it.
    #[inline]
    fn take_item(&mut self) -> Option<RingItem<T>> {
        while self.head.position < self.snapshot.tail {
            let position = self.head.position;
            let mut newer = None;
            let found = match self.shared.slot(self.head).and_then(Slot::open) {
                Some(mut content) => match content.as_ref().map(|item| item.position) {
                    Some(found) if found <= position => content.take(),
                    found => {
                        newer = found;
                        None
                    }
                },
                // The producer evicts it at this moment.
                None => None,
            };
            self.shared.advance(&mut self.head);
            if let Some(item) = found {
                self.taken += item.count;
                self.taken_bytes += item.bytes;
                let consumed = &self.shared.consumed;
                // Release: pairs with the loads of the producer when it looks for room.
                consumed.head.store(self.head.position, Ordering::Release);
                consumed.bytes.store(self.taken_bytes, Ordering::Release);
                consumed.taken.store(self.taken, Ordering::Release);
                consumed.producer_waker.wake();
                if item.position == position {
                    return Some(item);
                }
                // This item is of an earlier round, and is lost: its slot was locked by this side when the producer
                // wanted to evict it, and again when the producer wanted to use the slot.
                continue;
            }
            // The item was evicted, or the slot was not used. If the slot has an item of a later round, all items
            // more than a round before that one are lost.
            if let Some(newer) = newer {
                let gone = (newer + 1).saturating_sub(self.shared.slots() as u64);
                self.shared.jump(&mut self.head, gone);
            }
        }
        None
    }

    /// Returns the mark or the loss before sequence number `limit`, if there is one.
    fn take_before(&mut self, limit: u64) -> Option<Taken<T, M>> {
        let mark_at = self.snapshot.mark_at;
        if mark_at <= limit {
            if mark_at > self.next {
                return Some(self.lose_up_to(mark_at));
            }
            if let Some(mark) = self.shared.marks.take() {
                self.refresh_marks();
                return Some(Taken::Mark(mark));
            }
        }
        (limit > self.next).then(|| self.lose_up_to(limit))
    }

    fn lose_up_to(&mut self, limit: u64) -> Taken<T, M> {
        let first = self.next;
        let count = limit - first;
        self.next = limit;
        self.lost += count;
        Taken::Lost { first, count }
    }
}

impl<T, M> Drop for Consumer<T, M> {
    /// Frees the unread items, and wakes the producer.
    fn drop(&mut self) {
        self.shared.consumed.is_dropped.store(true, Ordering::Release);
        self.refresh();
        while self.take_item().is_some() {}
        self.shared.consumed.producer_waker.wake();
        self.shared.published.consumer_waker.clear();
    }
}

impl<T, M> fmt::Debug for Consumer<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("sequence", &self.next)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

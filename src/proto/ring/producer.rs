//! [`Producer`]: puts items into the ring and publishes them. It never waits.

use std::fmt;
use std::task::{Context, Poll};

use super::marks::LastMark;
use super::shared::{RingItem, RingShared, Slot, SlotPosition};
use super::sync::{Arc, Ordering};

/// The writing half of a ring. Made by [`channel`](super::channel).
pub struct Producer<T, M> {
    shared: Arc<RingShared<T, M>>,
    /// The position of the next item to put. [`Producer::publish`] publishes the items below.
    tail: SlotPosition,
    /// There is no unread item below this position.
    oldest: SlotPosition,
    /// Notifications received, lost ones included.
    seen: u64,
    /// Notifications put into the ring, and those of them that were evicted.
    accepted: u64,
    accepted_bytes: u64,
    evicted: u64,
    evicted_bytes: u64,
    /// Items that were put in since [`Producer::hold`] are not published.
    is_holding: bool,
    last_mark: Option<LastMark<M>>,
}

impl<T, M> Producer<T, M> {
    pub(super) fn new(shared: Arc<RingShared<T, M>>) -> Self {
        Self {
            shared,
            tail: SlotPosition::default(),
            oldest: SlotPosition::default(),
            seen: 0,
            accepted: 0,
            accepted_bytes: 0,
            evicted: 0,
            evicted_bytes: 0,
            is_holding: false,
            last_mark: None,
        }
    }

    /// Returns the sequence number of the next notification. It is the number of notifications received, lost ones
    /// included.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.seen
    }

    /// Returns the number of notifications in the ring that the consumer has not taken.
    #[must_use]
    pub fn unread(&self) -> u64 {
        // Acquire: the consumer has emptied the slots of the items that it took.
        let taken = self.shared.consumed.taken.load(Ordering::Acquire);
        self.kept().saturating_sub(taken)
    }

    /// Returns the bytes of the notifications in the ring that the consumer has not taken.
    #[must_use]
    pub fn unread_bytes(&self) -> u64 {
        let taken = self.shared.consumed.bytes.load(Ordering::Acquire);
        self.kept_bytes().saturating_sub(taken)
    }

    /// Returns the number of notifications that were put in and not evicted, taken ones included.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.accepted.saturating_sub(self.evicted)
    }

    /// Returns the bytes of the notifications that were put in and not evicted, taken ones included.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.accepted_bytes.saturating_sub(self.evicted_bytes)
    }

    /// Returns whether the next [`push`](Self::push) finds a free slot. If not, it evicts the oldest item.
    ///
    /// A caller that pushes only if there is a free slot, and never evicts, loses nothing. After an eviction, a slot
    /// that was counted as free may be skipped: see [`push`](Self::push).
    #[must_use]
    pub fn has_slot(&self) -> bool {
        let unread_max = self.shared.unread_max();
        if self.tail.position - self.oldest.position < unread_max {
            return true;
        }
        // Acquire: the consumer has emptied the slots below.
        let head = self.shared.consumed.head.load(Ordering::Acquire);
        self.tail.position - self.oldest.position.max(head) < unread_max
    }

    /// Returns whether the consumer was dropped.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.shared.consumed.is_dropped.load(Ordering::Acquire)
    }

    /// Puts an item into the ring that represents `count` notifications of `bytes` bytes.
    ///
    /// The consumer can take it after [`publish`](Self::publish). If every slot has an unread item, the oldest one is
    /// evicted, and the consumer reports its notifications as lost.
    ///
    /// Wait-free. If the consumer is a round behind and has the slot locked, the slot is skipped. It counts as an
    /// unread item until the end of this round, so that one item fewer fits. The next slot can be locked only if the
    /// consumer moves there too, and the consumer stops at the last published item.
    pub fn push(&mut self, value: T, count: u64, bytes: u64) {
        loop {
            if self.tail.position - self.oldest.position >= self.shared.unread_max() {
                self.make_room();
            }
            // There is a slot for every position.
            let Some(slot) = self.shared.slot(self.tail) else { return self.skip(count) };
            if let Some(mut content) = slot.open() {
                // The slot is empty, or has an item that could not be evicted, because a consumer that was a round
                // behind had the slot locked.
                let before = if content.is_some() { content.take() } else { None };
                let (position, first) = (self.tail.position, self.seen);
                *content = Some(RingItem { position, first, count, bytes, value });
                slot.end.store(self.seen + count, Ordering::Relaxed);
                drop(content);
                if let Some(before) = before {
                    self.evicted += before.count;
                    self.evicted_bytes += before.bytes;
                }
                break;
            }
            // The consumer, a round behind, has the slot locked: the slot stays unused, and counts as an item.
            slot.end.store(self.seen, Ordering::Relaxed);
            self.shared.advance(&mut self.tail);
        }
        self.shared.advance(&mut self.tail);
        self.seen += count;
        self.accepted += count;
        self.accepted_bytes += bytes;
    }

    /// Counts `count` notifications as received and lost.
    pub fn skip(&mut self, count: u64) {
        self.seen += count;
    }

    /// Keeps the newest `n` unread notifications. Older ones are lost, except those that the consumer has taken.
    ///
    /// Items that have only older notifications are evicted. If an item has both, the consumer skips the older ones.
    pub fn keep_newest(&mut self, n: u64) {
        let floor = self.seen.saturating_sub(n);
        // Release: pairs with the load of the consumer after it took an item.
        self.shared.consumed.floor.store(floor, Ordering::Release);
        // By sequence number, and not by `unread()`: that still counts an item that the consumer is taking at this
        // moment, so that one item too many would be evicted.
        while self.evict_ending_by(floor) {}
    }

    /// Evicts the oldest unread item: its notifications are lost.
    ///
    /// Returns false if there was none.
    pub fn evict(&mut self) -> bool {
        self.evict_ending_by(u64::MAX)
    }

    /// Evicts the oldest unread item if all its sequence numbers are below `limit`.
    fn evict_ending_by(&mut self, limit: u64) -> bool {
        self.skip_taken();
        while self.oldest.position < self.tail.position {
            let end = self.shared.slot(self.oldest).map(|slot| slot.end.load(Ordering::Relaxed));
            if end.is_none_or(|end| end > limit) {
                return false;
            }
            if self.evict_oldest() {
                return true;
            }
            // The consumer has taken it. The limit is compared with the next one too.
        }
        false
    }

    /// Makes room for one more item.
    #[cold]
    fn make_room(&mut self) {
        self.skip_taken();
        if self.tail.position - self.oldest.position >= self.shared.unread_max() {
            // If the consumer takes it at this moment, that makes room too.
            self.evict_oldest();
        }
    }

    /// Moves `oldest` over the items that the consumer has taken.
    fn skip_taken(&mut self) {
        let head = self.shared.consumed.head.load(Ordering::Acquire);
        self.shared.jump(&mut self.oldest, head);
    }

    /// Evicts the item at `oldest`, if there is one, and moves on. If this slot was skipped, its item may be of an
    /// earlier round.
    fn evict_oldest(&mut self) -> bool {
        let position = self.oldest.position;
        let found = (self.shared.slot(self.oldest).and_then(Slot::open))
            .and_then(|mut content| content.take_if(|item| item.position <= position));
        self.shared.advance(&mut self.oldest);
        found.inspect(|item| self.count_evicted(item)).is_some()
    }

    fn count_evicted(&mut self, item: &RingItem<T>) {
        self.evicted += item.count;
        self.evicted_bytes += item.bytes;
    }

    /// Puts a mark at this position of the stream: after everything that was received, and before everything that
    /// follows. It takes no slot and is never dropped.
    ///
    /// `merge` merges it into the last mark instead, if that one is unread and nothing was received since, or if 64 marks are
    /// unread. It merges a copy. If the consumer takes the last mark at this moment, the result is dropped, and
    /// this mark is a mark of its own.
    ///
    /// Wait-free. No lock is held while `merge` runs.
    pub fn mark(&mut self, mark: M, merge: impl FnOnce(&mut M, M))
    where
        M: Clone,
    {
        self.mark_at(self.seen, mark, |last, mark, _| merge(last, mark));
    }

    /// Puts a mark at an earlier position of the stream than [`mark`](Self::mark): before notifications that were
    /// received, and are not [published](Self::publish) yet. If the last mark is at a later position, that one is used.
    /// The last argument of `merge` is true if nothing was received between the two marks.
    pub fn mark_at(&mut self, position: u64, mark: M, merge: impl FnOnce(&mut M, M, bool))
    where
        M: Clone,
    {
        let position = position.min(self.seen);
        self.shared.marks.add(&mut self.last_mark, position, mark, merge);
        self.shared.published.consumer_waker.wake();
    }

    /// Publishes everything up to here, and then nothing until [`release`](Self::release). Items that are held back
    /// when this half is dropped are lost.
    pub fn hold(&mut self) {
        self.publish();
        self.is_holding = true;
    }

    /// Publishes everything that was held back.
    pub fn release(&mut self) {
        self.is_holding = false;
        self.publish();
    }

    /// Publishes everything up to here: the consumer can take it, and is woken if it sleeps. After
    /// [`hold`](Self::hold) this does nothing.
    pub fn publish(&mut self) {
        if self.is_holding {
            return;
        }
        // In this order: a consumer that loads `seen` and then `tail` finds all items below `seen`.
        self.shared.published.tail.store(self.tail.position, Ordering::Release);
        self.shared.published.seen.store(self.seen, Ordering::Release);
        self.shared.published.consumer_waker.wake();
    }

    /// Waits until `has_room` returns true, or the consumer is dropped. The waker of `cx` is woken when the consumer
    /// takes something; then call this again.
    pub fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        mut has_room: impl FnMut(&Self) -> bool,
    ) -> Poll<()> {
        if has_room(self) || self.is_abandoned() {
            return Poll::Ready(());
        }
        self.shared.consumed.producer_waker.prepare(cx);
        if has_room(self) || self.is_abandoned() {
            self.shared.consumed.producer_waker.cancel();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<T, M> Drop for Producer<T, M> {
    /// Publishes everything that is not held back, and ends the stream.
    fn drop(&mut self) {
        self.publish();
        self.shared.published.closed.store(true, Ordering::Release);
        self.shared.published.consumer_waker.wake();
        self.shared.consumed.producer_waker.clear();
    }
}

impl<T, M> fmt::Debug for Producer<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("sequence", &self.seen)
            .field("unread", &self.unread())
            .field("unread_bytes", &self.unread_bytes())
            .finish_non_exhaustive()
    }
}

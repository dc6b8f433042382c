//! The side that receives: it publishes, and never waits.

use std::fmt;
use std::task::{Context, Poll};

use super::shared::{Item, Place, Shared, Slot};
use super::sync::{Arc, Ordering};

/// Most unread marks; one more is merged into the last. A peer that makes marks cannot fill memory: those of
/// a listener take up to 5 KB each, because a cause is brief, and all of them share the list of what is refused.
const MARKS_MAX: usize = 64;

/// The writing half of a ring. Made by [`channel`](super::channel).
pub struct Producer<T, M> {
    shared: Arc<Shared<T, M>>,
    /// Items put into slots; published up to here by [`Producer::publish`].
    tail: Place,
    /// No unread item stands below.
    oldest: Place,
    /// Notifications received, lost ones included.
    seen: u64,
    /// Notifications put into the ring, and those of them that it took back.
    accepted: u64,
    accepted_bytes: u64,
    evicted: u64,
    evicted_bytes: u64,
    /// What was put in since [`Producer::hold`] is not published.
    is_holding: bool,
}

impl<T, M> Producer<T, M> {
    pub(super) fn new(shared: Arc<Shared<T, M>>) -> Self {
        Self {
            shared,
            tail: Place::default(),
            oldest: Place::default(),
            seen: 0,
            accepted: 0,
            accepted_bytes: 0,
            evicted: 0,
            evicted_bytes: 0,
            is_holding: false,
        }
    }

    /// Sequence number of the next notification: as many were received so far.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.seen
    }

    /// Notifications in the ring that the consumer has not taken.
    #[must_use]
    pub fn unread(&self) -> u64 {
        // Acquire: the consumer is done with what it took.
        let taken = self.shared.takings.taken.load(Ordering::Acquire);
        self.kept().saturating_sub(taken)
    }

    /// Bytes of the notifications in the ring that the consumer has not taken.
    #[must_use]
    pub fn unread_bytes(&self) -> u64 {
        let taken = self.shared.takings.bytes.load(Ordering::Acquire);
        self.kept_bytes().saturating_sub(taken)
    }

    /// Notifications that were put in and not evicted, those that the consumer has taken included.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.accepted.saturating_sub(self.evicted)
    }

    /// Bytes of the notifications that were put in and not evicted, taken ones included.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.accepted_bytes.saturating_sub(self.evicted_bytes)
    }

    /// Whether the next [`push`](Self::push) finds a free slot. If not, it evicts the oldest item.
    ///
    /// Who pushes only when there is one, and never evicts, never loses anything here. Behind an eviction a
    /// slot can be passed over that was counted as free: see [`push`](Self::push).
    #[must_use]
    pub fn has_slot(&self) -> bool {
        let unread_max = self.shared.unread_max();
        if self.tail.position - self.oldest.position < unread_max {
            return true;
        }
        // Acquire: the consumer is done with the slots below.
        let head = self.shared.takings.head.load(Ordering::Acquire);
        self.tail.position - self.oldest.position.max(head) < unread_max
    }

    /// Whether the consumer was dropped: nobody will ever read.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.shared.takings.gone.load(Ordering::Acquire)
    }

    /// Puts an item in that stands for `count` notifications of `bytes` bytes.
    ///
    /// The consumer sees it after [`publish`](Self::publish). When every slot holds an unread item,
    /// the oldest is evicted: the consumer will find its notifications lost.
    ///
    /// Wait-free. A slot that the consumer is looking into, from a round behind, is passed over and stands for
    /// an unread item until its turn is over, so that one item fewer fits. To be met in the next slot too, the
    /// consumer must have moved on as well, and it moves no further than what is published.
    pub fn push(&mut self, value: T, count: u64, bytes: u64) {
        loop {
            if self.tail.position - self.oldest.position >= self.shared.unread_max() {
                self.make_room();
            }
            // There is a slot for every place.
            let Some(slot) = self.shared.slot(self.tail) else { return self.skip(count) };
            if let Some(mut content) = slot.open() {
                // Empty but for an item that could not be evicted: a consumer that was a round behind
                // looked at it just then.
                let before = if content.is_some() { content.take() } else { None };
                let (position, first) = (self.tail.position, self.seen);
                *content = Some(Item { position, first, count, bytes, value });
                slot.end.store(self.seen + count, Ordering::Relaxed);
                drop(content);
                if let Some(before) = before {
                    self.evicted += before.count;
                    self.evicted_bytes += before.bytes;
                }
                break;
            }
            // The consumer is here still, a round behind: this slot stays unused, and counts as one.
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

    /// Keeps the newest `n` unread notifications: older ones are lost, except what the consumer has
    /// taken. Items that lie wholly below leave the ring at once; of one that lies across, the
    /// consumer skips the lower part.
    pub fn keep_newest(&mut self, n: u64) {
        let floor = self.seen.saturating_sub(n);
        // Release: pairs with the consumer's load after it took an item.
        self.shared.takings.floor.store(floor, Ordering::Release);
        // By positions, not by `unread()`: that lags behind a consumer that is taking an item at
        // this moment, and one item too many would go.
        while self.evict_ending_by(floor) {}
    }

    /// Takes the oldest unread item back, whose notifications are then lost.
    ///
    /// Returns whether there was one.
    pub fn evict(&mut self) -> bool {
        self.evict_ending_by(u64::MAX)
    }

    /// Takes the oldest unread item back if its notifications end by sequence number `limit`.
    fn evict_ending_by(&mut self, limit: u64) -> bool {
        self.skip_taken();
        while self.oldest.position < self.tail.position {
            let end = self.shared.slot(self.oldest).map(|slot| slot.end.load(Ordering::Relaxed));
            if end.is_none_or(|end| end > limit) {
                return false;
            }
            if self.take_oldest() {
                return true;
            }
            // The consumer was quicker: the next one has to pass the limit too.
        }
        false
    }

    /// Makes room for one more item.
    #[cold]
    fn make_room(&mut self) {
        self.skip_taken();
        if self.tail.position - self.oldest.position >= self.shared.unread_max() {
            // Or the consumer is taking it at this moment, which makes room too.
            self.take_oldest();
        }
    }

    /// Moves `oldest` over what the consumer is done with.
    fn skip_taken(&mut self) {
        let head = self.shared.takings.head.load(Ordering::Acquire);
        self.shared.jump(&mut self.oldest, head);
    }

    /// Takes the item at `oldest` back, if it is there, and moves on. Or one from a round before, where this slot
    /// was passed over.
    fn take_oldest(&mut self) -> bool {
        let position = self.oldest.position;
        let found = (self.shared.slot(self.oldest).and_then(Slot::open))
            .and_then(|mut content| content.take_if(|item| item.position <= position));
        self.shared.advance(&mut self.oldest);
        found.inspect(|item| self.forget(item)).is_some()
    }

    fn forget(&mut self, item: &Item<T>) {
        self.evicted += item.count;
        self.evicted_bytes += item.bytes;
    }

    /// Puts a mark at this point of the stream: the consumer meets it after everything received so
    /// far and before everything that follows. It takes no room and is never dropped.
    ///
    /// `merge` is called instead with the last mark when nothing was received since, or when
    /// very many marks are unread. It runs behind the lock of the marks, for which a consumer that takes one
    /// may wait: marks are rare, and items do not need it.
    pub fn mark(&mut self, mark: M, merge: impl FnOnce(&mut M, M)) {
        self.mark_at(self.seen, mark, |last, mark, _| merge(last, mark));
    }

    /// As [`mark`](Self::mark), at a position further back: before what was received since then and is not
    /// [published](Self::publish) yet. A position before the last mark's counts as that. `merge` is also given
    /// whether nothing was received between the two marks.
    pub fn mark_at(&mut self, position: u64, mark: M, merge: impl FnOnce(&mut M, M, bool)) {
        let position = position.min(self.seen);
        let mut marks = self.shared.marks();
        let crowded = marks.len() >= MARKS_MAX;
        match marks.back_mut() {
            Some((last, merged)) if *last >= position || crowded => {
                merge(merged, mark, *last >= position);
            }
            _ => marks.push_back((position, mark)),
        }
        let first = marks.front().map_or(u64::MAX, |(position, _)| *position);
        // Release: pairs with the consumer's load, which then takes the lock.
        self.shared.published.mark_at.store(first, Ordering::Release);
        drop(marks);
        self.shared.published.consumer.wake();
    }

    /// Shows the consumer everything up to here, and nothing of what follows until [`release`](Self::release): not
    /// even when this half is dropped. What is held back then is lost.
    pub fn hold(&mut self) {
        self.publish();
        self.is_holding = true;
    }

    /// Shows the consumer what was held back.
    pub fn release(&mut self) {
        self.is_holding = false;
        self.publish();
    }

    /// Shows the consumer everything up to here, and wakes it if it sleeps. While this half is
    /// [holding](Self::hold), it does nothing.
    pub fn publish(&mut self) {
        if self.is_holding {
            return;
        }
        // This order: who sees `seen` sees a `tail` that holds all that was accepted below it.
        self.shared.published.tail.store(self.tail.position, Ordering::Release);
        self.shared.published.seen.store(self.seen, Ordering::Release);
        self.shared.published.consumer.wake();
    }

    /// Waits until the consumer takes something or goes away. The caller looks first, then
    /// calls this, and looks again when it is woken.
    ///
    /// Returns `Ready` when `look` is true, before or after the waker was left.
    pub fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&Self) -> bool,
    ) -> Poll<()> {
        if look(self) || self.is_abandoned() {
            return Poll::Ready(());
        }
        self.shared.takings.producer.prepare(cx);
        if look(self) || self.is_abandoned() {
            self.shared.takings.producer.cancel();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<T, M> Drop for Producer<T, M> {
    /// Publishes what was put in and is not held back, and ends the stream.
    fn drop(&mut self) {
        self.publish();
        self.shared.published.closed.store(true, Ordering::Release);
        self.shared.published.consumer.wake();
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

//! The side that receives: it publishes, and never waits.

use std::fmt;
use std::task::{Context, Poll};

use super::shared::{BoxIndex, Item, Shared, Word};
use super::sync::{Arc, Ordering};

/// Most unread marks; one more is merged into the last. A peer that makes marks cannot fill memory: those of
/// a listener take up to 5 KB each.
const MARKS_MAX: usize = 64;

/// The writing half of a ring. Made by [`channel`](super::channel).
pub struct Producer<T, M> {
    shared: Arc<Shared<T, M>>,
    spare: BoxIndex,
    /// Items put into slots; published up to here by [`Producer::publish`].
    tail: u64,
    /// Notifications received, lost ones included.
    seen: u64,
    /// Notifications put into the ring, and those of them that it took back.
    accepted: u64,
    accepted_bytes: u64,
    evicted: u64,
    evicted_bytes: u64,
    /// No unread item stands below this position.
    oldest: u64,
    /// The sequence number after each slot's item: a box may be looked into by its owner only.
    ends: Box<[u64]>,
}

impl<T, M> Producer<T, M> {
    pub(super) fn new(shared: Arc<Shared<T, M>>, spare: BoxIndex) -> Self {
        let slots = usize::try_from(shared.slots()).unwrap_or(0);
        Self {
            ends: vec![0; slots].into_boxed_slice(),
            shared,
            spare,
            tail: 0,
            seen: 0,
            accepted: 0,
            accepted_bytes: 0,
            evicted: 0,
            evicted_bytes: 0,
            oldest: 0,
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
        // Acquire: what the consumer did with the boxes happened before.
        let taken = self.shared.taken.load(Ordering::Acquire);
        self.kept().saturating_sub(taken)
    }

    /// Bytes of the notifications in the ring that the consumer has not taken.
    #[must_use]
    pub fn unread_bytes(&self) -> u64 {
        let taken = self.shared.taken_bytes.load(Ordering::Acquire);
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
    #[must_use]
    pub fn has_slot(&self) -> bool {
        !self.shared.load(self.tail).is_full()
    }

    /// Whether the consumer was dropped: nobody will ever read.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.shared.consumer_gone.load(Ordering::Acquire)
    }

    /// Puts an item in that stands for `count` notifications of `bytes` bytes. Wait-free.
    ///
    /// The consumer sees it after [`publish`](Self::publish). When every slot holds an unread item,
    /// the oldest is evicted: the consumer will find its notifications lost.
    pub fn push(&mut self, value: T, count: u64, bytes: u64) {
        let mut content = Some(Item { first: self.seen, count, bytes, value });
        self.shared.swap_box(self.spare, &mut content);
        if let Some(end) = self.ends.get_mut(self.shared.index(self.tail)) {
            *end = self.seen + count;
        }
        let before = self.shared.put(self.tail, Word::full(self.tail, self.spare));
        self.spare = before.box_index();
        self.tail += 1;
        self.seen += count;
        self.accepted += count;
        self.accepted_bytes += bytes;
        if before.is_full() {
            self.drop_spare();
            self.oldest = self.oldest.max(self.tail - self.shared.slots());
        }
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
        self.shared.floor.store(floor, Ordering::Release);
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
        while self.oldest_end().is_some_and(|end| end <= limit) {
            let word = self.shared.load(self.oldest);
            if word.is_full_at(self.oldest)
                && self.shared.exchange(self.oldest, word, Word::empty(self.spare))
            {
                self.spare = word.box_index();
                self.drop_spare();
                self.oldest += 1;
                return true;
            }
            // The consumer was quicker: the next one has to pass the limit too.
        }
        false
    }

    /// The sequence number after the oldest unread item. Moves `oldest` to that item.
    fn oldest_end(&mut self) -> Option<u64> {
        while self.oldest < self.tail {
            if self.shared.load(self.oldest).is_full_at(self.oldest) {
                return self.ends.get(self.shared.index(self.oldest)).copied();
            }
            self.oldest += 1;
        }
        None
    }

    /// Puts a mark at this point of the stream: the consumer meets it after everything received so
    /// far and before everything that follows. It takes no room and is never dropped.
    ///
    /// `merge` is called instead with the last mark when nothing was received since, or when
    /// very many marks are unread.
    pub fn mark(&mut self, mark: M, merge: impl FnOnce(&mut M, M)) {
        self.mark_at(self.seen, mark, merge);
    }

    /// As [`mark`](Self::mark), at a position further back: before what was received since then and is not
    /// [published](Self::publish) yet. A position before the last mark's counts as that.
    pub fn mark_at(&mut self, position: u64, mark: M, merge: impl FnOnce(&mut M, M)) {
        let position = position.min(self.seen);
        let Ok(mut marks) = self.shared.marks.lock() else { return };
        let crowded = marks.len() >= MARKS_MAX;
        match marks.back_mut() {
            Some((last, merged)) if *last >= position || crowded => merge(merged, mark),
            _ => marks.push_back((position, mark)),
        }
        let first = marks.front().map_or(u64::MAX, |(position, _)| *position);
        // Release: pairs with the consumer's load, which then takes the lock.
        self.shared.mark_at.store(first, Ordering::Release);
        drop(marks);
        self.shared.consumer.wake();
    }

    /// Shows the consumer everything up to here, and wakes it if it sleeps.
    pub fn publish(&mut self) {
        // This order: who sees `seen` sees a `tail` that holds all that was accepted below it.
        self.shared.tail.store(self.tail, Ordering::Release);
        self.shared.seen.store(self.seen, Ordering::Release);
        self.shared.consumer.wake();
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
        self.shared.producer.prepare(cx);
        if look(self) || self.is_abandoned() {
            self.shared.producer.cancel();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Empties the box in hand, which held an unread item.
    fn drop_spare(&mut self) {
        let mut content = None;
        self.shared.swap_box(self.spare, &mut content);
        if let Some(item) = content {
            self.evicted += item.count;
            self.evicted_bytes += item.bytes;
        }
    }
}

impl<T, M> Drop for Producer<T, M> {
    /// Publishes what was put in, and ends the stream.
    fn drop(&mut self) {
        self.publish();
        self.shared.closed.store(true, Ordering::Release);
        self.shared.consumer.wake();
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

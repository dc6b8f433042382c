//! The side that reads: it takes items in order and derives what was lost from their positions.

use std::fmt;
use std::task::{Context, Poll};

use super::shared::{BoxIndex, Item, Shared, Word};
use super::sync::{Arc, Ordering};

/// What the consumer finds next in the stream.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Taken<T, M> {
    /// An item. Its first `skip` notifications are lost and were reported so.
    Item {
        /// The item.
        value: T,
        /// Sequence number of its first notification, skipped ones included.
        first: u64,
        /// How many notifications at its beginning must not be looked at.
        skip: u64,
    },
    /// Notifications that were received and lost.
    Lost {
        /// Sequence number of the first of them.
        first: u64,
        /// How many.
        count: u64,
    },
    /// A mark of the producer's.
    Mark(M),
    /// Nothing for the moment.
    Empty,
    /// Nothing any more: the producer is gone, and all that it published was taken.
    Closed,
}

/// The reading half of a ring. Made by [`channel`](super::channel).
pub struct Consumer<T, M> {
    shared: Arc<Shared<T, M>>,
    spare: BoxIndex,
    /// Position of the next item to take.
    head: u64,
    /// Sequence number of the next notification: all below was handed out or reported lost.
    next: u64,
    /// An item that was taken while something that lies before it has yet to be handed out.
    stash: Option<Item<T>>,
    taken: u64,
    taken_bytes: u64,
    lost: u64,
}

impl<T, M> Consumer<T, M> {
    pub(super) fn new(shared: Arc<Shared<T, M>>, spare: BoxIndex) -> Self {
        Self { shared, spare, head: 0, next: 0, stash: None, taken: 0, taken_bytes: 0, lost: 0 }
    }

    /// Sequence number of the next notification: as many were handed out or reported lost so far.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.next
    }

    /// How many notifications were reported lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How many notifications were taken out of the ring so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// How many bytes of notifications were taken out of the ring so far.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// Takes what comes next. Lock-free: it never waits for the producer.
    pub fn try_take(&mut self) -> Taken<T, M> {
        loop {
            // This order: what was accepted below `seen` is below `tail`, and after `closed`
            // nothing more is stored.
            let closed = self.shared.closed.load(Ordering::Acquire);
            let seen = self.shared.seen.load(Ordering::Acquire);
            if self.stash.is_none() {
                self.stash = self.take_item();
            }
            let Some(item) = &self.stash else {
                return match self.before(seen) {
                    Some(found) => found,
                    None if closed => Taken::Closed,
                    None => Taken::Empty,
                };
            };
            let end = item.first + item.count;
            let floor = self.shared.floor.load(Ordering::Acquire).clamp(item.first, end);
            // No mark stands inside an item: it is one unbroken run.
            if let Some(found) = self.before(floor) {
                return found;
            }
            let Some(item) = self.stash.take() else { continue };
            if self.next >= end {
                continue;
            }
            let skip = self.next.saturating_sub(item.first);
            self.next = end;
            return Taken::Item { value: item.value, first: item.first, skip };
        }
    }

    /// As [`try_take`](Self::try_take), but waits while there is nothing.
    ///
    /// Never `Ready(Taken::Empty)`. The waker of the last call is the one that is woken.
    pub fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<T, M>> {
        match self.try_take() {
            Taken::Empty => {}
            found => return Poll::Ready(found),
        }
        self.shared.consumer.prepare(cx);
        match self.try_take() {
            Taken::Empty => {
                // By now the caller has let go of the last item, and so of the memory that a
                // waiting producer may need.
                self.shared.producer.wake();
                Poll::Pending
            }
            found => {
                self.shared.consumer.cancel();
                Poll::Ready(found)
            }
        }
    }

    /// The next item out of the slots, whatever lies before it in the stream.
    fn take_item(&mut self) -> Option<Item<T>> {
        let tail = self.shared.tail.load(Ordering::Acquire);
        let slots = self.shared.slots();
        self.head = self.head.max(tail.saturating_sub(slots));
        while self.head < tail {
            let word = self.shared.load(self.head);
            if word.is_full_at(self.head) {
                if !self.shared.exchange(self.head, word, Word::empty(self.spare)) {
                    continue;
                }
                self.spare = word.box_index();
                self.head += 1;
                let mut content = None;
                self.shared.swap_box(self.spare, &mut content);
                if let Some(item) = &content {
                    self.taken += item.count;
                    self.taken_bytes += item.bytes;
                    // Release: pairs with the producer's look for room.
                    self.shared.taken_bytes.store(self.taken_bytes, Ordering::Release);
                    self.shared.taken.store(self.taken, Ordering::Release);
                    self.shared.producer.wake();
                    return content;
                }
            } else if word.is_full() {
                // Lapped while we looked: the slot holds a newer item, so everything up to one
                // round before it is gone.
                self.head += (word.distance_from(self.head) + 1).saturating_sub(slots).max(1);
            } else {
                // Evicted.
                self.head += 1;
            }
        }
        None
    }

    /// The mark or the loss that lies before sequence number `limit`, if any.
    fn before(&mut self, limit: u64) -> Option<Taken<T, M>> {
        // Acquire: pairs with the producer's store in `mark`.
        let mark_at = self.shared.mark_at.load(Ordering::Acquire);
        if mark_at <= limit {
            if mark_at > self.next {
                return Some(self.lose(mark_at));
            }
            if let Some(mark) = self.take_mark() {
                return Some(Taken::Mark(mark));
            }
        }
        (limit > self.next).then(|| self.lose(limit))
    }

    fn lose(&mut self, up_to: u64) -> Taken<T, M> {
        let first = self.next;
        let count = up_to - first;
        self.next = up_to;
        self.lost += count;
        Taken::Lost { first, count }
    }

    fn take_mark(&mut self) -> Option<M> {
        let mut marks = self.shared.marks.lock().ok()?;
        let (_, mark) = marks.pop_front()?;
        let next = marks.front().map_or(u64::MAX, |(position, _)| *position);
        self.shared.mark_at.store(next, Ordering::Release);
        Some(mark)
    }
}

impl<T, M> Drop for Consumer<T, M> {
    /// Frees what nobody will read, and tells the producer.
    fn drop(&mut self) {
        self.shared.consumer_gone.store(true, Ordering::Release);
        while self.take_item().is_some() {}
        self.shared.producer.wake();
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

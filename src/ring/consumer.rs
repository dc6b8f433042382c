//! The side that reads: it takes items in order and derives what was lost from their positions.

use std::fmt;
use std::task::{Context, Poll};

use super::shared::{Item, Place, Shared, Slot};
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

/// What was published at the last look.
#[derive(Debug, Default)]
struct Known {
    tail: u64,
    seen: u64,
    closed: bool,
    /// Position of the first unread mark. One that was made later stands behind all that is known.
    mark_at: u64,
}

/// The reading half of a ring. Made by [`channel`](super::channel).
pub struct Consumer<T, M> {
    shared: Arc<Shared<T, M>>,
    /// Position of the next item to take.
    head: Place,
    known: Known,
    /// Sequence number of the next notification: all below was handed out or reported lost.
    next: u64,
    /// An item that was taken while something that lies before it has yet to be handed out.
    stash: Option<Item<T>>,
    taken: u64,
    taken_bytes: u64,
    lost: u64,
}

impl<T, M> Consumer<T, M> {
    pub(super) fn new(shared: Arc<Shared<T, M>>) -> Self {
        Self {
            shared,
            head: Place::default(),
            known: Known::default(),
            next: 0,
            stash: None,
            taken: 0,
            taken_bytes: 0,
            lost: 0,
        }
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

    /// Takes what comes next. It never waits for the producer, but for a mark that is being made.
    #[inline]
    pub fn try_take(&mut self) -> Taken<T, M> {
        let mut looked = false;
        loop {
            if self.stash.is_some() {
                match self.hand_out_stash() {
                    Some(found) => return found,
                    None => continue,
                }
            }
            if self.head.position >= self.known.tail {
                self.look();
                looked = true;
            }
            if let Some(item) = self.take_item() {
                if !self.is_next(&item) {
                    self.stash = Some(item);
                    continue;
                }
                self.next = item.first + item.count;
                return Taken::Item { value: item.value, first: item.first, skip: 0 };
            }
            if looked {
                return self.end();
            }
        }
    }

    /// Looks at what is published.
    #[inline]
    fn look(&mut self) {
        let published = &self.shared.published;
        // This order: after `closed` nothing more is stored, what was accepted below `seen` is below
        // `tail`, and a mark that stands below either is in `mark_at`.
        self.known.closed = published.closed.load(Ordering::Acquire);
        self.known.seen = published.seen.load(Ordering::Acquire);
        self.known.tail = published.tail.load(Ordering::Acquire);
        self.look_for_marks();
        // What lies a round behind is gone.
        let round = self.shared.slots() as u64;
        self.shared.jump(&mut self.head, self.known.tail.saturating_sub(round));
    }

    #[inline]
    fn look_for_marks(&mut self) {
        // Acquire: pairs with the producer's store in `mark`.
        self.known.mark_at = self.shared.published.mark_at.load(Ordering::Acquire);
    }

    /// Whether nothing stands before an item and nothing of it is lost.
    #[inline]
    fn is_next(&self, item: &Item<T>) -> bool {
        self.next == item.first
            && self.known.mark_at > item.first
            && self.shared.takings.floor.load(Ordering::Acquire) <= item.first
    }

    /// Hands out what stands before the item in the stash, then the item. `None` if all of it is lost.
    #[cold]
    fn hand_out_stash(&mut self) -> Option<Taken<T, M>> {
        let item = self.stash.as_ref()?;
        let (first, end) = (item.first, item.first + item.count);
        let floor = self.shared.takings.floor.load(Ordering::Acquire).clamp(first, end);
        self.look_for_marks();
        // No mark stands inside an item: it is one unbroken run.
        if let Some(found) = self.before(floor) {
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

    /// What stands behind the last item that was published.
    fn end(&mut self) -> Taken<T, M> {
        match self.before(self.known.seen) {
            Some(found) => found,
            None if self.known.closed => Taken::Closed,
            None => Taken::Empty,
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
        self.shared.published.consumer.prepare(cx);
        match self.try_take() {
            Taken::Empty => {
                // By now the caller has let go of the last item, and so of the memory that a
                // waiting producer may need.
                self.shared.takings.producer.wake();
                Poll::Pending
            }
            found => {
                self.shared.published.consumer.cancel();
                Poll::Ready(found)
            }
        }
    }

    /// The next item out of the slots below the known tail, whatever lies before it in the stream.
    #[inline]
    fn take_item(&mut self) -> Option<Item<T>> {
        while self.head.position < self.known.tail {
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
                // The producer takes it back at this moment.
                None => None,
            };
            self.shared.advance(&mut self.head);
            if let Some(item) = found {
                self.taken += item.count;
                self.taken_bytes += item.bytes;
                let takings = &self.shared.takings;
                // Release: pairs with the producer's look for room.
                takings.head.store(self.head.position, Ordering::Release);
                takings.bytes.store(self.taken_bytes, Ordering::Release);
                takings.taken.store(self.taken, Ordering::Release);
                takings.producer.wake();
                if item.position == position {
                    return Some(item);
                }
                // From a round before, and lost: we were in its slot when it was to be evicted, and here
                // when the slot was to be used again.
                continue;
            }
            // Evicted, or a slot that was not used. If the producer is a round ahead, all is gone up to one
            // round before it.
            if let Some(newer) = newer {
                let gone = (newer + 1).saturating_sub(self.shared.slots() as u64);
                self.shared.jump(&mut self.head, gone);
            }
        }
        None
    }

    /// The mark or the loss that lies before sequence number `limit`, if any.
    fn before(&mut self, limit: u64) -> Option<Taken<T, M>> {
        let mark_at = self.known.mark_at;
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
        let mut marks = self.shared.marks();
        let (_, mark) = marks.pop_front()?;
        let next = marks.front().map_or(u64::MAX, |(position, _)| *position);
        self.shared.published.mark_at.store(next, Ordering::Release);
        self.known.mark_at = next;
        Some(mark)
    }
}

impl<T, M> Drop for Consumer<T, M> {
    /// Frees what nobody will read, and tells the producer.
    fn drop(&mut self) {
        self.shared.takings.gone.store(true, Ordering::Release);
        self.look();
        while self.take_item().is_some() {}
        self.shared.takings.producer.wake();
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

//! A ring of slots behind mutexes that are only ever tried: no words, no boxes that travel.
//!
//! Whoever finds a slot locked knows what the other side is doing there. The receiver: the sender takes
//! this item back, it is gone. The sender: the receiver takes this item, so the next slot is used
//! instead, and there is one more than may be unread. Loss is derived from positions as in the swap ring.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use super::doze::Doze;
use super::{Limits, Pad, Queue, Receiver, Sender, Taken};

struct Item<T> {
    /// Number of the item since the ring began.
    position: u64,
    first: u64,
    count: u64,
    bytes: u64,
    value: T,
}

struct Shared<T> {
    slots: Box<[Mutex<Option<Item<T>>>]>,
    /// Written by the sender at every publish. So is the flag that it looks at then.
    published: Pad<Published>,
    /// Written by the receiver at every take.
    taken: Pad<Takings>,
}

#[derive(Default)]
struct Published {
    /// Items. Stored before `seen`, and loaded after it.
    tail: AtomicU64,
    /// Notifications, lost ones too.
    seen: AtomicU64,
    closed: AtomicBool,
    receiver: Doze,
}

#[derive(Default)]
struct Takings {
    /// Position of the next item to take.
    head: AtomicU64,
    bytes: AtomicU64,
    notifications: AtomicU64,
    sender: Doze,
}

/// A position, and the slot where its item stands.
#[derive(Clone, Copy, Default)]
struct Place {
    position: u64,
    slot: usize,
}

impl Place {
    fn advance(&mut self, slots: usize) {
        self.position += 1;
        self.slot += 1;
        if self.slot == slots {
            self.slot = 0;
        }
    }

    fn jump(&mut self, position: u64, slots: usize) {
        if position > self.position {
            let slot = usize::try_from(position % slots as u64).expect("a slot");
            *self = Self { position, slot };
        }
    }
}

pub struct LockRing;

impl Queue for LockRing {
    const NAME: &'static str = "lock ring";
    const EVICTS: bool = true;

    type Sender<T: Send + 'static> = LockSender<T>;
    type Receiver<T: Send + 'static> = LockReceiver<T>;

    fn channel<T: Send + 'static>(slots: u64) -> (LockSender<T>, LockReceiver<T>) {
        let shared = Arc::new(Shared {
            slots: (0..=slots).map(|_| Mutex::new(None)).collect(),
            published: Pad::default(),
            taken: Pad::default(),
        });
        let sender = LockSender {
            shared: shared.clone(),
            tail: Place::default(),
            oldest: Place::default(),
            seen: 0,
            kept: Count::default(),
            known_taken: Count::default(),
        };
        let head = Place::default();
        let taken = Count::default();
        (sender, LockReceiver { shared, head, known_tail: 0, next: 0, taken, stash: None })
    }
}

#[derive(Clone, Copy, Default)]
struct Count {
    notifications: u64,
    bytes: u64,
}

pub struct LockSender<T> {
    shared: Arc<Shared<T>>,
    tail: Place,
    /// No unread item stands below.
    oldest: Place,
    seen: u64,
    /// Put in and not taken back.
    kept: Count,
    known_taken: Count,
}

impl<T> LockSender<T> {
    fn fits(&self, limits: Limits, count: u64, bytes: u64) -> bool {
        self.kept.notifications + count <= limits.notifications + self.known_taken.notifications
            && self.kept.bytes + bytes <= limits.bytes + self.known_taken.bytes
    }

    fn look(&mut self, order: Ordering) {
        self.known_taken.notifications = self.shared.taken.notifications.load(order);
        self.known_taken.bytes = self.shared.taken.bytes.load(Ordering::Acquire);
    }

    fn is_full(&mut self) -> bool {
        let most = self.shared.slots.len() as u64 - 1;
        if self.tail.position - self.oldest.position < most {
            return false;
        }
        let head = self.shared.taken.head.load(Ordering::Acquire);
        self.oldest.jump(head, self.shared.slots.len());
        self.tail.position - self.oldest.position >= most
    }

    fn forget(&mut self, item: &Item<T>) {
        self.kept.notifications -= item.count;
        self.kept.bytes -= item.bytes;
    }
}

impl<T> Sender<T> for LockSender<T> {
    fn unread(&self) -> u64 {
        self.kept.notifications - self.shared.taken.notifications.load(Ordering::Acquire)
    }

    fn unread_bytes(&self) -> u64 {
        self.kept.bytes - self.shared.taken.bytes.load(Ordering::Acquire)
    }

    fn has_room(&mut self, limits: Limits, count: u64, bytes: u64) -> bool {
        if self.fits(limits, count, bytes) {
            return true;
        }
        self.look(Ordering::Acquire);
        self.fits(limits, count, bytes)
    }

    fn push(&mut self, value: T, count: u64, bytes: u64) {
        if self.is_full() {
            self.evict();
        }
        let slots = self.shared.slots.len();
        let mut value = Some(value);
        while let Some(value_now) = value.take() {
            let Place { position, slot } = self.tail;
            let before = match self.shared.slots[slot].try_lock() {
                Ok(mut content) => {
                    content.replace(Item { position, first: self.seen, count, bytes, value: value_now })
                }
                Err(_) => {
                    value = Some(value_now);
                    None
                }
            };
            if let Some(item) = before {
                self.forget(&item);
            }
            self.tail.advance(slots);
        }
        self.seen += count;
        self.kept.notifications += count;
        self.kept.bytes += bytes;
    }

    fn skip(&mut self, count: u64) {
        self.seen += count;
    }

    fn publish(&mut self) {
        self.shared.published.tail.store(self.tail.position, Ordering::Release);
        self.shared.published.seen.store(self.seen, Ordering::SeqCst);
        self.shared.published.receiver.wake();
    }

    fn evict(&mut self) -> bool {
        let slots = self.shared.slots.len();
        let head = self.shared.taken.head.load(Ordering::Acquire);
        self.oldest.jump(head, slots);
        while self.oldest.position < self.tail.position {
            let Place { position, slot } = self.oldest;
            let found = match self.shared.slots[slot].try_lock() {
                Ok(mut content) => content.take_if(|item| item.position == position),
                Err(_) => None,
            };
            self.oldest.advance(slots);
            if let Some(item) = found {
                self.forget(&item);
                return true;
            }
        }
        false
    }

    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        limits: Limits,
        count: u64,
        bytes: u64,
    ) -> Poll<()> {
        if self.has_room(limits, count, bytes) {
            return Poll::Ready(());
        }
        self.shared.taken.sender.prepare(cx);
        self.look(Ordering::SeqCst);
        if self.fits(limits, count, bytes) {
            self.shared.taken.sender.cancel();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<T> Drop for LockSender<T> {
    fn drop(&mut self) {
        self.shared.published.tail.store(self.tail.position, Ordering::Release);
        self.shared.published.seen.store(self.seen, Ordering::SeqCst);
        self.shared.published.closed.store(true, Ordering::SeqCst);
        self.shared.published.receiver.wake();
    }
}

pub struct LockReceiver<T> {
    shared: Arc<Shared<T>>,
    head: Place,
    /// What was published when it was last looked at.
    known_tail: u64,
    /// Sequence number of the next notification.
    next: u64,
    taken: Count,
    /// Taken out, while a loss before it has yet to be told.
    stash: Option<Item<T>>,
}

impl<T> LockReceiver<T> {
    fn lose(&mut self, up_to: u64) -> Taken<T> {
        let first = std::mem::replace(&mut self.next, up_to);
        Taken::Lost { first, count: up_to - first }
    }

    /// The next item below the known tail.
    fn take_item(&mut self) -> Option<Item<T>> {
        let slots = self.shared.slots.len();
        while self.head.position < self.known_tail {
            let Place { position, slot } = self.head;
            let mut lapped_by = None;
            let found = match self.shared.slots[slot].try_lock() {
                Ok(mut content) => {
                    lapped_by = content.as_ref().map(|item| item.position);
                    content.take_if(|item| item.position == position)
                }
                Err(_) => None,
            };
            self.head.advance(slots);
            if let Some(item) = found {
                self.taken.notifications += item.count;
                self.taken.bytes += item.bytes;
                let taken = &self.shared.taken;
                taken.head.store(self.head.position, Ordering::Release);
                taken.bytes.store(self.taken.bytes, Ordering::Release);
                taken.notifications.store(self.taken.notifications, Ordering::SeqCst);
                self.shared.taken.sender.wake();
                return Some(item);
            }
            if let Some(newer) = lapped_by {
                self.head.jump((newer + 1).saturating_sub(slots as u64), slots);
            }
        }
        None
    }

    fn hand_out(&mut self, item: Item<T>) -> Taken<T> {
        if item.first > self.next {
            let lost = self.lose(item.first);
            self.stash = Some(item);
            return lost;
        }
        self.next = item.first + item.count;
        Taken::Item { value: item.value, first: item.first, skip: 0 }
    }
}

impl<T> Receiver<T> for LockReceiver<T> {
    fn try_take(&mut self) -> Taken<T> {
        if let Some(item) = self.stash.take().or_else(|| self.take_item()) {
            return self.hand_out(item);
        }
        // This order: what was put in below `seen` is below the tail that is loaded after it.
        let published = &self.shared.published;
        let closed = published.closed.load(Ordering::SeqCst);
        let seen = published.seen.load(Ordering::SeqCst);
        if seen > self.next {
            self.known_tail = published.tail.load(Ordering::Acquire);
            return match self.take_item() {
                Some(item) => self.hand_out(item),
                None => self.lose(seen),
            };
        }
        if closed { Taken::Closed } else { Taken::Empty }
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<T>> {
        match self.try_take() {
            Taken::Empty => {}
            found => return Poll::Ready(found),
        }
        self.shared.published.receiver.prepare(cx);
        match self.try_take() {
            Taken::Empty => Poll::Pending,
            found => {
                self.shared.published.receiver.cancel();
                Poll::Ready(found)
            }
        }
    }
}

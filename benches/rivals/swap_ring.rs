//! The swap ring: each slot is a word with the number of the box of its item. The side that has the number owns the box.
//!
//! ```text
//!             slots: words of full|position|box                boxes: the items
//! sender ── store(full|tail|spare) ──▶ [ ][ ][ ][ ] ◀── compare_exchange(spare) ── receiver
//!         gets the box that was there            gets the box with the item
//! ```
//! Neither side ever finds a lock that is held. This costs a word, a box and two read-modify-writes more per
//! item than slots with the item in them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use super::doze::Doze;
use super::{Count, Limits, Pad, Queue, Receiver, Sender, Taken};

/// `full:1 | position:43 | box:20`.
#[derive(Clone, Copy)]
struct Word(u64);

const BOX_BITS: u32 = 20;
const BOX_MASK: u64 = (1 << BOX_BITS) - 1;
const FULL: u64 = 1 << 63;
const POSITION_MASK: u64 = (1 << 43) - 1;

impl Word {
    fn empty(index: u64) -> Self {
        Self(index)
    }

    fn full(position: u64, index: u64) -> Self {
        Self(FULL | (position & POSITION_MASK) << BOX_BITS | index)
    }

    fn is_full(self) -> bool {
        self.0 & FULL != 0
    }

    fn is_full_at(self, position: u64) -> bool {
        self.is_full() && self.distance_from(position) == 0
    }

    fn distance_from(self, position: u64) -> u64 {
        (self.0 >> BOX_BITS).wrapping_sub(position) & POSITION_MASK
    }

    fn index(self) -> u64 {
        self.0 & BOX_MASK
    }
}

struct Item<T> {
    first: u64,
    count: u64,
    bytes: u64,
    value: T,
}

/// A position, and the slot of its word.
#[derive(Clone, Copy, Default)]
struct Place {
    position: u64,
    slot: usize,
}

struct Shared<T> {
    slots: Box<[AtomicU64]>,
    /// `slots + 2`: each side owns one more. Only its owner locks a box.
    boxes: Box<[Mutex<Option<Item<T>>>]>,
    /// Written by the sender at every publish.
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
    notifications: AtomicU64,
    bytes: AtomicU64,
    sender: Doze,
}

impl<T> Shared<T> {
    fn slots(&self) -> u64 {
        self.slots.len() as u64
    }

    fn advance(&self, place: &mut Place) {
        place.position += 1;
        place.slot += 1;
        if place.slot == self.slots.len() {
            place.slot = 0;
        }
    }

    fn jump(&self, place: &mut Place, position: u64) {
        if position > place.position {
            let slot = usize::try_from(position % self.slots()).expect("a slot");
            *place = Place { position, slot };
        }
    }

    fn load(&self, place: Place) -> Word {
        Word(self.slots[place.slot].load(Ordering::Acquire))
    }

    fn exchange(&self, place: Place, old: Word, new: Word) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        self.slots[place.slot].compare_exchange(old.0, new.0, success, failure).is_ok()
    }

    /// Returns the content of a box that the caller owns.
    fn open(&self, index: u64) -> MutexGuard<'_, Option<Item<T>>> {
        let index = usize::try_from(index).expect("the number of a box");
        self.boxes[index].try_lock().expect("a box has one owner")
    }
}

pub struct SwapRing;

impl Queue for SwapRing {
    const NAME: &'static str = "swap ring";
    const EVICTS: bool = true;

    type Sender<T: Send + 'static> = SwapSender<T>;
    type Receiver<T: Send + 'static> = SwapReceiver<T>;

    fn channel<T: Send + 'static>(slots: u64) -> (SwapSender<T>, SwapReceiver<T>) {
        let shared = Arc::new(Shared {
            slots: (0..slots).map(|index| AtomicU64::new(Word::empty(index).0)).collect(),
            boxes: (0..slots + 2).map(|_| Mutex::new(None)).collect(),
            published: Pad::default(),
            taken: Pad::default(),
        });
        let sender = SwapSender {
            shared: shared.clone(),
            spare: slots,
            tail: Place::default(),
            oldest: Place::default(),
            seen: 0,
            kept: Count::default(),
            known_taken: Count::default(),
        };
        let receiver = SwapReceiver {
            shared,
            spare: slots + 1,
            head: Place::default(),
            known_tail: 0,
            next: 0,
            taken: Count::default(),
            stash: None,
        };
        (sender, receiver)
    }
}

pub struct SwapSender<T> {
    shared: Arc<Shared<T>>,
    spare: u64,
    tail: Place,
    /// There is no unread item below this position.
    oldest: Place,
    seen: u64,
    /// Put in and not evicted.
    kept: Count,
    known_taken: Count,
}

impl<T> SwapSender<T> {
    fn fits(&self, limits: Limits, count: u64, bytes: u64) -> bool {
        self.kept.fits(self.known_taken, limits, count, bytes)
    }

    fn look(&mut self, order: Ordering) {
        self.known_taken.notifications = self.shared.taken.notifications.load(order);
        self.known_taken.bytes = self.shared.taken.bytes.load(Ordering::Acquire);
    }

    /// Empties the owned box, which had an unread item.
    fn drop_spare(&mut self) {
        let item = self.shared.open(self.spare).take();
        if let Some(item) = item {
            self.kept.notifications -= item.count;
            self.kept.bytes -= item.bytes;
        }
    }
}

impl<T> Sender<T> for SwapSender<T> {
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
        *self.shared.open(self.spare) = Some(Item { first: self.seen, count, bytes, value });
        let word = Word::full(self.tail.position, self.spare);
        let slot = &self.shared.slots[self.tail.slot];
        let mut before = Word(slot.load(Ordering::Acquire));
        if before.is_full() {
            before = Word(slot.swap(word.0, Ordering::AcqRel));
        } else {
            // The receiver changes full words only.
            slot.store(word.0, Ordering::Release);
        }
        self.spare = before.index();
        self.shared.advance(&mut self.tail);
        self.seen += count;
        self.kept.notifications += count;
        self.kept.bytes += bytes;
        if before.is_full() {
            self.drop_spare();
            let lapped = self.tail.position - self.shared.slots();
            self.shared.jump(&mut self.oldest, lapped);
        }
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
        while self.oldest.position < self.tail.position {
            let word = self.shared.load(self.oldest);
            let place = self.oldest;
            let is_there = word.is_full_at(place.position);
            if is_there && self.shared.exchange(place, word, Word::empty(self.spare)) {
                self.spare = word.index();
                self.drop_spare();
                self.shared.advance(&mut self.oldest);
                return true;
            }
            self.shared.advance(&mut self.oldest);
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

impl<T> Drop for SwapSender<T> {
    fn drop(&mut self) {
        self.shared.published.tail.store(self.tail.position, Ordering::Release);
        self.shared.published.seen.store(self.seen, Ordering::SeqCst);
        self.shared.published.closed.store(true, Ordering::SeqCst);
        self.shared.published.receiver.wake();
    }
}

pub struct SwapReceiver<T> {
    shared: Arc<Shared<T>>,
    spare: u64,
    head: Place,
    /// What was published at the last read of the position.
    known_tail: u64,
    /// Sequence number of the next notification.
    next: u64,
    taken: Count,
    /// Taken out, while a loss before it is not reported yet.
    stash: Option<Item<T>>,
}

impl<T> SwapReceiver<T> {
    fn lose(&mut self, up_to: u64) -> Taken<T> {
        let first = std::mem::replace(&mut self.next, up_to);
        Taken::Lost { first, count: up_to - first }
    }

    /// The next item below the known tail.
    fn take_item(&mut self) -> Option<Item<T>> {
        let slots = self.shared.slots();
        while self.head.position < self.known_tail {
            let position = self.head.position;
            let word = self.shared.load(self.head);
            if word.is_full_at(position) {
                if !self.shared.exchange(self.head, word, Word::empty(self.spare)) {
                    continue;
                }
                self.spare = word.index();
                self.shared.advance(&mut self.head);
                let item = self.shared.open(self.spare).take()?;
                self.taken.notifications += item.count;
                self.taken.bytes += item.bytes;
                let taken = &self.shared.taken;
                taken.bytes.store(self.taken.bytes, Ordering::Release);
                taken.notifications.store(self.taken.notifications, Ordering::SeqCst);
                taken.sender.wake();
                return Some(item);
            }
            self.shared.advance(&mut self.head);
            if word.is_full() {
                let newer = position + word.distance_from(position);
                self.shared.jump(&mut self.head, (newer + 1).saturating_sub(slots));
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

impl<T> Receiver<T> for SwapReceiver<T> {
    fn try_take(&mut self) -> Taken<T> {
        if let Some(item) = self.stash.take().or_else(|| self.take_item()) {
            return self.hand_out(item);
        }
        // In this order, so that items below `seen` are below the tail that is loaded after it.
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

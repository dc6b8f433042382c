//! What both sides of the ring share: slots and positions.

use std::collections::VecDeque;
use std::sync::{PoisonError, TryLockError};

use super::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Pad, TryMutex, TryMutexGuard};
use super::wake::WakeCell;

/// Most slots a ring can have. Their memory is there from the beginning.
pub(super) const SLOTS_MAX: u64 = 1 << 20;

/// What travels: a value that stands for `count` notifications from sequence number `first` on.
#[derive(Debug)]
pub(super) struct Item<T> {
    /// Number of the item since the ring began.
    pub(super) position: u64,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) value: T,
}

/// A position, and the slot where its item stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) position: u64,
    slot: usize,
}

/// On cache lines of its own: the sides are often in neighbouring slots.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot<T> {
    content: TryMutex<Option<Item<T>>>,
    /// The sequence number after the item, for the producer alone: it looks into a slot only to take its item.
    pub(super) end: AtomicU64,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self { content: TryMutex::new(None), end: AtomicU64::new(0) }
    }

    /// What is in the slot, or `None` if the other side is there at this moment.
    ///
    /// A failed try is a load, and a load may be late. The consumer's is not: it looks for an item whose
    /// `tail` it saw, and so sees the producer's unlock after putting it in. The producer's may show a consumer
    /// that has left since: it says the same, that the consumer was there after the item.
    #[inline]
    pub(super) fn open(&self) -> Option<TryMutexGuard<'_, Option<Item<T>>>> {
        match self.content.try_lock() {
            Ok(content) => Some(content),
            // Nothing that may panic runs behind the lock. If it did: there is an item or there is none.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// What is allocated for a ring with so many unread items at most, in bytes.
#[cfg(all(test, feature = "tokio"))]
pub(super) fn bytes<T, M>(unread_max: usize) -> usize {
    (unread_max + 1) * size_of::<Slot<T>>() + size_of::<Shared<T, M>>()
}

#[derive(Debug)]
pub(super) struct Shared<T, M> {
    /// One more than may be unread. A mutex is tried, never waited for: who finds it locked knows what the
    /// other side does there.
    slots: Box<[Slot<T>]>,
    /// Stored by the producer, at every publish.
    pub(super) published: Pad<Published>,
    /// Stored by the consumer, at every take.
    pub(super) takings: Pad<Takings>,
    /// Marks with their positions, in order. Locked only when there is one: a mark is rare.
    marks: Mutex<VecDeque<(u64, M)>>,
}

#[derive(Debug)]
pub(super) struct Published {
    /// Items published. Release by the producer, Acquire by the consumer.
    pub(super) tail: AtomicU64,
    /// Notifications received, lost ones too. The producer stores it (Release) AFTER `tail`; the
    /// consumer loads it (Acquire) BEFORE `tail`: all that was accepted below `seen` is below `tail`.
    pub(super) seen: AtomicU64,
    /// Position of the first unread mark, or `u64::MAX`. Written under the lock of `marks`.
    pub(super) mark_at: AtomicU64,
    pub(super) closed: AtomicBool,
    /// Where the consumer sleeps: the producer looks here at every publish.
    pub(super) consumer: WakeCell,
}

#[derive(Debug)]
pub(super) struct Takings {
    /// All items below are out of their slots. Release by the consumer, Acquire by the producer.
    pub(super) head: AtomicU64,
    /// Notifications taken out of the ring. Release by the consumer, Acquire by the producer.
    pub(super) taken: AtomicU64,
    /// Bytes of them.
    pub(super) bytes: AtomicU64,
    /// Lowest sequence number still kept. Release by the producer, Acquire by the consumer. It stands here
    /// because every take reads it, and only who drops the oldest writes it.
    pub(super) floor: AtomicU64,
    pub(super) gone: AtomicBool,
    /// Where the producer sleeps: the consumer looks here at every take.
    pub(super) producer: WakeCell,
}

impl<T, M> Shared<T, M> {
    /// `unread_max` must be from 1 to [`SLOTS_MAX`].
    pub(super) fn new(unread_max: u64) -> Self {
        Self {
            slots: (0..=unread_max).map(|_| Slot::new()).collect(),
            published: Pad::new(Published {
                tail: AtomicU64::new(0),
                seen: AtomicU64::new(0),
                mark_at: AtomicU64::new(u64::MAX),
                closed: AtomicBool::new(false),
                consumer: WakeCell::new(),
            }),
            takings: Pad::new(Takings {
                head: AtomicU64::new(0),
                taken: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                floor: AtomicU64::new(0),
                gone: AtomicBool::new(false),
                producer: WakeCell::new(),
            }),
            marks: Mutex::new(VecDeque::new()),
        }
    }

    /// The marks with their positions. What panicked behind the lock was the merging of two.
    pub(super) fn marks(&self) -> MutexGuard<'_, VecDeque<(u64, M)>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Most unread items.
    pub(super) fn unread_max(&self) -> u64 {
        (self.slots.len() as u64).saturating_sub(1)
    }

    /// Moves on by one.
    #[inline]
    pub(super) fn advance(&self, place: &mut Place) {
        place.position += 1;
        place.slot += 1;
        if place.slot >= self.slots.len() {
            place.slot = 0;
        }
    }

    /// Moves on to `position` if that lies further.
    #[inline]
    pub(super) fn jump(&self, place: &mut Place, position: u64) {
        if position > place.position {
            // There is a slot, and a remainder is smaller than their number.
            let slot = position.checked_rem(self.slots.len() as u64);
            *place =
                Place { position, slot: slot.and_then(|i| usize::try_from(i).ok()).unwrap_or(0) };
        }
    }

    #[inline]
    pub(super) fn slot(&self, place: Place) -> Option<&Slot<T>> {
        self.slots.get(place.slot)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_panic_behind_a_slots_lock_closes_the_slot_for_nobody() {
        let slot = Slot::<u8>::new();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let _open = slot.open();
            panic!("behind the lock");
        }));
        assert!(panic.is_err() && slot.content.is_poisoned());
        assert!(slot.open().is_some());
    }
}

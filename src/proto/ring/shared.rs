//! [`RingShared`]: the slots, the positions and the marks, which both sides of the ring use.

use std::sync::TryLockError;

use super::marks::{MARKS_MAX, Marks};
use super::sync::{AtomicBool, AtomicU64, Pad, TryMutex, TryMutexGuard};
use super::wake::WakeCell;

/// The highest number of slots of a ring.
pub(super) const SLOTS_MAX: u64 = 1 << 20;

/// The content of a slot: a value that represents `count` notifications, the first with sequence number `first`.
#[derive(Debug)]
pub(super) struct RingItem<T> {
    /// The number of the item, from the beginning of the ring.
    pub(super) position: u64,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) value: T,
}

/// A position, and the index of its slot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SlotPosition {
    pub(super) position: u64,
    slot: usize,
}

/// A slot, on cache lines of its own: the two sides often use neighbouring slots.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot<T> {
    content: TryMutex<Option<RingItem<T>>>,
    /// The sequence number after the item. Only the producer uses it, so that it locks a slot only to evict its item.
    pub(super) end: AtomicU64,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self { content: TryMutex::new(None), end: AtomicU64::new(0) }
    }

    /// Locks the slot and returns its content. `None` if the other side has it locked.
    ///
    /// A failed lock is a load, which may return an old value. The consumer never fails because of an old value: it
    /// looks for an item below the `tail` that it loaded, so the unlock after that item was put in is visible to it.
    /// The producer may fail because of a consumer that has unlocked the slot since. The meaning is the same: the
    /// consumer was in the slot after the item was put in.
    #[inline]
    pub(super) fn open(&self) -> Option<TryMutexGuard<'_, Option<RingItem<T>>>> {
        match self.content.try_lock() {
            Ok(content) => Some(content),
            // No code that can panic runs while the slot is locked. Even after a panic the content is valid.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Returns the memory of a ring with at most `unread_max` unread items, in bytes.
#[cfg(all(test, feature = "tokio"))]
pub(super) fn bytes<T, M>(unread_max: usize) -> usize {
    let slots = (unread_max + 1) * size_of::<Slot<T>>() + Marks::<M>::slot_bytes();
    slots + size_of::<RingShared<T, M>>()
}

#[derive(Debug)]
pub(super) struct RingShared<T, M> {
    /// One more than the highest number of unread items. A failed lock shows what the other side does in the slot.
    slots: Box<[Slot<T>]>,
    /// Stored by the producer at every publish.
    pub(super) published: Pad<ProducerState>,
    /// Stored by the consumer at every take.
    pub(super) consumed: Pad<ConsumerState>,
    /// The producer adds marks, the consumer takes them.
    pub(super) marks: Marks<M>,
}

#[derive(Debug)]
pub(super) struct ProducerState {
    /// Items published. Release by the producer, Acquire by the consumer.
    pub(super) tail: AtomicU64,
    /// Notifications received, lost ones included. The producer stores it (Release) after `tail`; the consumer loads
    /// it (Acquire) before `tail`. So all items below `seen` are below `tail`.
    pub(super) seen: AtomicU64,
    pub(super) closed: AtomicBool,
    /// The waker of the consumer, which the producer wakes at every publish.
    pub(super) consumer_waker: WakeCell,
}

#[derive(Debug)]
pub(super) struct ConsumerState {
    /// The slots of all items below are empty. Release by the consumer, Acquire by the producer.
    pub(super) head: AtomicU64,
    /// Notifications taken out of the ring. Release by the consumer, Acquire by the producer.
    pub(super) taken: AtomicU64,
    /// Bytes of them.
    pub(super) bytes: AtomicU64,
    /// The lowest sequence number that is kept. Release by the producer, Acquire by the consumer. It is here because
    /// every take loads it, and only [`keep_newest`](super::Producer::keep_newest) stores it.
    pub(super) floor: AtomicU64,
    /// The consumer was dropped.
    pub(super) is_dropped: AtomicBool,
    /// The waker of the producer, which the consumer wakes at every take.
    pub(super) producer_waker: WakeCell,
}

impl<T, M> RingShared<T, M> {
    /// `unread_max` must be from 1 to [`SLOTS_MAX`].
    pub(super) fn new(unread_max: u64) -> Self {
        Self {
            slots: (0..=unread_max).map(|_| Slot::new()).collect(),
            published: Pad::new(ProducerState {
                tail: AtomicU64::new(0),
                seen: AtomicU64::new(0),
                closed: AtomicBool::new(false),
                consumer_waker: WakeCell::new(),
            }),
            consumed: Pad::new(ConsumerState {
                head: AtomicU64::new(0),
                taken: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                floor: AtomicU64::new(0),
                is_dropped: AtomicBool::new(false),
                producer_waker: WakeCell::new(),
            }),
            marks: Marks::new(MARKS_MAX),
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Returns the highest number of unread items.
    pub(super) fn unread_max(&self) -> u64 {
        (self.slots.len() as u64).saturating_sub(1)
    }

    /// Moves to the next position.
    #[inline]
    pub(super) fn advance(&self, at: &mut SlotPosition) {
        at.position += 1;
        at.slot += 1;
        if at.slot >= self.slots.len() {
            at.slot = 0;
        }
    }

    /// Moves to `position` if that is higher.
    #[inline]
    pub(super) fn jump(&self, at: &mut SlotPosition, position: u64) {
        if position > at.position {
            // There is at least one slot, and the remainder is a valid index.
            let slot = position.checked_rem(self.slots.len() as u64);
            *at = SlotPosition {
                position,
                slot: slot.and_then(|i| usize::try_from(i).ok()).unwrap_or(0),
            };
        }
    }

    #[inline]
    pub(super) fn slot(&self, at: SlotPosition) -> Option<&Slot<T>> {
        self.slots.get(at.slot)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_slot_can_be_locked_after_a_panic_while_it_was_locked() {
        let slot = Slot::<u8>::new();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let _open = slot.open();
            panic!("while the slot is locked");
        }));
        assert!(panic.is_err() && slot.content.is_poisoned());
        assert!(slot.open().is_some());
    }
}

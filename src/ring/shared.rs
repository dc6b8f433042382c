//! What both sides of the ring share: slots, boxes and positions.

use std::collections::VecDeque;
use std::mem;

use super::sync::{AtomicBool, AtomicU64, Mutex, Ordering, Pad};
use super::wake::WakeCell;

/// A slot's word: `full:1 | position:43 | box:20`.
///
/// `full` says that the box holds an item that nobody took; `position` is the number of that item
/// since the ring began, modulo 2^43 (at a million items a second: 101 days; comparisons are
/// modulo, and never between items that are further apart than the number of slots).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u64);

const BOX_BITS: u32 = 20;
const BOX_MASK: u64 = (1 << BOX_BITS) - 1;
const FULL: u64 = 1 << 63;
const POSITION_MASK: u64 = (1 << 43) - 1;

/// Most slots a ring can have: the box number has 20 bits, and there are two boxes more.
pub(super) const SLOTS_MAX: u64 = (1 << BOX_BITS) - 2;

impl Word {
    pub(super) fn empty(box_: BoxIndex) -> Self {
        Self(box_.0)
    }

    pub(super) fn full(position: u64, box_: BoxIndex) -> Self {
        Self(FULL | (position & POSITION_MASK) << BOX_BITS | box_.0)
    }

    pub(super) fn is_full(self) -> bool {
        self.0 & FULL != 0
    }

    pub(super) fn is_full_at(self, position: u64) -> bool {
        self.is_full() && self.distance_from(position) == 0
    }

    /// How far this word's position lies beyond `position`, modulo 2^43.
    pub(super) fn distance_from(self, position: u64) -> u64 {
        (self.0 >> BOX_BITS).wrapping_sub(position) & POSITION_MASK
    }

    pub(super) fn box_index(self) -> BoxIndex {
        BoxIndex(self.0 & BOX_MASK)
    }
}

/// The number of a box. Whoever holds it, in a slot or in hand, owns the box.
///
/// An index stands in one slot or in one hand, never in two: it goes from hand to slot by a swap, and
/// from slot to hand by a swap or a compare-exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BoxIndex(u64);

/// What travels: a value that stands for `count` notifications from sequence number `first` on.
#[derive(Debug)]
pub(super) struct Item<T> {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) value: T,
}

/// What a slot and its box cost, in bytes.
#[cfg(all(test, feature = "tokio"))]
pub(super) fn slot_bytes<T>() -> usize {
    size_of::<AtomicU64>() + size_of::<Mutex<Option<Item<T>>>>()
}

#[derive(Debug)]
pub(super) struct Shared<T, M> {
    slots: Box<[AtomicU64]>,
    /// `slots + 2` boxes: one spare in each side's hand. Only its owner touches a box, so
    /// `try_lock` always succeeds; the mutex is there to prove it to the compiler.
    boxes: Box<[Mutex<Option<Item<T>>>]>,
    /// Items published. Release by the producer, Acquire by the consumer.
    pub(super) tail: Pad<AtomicU64>,
    /// Notifications received, lost ones too. The producer stores it (Release) AFTER `tail`; the
    /// consumer loads it (Acquire) BEFORE `tail`: all that was accepted below `seen` is below `tail`.
    pub(super) seen: AtomicU64,
    /// Lowest sequence number still kept. Release by the producer, Acquire by the consumer.
    pub(super) floor: AtomicU64,
    pub(super) closed: AtomicBool,
    /// Notifications taken out of the ring. Release by the consumer, Acquire by the producer.
    pub(super) taken: Pad<AtomicU64>,
    /// Bytes of them.
    pub(super) taken_bytes: AtomicU64,
    pub(super) consumer_gone: AtomicBool,
    pub(super) consumer: WakeCell,
    pub(super) producer: WakeCell,
    /// Position of the first unread mark, or `u64::MAX`. Written under the lock of `marks`.
    pub(super) mark_at: AtomicU64,
    /// Marks with their positions, in order. Locked only when there is one: a mark is rare.
    pub(super) marks: Mutex<VecDeque<(u64, M)>>,
}

impl<T, M> Shared<T, M> {
    /// `slots` must be from 1 to [`SLOTS_MAX`]. Boxes `slots` and `slots + 1` belong to
    /// the producer and to the consumer.
    pub(super) fn new(slots: u64) -> (Self, BoxIndex, BoxIndex) {
        let shared = Self {
            slots: (0..slots).map(|i| AtomicU64::new(Word::empty(BoxIndex(i)).0)).collect(),
            boxes: (0..slots + 2).map(|_| Mutex::new(None)).collect(),
            tail: Pad::new(AtomicU64::new(0)),
            seen: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            taken: Pad::new(AtomicU64::new(0)),
            taken_bytes: AtomicU64::new(0),
            consumer_gone: AtomicBool::new(false),
            consumer: WakeCell::new(),
            producer: WakeCell::new(),
            mark_at: AtomicU64::new(u64::MAX),
            marks: Mutex::new(VecDeque::new()),
        };
        (shared, BoxIndex(slots), BoxIndex(slots + 1))
    }

    pub(super) fn slots(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Where the item at `position` stands.
    pub(super) fn index(&self, position: u64) -> usize {
        // A slice has at least one slot, and a remainder is smaller than its length.
        position.checked_rem(self.slots()).and_then(|i| usize::try_from(i).ok()).unwrap_or(0)
    }

    fn slot(&self, position: u64) -> Option<&AtomicU64> {
        self.slots.get(self.index(position))
    }

    /// The word in the slot of `position`.
    pub(super) fn load(&self, position: u64) -> Word {
        // Acquire: pairs with the Release half of `put` and `exchange`, which hand the box over.
        self.slot(position).map_or(Word(0), |slot| Word(slot.load(Ordering::Acquire)))
    }

    /// Puts `new` into the slot of `position` and returns what stood there.
    pub(super) fn put(&self, position: u64, new: Word) -> Word {
        // AcqRel: releases the new box to the consumer, acquires the one that it left.
        self.slot(position).map_or(new, |slot| Word(slot.swap(new.0, Ordering::AcqRel)))
    }

    /// Puts `new` into the slot of `position` if `old` still stands there.
    pub(super) fn exchange(&self, position: u64, old: Word, new: Word) -> bool {
        // AcqRel: as in `put`. Failure needs no ordering: the caller loads again.
        self.slot(position).is_some_and(|slot| {
            slot.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    /// Swaps the content of a box that the caller owns.
    pub(super) fn swap_box(&self, index: BoxIndex, content: &mut Option<Item<T>>) {
        let Some(cell) = usize::try_from(index.0).ok().and_then(|index| self.boxes.get(index))
        else {
            return;
        };
        if let Ok(mut inside) = cell.try_lock() {
            mem::swap(&mut *inside, content);
        } else {
            // Not reachable while an index has one owner. If it were, the item would be missing
            // at its position, and so reported as lost.
            debug_assert!(false, "box {index:?} has two owners");
        }
    }
}

//! [`Marks`]: the unread marks of a ring, in order. Neither side waits for the other.
//!
//! A mark gets a number. Its slot holds its position, which never changes, and two cells for its value. One word says which
//! marks are unread, and which cell has the value of the last one:
//!
//! ```text
//! word:      taken: 7 | unread: 3 | cell of the last one: b
//! slots:     [..][ 7: a ][ 8: a ][ 9: b ][..]
//! consumer:  taken 7 → 8: mark 7 is its own            producer: cell b → a: the value in a replaces that in b
//!                                                                unread 3 → 4: there is a mark 10
//! ```
//! - A side changes the word with one compare-exchange, and the side that changes it owns the cells that this makes free. So a
//!   cell has one owner at any time, and its lock is never locked when it is tried.
//! - The producer never changes a value that the consumer can take. To merge, it merges a copy, puts the result into
//!   the other cell, and then changes the word. If the consumer has taken the last mark before that, the new mark is put
//!   behind it instead.
//! - If a compare-exchange fails, the other side has succeeded. The consumer has a limited number of marks to take, so
//!   the producer is wait-free. The consumer repeats it only while marks are being made.
//! - There is one slot more than unread marks. The consumer may still be in the slot of the mark that it took last.
//!
//! Models: `ring/loom/marks.rs`.

use super::sync::{AtomicU64, Ordering, TryMutex};

/// The highest number of unread marks of a ring. One more is merged into the last one, so that a peer cannot fill the memory with marks. A
/// mark of a listener takes up to 5 KB, because its error is shortened and all marks share the list of refused channels.
#[cfg(not(all(test, loom)))]
pub(super) const MARKS_MAX: usize = 64;
/// The models must reach the highest number.
#[cfg(all(test, loom))]
pub(super) const MARKS_MAX: usize = 2;

/// The marks that both sides use.
#[derive(Debug)]
pub(super) struct Marks<M> {
    /// A [`MarksWord`].
    word: AtomicU64,
    slots: Box<[MarkSlot<M>]>,
}

#[derive(Debug)]
struct MarkSlot<M> {
    /// The position in the stream. Stored before the mark can be taken, and not again until it was.
    position: AtomicU64,
    cells: [Cell<M>; 2],
}

/// A value with one owner: the side that may use it follows from the word. The lock only passes it from thread to thread.
#[derive(Debug)]
struct Cell<M>(TryMutex<Option<M>>);

/// Which marks are unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MarksWord {
    /// Marks that the consumer has taken. It is also the number of the first unread mark.
    taken: u64,
    /// Unread marks: up to [`MARKS_MAX`], below 128.
    unread: u64,
    /// The cell that has the value of the last unread mark.
    cell: bool,
}

/// The last mark that the producer made.
#[derive(Debug)]
pub(super) struct LastMark<M> {
    position: u64,
    /// A copy of its value. The next mark may be merged into it.
    value: M,
}

impl MarksWord {
    fn from_bits(bits: u64) -> Self {
        Self { taken: bits >> 8, unread: (bits >> 1) & 0x7f, cell: bits & 1 == 1 }
    }

    fn bits(self) -> u64 {
        self.taken << 8 | self.unread << 1 | u64::from(self.cell)
    }
}

impl<M> Cell<M> {
    /// Exchanges the value.
    fn replace(&self, value: Option<M>) -> Option<M> {
        let open = self.0.try_lock();
        debug_assert!(open.is_ok(), "a cell has one owner");
        open.ok().and_then(|mut content| std::mem::replace(&mut *content, value))
    }
}

impl<M> Marks<M> {
    /// At most `max` marks may be unread.
    pub(super) fn new(max: usize) -> Self {
        let slot = |_| MarkSlot {
            position: AtomicU64::new(0),
            cells: [Cell(TryMutex::new(None)), Cell(TryMutex::new(None))],
        };
        Self { word: AtomicU64::new(0), slots: (0..=max).map(slot).collect() }
    }

    /// Returns the memory of the slots, in bytes.
    #[cfg(all(test, feature = "tokio"))]
    pub(super) fn slot_bytes() -> usize {
        (MARKS_MAX + 1) * size_of::<MarkSlot<M>>()
    }

    /// Returns the highest number of unread marks.
    fn max(&self) -> u64 {
        (self.slots.len() as u64).saturating_sub(1)
    }

    fn slot(&self, number: u64) -> Option<&MarkSlot<M>> {
        let index = number.checked_rem(self.slots.len() as u64)?;
        self.slots.get(usize::try_from(index).ok()?)
    }

    fn word(&self) -> MarksWord {
        // Acquire: pairs with the changes of the other side.
        MarksWord::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Changes the word. Returns false if the other side has changed it since it was loaded.
    fn change(&self, from: MarksWord, to: MarksWord) -> bool {
        // AcqRel: passes on the cells that become free, and acquires those that the other side has left.
        self.word
            .compare_exchange(from.bits(), to.bits(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Returns the position of the first unread mark, or `u64::MAX`. Only the consumer calls this.
    #[inline]
    pub(super) fn first_position(&self) -> u64 {
        let word = self.word();
        if word.unread == 0 {
            return u64::MAX;
        }
        self.slot(word.taken).map_or(u64::MAX, |slot| slot.position.load(Ordering::Relaxed))
    }

    /// Takes the first unread mark. Only the consumer calls this.
    pub(super) fn take(&self) -> Option<M> {
        loop {
            let word = self.word();
            let unread = word.unread.checked_sub(1)?;
            if !self.change(word, MarksWord { taken: word.taken + 1, unread, ..word }) {
                // A mark was made at this moment.
                continue;
            }
            let [a, b] = &self.slot(word.taken)?.cells;
            return match (unread, word.cell) {
                // Only this cell: the producer may still be emptying the other one.
                (0, false) => a.replace(None),
                (0, true) => b.replace(None),
                // The producer has left exactly one of them full.
                _ => a.replace(None).or_else(|| b.replace(None)),
            };
        }
    }
}

impl<M: Clone> Marks<M> {
    /// Adds a mark, or merges it into the last one: if that one is unread, and is at `position` or later, or if
    /// the highest number of them is unread. The last argument of `merge` is true in the first case. `last` is the last mark that was made.
    /// Only the producer calls this.
    pub(super) fn add(
        &self,
        last: &mut Option<LastMark<M>>,
        position: u64,
        mark: M,
        merge: impl FnOnce(&mut M, M, bool),
    ) {
        let word = self.word();
        let adjacent = last.as_ref().is_some_and(|last| last.position >= position);
        let may_merge =
            |word: MarksWord| word.unread > 0 && (adjacent || word.unread >= self.max());
        // The consumer can only make a merge impossible, not possible.
        if may_merge(word)
            && let Some(last) = last
        {
            let mut merged = last.value.clone();
            merge(&mut merged, mark.clone(), adjacent);
            if self.replace_last(&merged, may_merge) {
                last.value = merged;
                return;
            }
        }
        self.push(position, mark.clone());
        *last = Some(LastMark { position, value: mark });
    }

    /// Replaces the value of the last mark, as long as `may_merge` returns true. Returns false if it was not replaced.
    fn replace_last(&self, merged: &M, may_merge: impl Fn(MarksWord) -> bool) -> bool {
        loop {
            let word = self.word();
            if !may_merge(word) {
                return false;
            }
            let number = word.taken + word.unread - 1;
            let Some(slot) = self.slot(number) else { return false };
            let [a, b] = &slot.cells;
            let (used, free) = if word.cell { (b, a) } else { (a, b) };
            free.replace(Some(merged.clone()));
            if self.change(word, MarksWord { cell: !word.cell, ..word }) {
                used.replace(None);
                return true;
            }
            // The consumer has taken a mark. If it was the last one, it does not use this cell.
            free.replace(None);
        }
    }

    /// Adds a mark. There is room for one more.
    fn push(&self, position: u64, mark: M) {
        let mut word = self.word();
        // The sum does not change when the consumer takes a mark.
        let Some(slot) = self.slot(word.taken + word.unread) else { return };
        slot.position.store(position, Ordering::Relaxed);
        let [cell, _] = &slot.cells;
        cell.replace(Some(mark));
        while !self.change(word, MarksWord { unread: word.unread + 1, cell: false, ..word }) {
            word = self.word();
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::collections::VecDeque;

    use super::super::sync::Arc;
    use super::*;

    #[test]
    fn marks_are_taken_as_from_a_list() {
        let marks = Marks::new(MARKS_MAX);
        let (mut last, mut list) = (None, VecDeque::<(u64, Vec<u64>)>::new());
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let (mut position, mut fullest) = (0, 0);
        for turn in 0..100_000_u64 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Phases in which the list becomes full, and empty.
            if random % 10 < 3 + 4 * (turn / 1_000 % 2) {
                position += (random >> 60) & 1;
                marks.add(&mut last, position, vec![turn], |last, more, _| last.extend(more));
                let is_full = list.len() == MARKS_MAX;
                match list.back_mut() {
                    Some((at, merged)) if *at == position || is_full => merged.push(turn),
                    _ => list.push_back((position, vec![turn])),
                }
                fullest = fullest.max(list.len());
            } else {
                assert_eq!(marks.take(), list.pop_front().map(|(_, mark)| mark));
            }
            let first = list.front().map_or(u64::MAX, |(at, _)| *at);
            assert_eq!(marks.first_position(), first);
        }
        assert_eq!(fullest, MARKS_MAX);
    }

    #[test]
    fn a_value_that_was_taken_or_replaced_is_freed() {
        let marks = Marks::new(MARKS_MAX);
        let value = Arc::new(());
        let mut last = None;
        for position in 0..1_000 {
            for _ in 0..3 {
                marks.add(&mut last, position, value.clone(), |_, _, _| {});
            }
        }
        while marks.take().is_some() {}
        // This one, and the copy of the last mark.
        assert_eq!(Arc::strong_count(&value), 2);
    }
}

//! The receive buffers, reused as soon as nobody looks into them.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use bytes::{Bytes, BytesMut};

/// A bounded set of receive buffers of one size.
///
/// The reader reads into one of them and splits published runs off it. When it is full,
/// [`exchange`](Self::exchange) puts it aside and gives another: one whose views are all gone, or a new
/// one while there are fewer than the maximum. Only the reader frees: no queue leads back from the
/// consumer, a buffer knows by its reference count that its last view is gone.
///
/// When all are looked into, there is one buffer more, from which nothing may be split: what is read into
/// it is dropped in place. So at most `max + 1` are ever alive. None of them is freed before the set is.
#[derive(Debug)]
pub struct Buffers {
    /// Put aside, oldest first. Empty handles that still hold their allocation.
    spent: VecDeque<BytesMut>,
    /// Size of each, in bytes.
    size: usize,
    /// Most buffers that may be looked into.
    max: usize,
    /// The one in the reader's hand is larger than `size`.
    long: bool,
    /// Changes whenever another one comes into the reader's hand.
    number: u64,
}

impl Buffers {
    /// At most `max` buffers (at least two) of `size` bytes, and one for what is dropped.
    #[must_use]
    pub fn new(size: usize, max: usize) -> Self {
        // Room for them is made when they are: a maximum may be large and never reached.
        Self { spent: VecDeque::new(), size, max: max.max(2), long: false, number: 0 }
    }

    /// The first buffer.
    #[must_use]
    pub fn first(&mut self) -> BytesMut {
        self.number += 1;
        BytesMut::with_capacity(self.size)
    }

    /// Number of the buffer in the reader's hand, which no other one ever has. For who
    /// [lends](super::Lender) what is split off it. `None` for a [long](Self::is_long) one: nothing is.
    #[must_use]
    pub fn number(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.number).filter(|_| !self.long)
    }

    /// How many buffers are alive, the one in the reader's hand included.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.spent.len().saturating_add(1)
    }

    /// Makes room for `need` more bytes in `current`, moving what is in it when that is necessary.
    ///
    /// Returns whether runs may be split off it. If not, every other buffer is looked into: the caller
    /// drops what it reads, and asks again before the next read. A message longer than a buffer gets a
    /// [long](Self::is_long) one until it is over.
    #[must_use]
    pub fn exchange(&mut self, current: &mut BytesMut, need: usize) -> bool {
        let length = current.len().saturating_add(need);
        // When nobody looks into `current` any more, what is left moves to its front, at every read: the
        // bytes there are the ones that the processor has in its cache.
        let whole = self.size.saturating_sub(current.len()).max(need);
        let has_room = current.try_reclaim(whole) || current.capacity() - current.len() >= need;
        if !has_room && !self.long && length <= self.size && !self.may_split() {
            // Nothing was split off it: what is in it has room at its own front, and to copy it to another
            // would take two more. (A vector's way: a longer move than `try_reclaim` makes.)
            *current = Bytes::from(Vec::from(std::mem::take(current))).into();
        } else if !has_room || (self.long && length <= self.size) {
            self.replace(current, length);
        }
        self.may_split()
    }

    /// Whether runs may be split off the buffer in the reader's hand: at most `max` are looked into then.
    fn may_split(&mut self) -> bool {
        self.alive() <= self.max || self.find_free().is_some()
    }

    /// Whether the buffer in the reader's hand is one for a long message. Of what stands behind the
    /// message, no run may be split off: it would hold the whole of the buffer. Copy it.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.long
    }

    /// Puts `current` aside for another one with room for `length` bytes.
    fn replace(&mut self, current: &mut BytesMut, length: usize) {
        let was_long = std::mem::replace(&mut self.long, length > self.size);
        let mut next = if self.long {
            // Half as much again: a message that grows moves a few times, not at every read.
            BytesMut::with_capacity(length.saturating_add(current.len() / 2))
        } else {
            let free = self.find_free().and_then(|free| self.spent.remove(free));
            free.unwrap_or_else(|| BytesMut::with_capacity(self.size))
        };
        self.number += 1;
        next.extend_from_slice(current);
        current.clear();
        let mut old = std::mem::replace(current, next);
        // Nothing was split off a long one. A usual one may be free: it was only too small, or its last
        // view went a moment ago.
        if !was_long && (self.alive() <= self.max || !old.try_reclaim(self.size)) {
            self.spent.push_back(old);
        }
    }

    /// A buffer that nobody looks into.
    fn find_free(&mut self) -> Option<usize> {
        let size = self.size;
        self.spent.iter_mut().position(|buffer| buffer.try_reclaim(size))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const SIZE: usize = 1_024;

    /// Fills the current buffer and splits it off.
    fn fill(current: &mut BytesMut) -> Bytes {
        current.resize(current.capacity(), b'x');
        current.split().freeze()
    }

    #[test]
    fn a_buffer_without_views_is_used_again() {
        let mut buffers = Buffers::new(SIZE, 4);
        let mut current = buffers.first();
        for _ in 0..100 {
            drop(fill(&mut current));
            assert!(buffers.exchange(&mut current, SIZE));
        }
        assert_eq!(buffers.alive(), 1);
    }

    /// Else the next one is allocated anew, again and again.
    #[test]
    fn a_buffer_that_is_free_when_it_is_put_aside_is_not_freed() {
        let mut buffers = Buffers::new(SIZE, 4);
        let mut current = buffers.first();
        let views = [fill(&mut current), {
            assert!(buffers.exchange(&mut current, SIZE));
            fill(&mut current)
        }];
        assert!(buffers.exchange(&mut current, SIZE));
        assert_eq!(buffers.alive(), 3);
        drop(views);
        // A part of a message up to the end of the buffer, too long to be moved in place.
        current.extend_from_slice(&[b'm'; SIZE]);
        bytes::Buf::advance(&mut current, 100);
        assert!(buffers.exchange(&mut current, 64));
        assert!(!buffers.is_long());
        assert_eq!(buffers.alive(), 3);
    }

    #[test]
    fn the_rest_of_a_message_moves_to_the_next_buffer() {
        let mut buffers = Buffers::new(SIZE, 4);
        let mut current = buffers.first();
        let view = fill(&mut current);
        current.extend_from_slice(b"");
        assert!(buffers.exchange(&mut current, 16));
        current.extend_from_slice(b"half a mess");
        let other = current.split_to(5).freeze();
        assert!(buffers.exchange(&mut current, SIZE));
        assert_eq!((&current[..], &other[..]), (&b"a mess"[..], &b"half "[..]));
        assert_eq!(view.len(), SIZE);
    }

    #[test]
    fn when_all_are_looked_into_there_is_one_more_to_drop_from_and_never_two() {
        let mut buffers = Buffers::new(SIZE, 3);
        let mut current = buffers.first();
        let mut views = Vec::new();
        for _ in 0..2 {
            views.push(fill(&mut current));
            assert!(buffers.exchange(&mut current, SIZE));
        }
        views.push(fill(&mut current));
        for _ in 0..10 {
            assert!(!buffers.exchange(&mut current, SIZE));
            assert!(current.capacity() >= SIZE);
            current.extend_from_slice(&[b'x'; SIZE]);
            current.clear();
        }
        assert_eq!(buffers.alive(), 4);
        views.pop();
        assert!(buffers.exchange(&mut current, SIZE));
        // What is split off now is the third again.
        views.push(fill(&mut current));
        assert!(!buffers.exchange(&mut current, SIZE));
        assert_eq!(buffers.alive(), 4);
    }

    /// Also while the parts of a long message come in, and in whatever place they do.
    #[test]
    fn there_are_never_two_more_than_the_maximum() {
        for at in 0..SIZE - 64 {
            let mut buffers = Buffers::new(SIZE, 2);
            let mut current = buffers.first();
            let first = fill(&mut current);
            assert!(buffers.exchange(&mut current, SIZE));
            let second = fill(&mut current);
            assert!(!buffers.exchange(&mut current, SIZE));
            let place = current.as_ptr();
            current.resize(at, 0);
            bytes::Buf::advance(&mut current, at);
            current.extend((at..SIZE).map(|n| n.to_le_bytes()[0]));
            let part = current.to_vec();
            let need = 64.min(at);
            assert!(!buffers.exchange(&mut current, need));
            assert_eq!(current, part, "{at}");
            assert!(current.capacity() - current.len() >= need);
            assert!(current.as_ptr().addr() - place.addr() < SIZE, "{at}: moved to another");
            drop((first, second));
            assert!(buffers.exchange(&mut current, need));
            assert_eq!((&current[..], buffers.alive()), (&part[..], 3));
        }
    }

    /// A reader that waits for a free buffer asks again and again, with a full one in its hand.
    #[test]
    fn to_ask_for_a_free_buffer_moves_nothing_and_makes_none() {
        let mut buffers = Buffers::new(SIZE, 2);
        let mut current = buffers.first();
        let mut views = vec![fill(&mut current)];
        assert!(buffers.exchange(&mut current, SIZE));
        views.push(fill(&mut current));
        assert!(!buffers.exchange(&mut current, SIZE));
        current.resize(SIZE, b'x');
        let place = (current.as_ptr(), current.capacity());
        for _ in 0..3 {
            assert!(!buffers.exchange(&mut current, 0));
            assert_eq!(
                (current.as_ptr(), current.capacity(), buffers.alive()),
                (place.0, place.1, 3)
            );
        }
        views.pop();
        assert!(buffers.exchange(&mut current, 0));
        assert_eq!((current.as_ptr(), current.capacity(), buffers.alive()), (place.0, place.1, 3));
    }

    #[test]
    fn a_large_maximum_costs_nothing_before_it_is_used() {
        let mut buffers = Buffers::new(SIZE, usize::MAX);
        let mut current = buffers.first();
        assert!(buffers.exchange(&mut current, SIZE));
        assert_eq!(buffers.spent.capacity(), 0);
    }

    /// Long messages, each with a short run behind it that is kept.
    #[test]
    fn long_messages_between_views_take_no_more_memory_than_the_maximum() {
        let mut buffers = Buffers::new(SIZE, 4);
        let mut current = buffers.first();
        let mut views = Vec::new();
        let mut memory = 0;
        for _ in 0..20 {
            while current.len() < 8 * SIZE {
                let _ = buffers.exchange(&mut current, 64);
                current.extend_from_slice(&[b'm'; 64]);
            }
            assert!(buffers.is_long());
            let message = current.len();
            bytes::Buf::advance(&mut current, message);
            current.extend_from_slice(b"a notification");
            if buffers.is_long() {
                memory += current.len();
                current.clear();
            }
            // A usual one again: what follows is split off.
            let may_split = buffers.exchange(&mut current, 64);
            assert!(!buffers.is_long());
            current.extend_from_slice(b"another one");
            if may_split {
                memory += SIZE;
                views.push(current.split().freeze());
            } else {
                current.clear();
            }
        }
        assert!(memory <= 5 * SIZE, "{memory} bytes behind {} views", views.len());
    }

    #[test]
    fn a_message_longer_than_a_buffer_fits() {
        let mut buffers = Buffers::new(SIZE, 2);
        let mut current = buffers.first();
        let view = fill(&mut current);
        for step in 0..8 {
            assert!(buffers.exchange(&mut current, SIZE), "{step}");
            current.extend_from_slice(&[b'x'; SIZE]);
        }
        assert_eq!((current.len(), view.len()), (8 * SIZE, SIZE));
    }
}

//! [`Buffers`]: the receive buffers, each of which is used again when its last view is dropped.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use bytes::{Bytes, BytesMut};

/// A bounded set of receive buffers of one size.
///
/// The reader reads into the current buffer and splits published runs off it: views of the buffer. When it is full,
/// [`exchange`](Self::exchange) replaces it with a free buffer, which has no views, or with a new one while there are
/// fewer than the maximum. The reference count of a buffer shows that its last view was dropped, so that nothing is
/// sent back from the consumer to the reader.
///
/// If every buffer has views, there is one more buffer, from which nothing may be split: the reader drops what it
/// reads into it. So there are at most `max + 1`. They are freed with the set.
#[derive(Debug)]
pub struct Buffers {
    /// Buffers that were replaced, oldest first. Empty handles that keep their allocation.
    replaced: VecDeque<BytesMut>,
    /// Size of each, in bytes.
    size: usize,
    /// The highest number of buffers that may have views.
    max: usize,
    /// The current buffer is larger than `size`.
    long: bool,
    /// The number of the current buffer. Each one has another number.
    number: u64,
}

impl Buffers {
    /// Creates a set of at most `max` buffers (at least two) of `size` bytes, and one for bytes that are dropped.
    #[must_use]
    pub fn new(size: usize, max: usize) -> Self {
        // Without capacity: the maximum may be large and never reached.
        Self { replaced: VecDeque::new(), size, max: max.max(2), long: false, number: 0 }
    }

    /// Returns the first buffer.
    #[must_use]
    pub fn first(&mut self) -> BytesMut {
        self.number += 1;
        BytesMut::with_capacity(self.size)
    }

    /// Returns the number of the current buffer, which no other buffer of this set has, for a
    /// [`CurrentBytes`](super::CurrentBytes). `None` for a [long](Self::is_long) one: nothing may be split off it.
    #[must_use]
    pub fn number(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.number).filter(|_| !self.long)
    }

    /// Returns the number of buffers, the current one included.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.replaced.len().saturating_add(1)
    }

    /// Makes room for `need` more bytes in `current`. If necessary, its content moves to another buffer.
    ///
    /// Returns whether runs may be split off it. If not, every other buffer has views: the caller drops what it
    /// reads, and calls this again before the next read. A message longer than a buffer gets a
    /// [long](Self::is_long) one until its end.
    #[must_use]
    pub fn exchange(&mut self, current: &mut BytesMut, need: usize) -> bool {
        let length = current.len().saturating_add(need);
        // If `current` has no views, the rest moves to its front at every read: the processor has the bytes at the
        // front in its cache.
        let whole = self.size.saturating_sub(current.len()).max(need);
        let has_room = current.try_reclaim(whole) || current.capacity() - current.len() >= need;
        if !has_room && !self.long && length <= self.size && !self.may_split() {
            // It has no views, so its content can move to its own front. A copy to another buffer would need two more
            // buffers. `Vec` allows this move, which is too long for `try_reclaim`.
            *current = Bytes::from(Vec::from(std::mem::take(current))).into();
        } else if !has_room || (self.long && length <= self.size) {
            self.replace(current, length);
        }
        self.may_split()
    }

    /// Returns whether runs may be split off the current buffer. Then at most `max` buffers have views.
    fn may_split(&mut self) -> bool {
        self.alive() <= self.max || self.find_free().is_some()
    }

    /// Returns whether the current buffer was made for a long message. Runs after that message must be copied: a view
    /// would keep the whole buffer.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.long
    }

    /// Replaces `current` with another buffer that has room for `length` bytes.
    fn replace(&mut self, current: &mut BytesMut, length: usize) {
        let was_long = std::mem::replace(&mut self.long, length > self.size);
        let mut next = if self.long {
            // The new buffer has additional room, half of what was received: so a long message is moved a few times, not at
            // every read.
            BytesMut::with_capacity(length.saturating_add(current.len() / 2))
        } else {
            let free = self.find_free().and_then(|free| self.replaced.remove(free));
            free.unwrap_or_else(|| BytesMut::with_capacity(self.size))
        };
        self.number += 1;
        next.extend_from_slice(current);
        current.clear();
        let mut old = std::mem::replace(current, next);
        // A long buffer has no views and is freed. A usual one may be free too: it was only too small, or its last
        // view was dropped a moment ago.
        if !was_long && (self.alive() <= self.max || !old.try_reclaim(self.size)) {
            self.replaced.push_back(old);
        }
    }

    /// Finds a replaced buffer without views.
    fn find_free(&mut self) -> Option<usize> {
        let size = self.size;
        self.replaced.iter_mut().position(|buffer| buffer.try_reclaim(size))
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

    /// Otherwise each next buffer would be allocated again.
    #[test]
    fn a_buffer_that_is_free_when_it_is_replaced_is_kept() {
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
    fn when_all_buffers_have_views_there_is_exactly_one_more() {
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
        // The next view is the third one again.
        views.push(fill(&mut current));
        assert!(!buffers.exchange(&mut current, SIZE));
        assert_eq!(buffers.alive(), 4);
    }

    /// This includes messages that arrive in parts, at every offset in the buffer.
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
            assert!(current.as_ptr().addr() - place.addr() < SIZE, "{at}: moved to another buffer");
            drop((first, second));
            assert!(buffers.exchange(&mut current, need));
            assert_eq!((&current[..], buffers.alive()), (&part[..], 3));
        }
    }

    /// A reader that waits for a free buffer calls `exchange` repeatedly with a full buffer.
    #[test]
    fn exchange_without_need_moves_and_allocates_nothing() {
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
    fn a_large_maximum_allocates_nothing() {
        let mut buffers = Buffers::new(SIZE, usize::MAX);
        let mut current = buffers.first();
        assert!(buffers.exchange(&mut current, SIZE));
        assert_eq!(buffers.replaced.capacity(), 0);
    }

    /// After each long message comes a short run, whose view is kept.
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
            // The current buffer is a usual one again, and views are split off it.
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
        assert!(memory <= 5 * SIZE, "{memory} bytes for {} views", views.len());
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

//! [`Buffers`]: the receive buffers, each of which is used again when its last view is dropped. Their size follows the flow.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use bytes::{Bytes, BytesMut};

/// A bounded set of receive buffers.
///
/// The reader reads into the current buffer and splits published runs off it: views of the buffer. When it is full,
/// [`exchange`](Self::exchange) replaces it with a free buffer, which has no views, or with a new one while there are
/// fewer than the maximum. The reference count of a buffer shows that its last view was dropped, so that nothing is
/// sent back from the consumer to the reader.
///
/// If every buffer has views, there is one more buffer, from which nothing may be split: the reader drops what it
/// reads into it. So there are at most `max + 1`.
///
/// All buffers have one size, and are freed with the set. After [`starting_at`](Self::starting_at) the size follows the flow:
/// ```text
/// first_size ──▶ twice as large, each time that the current one is full and it and another one have views ──▶ size
///      │                       a dense read: DENSE_READ_BYTES                                                ▲ │
///      ├─────────────────────────────────────────────────────────────────────────────────────────────────────┘ │
///      ◀──── SPARSE_READS sparse reads: free buffers are freed; and if none has views, the first size again ───┘
/// ```
/// One free buffer below `size` is kept: a consumer that keeps up often has a view of the last one when the next one is
/// needed. The buffers below `size` take at most as much as one buffer of `size` together.
#[derive(Debug)]
pub struct Buffers {
    /// Buffers that were replaced, oldest first.
    replaced: VecDeque<Replaced>,
    /// The size of the first buffer, in bytes.
    first_size: usize,
    /// The largest size, in bytes.
    size: usize,
    /// How many buffers of `size` may have views.
    max: usize,
    /// The size of the current buffer: the usual one, also while a long message has a larger buffer.
    current_size: usize,
    /// The size of the next buffer.
    next_size: usize,
    /// The current buffer is larger than `size`.
    long: bool,
    /// The number of the current buffer. Each one has another number.
    number: u64,
    /// Sparse reads since the last dense one, or since buffers were last freed.
    sparse_reads: u32,
    /// How many replaced buffers had views when the current one became the current one.
    behind: usize,
}

/// A buffer that was replaced.
#[derive(Debug)]
struct Replaced {
    /// An empty handle that keeps the allocation.
    handle: BytesMut,
    size: usize,
}

impl Replaced {
    fn is_free(&mut self) -> bool {
        self.handle.try_reclaim(self.size)
    }
}

/// A read of this many bytes or more is dense: half of a write of the server.
const DENSE_READ_BYTES: usize = 4 * 1024;

/// After this many sparse reads, one after the other, the flow is sparse.
const SPARSE_READS: u32 = 16;

impl Buffers {
    /// Creates a set of at most `max` buffers (at least two) of `size` bytes, and one for bytes that are dropped.
    #[must_use]
    pub fn new(size: usize, max: usize) -> Self {
        Self {
            // Without capacity: the maximum may be large and never reached.
            replaced: VecDeque::new(),
            first_size: size,
            size,
            max: max.max(2),
            current_size: size,
            next_size: size,
            long: false,
            number: 0,
            sparse_reads: 0,
            behind: 0,
        }
    }

    /// Makes the first buffer smaller: `first_size` bytes. It is the size as long as the flow is sparse and is consumed.
    #[must_use]
    pub fn starting_at(mut self, first_size: usize) -> Self {
        self.first_size = first_size.min(self.size);
        (self.current_size, self.next_size) = (self.first_size, self.first_size);
        self
    }

    /// Returns the first buffer.
    #[must_use]
    pub fn first(&mut self) -> BytesMut {
        self.number += 1;
        BytesMut::with_capacity(self.first_size)
    }

    /// Returns the number of the current buffer, which no other buffer of this set has, for a
    /// [`CurrentBytes`](super::CurrentBytes). `None` for a [long](Self::is_long) one: nothing may be split off it. `None` for
    /// one below the full size too: what is kept of it is copied.
    #[must_use]
    pub fn number(&self) -> Option<NonZeroU64> {
        let is_full_size = self.current_size >= self.size && !self.long;
        NonZeroU64::new(self.number).filter(|_| is_full_size)
    }

    /// Returns how many buffers have been the current one, this one included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.number
    }

    /// Returns the size of the current buffer in bytes: the usual one, also while a long message has a larger buffer.
    #[must_use]
    pub fn current_size(&self) -> usize {
        self.current_size
    }

    /// Returns how many replaced buffers had views when the current one became the current one. A consumer that keeps up has
    /// none, or the one before the current one.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.behind
    }

    /// Returns the number of buffers, the current one included.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.replaced.len().saturating_add(1)
    }

    /// Returns the bytes of the buffers, the current one included, with the usual size also for a long message.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let replaced = self.replaced.iter().map(|replaced| replaced.size);
        replaced.fold(self.current_size, usize::saturating_add)
    }

    /// Makes room in `current` for the next read, as [`exchange`](Self::exchange) does: for `need` bytes, or for half of a
    /// buffer if that is less. The size of the buffer follows the [reads](Self::handle_read).
    #[must_use]
    pub fn prepare(&mut self, current: &mut BytesMut, need: usize) -> bool {
        if self.first_size < self.size {
            let half = self.next_size / 2;
            let is_wrong_size = self.current_size != self.next_size && current.len() <= half;
            // A small one is replaced before it is full: if the queue is full too, everything is dropped, and it stays as it is.
            let is_too_small = self.current_size < self.next_size;
            let spare = self.current_size.saturating_sub(current.len());
            if is_wrong_size && !self.long && (current.try_reclaim(spare) || is_too_small) {
                self.replace(current, current.len().saturating_add(half));
            }
        }
        self.exchange(current, need.min(self.current_size / 2))
    }

    /// Handles a read of this many bytes: it chooses the size of the next buffer.
    pub fn handle_read(&mut self, bytes: usize) {
        if bytes >= DENSE_READ_BYTES {
            self.sparse_reads = 0;
            self.next_size = self.size;
        } else if bytes > 0 {
            self.sparse_reads += 1;
            if self.sparse_reads >= SPARSE_READS {
                self.sparse_reads = 0;
                if self.replaced.iter_mut().all(Replaced::is_free) {
                    self.next_size = self.first_size;
                }
                self.free_unused(usize::MAX);
            }
        }
    }

    /// Makes room for `need` more bytes in `current`. If necessary, its content moves to another buffer.
    ///
    /// Returns whether runs may be split off it. If not, every other buffer has views: the caller drops what it
    /// reads, and calls this again before the next read. A message longer than a buffer gets a
    /// [long](Self::is_long) one until its end.
    #[must_use]
    pub fn exchange(&mut self, current: &mut BytesMut, need: usize) -> bool {
        let (length, size) = (current.len().saturating_add(need), self.current_size);
        // If `current` has no views, the rest moves to its front at every read: the processor has the bytes at the
        // front in its cache.
        let whole = size.saturating_sub(current.len()).max(need);
        let has_room = current.try_reclaim(whole) || current.capacity() - current.len() >= need;
        if !has_room && !self.long && length <= size && !self.may_split() {
            // It has no views, so its content can move to its own front. A copy to another buffer would need two more
            // buffers. `Vec` allows this move, which is too long for `try_reclaim`.
            *current = Bytes::from(Vec::from(std::mem::take(current))).into();
        } else if !has_room || (self.long && length <= self.size) {
            if !self.replaced.iter_mut().all(Replaced::is_free) {
                self.next_size = self.next_size.max(size.saturating_mul(2)).min(self.size);
            }
            self.replace(current, length);
        }
        self.may_split()
    }

    /// Returns whether runs may be split off the current buffer. Then at most `max` buffers have views.
    fn may_split(&mut self) -> bool {
        if self.bytes() > self.limit() {
            let size = self.size;
            self.replaced.retain_mut(|replaced| replaced.size >= size || !replaced.is_free());
        }
        self.bytes() <= self.limit() || self.find_free().is_some()
    }

    /// Returns the highest number of bytes of buffers that may have views.
    fn limit(&self) -> usize {
        self.size.saturating_mul(self.max)
    }

    /// Frees the buffers without views that are smaller than `size`, except one of the size of the next buffer.
    fn free_unused(&mut self, size: usize) {
        let (next_size, mut spares) = (self.next_size, 0);
        self.replaced.retain_mut(|replaced| {
            if replaced.size >= size || !replaced.is_free() {
                return true;
            }
            spares += usize::from(replaced.size == next_size);
            replaced.size == next_size && spares == 1
        });
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
        let old_size = self.current_size;
        self.free_unused(self.size);
        let mut next = if self.long {
            // The new buffer has additional room, half of what was received: so a long message is moved a few times, not at
            // every read.
            BytesMut::with_capacity(length.saturating_add(current.len() / 2))
        } else {
            self.next_buffer(length)
        };
        self.number += 1;
        next.extend_from_slice(current);
        current.clear();
        let mut old = Replaced { handle: std::mem::replace(current, next), size: old_size };
        // A long buffer has no views and is freed. A usual one may be free too: it was only too small, or its last
        // view was dropped a moment ago.
        let is_full_size = old_size.min(self.current_size) >= self.size;
        let is_kept = is_full_size && self.bytes() <= self.limit();
        if !was_long && (is_kept || !old.is_free()) {
            self.replaced.push_back(old);
        }
        let has_views = |replaced: &mut Replaced| usize::from(!replaced.is_free());
        self.behind = self.replaced.iter_mut().map(has_views).sum();
    }

    /// Returns a free buffer of the full size or of the next size, or a new one, with room for `length` bytes. It becomes the
    /// current one.
    fn next_buffer(&mut self, length: usize) -> BytesMut {
        let next_size = self.next_size;
        let is_usable = |replaced: &mut Replaced| {
            replaced.size == next_size && length <= next_size && replaced.is_free()
        };
        let usable = self.find_free().or_else(|| self.replaced.iter_mut().position(is_usable));
        if let Some(free) = usable.and_then(|free| self.replaced.remove(free)) {
            (self.current_size, self.next_size) = (free.size, free.size);
            return free.handle;
        }
        self.current_size = if length <= self.next_size { self.next_size } else { self.size };
        self.next_size = self.current_size;
        BytesMut::with_capacity(self.current_size)
    }

    /// Finds a replaced buffer of the full size without views.
    fn find_free(&mut self) -> Option<usize> {
        let size = self.size;
        self.replaced.iter_mut().position(|replaced| replaced.size >= size && replaced.is_free())
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

    /// Reads `bytes` bytes as a reader does, and returns a view of them.
    fn read(buffers: &mut Buffers, current: &mut BytesMut, bytes: usize) -> Bytes {
        assert!(buffers.prepare(current, bytes));
        current.extend_from_slice(&vec![b'x'; bytes]);
        buffers.handle_read(bytes);
        current.split().freeze()
    }

    const FIRST: usize = 4 * 1_024;
    const FULL: usize = 64 * 1_024;

    #[test]
    fn a_dense_read_makes_the_next_buffer_one_of_the_full_size_and_sparse_reads_undo_it() {
        let mut buffers = Buffers::new(FULL, 4).starting_at(2 * FIRST);
        let mut current = buffers.first();
        for _ in 0..100 {
            drop(read(&mut buffers, &mut current, DENSE_READ_BYTES - 1));
            assert_eq!((buffers.bytes(), buffers.number()), (2 * FIRST, None));
        }
        drop(read(&mut buffers, &mut current, DENSE_READ_BYTES));
        for _ in 0..SPARSE_READS {
            drop(read(&mut buffers, &mut current, 10));
            assert_eq!(buffers.bytes(), FULL);
            assert!(buffers.number().is_some());
        }
        drop(read(&mut buffers, &mut current, 10));
        assert_eq!(buffers.bytes(), 2 * FIRST);
    }

    /// A consumer that keeps up has a view of the buffer before. The two are used in turn.
    #[test]
    fn a_consumer_that_keeps_up_in_a_sparse_flow_causes_no_allocation() {
        let mut buffers = Buffers::new(FULL, 4).starting_at(FIRST);
        let mut current = buffers.first();
        let mut last = Bytes::new();
        let mut addresses = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            last = read(&mut buffers, &mut current, 60);
            addresses.insert(current.as_ptr().addr() / FIRST);
        }
        drop(last);
        assert_eq!(buffers.bytes(), 2 * FIRST);
        // Two buffers, each over at most two multiples of its size.
        assert!(addresses.len() <= 4, "{}", addresses.len());
    }

    /// A buffer with a view stays, and the views of the smaller buffers count.
    #[test]
    fn full_buffers_with_views_are_followed_by_larger_ones() {
        let mut buffers = Buffers::new(FULL, 4).starting_at(FIRST);
        let mut current = buffers.first();
        let mut views = Vec::new();
        let mut sizes = vec![];
        while sizes.len() < 6 {
            views.push(read(&mut buffers, &mut current, 1_000));
            if sizes.last() != Some(&buffers.bytes()) {
                sizes.push(buffers.bytes());
            }
        }
        let sums = [4, 8, 16, 32, 64, 128].map(|kib| kib * 1_024);
        assert_eq!((sizes, buffers.behind()), (sums.to_vec(), 5));
        views.clear();
        for _ in 0..=SPARSE_READS {
            drop(read(&mut buffers, &mut current, 10));
        }
        assert_eq!(buffers.bytes(), FIRST);
    }

    /// Otherwise a reader that waits for a buffer would wait for ever.
    #[test]
    fn smaller_buffers_that_become_free_make_room() {
        let mut buffers = Buffers::new(FULL, 2).starting_at(FIRST);
        let mut current = buffers.first();
        let small = read(&mut buffers, &mut current, 1_000);
        let mut full = Vec::new();
        while buffers.exchange(&mut current, 1_000) {
            full.push(fill(&mut current));
        }
        assert!(buffers.bytes() > 2 * FULL);
        assert!(!buffers.exchange(&mut current, 0));
        // The views of five buffers, which have 64 KiB together.
        drop((small, full.drain(..5)));
        assert!(buffers.exchange(&mut current, 0));
        assert_eq!((buffers.bytes(), full.len()), (2 * FULL, 1));
    }

    #[test]
    fn the_content_is_the_same_whatever_the_size_does() {
        let mut buffers = Buffers::new(FULL, 4).starting_at(FIRST);
        let mut current = buffers.first();
        let (mut written, mut expected) = (0_u32, 0_u32);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut views: VecDeque<Bytes> = VecDeque::new();
        for _ in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let numbers = match random >> 62 {
                0 => random % 1_500,
                _ => random % 20,
            };
            let may_split = buffers.prepare(&mut current, FULL / 8);
            for _ in 0..numbers {
                if current.capacity() - current.len() >= 4 {
                    current.extend_from_slice(&written.to_le_bytes());
                    written += 1;
                }
            }
            // A part of the last number stays in the buffer.
            let whole = current.len().saturating_sub(usize::try_from(random >> 40 & 63).unwrap());
            let run = current.split_to(whole / 4 * 4).freeze();
            for number in run.chunks(4) {
                assert_eq!(number, expected.to_le_bytes());
                expected += 1;
            }
            if may_split {
                views.push_back(run);
            }
            views.truncate(usize::try_from(random >> 50 & 7).unwrap());
            assert!(buffers.bytes() <= 5 * FULL);
        }
    }

    /// Views are dropped in any order: pins are kept longer than what the consumer reads. A smaller buffer is replaced only while
    /// there may be another one of the full size.
    #[test]
    fn no_order_of_reads_and_views_takes_more_than_one_buffer_above_the_maximum() {
        for max in [2, 3, 5] {
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            let mut below = |limit: usize| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                usize::try_from(random >> 20).unwrap() % limit
            };
            let mut buffers = Buffers::new(FULL, max).starting_at(FIRST);
            let mut current = buffers.first();
            let mut views: Vec<Bytes> = Vec::new();
            let (mut smaller, mut starved) = (0, 0);
            for turn in 0..200_000 {
                let before = (buffers.current_size(), buffers.count());
                let may_split = buffers.prepare(&mut current, FULL / 8);
                assert!(buffers.bytes() <= (max + 1) * FULL, "{} bytes, {max}", buffers.bytes());
                starved += u32::from(!may_split);
                if before.0 < FULL && before.1 != buffers.count() {
                    assert!(buffers.bytes() <= max * FULL && may_split);
                    smaller += 1;
                }
                // Phases with many dense reads and with few, with many views and with few.
                let sparse_reads = [3, 100, 10_000][turn / 500 % 3];
                let limit = if below(sparse_reads) == 0 { 9_000 } else { 2_000 };
                let bytes = below(limit).min(current.capacity() - current.len());
                current.resize(current.len() + bytes, b'x');
                buffers.handle_read(bytes);
                let part = below(64).min(current.len());
                let run = current.split_to(current.len() - part).freeze();
                if may_split && !run.is_empty() {
                    views.push(run);
                }
                if below(300) == 0 {
                    views.clear();
                }
                if below(2 + turn / 1_000 % 20) == 0 && !views.is_empty() {
                    views.swap_remove(below(views.len()));
                }
            }
            assert!(smaller > 100 && starved > 1_000, "{smaller}, {starved}");
        }
    }
}

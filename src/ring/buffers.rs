//! The receive buffers, reused as soon as nobody looks into them.

use std::collections::VecDeque;

use bytes::BytesMut;

/// A bounded set of receive buffers of one size.
///
/// The reader reads into one of them and splits published runs off it. When it is full, [`exchange`]
/// puts it aside and gives another: one whose views are all gone, or a new one while there are fewer
/// than the maximum. Only the reader frees: no queue leads back from the consumer, a buffer knows by its
/// reference count that its last view is gone.
///
/// [`exchange`]: Buffers::exchange
#[derive(Debug)]
pub struct Buffers {
    /// Put aside, oldest first. Empty handles that still hold their allocation.
    spent: VecDeque<BytesMut>,
    /// Size of each, in bytes.
    size: usize,
    /// Most buffers alive, the one in the reader's hand included.
    max: usize,
}

impl Buffers {
    /// At most `max` buffers (at least two) of `size` bytes.
    #[must_use]
    pub fn new(size: usize, max: usize) -> Self {
        let max = max.max(2);
        Self { spent: VecDeque::with_capacity(max), size, max }
    }

    /// The first buffer.
    #[must_use]
    pub fn first(&self) -> BytesMut {
        BytesMut::with_capacity(self.size)
    }

    /// Bytes of all buffers alive, if each has its nominal size.
    #[must_use]
    pub fn allocated(&self) -> usize {
        (self.spent.len() + 1).saturating_mul(self.size)
    }

    /// Makes room for `need` more bytes in `current`, moving what is in it when that is necessary.
    ///
    /// Returns false when every buffer is still looked into and no other may be had: then nothing
    /// has changed. A message longer than a buffer gets a buffer of its own size.
    #[must_use]
    pub fn exchange(&mut self, current: &mut BytesMut, need: usize) -> bool {
        if current.capacity() - current.len() >= need {
            return true;
        }
        // Nobody looks into it any more: the rest moves to its front.
        if current.try_reclaim(need) {
            return true;
        }
        let Some(mut fresh) = self.obtain(current.len().saturating_add(need)) else {
            return false;
        };
        fresh.extend_from_slice(current);
        current.clear();
        self.spent.push_back(std::mem::replace(current, fresh));
        true
    }

    fn obtain(&mut self, at_least: usize) -> Option<BytesMut> {
        let want = at_least.max(self.size);
        for index in 0..self.spent.len() {
            if self.spent.get_mut(index)?.try_reclaim(want) {
                return self.spent.remove(index);
            }
        }
        if self.spent.len() + 1 < self.max {
            return Some(BytesMut::with_capacity(want));
        }
        // Full, but one of them may be free and merely too small for a long message.
        let free = (0..self.spent.len()).find(|&index| {
            self.spent.get_mut(index).is_some_and(|buffer| buffer.try_reclaim(self.size))
        })?;
        self.spent.remove(free);
        Some(BytesMut::with_capacity(want))
    }
}

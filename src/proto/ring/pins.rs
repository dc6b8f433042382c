//! Pinned buffers: receive buffers that are kept after their batch. Their bytes are counted and limited.
//!
//! A view that is kept keeps its whole buffer. So buffers are counted, not views: the first pin of a buffer adds the
//! size of the buffer to the total, the last one subtracts it, and those between change nothing. If the limit is
//! reached, the caller copies.
//!
//! ```text
//! Buffers ── Bytes, number ──▶ CurrentBytes ── part() ──▶ &BufferPart ── pin(range) ──▶ PinnedBytes
//!                              (consumer)                 (borrowed)                    (owned)
//! ```
//! The drop of the last pin of a buffer wakes the reader, if it waits for a buffer.
//!
//! The reader does not count. The maximum of a set of [`Buffers`](super::Buffers) is larger by the limit, so that the
//! queue has the same number of buffers, whatever is pinned.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;
use std::task::Context;

use bytes::Bytes;

use super::sync::{Arc, AtomicU64, Ordering};
use super::wake::WakeCell;

/// The number of bytes of pinned buffers, and their limit.
#[derive(Clone)]
pub struct Pins(Arc<PinTotal>);

struct PinTotal {
    /// This is at most `limit`, and at least the bytes of the pinned buffers.
    bytes: AtomicU64,
    limit: u64,
    /// The waker of the reader, if it waits for a buffer.
    reader: WakeCell,
}

impl Pins {
    /// Creates a count with a limit of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(PinTotal { bytes: AtomicU64::new(0), limit, reader: WakeCell::new() }))
    }

    /// Returns the bytes of the buffers that are pinned.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Returns the highest number of bytes of buffers that may be pinned.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Stores the waker of `cx`, which is woken when the last pin of a buffer is dropped. One task can wait. The caller
    /// must look for a free buffer after this call, not before.
    pub fn wake_on_release(&self, cx: &Context<'_>) {
        self.0.reader.prepare(cx);
    }

    /// Adds `bytes` to the total. Returns false, and adds nothing, if that would exceed the limit.
    fn reserve(&self, bytes: u64) -> bool {
        let more = |pinned: u64| pinned.checked_add(bytes).filter(|sum| *sum <= self.0.limit);
        // Acquire: pairs with `release`, before which the buffer was dropped.
        self.0.bytes.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).is_ok()
    }

    fn release(&self, bytes: u64) {
        // Release: pairs with `reserve`.
        self.0.bytes.fetch_sub(bytes, Ordering::Release);
        self.0.reader.wake();
    }
}

/// The number of pins of one buffer.
struct BufferPins {
    count: AtomicU64,
    /// The size of the buffer.
    bytes: u64,
    total: Pins,
}

impl BufferPins {
    /// Adds one pin. Returns false if the buffer would exceed the limit.
    fn pin(&self) -> bool {
        let mut count = self.count.load(Ordering::Relaxed);
        loop {
            let is_first = count == 0;
            if is_first && !self.total.reserve(self.bytes) {
                return false;
            }
            // Relaxed: `Bytes` has a reference count of its own, which keeps the buffer.
            let counted =
                self.count.compare_exchange(count, count + 1, Ordering::Relaxed, Ordering::Relaxed);
            match counted {
                Ok(_) => return true,
                Err(found) => {
                    if is_first {
                        self.total.release(self.bytes);
                    }
                    count = found;
                }
            }
        }
    }

    fn unpin(&self) {
        // AcqRel: the last pin acquires the drops of the others, and passes them on in `release`.
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.total.release(self.bytes);
        }
    }
}

/// The bytes that the consumer reads at the moment.
pub struct CurrentBytes {
    part: BufferPart,
    /// The number of the buffer whose pins `part.pins` counts.
    buffer: Option<NonZeroU64>,
    /// The size of each buffer.
    bytes: u64,
    /// `None`: the bytes are in no buffer.
    total: Option<Pins>,
}

impl CurrentBytes {
    /// Creates it for buffers of `size` bytes each, whose pins count in `total`. It has no bytes.
    #[must_use]
    pub fn new(total: Pins, size: usize) -> Self {
        Self { part: BufferPart::default(), buffer: None, bytes: size as u64, total: Some(total) }
    }

    /// Creates it for bytes that are in no buffer, and that may be kept: several consumers share them, and they are freed with
    /// the last one.
    #[must_use]
    pub fn shared() -> Self {
        let part = BufferPart { bytes: Bytes::new(), kept: Kept::Shared };
        Self { part, buffer: None, bytes: 0, total: None }
    }

    /// Replaces the bytes. `bytes` are a part of the buffer with this [number](super::Buffers::number). With
    /// `None` they are in no buffer, and cannot be pinned.
    #[inline]
    pub fn replace(&mut self, bytes: Bytes, buffer: Option<NonZeroU64>) {
        self.part.bytes = bytes;
        if self.buffer != buffer {
            self.buffer = buffer;
            self.replace_pins();
        }
    }

    /// Begins to count the pins of another buffer.
    #[inline(never)]
    fn replace_pins(&mut self) {
        let Some(total) = self.total.as_ref().filter(|_| self.buffer.is_some()) else {
            self.part.kept = Kept::Copied;
            return;
        };
        // If the previous buffer has no pins, its counter is used for this one.
        let is_unused = match &mut self.part.kept {
            Kept::Pinned(pins) => Arc::get_mut(pins).is_some(),
            Kept::Copied | Kept::Shared => false,
        };
        if !is_unused {
            let (count, bytes, total) = (AtomicU64::new(0), self.bytes, total.clone());
            self.part.kept = Kept::Pinned(Arc::new(BufferPins { count, bytes, total }));
        }
    }

    /// Drops the bytes.
    pub fn clear(&mut self) {
        self.part.bytes = Bytes::new();
    }

    /// Returns the bytes, parts of which can be pinned.
    #[inline]
    #[must_use]
    pub fn part(&self) -> &BufferPart {
        &self.part
    }
}

/// A part of a buffer. Parts of it can be pinned.
#[derive(Default)]
pub struct BufferPart {
    bytes: Bytes,
    kept: Kept,
}

/// How a part of bytes is kept.
#[derive(Clone, Default)]
enum Kept {
    /// It is copied.
    #[default]
    Copied,
    /// The buffer is pinned.
    Pinned(Arc<BufferPins>),
    /// The bytes are shared, if the part is an eighth of them or more.
    Shared,
}

/// A part of shared bytes that is shorter than this part of them is copied, so that it does not keep much more than itself.
const SHARED_DIVISOR: usize = 8;

impl BufferPart {
    /// Returns the bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the offset of `part` in these bytes, if it is a part of them.
    #[must_use]
    pub fn position(&self, part: &[u8]) -> Option<usize> {
        let position = part.as_ptr().addr().checked_sub(self.bytes.as_ptr().addr())?;
        (position.checked_add(part.len())? <= self.bytes.len()).then_some(position)
    }

    /// Returns whether several consumers share the bytes, which are in no buffer.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.kept, Kept::Shared)
    }

    /// Returns the number of bytes that a pin keeps. `None` if nothing can be pinned.
    #[must_use]
    pub fn buffer_bytes(&self) -> Option<u64> {
        match &self.kept {
            Kept::Copied => None,
            Kept::Pinned(pins) => Some(pins.bytes),
            Kept::Shared => Some(self.bytes.len() as u64),
        }
    }

    /// Pins the buffer and returns the part `range`. Returns `None` if that would exceed the limit, or if the bytes
    /// cannot be pinned: then copy them.
    #[must_use]
    pub fn pin(&self, range: Range<usize>) -> Option<PinnedBytes> {
        let part = self.bytes.get(range.clone())?;
        let is_kept = match &self.kept {
            Kept::Copied => false,
            Kept::Pinned(pins) => pins.pin(),
            Kept::Shared => part.len() >= self.bytes.len() / SHARED_DIVISOR,
        };
        is_kept.then(|| {
            PinnedBytes(Self { bytes: self.bytes.slice(range), kept: self.kept.clone() })
        })
    }
}

/// Bytes that are kept: a part of a pinned buffer, or a copy.
pub struct PinnedBytes(BufferPart);

impl PinnedBytes {
    /// Returns a copy of `bytes`, which pins nothing.
    #[must_use]
    pub fn copy(bytes: &[u8]) -> Self {
        Self(BufferPart { bytes: Bytes::copy_from_slice(bytes), kept: Kept::Copied })
    }

    /// Returns the bytes with their pin. Parts of a pinned buffer can be pinned again, parts of a copy cannot.
    #[inline]
    #[must_use]
    pub fn part(&self) -> &BufferPart {
        &self.0
    }

    /// Returns the bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Clone for PinnedBytes {
    fn clone(&self) -> Self {
        // Another pin of a pinned buffer cannot exceed the limit. So `None` can only mean that these bytes are a copy.
        match self.0.pin(0..self.0.bytes.len()) {
            Some(pinned) => pinned,
            None => Self(BufferPart { bytes: self.0.bytes.clone(), kept: Kept::Copied }),
        }
    }
}

impl Drop for PinnedBytes {
    // Not inlined into the drop of notifications: nearly all of them pin nothing.
    #[inline(never)]
    fn drop(&mut self) {
        // Before `unpin`: the bytes that are kept are never more than those that are counted.
        self.0.bytes = Bytes::new();
        if let Kept::Pinned(pins) = &self.0.kept {
            pins.unpin();
        }
    }
}

// The content of the buffers is the application's data: `Debug` shows only lengths.

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").field("bytes", &self.bytes()).field("limit", &self.limit()).finish()
    }
}

impl fmt::Debug for CurrentBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentBytes").field("part", &self.part).field("pins", &self.total).finish()
    }
}

impl fmt::Debug for BufferPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPart")
            .field("bytes", &self.bytes.len())
            .field("may_be_pinned", &!matches!(self.kept, Kept::Copied))
            .finish()
    }
}

impl fmt::Debug for PinnedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedBytes")
            .field("bytes", &self.0.bytes.len())
            .field("is_copy", &matches!(self.0.kept, Kept::Copied))
            .finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const SIZE: u64 = 1_024;

    fn current_bytes(pins: &Pins, buffer: u64) -> CurrentBytes {
        let mut current_bytes = CurrentBytes::new(pins.clone(), 1_024);
        current_bytes.replace(Bytes::from_static(b"some bytes"), NonZeroU64::new(buffer));
        current_bytes
    }

    #[test]
    fn a_buffer_that_would_exceed_the_limit_is_not_pinned() {
        let pins = Pins::new(2 * SIZE + 1_000);
        let all = [1, 2, 3].map(|buffer| current_bytes(&pins, buffer));
        let mut pinned: Vec<_> = all.iter().map(|bytes| bytes.part().pin(0..4)).collect();
        assert!(pinned[0].is_some() && pinned[1].is_some() && pinned[2].is_none());
        // A second pin of the same buffer adds nothing.
        pinned.push(all[0].part().pin(5..10));
        assert_eq!(pinned[3].as_ref().map(PinnedBytes::bytes), Some(&b"bytes"[..]));
        assert_eq!(pins.bytes(), 2 * SIZE);
        pinned.remove(0);
        assert!(all[2].part().pin(0..4).is_none());
        pinned.pop();
        assert!(all[2].part().pin(0..4).is_some());
    }

    #[test]
    fn each_buffer_is_counted_while_the_previous_one_is_pinned() {
        let pins = Pins::new(10 * SIZE);
        let mut current_bytes = current_bytes(&pins, 1);
        let first = current_bytes.part().pin(0..1);
        current_bytes.replace(Bytes::from_static(b"second"), NonZeroU64::new(2));
        let second = current_bytes.part().pin(0..1);
        assert_eq!(pins.bytes(), 2 * SIZE);
        drop(second);
        current_bytes.replace(Bytes::from_static(b"third"), NonZeroU64::new(3));
        let third = current_bytes.part().pin(0..1);
        drop(first);
        assert_eq!(pins.bytes(), SIZE);
        // This drops the bytes, and not their count.
        current_bytes.clear();
        assert!(current_bytes.part().pin(0..1).is_none());
        assert_eq!((third.unwrap().bytes(), pins.bytes()), (&b"t"[..], SIZE));
        assert_eq!(pins.bytes(), 0);
    }

    /// Otherwise each buffer would need an allocation, even if it is never pinned.
    #[test]
    fn the_counter_of_a_buffer_without_pins_is_used_for_the_next_buffer() {
        let pins = Pins::new(10 * SIZE);
        let mut current_bytes = current_bytes(&pins, 1);
        let counts =
            |current_bytes: &CurrentBytes| match &current_bytes.part.kept {
                Kept::Pinned(pins) => Some(Arc::as_ptr(pins)),
                Kept::Copied | Kept::Shared => None,
            };
        let first = counts(&current_bytes);
        drop(current_bytes.part().pin(0..1));
        current_bytes.replace(Bytes::from_static(b"second"), NonZeroU64::new(2));
        assert_eq!(counts(&current_bytes), first);
        let pinned = current_bytes.part().pin(0..1);
        current_bytes.replace(Bytes::from_static(b"third"), NonZeroU64::new(3));
        assert_ne!(counts(&current_bytes), first);
        drop(pinned);
    }

    #[test]
    fn a_copy_and_bytes_outside_of_buffers_pin_nothing() {
        let pins = Pins::new(10 * SIZE);
        let mut current_bytes = current_bytes(&pins, 1);
        current_bytes.replace(Bytes::from_static(b"copied"), None);
        assert!(current_bytes.part().pin(0..1).is_none());
        assert_eq!(current_bytes.part().buffer_bytes(), None);
        let copy = PinnedBytes::copy(b"copied");
        assert!(copy.part().pin(0..1).is_none());
        let clone = copy.clone();
        drop(copy);
        assert_eq!((clone.bytes(), pins.bytes()), (&b"copied"[..], 0));
    }

    #[test]
    fn a_short_part_of_shared_bytes_is_copied_and_a_longer_one_is_shared() {
        let mut current = CurrentBytes::shared();
        current.replace(Bytes::from(vec![b'x'; 800]), None);
        let part = current.part();
        assert!(part.is_shared() && part.pin(0..99).is_none());
        let kept = part.pin(100..200).unwrap();
        assert_eq!(part.position(kept.bytes()), Some(100));
        let again = kept.clone();
        drop((current, kept));
        assert_eq!(again.bytes(), [b'x'; 100]);
    }

    #[test]
    fn only_a_part_of_the_bytes_has_a_position() {
        let whole = *b"0123456789";
        let pins = Pins::new(SIZE);
        let mut current_bytes = current_bytes(&pins, 1);
        current_bytes.replace(Bytes::copy_from_slice(&whole), NonZeroU64::new(1));
        let part = current_bytes.part();
        assert_eq!(part.position(&part.bytes()[3..10]), Some(3));
        assert_eq!(part.position(&whole[3..10]), None);
        assert!(part.pin(3..11).is_none());
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = 4..3;
        assert!(part.pin(reversed).is_none());
        assert_eq!(pins.bytes(), 0);
    }

    #[test]
    fn many_threads_never_exceed_the_limit_and_release_all_of_it() {
        let pins = Pins::new(3 * SIZE);
        let all = [1, 2, 3, 4, 5].map(|buffer| current_bytes(&pins, buffer));
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let (pins, all) = (&pins, &all);
                scope.spawn(move || {
                    let mut pinned = Vec::new();
                    for turn in 0..20_000_usize {
                        let which = turn.wrapping_mul(0x9e37_79b9).wrapping_add(thread) >> 3;
                        if let Some(one) = all[which % 5].part().pin(0..4) {
                            pinned.push(one.clone());
                            pinned.push(one);
                        }
                        assert!(pins.bytes() <= pins.limit());
                        pinned.truncate(which % 7);
                    }
                });
            }
        });
        assert_eq!(pins.bytes(), 0);
    }
}

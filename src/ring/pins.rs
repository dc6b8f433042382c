//! Buffers that are looked into beyond their turn: counted, and capped.
//!
//! A view that outlives its turn keeps the whole of its buffer. So buffers are counted, not views: the
//! first pin of a buffer takes its size off the limit, the last one gives it back, and those between cost
//! nothing more. Where the limit is reached, the caller copies.
//!
//! ```text
//! Buffers ── Bytes, number ──▶ Lender ── lent() ──▶ &Lent ── hold(range) ──▶ Held ── drop ──▶ wakes the reader
//!                              (consumer)           (borrowed)               (owned)   if it waits for a buffer
//! ```
//! The reader takes no part in it. A set of [`Buffers`](super::Buffers) whose maximum is larger by the
//! limit has as many buffers for the queue, whatever is pinned.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;
use std::task::Context;

use bytes::Bytes;

use super::sync::{Arc, AtomicU64, Ordering};
use super::wake::WakeCell;

/// An account of pinned buffers: how many bytes they have, and how many they may have.
#[derive(Clone)]
pub struct Pins(Arc<Account>);

struct Account {
    /// Never above `limit`, and never below what is held.
    bytes: AtomicU64,
    limit: u64,
    /// Where the reader waits for a buffer.
    reader: WakeCell,
}

impl Pins {
    /// An account of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Account { bytes: AtomicU64::new(0), limit, reader: WakeCell::new() }))
    }

    /// Bytes of the buffers that are pinned.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Most bytes of buffers that may be pinned.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Leaves the waker of `cx`, for one party: it is woken when the last pin of a buffer goes. Look for a
    /// free buffer after this, not before.
    pub fn wake_on_release(&self, cx: &Context<'_>) {
        self.0.reader.prepare(cx);
    }

    /// Takes `bytes` bytes off what may still be pinned, if there are so many.
    fn reserve(&self, bytes: u64) -> bool {
        let more = |pinned: u64| pinned.checked_add(bytes).filter(|sum| *sum <= self.0.limit);
        // Acquire: whoever gave the bytes back has let go of the buffer before.
        self.0.bytes.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).is_ok()
    }

    fn release(&self, bytes: u64) {
        // Release: pairs with `reserve`.
        self.0.bytes.fetch_sub(bytes, Ordering::Release);
        self.0.reader.wake();
    }
}

/// How often one buffer is pinned.
struct BufferPins {
    count: AtomicU64,
    /// Size of the buffer.
    bytes: u64,
    account: Pins,
}

impl BufferPins {
    /// Counts one more. Returns `false` when the buffer would be one too many.
    fn pin(&self) -> bool {
        let mut count = self.count.load(Ordering::Relaxed);
        loop {
            let is_first = count == 0;
            if is_first && !self.account.reserve(self.bytes) {
                return false;
            }
            // Relaxed: what is held has a count of its own, in `Bytes`. This one is an account.
            let counted =
                self.count.compare_exchange(count, count + 1, Ordering::Relaxed, Ordering::Relaxed);
            match counted {
                Ok(_) => return true,
                Err(found) => {
                    if is_first {
                        self.account.release(self.bytes);
                    }
                    count = found;
                }
            }
        }
    }

    fn unpin(&self) {
        // AcqRel: the last one acquires what the others have let go of, and passes it on in `release`.
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.account.release(self.bytes);
        }
    }
}

/// The consumer's end of the buffers: what it looks into at the moment.
pub struct Lender {
    lent: Lent,
    /// Number of the buffer that `lent.pins` counts for.
    buffer: Option<NonZeroU64>,
    /// Size of each buffer.
    bytes: u64,
    account: Pins,
}

impl Lender {
    /// A lender of parts of buffers of `size` bytes each.
    #[must_use]
    pub fn new(account: Pins, size: usize) -> Self {
        Self { lent: Lent::default(), buffer: None, bytes: size as u64, account }
    }

    /// Lends `bytes` instead of what was lent. They are a part of the buffer with this
    /// [number](super::Buffers::number); with `None` they are of no buffer, and cannot be pinned.
    #[inline]
    pub fn lend(&mut self, bytes: Bytes, buffer: Option<NonZeroU64>) {
        self.lent.bytes = bytes;
        if self.buffer != buffer {
            self.buffer = buffer;
            self.replace_pins();
        }
    }

    /// Begins to count for another buffer.
    #[inline(never)]
    fn replace_pins(&mut self) {
        if self.buffer.is_none() {
            self.lent.pins = None;
            return;
        }
        // Nobody pins the buffer before: what counted its pins counts those of this one.
        if self.lent.pins.as_mut().and_then(Arc::get_mut).is_none() {
            let (bytes, account) = (self.bytes, self.account.clone());
            self.lent.pins =
                Some(Arc::new(BufferPins { count: AtomicU64::new(0), bytes, account }));
        }
    }

    /// Lets go of what was lent.
    pub fn let_go(&mut self) {
        self.lent.bytes = Bytes::new();
    }

    /// What is lent.
    #[inline]
    #[must_use]
    pub fn lent(&self) -> &Lent {
        &self.lent
    }
}

/// A part of a buffer, of which parts may be pinned.
#[derive(Default)]
pub struct Lent {
    bytes: Bytes,
    /// `None`: they cannot.
    pins: Option<Arc<BufferPins>>,
}

impl Lent {
    /// The bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where in these bytes `part` begins, if it lies in them.
    #[must_use]
    pub fn position(&self, part: &[u8]) -> Option<usize> {
        let position = part.as_ptr().addr().checked_sub(self.bytes.as_ptr().addr())?;
        (position.checked_add(part.len())? <= self.bytes.len()).then_some(position)
    }

    /// Size of the buffer that a pin holds. `None`: nothing can be pinned.
    #[must_use]
    pub fn buffer_bytes(&self) -> Option<u64> {
        self.pins.as_ref().map(|pins| pins.bytes)
    }

    /// Pins the buffer and gives the part `range`. `None` when that would exceed the limit, or cannot be:
    /// copy it.
    #[must_use]
    pub fn hold(&self, range: Range<usize>) -> Option<Held> {
        let pins = self.pins.as_ref()?;
        if self.bytes.get(range.clone()).is_none() || !pins.pin() {
            return None;
        }
        Some(Held(Self { bytes: self.bytes.slice(range), pins: Some(pins.clone()) }))
    }
}

/// Bytes that stay as they are for as long as this lives: a part of a pinned buffer, or a copy.
pub struct Held(Lent);

impl Held {
    /// A copy of `bytes`, which pins nothing.
    #[must_use]
    pub fn copy(bytes: &[u8]) -> Self {
        Self(Lent { bytes: Bytes::copy_from_slice(bytes), pins: None })
    }

    /// The bytes. Of a pinned buffer, parts may be held for longer; of a copy not.
    #[inline]
    #[must_use]
    pub fn lent(&self) -> &Lent {
        &self.0
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        // The buffer is pinned already, so the limit does not count: `None` means a copy.
        match self.0.hold(0..self.0.bytes.len()) {
            Some(pinned) => pinned,
            None => Self(Lent { bytes: self.0.bytes.clone(), pins: None }),
        }
    }
}

impl Drop for Held {
    // Not where notifications are dropped that hold nothing: nearly all of them.
    #[inline(never)]
    fn drop(&mut self) {
        // First: what is held is never more than what is counted.
        self.0.bytes = Bytes::new();
        if let Some(pins) = &self.0.pins {
            pins.unpin();
        }
    }
}

// What stands in the buffers is the application's data: lengths only.

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").field("bytes", &self.bytes()).field("limit", &self.limit()).finish()
    }
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender").field("lent", &self.lent).field("pins", &self.account).finish()
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent")
            .field("bytes", &self.bytes.len())
            .field("may_be_pinned", &self.pins.is_some())
            .finish()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("bytes", &self.0.bytes.len())
            .field("is_copy", &self.0.pins.is_none())
            .finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const SIZE: u64 = 1_024;

    fn lender(pins: &Pins, buffer: u64) -> Lender {
        let mut lender = Lender::new(pins.clone(), 1_024);
        lender.lend(Bytes::from_static(b"some bytes"), NonZeroU64::new(buffer));
        lender
    }

    #[test]
    fn a_buffer_that_would_exceed_the_limit_is_not_pinned() {
        let pins = Pins::new(2 * SIZE + 1_000);
        let lenders = [1, 2, 3].map(|buffer| lender(&pins, buffer));
        let mut held: Vec<_> = lenders.iter().map(|lender| lender.lent().hold(0..4)).collect();
        assert!(held[0].is_some() && held[1].is_some() && held[2].is_none());
        // The same again costs nothing.
        held.push(lenders[0].lent().hold(5..10));
        assert_eq!(held[3].as_ref().map(Held::bytes), Some(&b"bytes"[..]));
        assert_eq!(pins.bytes(), 2 * SIZE);
        held.remove(0);
        assert!(lenders[2].lent().hold(0..4).is_none());
        held.pop();
        assert!(lenders[2].lent().hold(0..4).is_some());
    }

    #[test]
    fn the_next_buffer_is_counted_for_itself_while_the_one_before_is_held() {
        let pins = Pins::new(10 * SIZE);
        let mut lender = lender(&pins, 1);
        let first = lender.lent().hold(0..1);
        lender.lend(Bytes::from_static(b"second"), NonZeroU64::new(2));
        let second = lender.lent().hold(0..1);
        assert_eq!(pins.bytes(), 2 * SIZE);
        drop(second);
        lender.lend(Bytes::from_static(b"third"), NonZeroU64::new(3));
        let third = lender.lent().hold(0..1);
        drop(first);
        assert_eq!(pins.bytes(), SIZE);
        // Let go of the bytes, not of what was counted for them.
        lender.let_go();
        assert!(lender.lent().hold(0..1).is_none());
        assert_eq!((third.unwrap().bytes(), pins.bytes()), (&b"t"[..], SIZE));
        assert_eq!(pins.bytes(), 0);
    }

    /// Else each buffer that is read into would cost an allocation, whether it is ever pinned or not.
    #[test]
    fn what_counts_the_pins_of_a_buffer_counts_those_of_the_next_when_there_are_none() {
        let pins = Pins::new(10 * SIZE);
        let mut lender = lender(&pins, 1);
        let counts = |lender: &Lender| lender.lent.pins.as_ref().map(Arc::as_ptr);
        let first = counts(&lender);
        drop(lender.lent().hold(0..1));
        lender.lend(Bytes::from_static(b"second"), NonZeroU64::new(2));
        assert_eq!(counts(&lender), first);
        let held = lender.lent().hold(0..1);
        lender.lend(Bytes::from_static(b"third"), NonZeroU64::new(3));
        assert_ne!(counts(&lender), first);
        drop(held);
    }

    #[test]
    fn a_copy_and_what_lies_in_no_buffer_pin_nothing() {
        let pins = Pins::new(10 * SIZE);
        let mut lender = lender(&pins, 1);
        lender.lend(Bytes::from_static(b"copied"), None);
        assert!(lender.lent().hold(0..1).is_none());
        assert_eq!(lender.lent().buffer_bytes(), None);
        let copy = Held::copy(b"copied");
        assert!(copy.lent().hold(0..1).is_none());
        let clone = copy.clone();
        drop(copy);
        assert_eq!((clone.bytes(), pins.bytes()), (&b"copied"[..], 0));
    }

    #[test]
    fn only_what_lies_in_the_bytes_has_a_position() {
        let whole = *b"0123456789";
        let pins = Pins::new(SIZE);
        let mut lender = lender(&pins, 1);
        lender.lend(Bytes::copy_from_slice(&whole), NonZeroU64::new(1));
        let lent = lender.lent();
        assert_eq!(lent.position(&lent.bytes()[3..10]), Some(3));
        assert_eq!(lent.position(&whole[3..10]), None);
        assert!(lent.hold(3..11).is_none());
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = 4..3;
        assert!(lent.hold(reversed).is_none());
        assert_eq!(pins.bytes(), 0);
    }

    #[test]
    fn many_threads_never_exceed_the_limit_and_give_all_of_it_back() {
        let pins = Pins::new(3 * SIZE);
        let lenders = [1, 2, 3, 4, 5].map(|buffer| lender(&pins, buffer));
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let (pins, lenders) = (&pins, &lenders);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for turn in 0..20_000_usize {
                        let which = turn.wrapping_mul(0x9e37_79b9).wrapping_add(thread) >> 3;
                        if let Some(one) = lenders[which % 5].lent().hold(0..4) {
                            held.push(one.clone());
                            held.push(one);
                        }
                        assert!(pins.bytes() <= pins.limit());
                        held.truncate(which % 7);
                    }
                });
            }
        });
        assert_eq!(pins.bytes(), 0);
    }
}

//! A lock-free ring from one reader of a socket to one consumer. Every loss is reported exactly.
//!
//! A slot holds an *item*: consecutive notifications of one read of the socket. The ring is independent of
//! PostgreSQL: it numbers notifications and moves items.
//!
//! ```text
//!           slots, each behind a mutex that is tried and never waited for
//! producer ── put at tail ──▶ [ ][item][item][ ] ── take at head ──▶ consumer
//!             evict at oldest ◀─┘
//! ```
//! - **Neither side waits** for the other to put or to take an item, and all of it is safe code. The two sides
//!   meet only if both use the same slot, and then the failed lock has a meaning. For the consumer: the producer
//!   evicts this item, or is a round ahead, and the item is lost. For the producer: the consumer is in this slot.
//!   The producer then evicts the next item instead of this one. If it has a new item for this slot, a round
//!   later, it puts the item into the next slot.
//! - If a consumer is suspended while it has a slot locked, one more item can be lost: a newer item is evicted
//!   instead of an older one, or one slot fewer can be used. This requires a consumer that is a whole round
//!   behind, and the loss is reported as every other. Without evictions it cannot happen.
//! - **Losses are computed, not counted**: each item contains the sequence number of its first notification, and
//!   the consumer has the number of the next one that it expects. If the item's number is higher, those between
//!   are lost. If no item follows, `seen > next` is a loss too. Both use only numbers of the producer. So
//!   Σ delivered + Σ lost = Σ received is true for every policy and every interleaving.
//! - **Published bytes are never overwritten**: eviction takes the item out of its slot and drops it.
//! - **Marks** have a position in the stream, take no slot and are never dropped. One word says which are unread. Each side
//!   changes it with a compare-exchange, so that each value has one owner, and no lock is waited for (`marks.rs`).
//! - The caller decides which notifications to drop, with [`Producer::push`], [`skip`](Producer::skip),
//!   [`evict`](Producer::evict) and [`keep_newest`](Producer::keep_newest).
//!
//! This module also contains the receive [`Buffers`] that hold the bytes of the items, and the count of those that
//! are pinned ([`Pins`]).
//!
//! Tests: models in `ring/loom.rs` (checked with `RUSTFLAGS="--cfg loom"`), and property tests in `ring/tests.rs`.
// Other designs that were measured: benches/README.md.

mod buffers;
mod consumer;
mod marks;
mod pins;
mod producer;
mod shared;
mod sync;
mod wake;

#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, not(loom)))]
mod tests;

pub use buffers::Buffers;
pub use consumer::{Consumer, Taken};
pub use pins::{BufferPart, CurrentBytes, PinnedBytes, Pins};
pub use producer::Producer;

/// The highest number of slots of a ring: 1,048,576. Their memory is allocated when the ring is made.
pub const SLOTS_MAX: u64 = shared::SLOTS_MAX;

/// Returns the memory of a ring of `slots` slots in bytes, without its two halves and its marks.
#[cfg(all(test, feature = "tokio"))]
pub(crate) fn bytes<T, M>(slots: usize) -> usize {
    shared::bytes::<T, M>(slots)
}

/// Creates a ring of `slots` slots, from 1 to [`SLOTS_MAX`]. A number outside this range is moved to the nearest
/// one in it.
///
/// `T` is the value of an item, `M` the value of a mark. If there are as many slots as notifications that the caller
/// keeps, slots are never the limit, because an item has at least one notification.
#[must_use]
pub fn channel<T, M>(slots: u64) -> (Producer<T, M>, Consumer<T, M>) {
    let slots = slots.clamp(1, SLOTS_MAX);
    let shared = sync::Arc::new(shared::RingShared::new(slots));
    (Producer::new(shared.clone()), Consumer::new(shared))
}

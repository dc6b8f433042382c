//! A lock-free ring from one reader of a socket to one consumer, which never lies about loss.
//!
//! What travels is an *item*: an unbroken run of notifications, one per read of the socket. The ring
//! knows nothing of PostgreSQL; it numbers notifications and moves items.
//!
//! ```text
//!             slots: words of full|position|box                boxes: the items
//! producer ── swap(full|tail|spare) ──▶ [ ][ ][ ][ ] ◀── compare_exchange(spare) ── consumer
//!          gets back the box that stood there          gets the box with the item
//! ```
//! - **Publish** is wait-free, **take** lock-free. Indices of boxes travel, boxes stay: whoever holds an
//!   index owns the box. So every box is behind a mutex that is never contended, and all of it is
//!   safe code.
//! - **Loss is derived, never counted**: items carry the sequence number of their first notification,
//!   and the consumer knows the next one that it has not accounted for. A jump is a loss. At the end
//!   of the stream so far, `seen > next` is one too, although nothing follows it. Both come from the
//!   producer's numbers alone, so that Σ delivered + Σ lost = Σ received holds for every policy and
//!   every interleaving.
//! - **Published bytes are never overwritten**: eviction takes the item's index back and drops the item.
//! - **Marks** stand at a position of the stream, take no room and are never dropped.
//! - It does not decide what to drop: [`Producer::push`], [`skip`](Producer::skip),
//!   [`evict`](Producer::evict) and [`keep_newest`](Producer::keep_newest) are the means, the policy
//!   is the caller's.
//!
//! Beside it: the receive [`Buffers`] that its items lie in, and the account of those that a consumer
//! keeps ([`Pins`]).
//!
//! Proof: models in `ring/loom.rs` (checked with `RUSTFLAGS="--cfg loom"`), property tests in
//! `ring/tests.rs`.

mod buffers;
mod consumer;
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
pub use pins::{Held, Lender, Lent, Pins};
pub use producer::Producer;

/// Most slots of a ring: 1,048,574. A slot's word has 20 bits for the number of a box, and there are two
/// boxes more than slots.
pub const SLOTS_MAX: u64 = shared::SLOTS_MAX;

/// What a slot costs, in bytes, with its box and its place in the producer's list.
#[cfg(all(test, feature = "tokio"))]
pub(crate) fn slot_bytes<T>() -> usize {
    shared::slot_bytes::<T>() + size_of::<u64>()
}

/// Makes a ring of `slots` slots, from 1 to [`SLOTS_MAX`]; a number outside is moved to the nearest.
///
/// `T` is what an item holds, `M` what a mark says. With as many slots as the policy keeps
/// notifications, a slot never runs out before the policy acts, since an item has at least one.
#[must_use]
pub fn channel<T, M>(slots: u64) -> (Producer<T, M>, Consumer<T, M>) {
    let slots = slots.clamp(1, SLOTS_MAX);
    let (shared, producer_spare, consumer_spare) = shared::Shared::new(slots);
    let shared = sync::Arc::new(shared);
    (Producer::new(shared.clone(), producer_spare), Consumer::new(shared, consumer_spare))
}

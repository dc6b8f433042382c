//! A lock-free ring from one reader of a socket to one consumer, which never lies about loss.
//!
//! What travels is an *item*: an unbroken run of notifications, one per read of the socket. The ring
//! knows nothing of PostgreSQL; it numbers notifications and moves items.
//!
//! ```text
//!           slots, each behind a mutex that is tried and never waited for
//! producer ── put at tail ──▶ [ ][item][item][ ] ── take at head ──▶ consumer
//!             take back at oldest ◀─┘
//! ```
//! - **Nobody waits** for an item, and all of it is safe code. Each side moves on by itself and meets the
//!   other only where both want the same slot, and there a locked slot is an answer. To the consumer: the
//!   producer takes this item back, or is a round ahead; it is gone. To the producer: the consumer is here. So
//!   this item is not taken back, but the next one; and if a new item belongs here, a round later, it goes
//!   one slot further.
//! - A consumer that is suspended just there can cost a loss that another place would have spared: an item
//!   that is dropped in place of an older one, or one slot fewer. It needs a consumer that is a whole round
//!   behind, and it is told as every loss is. Without evictions it cannot happen.
//! - **Loss is derived, never counted**: items carry the sequence number of their first notification,
//!   and the consumer knows the next one that it has not accounted for. A jump is a loss. At the end
//!   of the stream so far, `seen > next` is one too, although nothing follows it. Both come from the
//!   producer's numbers alone, so that Σ delivered + Σ lost = Σ received holds for every policy and
//!   every interleaving.
//! - **Published bytes are never overwritten**: eviction takes the item out of its slot and drops it.
//! - **Marks** stand at a position of the stream, take no room and are never dropped.
//! - It does not decide what to drop: [`Producer::push`], [`skip`](Producer::skip),
//!   [`evict`](Producer::evict) and [`keep_newest`](Producer::keep_newest) are the means, the policy
//!   is the caller's.
//!
//! Beside it: the receive [`Buffers`] that its items lie in, and the account of those that a consumer
//! keeps ([`Pins`]).
//!
//! Proof: models in `ring/loom.rs` (checked with `RUSTFLAGS="--cfg loom"`), property tests in
//! `ring/tests.rs`. What else was tried, and what it costs: `benches/README.md`.

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

/// Most slots of a ring: 1,048,576. Their memory is there from the beginning.
pub const SLOTS_MAX: u64 = shared::SLOTS_MAX;

/// What a ring of so many slots costs, in bytes, without its halves and marks.
#[cfg(all(test, feature = "tokio"))]
pub(crate) fn bytes<T, M>(slots: usize) -> usize {
    shared::bytes::<T, M>(slots)
}

/// Makes a ring of `slots` slots, from 1 to [`SLOTS_MAX`]; a number outside is moved to the nearest.
///
/// `T` is what an item holds, `M` what a mark says. With as many slots as the policy keeps
/// notifications, a slot never runs out before the policy acts, since an item has at least one.
#[must_use]
pub fn channel<T, M>(slots: u64) -> (Producer<T, M>, Consumer<T, M>) {
    let slots = slots.clamp(1, SLOTS_MAX);
    let shared = sync::Arc::new(shared::Shared::new(slots));
    (Producer::new(shared.clone()), Consumer::new(shared))
}

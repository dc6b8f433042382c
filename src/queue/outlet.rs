//! [`Outlet`]: where the notifications of an [intake](super::intake) go. It has the limits, the policy and the counters.

use std::task::{Context, Poll};

use super::chunk::Chunk;
use super::counters::{self, QueueCounters};
use crate::notification::Gap;
use crate::proto::supervisor::{PlacedGap, Scope, StreamPosition};
use crate::proto::wire::Run;

/// The producing end of what a consumer receives from: a ring.
///
/// It numbers what it gets: [`put`](Self::put) and [`skip`](Self::skip) are in the order of the stream.
pub(crate) trait Outlet {
    /// Returns the part of `run`, at the front of `frames`, that has room. With `surplus`, the limit on the number of
    /// notifications is not applied.
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run;

    /// Puts a run into it, which [fits](Self::fits). `cut` takes the frames out of the receive buffer; they are discarded if it is not
    /// called.
    fn put(&mut self, run: Run, cut: impl FnOnce() -> Chunk);

    /// Counts `count` notifications as received and lost.
    fn skip(&mut self, count: u64);

    /// Applies the policy after a run: `DropOldest` drops the oldest notifications until the limits hold.
    fn trim(&mut self);

    /// Every receive buffer is needed: drops unread notifications, if the policy allows it. Returns false if it drops nothing.
    fn make_buffer_free(&mut self) -> bool;

    /// Returns whether the consumer was dropped.
    fn is_abandoned(&self) -> bool;

    /// Returns true if the consumer has taken everything.
    fn is_empty(&self) -> bool;

    /// Shows the consumer everything up to here, unless it is held back.
    fn publish(&mut self);

    /// Hides what follows, until [`release`](Self::release): see [`Sink::hold`](crate::proto::supervisor::Sink::hold). What is
    /// hidden when this is dropped is lost.
    fn hold(&mut self, scope: &Scope) -> StreamPosition;

    /// Puts gaps at their positions, and shows everything up to here.
    fn release(&mut self, gaps: Vec<PlacedGap>);

    /// Waits until `first` has room, or the consumer is dropped. If `is_starved`, nothing has room, and the waker is woken by
    /// everything that may make a receive buffer free.
    fn poll_room(&mut self, cx: &mut Context<'_>, first: Run, is_starved: bool) -> Poll<()>;
}

/// Merges a gap into the last one that was not delivered. `is_adjacent`: nothing was received between the two.
pub(super) fn merge_gaps(last: &mut Gap, gap: Gap, is_adjacent: bool) {
    match is_adjacent {
        true => last.merge(gap),
        false => last.absorb(gap),
    }
}

/// Counts a gap without a lost session.
pub(crate) fn count_gap(counters: &QueueCounters, gap: &Gap) {
    if gap.sessions() == 0 {
        counters::add(&counters.dropped_by_server, 1);
    }
}

//! The queues that a supervisor puts notifications into.

use bytes::BytesMut;

use crate::notification::{Gap, ReceiveInfo};
use crate::proto::wire::Run;

/// The producing end of one or more queues, as the supervisor sees it. Each queue has a consumer.
///
/// One implementation writes to the [ring](crate::proto::ring). A simulator can have its own.
pub trait Sink {
    /// Returns the part of `run`, at the front of `frames`, that can be taken without dropping anything.
    ///
    /// With `surplus`, the limit on the number of notifications is not applied: a command waits for its answer, which
    /// follows them in the stream, or the link has ended or is being closed.
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run;

    /// Takes `run` from the front of `input`. If a queue is full, notifications are dropped by its policy, and counted.
    fn notifications(&mut self, input: &mut BytesMut, run: Run, stamp: ReceiveInfo, surplus: bool);

    /// Shows each consumer everything up to here, unless it is held back.
    fn publish(&mut self);

    /// Returns true if the consumers have taken everything.
    fn is_empty(&self) -> bool;

    /// Hides what follows from the consumers in `scope`, until [`release`](Self::release).
    ///
    /// The result is the position of each of these consumers in its stream, for a gap that is placed there later. A
    /// later call returns a higher one, or the same one if nothing was put into any queue in between.
    fn hold(&mut self, scope: &Scope) -> StreamPosition;

    /// Puts each gap at its position, into the streams of the consumers in its scope, and shows everything up to here to all
    /// consumers. The gaps are in the order of their positions, and none is before what its consumers can already see.
    fn release(&mut self, gaps: Vec<PlacedGap>);
}

/// The consumers that a loss concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// All consumers.
    All,
    /// Those of these channels.
    Channels(Vec<String>),
}

impl Scope {
    /// Adds the consumers of `other`.
    pub(super) fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::Channels(channels), Self::Channels(more)) => {
                channels.extend(more);
                channels.sort_unstable();
                channels.dedup();
            }
        }
    }
}

/// One moment in the streams of all consumers: the sink knows what it means in each. A sink with one consumer returns its
/// sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamPosition(pub u64);

/// A gap, its position, and the consumers that it concerns.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlacedGap {
    /// The result of [`Sink::hold`] at the loss.
    pub position: StreamPosition,
    /// The consumers.
    pub scope: Scope,
    /// The gap.
    pub gap: Gap,
}

//! The queue that a supervisor puts notifications into.

use bytes::BytesMut;

use crate::notification::{Gap, ReceiveInfo};
use crate::proto::wire::Run;

/// The producer end of the queue, as the supervisor sees it.
///
/// One implementation writes to the [ring](crate::proto::ring). A simulator can have its own.
pub trait Sink {
    /// Returns the part of `run`, at the front of `frames`, that can be taken without dropping anything.
    ///
    /// With `surplus`, the limit on the number of notifications is not applied: a command waits for its answer, which
    /// follows them in the stream.
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run;

    /// Takes `run` from the front of `input`. If the queue is full, notifications are dropped by its policy, and counted.
    fn notifications(&mut self, input: &mut BytesMut, run: Run, stamp: ReceiveInfo, surplus: bool);

    /// Shows the consumer everything up to here, unless it is held back.
    fn publish(&mut self);

    /// Returns true if the consumer has taken everything.
    fn is_empty(&self) -> bool;

    /// Returns the number of notifications that were passed in, with dropped ones: a position in the stream.
    fn position(&self) -> u64;

    /// Hides what follows from the consumer, until [`release`](Self::release).
    fn hold(&mut self);

    /// Puts gaps at their positions and shows everything up to here. The gaps are in order, and none is before what the
    /// consumer can already see.
    fn release(&mut self, gaps: Vec<(u64, Gap)>);
}

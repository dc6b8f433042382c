//! Where notifications go.

use bytes::BytesMut;

use crate::notification::{Gap, Stamp};
use crate::wire::Run;

/// The queue behind a listener, as the supervisor sees it: runs go in, it says what has room.
///
/// One implementation puts them into the [ring](crate::ring); a simulator can have its own.
pub trait Sink {
    /// The part of `run`, at the head of `frames`, that can be taken without dropping anything.
    ///
    /// With `surplus`, the limit on the number of notifications does not count: a command waits for
    /// its answer, which lies behind them.
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run;

    /// Takes `run` off the head of `input`. What has no room is dropped by the queue's policy, and
    /// accounted for.
    fn notifications(&mut self, input: &mut BytesMut, run: Run, stamp: Stamp, surplus: bool);

    /// Shows the consumer everything up to here, unless it is held.
    fn publish(&mut self);

    /// Whether the consumer has taken everything.
    fn is_empty(&self) -> bool;

    /// How many notifications it was given, dropped ones included: a position of the stream.
    fn position(&self) -> u64;

    /// Shows the consumer nothing of what comes from here on, until it is released.
    fn hold(&mut self);

    /// Puts gaps at their positions, in order, none of which lies before what the consumer can see, and
    /// shows everything up to here.
    fn release(&mut self, gaps: Vec<(u64, Gap)>);
}

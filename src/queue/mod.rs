//! The queue between a supervisor and a consumer.
//!
//! ```text
//!               sink                                                       receiver
//! supervisor ─▶ intake: receive buffers ─▶ outlet: ring ─────────────────▶ events, batches ─▶ consumer
//!               cuts and copies runs
//! ```
//!
//! The [sink](sink) is made of an [intake](intake) and an [outlet](outlet). The [receiver](receiver) takes runs out of the
//! ring, and returns each loss at its position.

mod chunk;
mod copied_part;
pub(crate) mod counters;
mod current;
mod end;
mod intake;
pub(crate) mod limits;
mod outlet;
mod receive_buffers;
mod receiver;
mod recv;
mod reused_buffer;
mod ring_outlet;
mod sink;
mod source;
mod state_watch;
#[cfg(test)]
mod tests;
mod wake_all;

pub(crate) use self::chunk::Chunk;
pub(crate) use self::counters::QueueCounters;
pub(crate) use self::current::CurrentRun;
pub(crate) use self::end::End;
#[cfg(all(test, feature = "testing"))]
pub(crate) use self::intake::{BUFFER_BYTES, buffers_max};
pub(crate) use self::outlet::count_gap;
pub(crate) use self::receive_buffers::ReceiveBuffers;
pub(crate) use self::receiver::Receiver;
pub(crate) use self::recv::Recv;
pub(crate) use self::reused_buffer::ReusedBuffer;
pub(crate) use self::sink::RingSink;
pub(crate) use self::source::{RingSource, Source};
pub(crate) use self::state_watch::StateWatch;
pub(crate) use self::wake_all::WakeAll;

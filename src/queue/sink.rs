//! [`OutletSink`]: the [intake](super::intake) and the [outlet](super::outlet) of a listener, as the [`Sink`] of its supervisor.
//!
//! ```text
//! socket ─▶ receive buffer ─ Intake: cut ─▶ Chunk ─▶ Outlet: RingOutlet ─▶ consumer
//!           starvation, copies                       capacity, policy, counters
//! ```

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::chunk::Chunk;
use super::counters::QueueCounters;
use super::intake::{Intake, discard};
use super::outlet::Outlet;
use super::ring_outlet::RingOutlet;
use crate::notification::{Gap, ReceiveInfo};
use crate::proto::ring::{Pins, Producer};
use crate::proto::supervisor::{Overflow, PlacedGap, Scope, Sink, StreamPosition};
use crate::proto::wire::Run;

/// What a supervisor puts notifications into.
#[derive(Debug)]
pub(crate) struct OutletSink<O> {
    intake: Intake,
    pub(crate) outlet: O,
}

/// The sink of a listener with a queue.
pub(crate) type RingSink = OutletSink<RingOutlet>;

impl RingSink {
    pub(crate) fn new(
        producer: Producer<Chunk, Gap>,
        capacity: u64,
        bytes: usize,
        overflow: Overflow,
        pins: Pins,
        counters: Arc<QueueCounters>,
    ) -> Self {
        let intake = Intake::new(bytes, pins);
        let outlet = RingOutlet::new(producer, capacity, bytes as u64, overflow, counters);
        Self::with_outlet(intake, outlet)
    }
}

impl<O: Outlet> OutletSink<O> {
    pub(super) fn with_outlet(intake: Intake, outlet: O) -> Self {
        Self { intake, outlet }
    }

    /// Returns the first receive buffer.
    pub(super) fn first_buffer(&mut self) -> BytesMut {
        self.intake.first_buffer()
    }

    /// Returns the bytes of the receive buffers.
    #[cfg(test)]
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.intake.buffer_bytes()
    }

    /// Makes room in `input` for the next read.
    pub(super) fn prepare(&mut self, input: &mut BytesMut) {
        self.intake.prepare(input, || self.outlet.make_buffer_free());
    }

    /// Handles a read of this many bytes into `input`.
    pub(super) fn handle_read(&mut self, bytes: usize) {
        self.intake.handle_read(bytes);
    }

    /// Makes room in `input` for `bytes` more bytes that were read before. With zero, this only checks whether a buffer became
    /// free.
    pub(super) fn make_room(&mut self, input: &mut BytesMut, bytes: usize) {
        self.intake.exchange(input, bytes, || self.outlet.make_buffer_free());
    }

    /// Waits until a notification has room, or the consumer is dropped.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, input: &mut BytesMut) -> Poll<()> {
        let is_starved = self.intake.is_starved();
        let poll = self.outlet.poll_room(cx, Run::first(1, input), is_starved);
        if is_starved {
            // Every buffer had views: one of them may be free by now. The consumer frees one at its next take, and the drop
            // of a pin does too. Both wake this task.
            self.intake.wake_on_release(cx);
            self.make_room(input, 0);
            if !self.intake.is_starved() {
                return Poll::Ready(());
            }
        }
        poll
    }

    /// Returns the part of `run` that can be put into the outlet now.
    fn room(&self, frames: &[u8], run: Run, surplus: bool) -> Run {
        if self.intake.is_starved() {
            return Run::default();
        }
        self.outlet.fits(frames, run, surplus)
    }
}

impl<O: Outlet> Sink for OutletSink<O> {
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run {
        if self.outlet.is_abandoned() {
            // There will be no room, and to wait for it would be a busy loop.
            return run;
        }
        self.room(frames, run, surplus)
    }

    fn notifications(&mut self, input: &mut BytesMut, run: Run, info: ReceiveInfo, surplus: bool) {
        if self.intake.is_starved() {
            // A buffer may have become free since, so that nothing must be dropped.
            self.make_room(input, 0);
        }
        let before = input.len();
        let fits = self.room(input, run, surplus);
        if fits.count > 0 {
            self.outlet.put(fits, || self.intake.cut(input, fits, info));
        }
        if fits.count < run.count {
            self.outlet.skip((run.count - fits.count) as u64);
        }
        let taken = before.saturating_sub(input.len());
        if taken < run.bytes {
            discard(input, run.bytes - taken);
        }
        self.outlet.trim();
    }

    fn publish(&mut self) {
        self.outlet.publish();
    }

    fn is_empty(&self) -> bool {
        self.outlet.is_empty()
    }

    fn hold(&mut self, scope: &Scope) -> StreamPosition {
        self.outlet.hold(scope)
    }

    fn release(&mut self, gaps: Vec<PlacedGap>) {
        self.outlet.release(gaps);
    }
}

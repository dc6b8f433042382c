//! [`WakeupsSink`]: wakes the tasks of the channels on which notifications arrive. It keeps their payloads as keys, and nothing else.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::proof::Proof;
use super::shared::WakeupsShared;
use super::task::TaskShared;
use crate::hub::by_channel;
use crate::listener::shared::ListenerShared;
use crate::notification::ReceiveInfo;
use crate::proto::supervisor::{PlacedGap, Scope, Sink, StreamPosition};
use crate::proto::wire::{self, Run};
use crate::queue::{ReceiveBuffers, ReusedBuffer, count_gap};

/// The sink of the listening session.
#[derive(Debug)]
pub(super) struct WakeupsSink {
    shared: Arc<WakeupsShared>,
    listener: Arc<ListenerShared>,
    proof: Option<Arc<Proof>>,
    buffer: ReusedBuffer,
    /// Notifications received.
    position: u64,
    /// The tasks that are woken at the next publish.
    rung: Vec<Arc<TaskShared>>,
}

impl WakeupsSink {
    pub(super) fn new(
        shared: Arc<WakeupsShared>,
        listener: Arc<ListenerShared>,
        proof: Option<Arc<Proof>>,
    ) -> Self {
        let buffer = ReusedBuffer::default();
        Self { shared, listener, proof, buffer, position: 0, rung: Vec::new() }
    }

    fn ring(&mut self, channel: &[u8], frames: &[u8]) {
        if let Some(proof) = self.proof.as_ref().filter(|proof| proof.is_on(channel)) {
            wire::frames(frames).for_each(|raw| proof.arrived(raw.payload));
        }
        let tasks = self.shared.tasks_of(channel);
        if tasks.is_empty() {
            return;
        }
        // One echo is that for all tasks.
        let echoes = &self.shared.echoes;
        let is_echo: Vec<bool> = wire::frames(frames)
            .map(|raw| echoes.is_echo(raw.process_id, channel, raw.payload))
            .collect();
        for task in tasks {
            let mut doorbell = task.lock();
            for (raw, is_echo) in wire::frames(frames).zip(&is_echo) {
                match is_echo {
                    true => doorbell.counts.echoes += 1,
                    false => doorbell.ring(std::str::from_utf8(raw.payload).unwrap_or_default()),
                }
            }
            drop(doorbell);
            if !self.rung.iter().any(|rung| Arc::ptr_eq(rung, task)) {
                self.rung.push(task.clone());
            }
        }
    }
}

impl Sink for WakeupsSink {
    /// There is always room.
    fn fits(&self, _frames: &[u8], run: Run, _surplus: bool) -> Run {
        run
    }

    fn notifications(
        &mut self,
        input: &mut BytesMut,
        run: Run,
        _info: ReceiveInfo,
        _surplus: bool,
    ) {
        let frames = input.get(..run.bytes).unwrap_or_default();
        for part in by_channel(frames) {
            self.ring(part.key, part.frames);
        }
        self.position += run.count as u64;
        ReusedBuffer::discard(input, run.bytes);
    }

    fn publish(&mut self) {
        self.listener.set_passed_on(self.position, self.position, 0);
        self.rung.drain(..).for_each(|task| task.wake());
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn hold(&mut self, scope: &Scope) -> StreamPosition {
        self.publish();
        self.shared.hold(scope);
        StreamPosition(self.position)
    }

    fn release(&mut self, gaps: Vec<PlacedGap>) {
        let counters = self.listener.queue();
        gaps.iter().for_each(|placed| count_gap(&counters, &placed.gap));
        self.shared.release(gaps);
        self.publish();
    }
}

/// The receive buffer keeps nothing, so it is used again for the next read.
impl ReceiveBuffers for WakeupsSink {
    fn first_buffer(&mut self) -> BytesMut {
        self.buffer.first()
    }

    fn prepare(&mut self, input: &mut BytesMut) {
        self.buffer.prepare(input);
    }

    fn handle_read(&mut self, bytes: usize) {
        self.buffer.handle_read(bytes);
    }

    fn make_room(&mut self, input: &mut BytesMut, bytes: usize) {
        self.buffer.make_room(input, bytes);
    }

    fn poll_room(&mut self, _cx: &mut Context<'_>, _input: &mut BytesMut) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Drop for WakeupsSink {
    /// What is held back is not shown, and its loss is not reported: everything is read.
    fn drop(&mut self) {
        self.publish();
        self.shared.session_has_ended();
    }
}

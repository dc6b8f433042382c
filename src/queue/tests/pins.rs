//! Tests of pins: pinned bytes do not change, they are counted, and they do not reduce the queue.

use std::collections::BTreeMap;

use super::*;
use crate::notification::SharedBatch;
use crate::notification::{Notification, NotificationRef};
use crate::queue::current::CurrentRun;
use crate::queue::limits::{PIN_LIMIT_BYTES, QUEUE_BYTES, QUEUE_CAPACITY, SURPLUS_SLOTS};

const BUFFER: u64 = BUFFER_BYTES as u64;

/// Checks the content of a notification: its payload is its sequence number, with leading zeros up to its length.
pub(super) fn check(notification: &NotificationRef<'_>) {
    let expect = format!("{:0>1$}", notification.sequence(), notification.payload_bytes().len());
    assert_eq!(notification.payload(), &*expect);
    assert_eq!((notification.channel(), notification.process_id()), ("c", 1));
}

pub(super) fn check_owned(notification: &Notification) {
    let expect = format!("{:0>1$}", notification.sequence(), notification.payload_bytes().len());
    assert_eq!(notification.payload(), &*expect);
    assert_eq!((notification.channel(), notification.process_id()), ("c", 1));
}

/// A consumer that keeps batches and notifications, with a model of the pinned buffers.
struct Keeper {
    queue: Queue,
    pins: Pins,
    current: CurrentRun,
    /// The buffer of the current run, if it can be pinned.
    buffer: Option<u64>,
    /// Kept values, each with the buffer that it pins.
    kept: Vec<(Kept, Option<u64>)>,
}

enum Kept {
    Batch(SharedBatch, usize),
    Notification(Notification),
}

impl Kept {
    fn check(&self) {
        match self {
            Self::Batch(batch, count) => {
                assert_eq!(batch.iter().inspect(check).count(), *count);
            }
            Self::Notification(notification) => check_owned(notification),
        }
    }
}

impl Keeper {
    fn new(queue_bytes: usize, overflow: Overflow, pin_limit: u64) -> Self {
        let pins = Pins::new(pin_limit);
        Self {
            queue: Queue::with_pins(100_000, queue_bytes, overflow, &pins),
            current: CurrentRun::in_buffers(pins.clone()),
            pins,
            buffer: None,
            kept: Vec::new(),
        }
    }

    /// Takes the next run. Returns whether there was one.
    fn take(&mut self) -> bool {
        self.current.clear();
        loop {
            match self.queue.consumer.try_take() {
                Taken::Item { value, first, skip } => {
                    self.buffer = value.buffer.map(u64::from);
                    self.current.replace(value, first, skip);
                    return true;
                }
                Taken::Empty => return false,
                _ => {}
            }
        }
    }

    /// Returns the number of pins of each buffer.
    fn pinned(&self) -> BTreeMap<u64, usize> {
        let mut pinned = BTreeMap::new();
        for buffer in self.kept.iter().filter_map(|(_, buffer)| *buffer) {
            *pinned.entry(buffer).or_default() += 1;
        }
        pinned
    }

    /// Returns the buffer that is pinned by a value which is long enough to pin.
    fn pinned_by(&self, is_long: bool) -> Option<u64> {
        let buffer = self.buffer.filter(|_| is_long)?;
        let pinned = self.pinned();
        let has_room = (pinned.len() as u64 + 1) * BUFFER <= self.pins.limit();
        (has_room || pinned.contains_key(&buffer)).then_some(buffer)
    }

    fn share(&mut self, max: usize) {
        let batch = self.current.batch(max);
        let (count, frames_bytes) = (batch.len(), batch.iter().map(|n| frame_bytes(&n)).sum());
        let shared = batch.share();
        let is_long = 8_usize.saturating_mul(frames_bytes) >= BUFFER_BYTES;
        let by = self.pinned_by(is_long);
        self.kept.push((Kept::Batch(shared, count), by));
    }

    fn retain(&mut self, max: usize, nth: usize) {
        let batch = self.current.batch(max);
        let Some(one) = batch.iter().nth(nth) else { return };
        let (is_long, retained) = (one.payload_bytes().len() + 1 > 79, one.retain());
        let by = self.pinned_by(is_long);
        self.kept.push((Kept::Notification(retained), by));
    }

    /// Keeps a clone or a part of a kept value.
    fn keep_more(&mut self, which: usize, nth: usize) {
        let Some((thing, by)) = self.kept.get(which % self.kept.len().max(1)) else { return };
        let more = match thing {
            Kept::Notification(notification) => (Kept::Notification(notification.clone()), *by),
            Kept::Batch(batch, count) if nth.is_multiple_of(3) => {
                (Kept::Batch(batch.clone(), *count), *by)
            }
            Kept::Batch(batch, _) => {
                let Some(one) = batch.iter().nth(nth) else { return };
                let is_long = one.payload_bytes().len() + 1 > 79;
                (Kept::Notification(one.retain()), by.filter(|_| is_long))
            }
        };
        self.kept.push(more);
    }

    fn forget(&mut self, which: usize) {
        if !self.kept.is_empty() {
            self.kept.swap_remove(which % self.kept.len());
        }
    }

    fn check(&self) {
        for (thing, _) in &self.kept {
            thing.check();
        }
        assert_eq!(self.pins.bytes(), self.pinned().len() as u64 * BUFFER);
        assert!(self.pins.bytes() <= self.pins.limit());
    }
}

fn frame_bytes(notification: &NotificationRef<'_>) -> usize {
    notification.payload_bytes().len() + 12
}

#[derive(Debug, Clone)]
enum PinStep {
    Write(u64, usize),
    Take,
    Share(usize),
    Retain(usize, usize),
    KeepMore(usize, usize),
    Forget(usize),
}

fn step() -> impl Strategy<Value = PinStep> {
    prop_oneof![
        4 => (1_u64..40, 8_usize..8_000).prop_map(|(count, bytes)| PinStep::Write(count, bytes)),
        4 => Just(PinStep::Take),
        2 => (1_usize..40).prop_map(PinStep::Share),
        2 => (1_usize..40, 0_usize..40).prop_map(|(max, nth)| PinStep::Retain(max, nth)),
        2 => (any::<usize>(), 0_usize..20).prop_map(|(which, nth)| PinStep::KeepMore(which, nth)),
        3 => any::<usize>().prop_map(PinStep::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn kept_notifications_do_not_change_and_each_buffer_counts_once(
        policy in 0..3,
        pinned_buffers in 0_u64..5,
        more in 0..BUFFER,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let overflow = match policy {
            0 => Overflow::DropNewest,
            1 => Overflow::DropOldest,
            _ => Overflow::Block { max_stall: Duration::from_secs(1) },
        };
        let limit = pinned_buffers * BUFFER + more;
        let mut keeper = Keeper::new(1 << 20, overflow, limit);
        for step in steps {
            match step {
                PinStep::Write(count, bytes) => keeper.queue.read(count, bytes),
                PinStep::Take => drop(keeper.take()),
                PinStep::Share(max) => keeper.share(max),
                PinStep::Retain(max, nth) => keeper.retain(max, nth),
                PinStep::KeepMore(which, nth) => keeper.keep_more(which, nth),
                PinStep::Forget(which) => keeper.forget(which),
            }
            keeper.check();
            let buffers = keeper.queue.sink.buffer_bytes();
            prop_assert!(buffers <= (buffers_max(1 << 20, limit) + 1) * BUFFER_BYTES);
        }
        // The queue and its reader are dropped first.
        let Keeper { queue, pins, current, kept, .. } = keeper;
        drop((queue, current));
        for (thing, _) in &kept {
            thing.check();
        }
        drop(kept);
        prop_assert_eq!(pins.bytes(), 0);
    }
}

/// Writes and reads `at_once` bytes at a time, without regard to the bounds of notifications, and `ahead` more the first
/// time. Returns the number of bytes that the queue accepts before it drops.
fn fill(queue: &mut Queue, payload_bytes: usize, ahead: usize, at_once: usize) -> u64 {
    let (mut written, mut next) = (BytesMut::new(), ahead + at_once);
    loop {
        while written.len() < next {
            queue.write(1, payload_bytes);
            written.unsplit(queue.socket.split());
        }
        queue.socket = written.split_to(next);
        while !queue.socket.is_empty() {
            let run = queue.fill();
            queue.sink.notifications(&mut queue.input, run, INFO, false);
        }
        queue.sink.publish();
        if queue.sink.outlet.producer.kept() < queue.sink.outlet.producer.sequence() {
            return queue.sink.outlet.producer.unread_bytes();
        }
        next = at_once;
    }
}

/// The queue accepts all its bytes while the pin limit is reached. Without extra buffers for the pins, it would accept none
/// here.
#[test]
fn pins_of_many_buffers_do_not_reduce_the_queue() {
    let pin_limit = 20 * BUFFER;
    // The last case leaves the most of each buffer unused: a buffer is replaced when it has less than 16 KiB to read into,
    // and almost a whole notification then moves to the next one.
    let cases = [(4, 40, 0, 8_192), (4, 4_000, 0, 8_192), (24, 7_916, 7_927, 30 * 7_928)];
    for (queue_mib, payload_bytes, ahead, at_once) in cases {
        let queue_bytes = queue_mib << 20;
        let mut keeper = Keeper::new(queue_bytes, Overflow::DropNewest, pin_limit);
        while keeper.kept.len() < 100 {
            keeper.queue.read(500, 1_000);
            while keeper.take() {
                keeper.retain(usize::MAX, 0);
            }
            assert_eq!(keeper.queue.consumer.lost(), 0);
        }
        // The consumer receives from one more buffer.
        keeper.queue.read(1, 1_000);
        assert!(keeper.take());
        keeper.check();
        assert_eq!((keeper.pins.bytes(), keeper.queue.consumer.lost()), (pin_limit, 0));
        let taken = fill(&mut keeper.queue, payload_bytes, ahead, at_once);
        let frame = payload_bytes as u64 + 12;
        assert!(taken + frame > queue_bytes as u64, "{taken}: {payload_bytes}, {at_once}");
        let buffers = keeper.queue.sink.buffer_bytes();
        assert!(buffers <= (buffers_max(queue_bytes, pin_limit) + 1) * BUFFER_BYTES, "{buffers}");
        keeper.check();
    }
}

/// The formula in the documentation of `ListenerBuilder`, for the worst behaviour of a consumer.
#[test]
fn memory_is_within_the_documented_formula() {
    let buffers = buffers_max(QUEUE_BYTES, PIN_LIMIT_BYTES as u64) + 1;
    let slots = QUEUE_CAPACITY + usize::try_from(SURPLUS_SLOTS).unwrap();
    // An eighth of each buffer of the queue may be copies.
    let copies = BUFFER_BYTES / 8 * (buffers - PIN_LIMIT_BYTES / BUFFER_BYTES);
    let memory = buffers * BUFFER_BYTES + ring::bytes::<Chunk, Gap>(slots);
    let formula = 288 * 1024 * (QUEUE_BYTES.div_ceil(232 * 1024) + 4)
        + PIN_LIMIT_BYTES
        + 128 * QUEUE_CAPACITY
        + 132 * 1024;
    assert!(memory + copies <= formula, "{memory} and {copies} > {formula}");
    assert!(formula < 22 * 1024 * 1024);
    // With a server that sends messages longer than a buffer, all of the queue is copies at most.
    assert!(memory + QUEUE_BYTES + 4 * 1024 * 1024 < 33 * 1024 * 1024);
}

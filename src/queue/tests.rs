//! Tests of the queue: dropped notifications, counters and memory.

mod pins;
mod receive;
mod sleepers;
mod stall;

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use proptest::prelude::*;

use super::chunk::Chunk;
use super::counters::QueueCounters;
use super::intake::{BUFFER_BYTES, buffers_max};
use super::sink::RingSink;
use crate::notification::{Gap, ReceiveInfo};
use crate::proto::ring::{self, Consumer, Pins, Taken};
use crate::proto::supervisor::{Overflow, PlacedGap, Scope, Sink};
use crate::proto::wire::{self, BackendMessage, RawNotification};

const INFO: ReceiveInfo = ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 1 };

/// A queue that is filled as by the task, and emptied as by a listener.
struct Queue {
    sink: RingSink,
    consumer: Consumer<Chunk, Gap>,
    /// Bytes that the server has written and that were not read.
    socket: BytesMut,
    input: BytesMut,
    sent: u64,
    counters: Arc<QueueCounters>,
}

impl Queue {
    fn new(capacity: u64, bytes: usize, overflow: Overflow) -> Self {
        Self::with_pins(capacity, bytes, overflow, &Pins::new(0))
    }

    fn with_pins(capacity: u64, bytes: usize, overflow: Overflow, pins: &Pins) -> Self {
        let (producer, consumer) = ring::channel(capacity);
        let counters = Arc::new(QueueCounters::default());
        let (pins, counting) = (pins.clone(), counters.clone());
        let mut sink = RingSink::new(producer, capacity, bytes, overflow, pins, counting);
        let input = sink.first_buffer();
        Self { sink, consumer, socket: BytesMut::new(), input, sent: 0, counters }
    }

    /// Puts a gap here.
    fn gap(&mut self, gap: Gap) {
        let (scope, position) = (Scope::All, self.sink.hold(&Scope::All));
        self.sink.release(vec![PlacedGap { position, scope, gap }]);
    }

    /// The server writes `count` notifications; each payload begins with its number.
    fn write(&mut self, count: u64, payload_bytes: usize) {
        for _ in 0..count {
            let payload = format!("{:0>1$}", self.sent, payload_bytes.max(8));
            let raw = RawNotification { process_id: 1, channel: b"c", payload: payload.as_bytes() };
            BackendMessage::NotificationResponse(raw).encode(&mut self.socket).unwrap();
            self.sent += 1;
        }
    }

    /// Reads as much as there is room for. Returns the run at the front of the input.
    fn fill(&mut self) -> wire::Run {
        self.sink.prepare(&mut self.input);
        let room = self.input.capacity() - self.input.len();
        let bytes = self.socket.split_to(room.min(self.socket.len()));
        self.input.extend_from_slice(&bytes);
        self.sink.handle_read(bytes.len());
        wire::scan(&self.input).0
    }

    /// Writes, and reads all of it. Up to 16 KiB are one read.
    fn read(&mut self, count: u64, payload_bytes: usize) {
        self.write(count, payload_bytes);
        while !self.socket.is_empty() {
            let run = self.fill();
            self.sink.notifications(&mut self.input, run, INFO, false);
            self.sink.publish();
        }
        assert!(self.input.is_empty());
    }

    /// Takes one element. Returns the numbers of delivered and of lost notifications.
    fn take(&mut self, next: &mut u64) -> Option<(u64, u64)> {
        match self.consumer.try_take() {
            Taken::Item { value, first, skip } => {
                let numbers: Vec<u64> = wire::frames(&value.frames)
                    .map(|n| std::str::from_utf8(n.payload).unwrap().parse().unwrap())
                    .collect();
                assert_eq!(numbers.len(), value.count);
                let kept = &numbers[usize::try_from(skip).unwrap()..];
                assert_eq!(kept.first(), Some(&*next), "first {first}, skip {skip}");
                *next += kept.len() as u64;
                Some((kept.len() as u64, 0))
            }
            Taken::Lost { first, count } => {
                assert_eq!(first, *next);
                *next += count;
                Some((0, count))
            }
            Taken::Empty => None,
            other => panic!("{other:?}"),
        }
    }

    fn drain(&mut self, next: &mut u64) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| self.take(next)).collect()
    }
}

/// Promise P5, with 1, 16 and 160 notifications in a read: exactly the first N are delivered, and then the exact loss is
/// reported, although nothing follows.
#[test]
fn drop_newest_keeps_exactly_the_first_and_reports_the_rest() {
    for per_read in [1, 16, 160] {
        let (capacity, reads) = (1_000, 40_000 / per_read);
        let mut queue = Queue::new(capacity, 1 << 20, Overflow::DropNewest);
        for _ in 0..reads {
            queue.read(per_read, 8);
        }
        let mut next = 0;
        let taken = queue.drain(&mut next);
        let delivered: u64 = taken.iter().map(|(delivered, _)| delivered).sum();
        assert_eq!(delivered, capacity, "{per_read} per read");
        assert_eq!(*taken.last().unwrap(), (0, queue.sent - capacity), "one loss, at the end");
        assert_eq!(next, queue.sent);
    }
}

#[test]
fn drop_oldest_keeps_exactly_the_newest() {
    for per_read in [1, 16, 160] {
        let capacity = 1_000;
        let mut queue = Queue::new(capacity, 1 << 20, Overflow::DropOldest);
        for _ in 0..40_000 / per_read {
            queue.read(per_read, 8);
        }
        let mut next = 0;
        let taken = queue.drain(&mut next);
        assert_eq!(taken.first(), Some(&(0, queue.sent - capacity)), "{per_read} per read");
        let delivered: u64 = taken.iter().map(|(delivered, _)| delivered).sum();
        assert_eq!((delivered, next), (capacity, queue.sent));
    }
}

/// The consumer takes one notification for every 250 KiB that are dropped.
#[test]
fn dropped_bytes_do_not_fill_buffers() {
    let mut queue = Queue::new(4, 1 << 20, Overflow::DropNewest);
    let mut next = 0;
    for _ in 0..200 {
        for _ in 0..32 {
            queue.read(1, 7_999);
        }
        queue.take(&mut next);
    }
    assert!(queue.sink.buffer_bytes() <= (buffers_max(1 << 20, 0) + 1) * BUFFER_BYTES);
    queue.drain(&mut next);
    assert_eq!(next, queue.sent);
}

#[test]
fn views_that_a_consumer_keeps_cannot_exceed_the_maximum_of_buffers() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        let mut queue = Queue::new(100_000, 1 << 20, overflow);
        let mut kept = Vec::new();
        let mut next = 0;
        for _ in 0..2_000 {
            queue.read(1, 7_000);
            if let Taken::Item { value, .. } = queue.consumer.try_take() {
                kept.push(value);
            }
        }
        let limit = (buffers_max(1 << 20, 0) + 1) * BUFFER_BYTES;
        assert!(queue.sink.buffer_bytes() <= limit);
        // After the views are dropped, it receives again.
        kept.clear();
        next += queue.consumer.sequence();
        queue.drain(&mut next);
        queue.read(3, 8);
        queue.read(3, 8);
        let taken = queue.drain(&mut next);
        assert_eq!(taken.iter().map(|(delivered, _)| delivered).sum::<u64>(), 6);
    }
}

#[test]
fn a_gap_keeps_its_position_between_losses() {
    let mut queue = Queue::new(2, 1 << 20, Overflow::DropNewest);
    queue.read(3, 8);
    let cause = crate::Error::new(crate::ErrorKind::Server, "dropped one");
    queue.gap(Gap::within_session(cause, SystemTime::UNIX_EPOCH, 1));
    queue.read(2, 8);
    let mut next = 0;
    assert_eq!(queue.take(&mut next), Some((2, 0)));
    assert_eq!(queue.take(&mut next), Some((0, 1)));
    assert!(matches!(queue.consumer.try_take(), Taken::Mark(_)));
    assert_eq!(queue.take(&mut next), Some((0, 2)));
}

/// A reader that waits for room checks again at each wake-up. The unhandled input in its buffer must not be copied each time.
#[test]
fn a_reader_that_waits_for_a_free_buffer_copies_nothing() {
    let block = Overflow::Block { max_stall: Duration::from_secs(1) };
    let mut queue = Queue::new(100_000, 1 << 20, block);
    let mut kept = Vec::new();
    while queue.sink.buffer_bytes() <= buffers_max(1 << 20, 0) * BUFFER_BYTES {
        queue.read(1, 7_000);
        if let Taken::Item { value, .. } = queue.consumer.try_take() {
            kept.push(value);
        }
    }
    let raw = RawNotification { process_id: 1, channel: b"c", payload: &[b'p'; 7_000] };
    while queue.input.capacity() - queue.input.len() > 8_000 {
        BackendMessage::NotificationResponse(raw).encode(&mut queue.input).unwrap();
    }
    let place = (queue.input.as_ptr(), queue.input.capacity());
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(queue.sink.poll_room(&mut cx, &mut queue.input).is_pending());
        assert_eq!((queue.input.as_ptr(), queue.input.capacity()), place);
    }
    drop(kept);
    assert!(queue.sink.poll_room(&mut cx, &mut queue.input).is_ready());
    assert_eq!((queue.input.as_ptr(), queue.input.capacity()), place);
}

/// Otherwise a reader whose consumer is dropped during a stall would be in a busy loop until the end of the stall.
#[test]
fn a_run_does_not_wait_for_a_consumer_that_was_dropped() {
    for overflow in [Overflow::DropNewest, Overflow::Block { max_stall: Duration::from_secs(1) }] {
        let mut queue = Queue::new(2, 1 << 20, overflow);
        queue.read(2, 8);
        let Queue { mut sink, consumer, mut input, .. } = queue;
        drop(consumer);
        for _ in 0..3 {
            for _ in 0..5 {
                let raw = RawNotification { process_id: 1, channel: b"c", payload: b"" };
                BackendMessage::NotificationResponse(raw).encode(&mut input).unwrap();
            }
            let (run, _) = wire::scan(&input);
            assert_eq!(sink.fits(&input, run, false), run);
            sink.notifications(&mut input, run, INFO, false);
            assert!(input.is_empty());
        }
        assert_eq!((sink.outlet.producer.sequence(), sink.is_empty()), (17, true));
    }
}

/// If the rest were moved for each short run, the time would be quadratic.
#[test]
fn a_short_run_that_is_dropped_does_not_move_the_rest() {
    let mut queue = Queue::new(1, 1 << 20, Overflow::DropNewest);
    queue.read(1, 8);
    for _ in 0..1_000 {
        let raw = RawNotification { process_id: 1, channel: b"c", payload: b"" };
        BackendMessage::NotificationResponse(raw).encode(&mut queue.input).unwrap();
    }
    let (end, length) = (queue.input.as_ptr_range().end, queue.input.len());
    let run = wire::Run::first(1, &queue.input);
    queue.sink.notifications(&mut queue.input, run, INFO, false);
    assert_eq!(queue.input.len(), length - run.bytes);
    assert_eq!(queue.input.as_ptr_range().end, end, "999 frames were copied");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn delivered_and_lost_sum_up_for_every_policy(
        capacity in 1_u64..40,
        policy in 0..3,
        steps in prop::collection::vec((0_u64..30, 8_usize..4_000, 0_usize..6), 1..60),
    ) {
        let overflow = match policy {
            0 => Overflow::DropNewest,
            1 => Overflow::DropOldest,
            _ => Overflow::Block { max_stall: Duration::from_secs(1) },
        };
        let mut queue = Queue::new(capacity, 300 * 1024, overflow);
        let mut next = 0;
        for (count, bytes, takes) in steps {
            queue.read(count, bytes);
            prop_assert!(queue.sink.outlet.producer.unread_bytes() <= 300 * 1024);
            for _ in 0..takes {
                queue.take(&mut next);
            }
        }
        queue.drain(&mut next);
        prop_assert_eq!(next, queue.sent);
        prop_assert!(queue.sink.is_empty());
    }
}

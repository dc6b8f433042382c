//! Tests of a sink whose outlet is a doorbell, with the calls that a supervisor makes.

use std::task::{Context, Waker};

use super::*;
use crate::proto::ring::doorbell::{self, Doorbell, Rung};
use crate::proto::supervisor::StreamPosition;
use crate::queue::doorbell_outlet::DoorbellOutlet;
use crate::queue::intake::Intake;
use crate::queue::sink::OutletSink;

/// A sink with a doorbell, and its reader.
struct Bell {
    sink: OutletSink<DoorbellOutlet>,
    doorbell: Doorbell<Gap>,
    input: BytesMut,
}

impl Bell {
    fn new() -> Self {
        let counters = Arc::new(QueueCounters::default());
        let (ringer, doorbell) = doorbell::doorbell();
        let intake = Intake::new(1 << 20, Pins::new(0));
        let mut sink = OutletSink::with_outlet(intake, DoorbellOutlet::new(ringer, counters));
        let input = sink.first_buffer();
        Self { sink, doorbell, input }
    }

    /// Reads `count` notifications at once.
    fn read(&mut self, count: usize) {
        self.sink.prepare(&mut self.input);
        let raw = RawNotification { process_id: 1, channel: b"c", payload: &[b'p'; 100] };
        for _ in 0..count {
            BackendMessage::NotificationResponse(raw).encode(&mut self.input).unwrap();
        }
        let (run, _) = wire::scan(&self.input);
        assert_eq!(self.sink.fits(&self.input, run, false), run);
        self.sink.notifications(&mut self.input, run, INFO, false);
        assert!(self.input.is_empty());
        self.sink.publish();
    }

    /// Returns the notifications and the lost sessions since the last call.
    fn take(&mut self) -> Option<(u64, Option<u32>)> {
        match self.doorbell.take() {
            Rung::Arrived { notified, mark } => Some((notified, mark.map(|gap| gap.sessions()))),
            Rung::Nothing => None,
            Rung::Closed => panic!("closed"),
        }
    }
}

fn gap(sessions: u32) -> Gap {
    let cause = crate::Error::new(crate::ErrorKind::Connect, "the session was lost");
    Gap::new(cause, SystemTime::UNIX_EPOCH, sessions)
}

fn placed(position: StreamPosition, gap: Gap) -> PlacedGap {
    PlacedGap { position, scope: Scope::All, gap }
}

/// A million notifications, and no one takes: one small buffer, from which nothing is cut.
#[test]
fn a_doorbell_that_sleeps_keeps_no_frames() {
    let mut bell = Bell::new();
    for _ in 0..10_000 {
        bell.read(100);
    }
    assert!(bell.sink.buffer_bytes() <= BUFFER_BYTES);
    assert!(bell.sink.is_empty());
    assert_eq!(bell.sink.hold(&Scope::All).0, 1_000_000);
    bell.sink.release(Vec::new());
    assert_eq!(bell.take(), Some((1_000_000, None)));
    assert_eq!(bell.take(), None);
}

/// The calls of a supervisor that loses its session twice: it holds back, reads from the next session, and releases with the gaps.
#[test]
fn what_is_held_back_rings_when_it_is_released_with_all_gaps_as_one() {
    let mut bell = Bell::new();
    let mut cx = Context::from_waker(Waker::noop());
    bell.read(3);
    let first = bell.sink.hold(&Scope::All);
    bell.read(5);
    assert_eq!(bell.take(), Some((3, None)));
    assert!(bell.doorbell.poll_take(&mut cx).is_pending());
    let second = bell.sink.hold(&Scope::All);
    bell.read(1);
    bell.sink.release(vec![placed(first, gap(1)), placed(second, gap(2))]);
    assert_eq!(bell.take(), Some((6, Some(3))));
    let position = bell.sink.hold(&Scope::All);
    bell.sink.release(vec![placed(position, gap(1))]);
    let position = bell.sink.hold(&Scope::All);
    bell.sink.release(vec![placed(position, gap(1))]);
    assert_eq!(bell.take(), Some((0, Some(2))));
    assert_eq!(bell.take(), None);
}

#[test]
fn a_sink_that_is_dropped_while_it_holds_back_shows_nothing() {
    let mut bell = Bell::new();
    bell.read(2);
    bell.sink.hold(&Scope::All);
    bell.read(7);
    let Bell { sink, mut doorbell, .. } = bell;
    drop(sink);
    assert!(matches!(doorbell.take(), Rung::Arrived { notified: 2, mark: None }));
    assert!(matches!(doorbell.take(), Rung::Closed));
}

#[test]
fn a_reader_does_not_wait_for_a_doorbell_that_was_dropped() {
    let Bell { mut sink, doorbell, mut input } = Bell::new();
    drop(doorbell);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sink.poll_room(&mut cx, &mut input).is_ready());
    let mut bell = Bell { sink, input, doorbell: doorbell::doorbell().1 };
    bell.read(10);
    assert_eq!(bell.sink.hold(&Scope::All).0, 10);
}

/// The same for a queue: an outlet that is dropped while it holds back.
#[test]
fn a_queue_that_is_dropped_while_it_holds_back_shows_nothing() {
    let mut queue = Queue::new(100, 1 << 20, Overflow::DropNewest);
    queue.read(2, 8);
    queue.sink.hold(&Scope::All);
    queue.read(7, 8);
    let Queue { sink, mut consumer, .. } = queue;
    drop(sink);
    assert!(matches!(consumer.try_take(), Taken::Item { first: 0, .. }));
    assert!(matches!(consumer.try_take(), Taken::Closed));
    assert_eq!((consumer.taken(), consumer.lost()), (2, 0));
}

//! Tests of a reader that waits for room: everything that makes room wakes it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Buf;

use super::*;
use crate::proto::ring::{CurrentBytes, PinnedBytes};

const BLOCK: Overflow = Overflow::Block { max_stall: Duration::from_secs(600) };

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A reader like the task and a consumer like a listener, which do one step at a time.
struct RingPair {
    queue: Queue,
    wakes: Arc<Wakes>,
    /// The number of wake-ups when the reader went to sleep. `None` if it is awake.
    asleep_since: Option<usize>,
    current_bytes: CurrentBytes,
    pinned: Vec<PinnedBytes>,
}

impl RingPair {
    fn new(capacity: u64, queue_bytes: usize, pin_limit: u64) -> Self {
        let pins = Pins::new(pin_limit);
        Self {
            queue: Queue::with_pins(capacity, queue_bytes, BLOCK, &pins),
            wakes: Arc::default(),
            asleep_since: None,
            current_bytes: CurrentBytes::new(pins, BUFFER_BYTES),
            pinned: Vec::new(),
        }
    }

    fn poll_room(&mut self) -> Poll<()> {
        let waker = Waker::from(self.wakes.clone());
        self.queue.sink.poll_room(&mut Context::from_waker(&waker), &mut self.queue.input)
    }

    /// Puts the input into the queue, until it is empty or the reader sleeps.
    fn handle_input(&mut self) {
        while let (run, _) = wire::scan(&self.queue.input)
            && run.count > 0
        {
            let fits = self.queue.sink.fits(&self.queue.input, run, false);
            if fits.count > 0 {
                self.queue.sink.notifications(&mut self.queue.input, fits, INFO, false);
                self.queue.sink.publish();
            } else if self.poll_room().is_pending() {
                self.asleep_since = Some(self.wakes.0.load(Ordering::SeqCst));
                return;
            }
        }
        self.asleep_since = None;
    }

    /// Reads until the socket is empty or the reader sleeps.
    fn read(&mut self) {
        while self.asleep_since.is_none() && !self.queue.socket.is_empty() {
            self.queue.fill();
            self.handle_input();
        }
    }

    fn write(&mut self, count: u64, payload_bytes: usize) {
        self.queue.write(count, payload_bytes);
        self.read();
    }

    /// Fills the current buffer with messages that are not notifications.
    fn fill_buffer(&mut self) {
        if self.asleep_since.is_none() {
            assert!(self.queue.input.is_empty());
            self.queue.sink.prepare(&mut self.queue.input);
            let spare = self.queue.input.capacity();
            self.queue.input.resize(spare, 0);
            self.queue.sink.handle_read(spare);
            self.queue.input.advance(spare);
        }
    }

    fn mark(&mut self) {
        let cause = crate::Error::new(crate::ErrorKind::Server, "dropped one");
        self.queue.gap(Gap::within_session(cause, SystemTime::UNIX_EPOCH, 1));
    }

    /// The consumer drops the last run and takes the next element.
    fn take(&mut self, waits: bool) {
        self.current_bytes.clear();
        let taken = if waits {
            match self.queue.consumer.poll_take(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(taken) => taken,
                Poll::Pending => Taken::Empty,
            }
        } else {
            self.queue.consumer.try_take()
        };
        if let Taken::Item { value, .. } = taken {
            self.current_bytes.replace(value.frames, value.buffer);
        }
    }

    fn pin(&mut self) {
        let part = self.current_bytes.part();
        self.pinned
            .extend(part.pin(0..part.bytes().len()).filter(|pinned| !pinned.bytes().is_empty()));
    }

    fn unpin(&mut self, which: usize) {
        if !self.pinned.is_empty() {
            self.pinned.swap_remove(which % self.pinned.len());
        }
    }

    /// Checks after a step of the consumer: if the reader was woken it continues, otherwise there must be no room.
    fn check(&mut self) -> Result<(), &'static str> {
        let Some(since) = self.asleep_since else { return Ok(()) };
        if self.wakes.0.load(Ordering::SeqCst) > since {
            self.handle_input();
            self.read();
        } else if self.poll_room().is_ready() {
            return Err("there is room, and the reader sleeps");
        }
        Ok(())
    }

    /// Makes the current buffer one of the full size. It has no views.
    fn grow(&mut self) {
        self.write(1, 5_000);
        self.take(false);
        self.take(false);
        self.queue.sink.prepare(&mut self.queue.input);
        assert_eq!(self.queue.input.capacity(), BUFFER_BYTES);
    }

    /// Puts an eighth of its bytes and then one notification into each buffer, until the reader sleeps.
    fn starve(&mut self) {
        while self.asleep_since.is_none() {
            self.write(5, 8_000);
            self.write(1, 8);
            self.fill_buffer();
        }
        let unread = self.queue.sink.outlet.producer.unread_bytes();
        assert!(unread < 500_000, "only buffers are missing, {unread}");
    }
}

#[test]
fn a_run_that_is_dropped_before_a_gap_is_taken_wakes_the_reader() {
    let mut pair = RingPair::new(1_000, 1 << 20, 0);
    pair.write(1, 8);
    pair.fill_buffer();
    pair.mark();
    pair.starve();
    pair.take(false);
    pair.check().unwrap();
    assert!(pair.asleep_since.is_some(), "the consumer has the buffer");
    // Now the gap, which the consumer may keep for a long time.
    pair.take(false);
    pair.check().unwrap();
    assert!(pair.asleep_since.is_none());
}

#[test]
fn a_pin_that_is_dropped_wakes_the_reader() {
    let limit = BUFFER_BYTES as u64;
    let mut pair = RingPair::new(1_000, 1 << 20, limit);
    pair.grow();
    pair.write(1, 8);
    pair.fill_buffer();
    pair.take(false);
    pair.pin();
    pair.take(false);
    pair.starve();
    assert_eq!(pair.queue.sink.buffer_bytes(), (buffers_max(1 << 20, limit) + 1) * BUFFER_BYTES);
    pair.unpin(0);
    pair.check().unwrap();
    assert!(pair.asleep_since.is_none());
}

/// A command waits for its answer, which comes after notifications: they must be queued or dropped now.
#[test]
fn nothing_is_dropped_if_a_buffer_became_free_since_the_last_check() {
    let mut pair = RingPair::new(1_000, 1 << 20, 0);
    pair.starve();
    pair.take(false);
    pair.take(false);
    let (run, _) = wire::scan(&pair.queue.input);
    assert!(run.count > 0);
    let unread = pair.queue.sink.outlet.producer.unread();
    pair.queue.sink.notifications(&mut pair.queue.input, run, INFO, true);
    assert_eq!(pair.queue.sink.outlet.producer.unread(), unread + run.count as u64);
}

#[derive(Debug, Clone)]
enum StallStep {
    Write(u64, usize),
    FillBuffer,
    Mark,
    Take(bool),
    Pin,
    Unpin(usize),
}

fn step() -> impl Strategy<Value = StallStep> {
    prop_oneof![
        4 => (1_u64..30, 8_usize..8_000).prop_map(|(count, bytes)| StallStep::Write(count, bytes)),
        4 => Just(StallStep::FillBuffer),
        1 => Just(StallStep::Mark),
        4 => any::<bool>().prop_map(StallStep::Take),
        2 => Just(StallStep::Pin),
        1 => any::<usize>().prop_map(StallStep::Unpin),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Room comes from a take, from a buffer that the consumer drops, and from a pin that is dropped.
    #[test]
    fn a_reader_never_sleeps_while_there_is_room(
        capacity in 1_u64..200,
        pinned_buffers in 0_u64..4,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut pair = RingPair::new(capacity, 300 * 1024, pinned_buffers * BUFFER_BYTES as u64);
        for step in steps {
            match step {
                StallStep::Write(count, bytes) => pair.write(count, bytes),
                StallStep::FillBuffer => pair.fill_buffer(),
                StallStep::Mark => pair.mark(),
                StallStep::Take(waits) => pair.take(waits),
                StallStep::Pin => pair.pin(),
                StallStep::Unpin(which) => pair.unpin(which),
            }
            pair.check().map_err(TestCaseError::fail)?;
        }
        // Everything is delivered at the end, and the reader does not sleep.
        while pair.asleep_since.is_some() || pair.queue.sink.outlet.producer.unread() > 0 {
            pair.take(false);
            pair.check().map_err(TestCaseError::fail)?;
        }
        pair.take(false);
        let (sent, received) = (pair.queue.sent, pair.queue.consumer.sequence());
        prop_assert_eq!((received, pair.queue.consumer.lost()), (sent, 0));
    }
}

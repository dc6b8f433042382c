//! In the steady state no thread allocates or frees memory per notification or per read, and a payload is not copied: it is
//! where the socket was read to. Only a delayed read allocates, because its socket is registered with tokio again. There is one test, because the counters are those of the whole process.

#[cfg(feature = "blocking")]
mod blocking;
mod places;
mod replay;
mod warm;

use std::alloc::System;
use std::time::Duration;

use pgbell::{Connection, Event, Listener, Overflow};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

use self::places::PayloadAddresses;
use self::replay::{APART_GROUP, Flow, Plan, Replay};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The limit of the queue in bytes. The capacity is so high that only the bytes limit the queue.
const QUEUE_BYTES: usize = 1024 * 1024;
const QUEUE_CAPACITY: usize = 65_536;

/// The highest number of receive buffers for such a queue, `buffers_max` of `listener/intake.rs`, and one more.
const BUFFERS_MAX: usize = QUEUE_BYTES.div_ceil(232 * 1024) + 3;

/// Notifications in separate buffers, for more buffers than there are.
const APART_COUNT: u64 = (BUFFERS_MAX as u64 + 8) * APART_GROUP;

/// The ways to receive.
#[derive(Debug, Clone, Copy)]
enum Path {
    Inline,
    Batches,
    Owned,
}

#[test]
fn receiving_allocates_nothing_and_copies_nothing() {
    let flows = [Flow::Dense, Flow::Lockstep(160), Flow::Lockstep(16), Flow::Lockstep(1)];
    for flow in flows {
        for path in [Path::Inline, Path::Batches, Path::Owned] {
            for workers in [0, 2] {
                let change = run(workers, flow, path);
                assert_eq!(change, Stats::default(), "{flow:?}, {path:?}, {workers} workers");
            }
        }
    }
    #[cfg(feature = "blocking")]
    for flow in [Flow::Lockstep(160), Flow::Lockstep(16), Flow::Lockstep(1)] {
        assert_eq!(blocking::batches(flow), Stats::default(), "{flow:?}, blocking batches");
        assert_eq!(blocking::owned(flow), Stats::default(), "{flow:?}, blocking recv");
    }
    for workers in [0, 2] {
        let runtime = warm::runtime(workers);
        runtime.block_on(warm::on(workers, delayed()));
    }
    for workers in [0, 2] {
        // A burst creates no more buffers than are useful: one for the reader, one for the consumer, and one more while the
        // consumer moves from one to the next.
        let few = batches(Flow::Lockstep(160), 0, 3);
        warm::runtime(workers).block_on(warm::on(workers, few));
    }
}

/// Receives on this many worker threads, or on this thread if there are none. Returns the allocations in the steady state.
fn run(workers: usize, flow: Flow, path: Path) -> Stats {
    // Each way has a runtime of its own, so that memory of the previous one is not freed in the next.
    let runtime = warm::runtime(workers);
    let change = match path {
        Path::Inline => runtime.block_on(warm::on(workers, inline(flow))),
        Path::Batches => {
            runtime.block_on(warm::on(workers, batches(flow, APART_COUNT, BUFFERS_MAX + 1)))
        }
        Path::Owned => runtime.block_on(warm::on(workers, owned(flow))),
    };
    drop(runtime);
    change
}

/// Checks and counts the received notifications. Measures allocations from a point on.
struct Steady {
    replay: Replay,
    plan: Plan,
    /// From here on no allocation is allowed.
    begin: u64,
    next: u64,
    region: Option<Region<'static, System>>,
}

impl Steady {
    fn start(flow: Flow, apart: u64) -> Self {
        let (warm, measured) = match flow {
            Flow::Dense => (50, 150),
            Flow::Lockstep(_) => (200, 1_000),
        };
        let mut plan = Plan { apart, flow, total: 0 };
        let begin = plan.awake_at() + warm * flow.per_write();
        plan.total = begin + measured * flow.per_write();
        Self { replay: Replay::start(plan), plan, begin, next: 0, region: None }
    }

    fn is_over(&self) -> bool {
        self.next >= self.plan.total
    }

    fn take(&mut self, payload: &[u8]) {
        assert_eq!(replay::number(payload), self.next);
        self.next += 1;
    }

    /// Sleeps once, early in a sparse flow, until a small receive buffer is full of unread notifications. So the spare one is
    /// allocated: it would be allocated at any time later, when a buffer is full while the consumer has a view of it.
    async fn make_spare_buffer(&mut self, listener: &Listener) {
        let awake = self.plan.awake_at();
        if self.next != self.plan.asleep_at() {
            return;
        }
        while listener.stats().received < awake {
            // Each write is one read, as before.
            self.replay.set_received(listener.stats().received);
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    }

    /// Confirms the notifications that were received so far.
    fn received(&mut self) {
        if self.next >= self.begin && self.region.is_none() {
            self.region = Some(Region::new(ALLOCATOR));
        }
        self.replay.set_received(self.next);
    }

    fn change(&self) -> Stats {
        assert!(self.is_over());
        self.region.as_ref().expect("the warm-up ends").change()
    }
}

async fn inline(flow: Flow) -> Stats {
    let mut steady = Steady::start(flow, 0);
    let mut connection = Connection::connect(steady.replay.url()).await.unwrap();
    connection.listen("channel1").await.unwrap();
    connection.set_read_delay(Duration::ZERO);
    let mut places = PayloadAddresses::new(steady.plan.total);
    while !steady.is_over() {
        let batch = connection.recv_batch().await.unwrap();
        assert!(batch.loss().is_none());
        for n in batch {
            steady.take(n.payload_bytes());
            places.add(n.payload_bytes());
        }
        places.end_batch();
        steady.received();
    }
    let change = steady.change();
    places.check(1);
    steady.replay.end();
    connection.close().await;
    change
}

/// Fails if more is allocated than for the registrations of delayed reads.
async fn delayed() {
    let mut steady = Steady::start(Flow::Lockstep(160), 0);
    let mut connection = Connection::connect(steady.replay.url()).await.unwrap();
    connection.listen("channel1").await.unwrap();
    while !steady.is_over() {
        let batch = connection.recv_batch().await.unwrap();
        for n in batch {
            steady.take(n.payload_bytes());
        }
        steady.received();
    }
    let change = steady.change();
    let delayed = usize::try_from(connection.reads_delayed()).unwrap();
    // A server that waits for the client causes few delays.
    assert!(delayed < 50, "{delayed}");
    let is_small = change.allocations <= delayed && change.bytes_allocated <= 512 * delayed;
    assert!(is_small, "{change:?} for {delayed} delayed reads");
    steady.replay.end();
    connection.close().await;
}

/// Fails if there are more than this many buffers.
async fn batches(flow: Flow, apart: u64, buffers: usize) -> Stats {
    let (mut steady, mut listener) = listening(flow, apart).await;
    let mut places = PayloadAddresses::new(steady.plan.total);
    while !steady.is_over() {
        let batch = listener.recv_batch().await.unwrap();
        assert!(batch.loss().is_none());
        for n in batch {
            steady.take(n.payload_bytes());
            if steady.next > steady.plan.apart {
                places.add(n.payload_bytes());
            }
        }
        places.end_batch();
        steady.received();
        steady.make_spare_buffer(&listener).await;
    }
    let change = steady.change();
    places.check(buffers);
    steady.replay.end();
    listener.close().await;
    change
}

async fn owned(flow: Flow) -> Stats {
    let (mut steady, mut listener) = listening(flow, APART_COUNT).await;
    while !steady.is_over() {
        match listener.recv().await.unwrap() {
            Event::Notification(n) => steady.take(n.payload_bytes()),
            loss => panic!("{loss:?}"),
        }
        steady.received();
        steady.make_spare_buffer(&listener).await;
    }
    let change = steady.change();
    steady.replay.end();
    listener.close().await;
    change
}

/// A listener that has created all of its buffers, if the server begins with [`APART_COUNT`] notifications that are far apart.
async fn listening(flow: Flow, apart: u64) -> (Steady, Listener) {
    let steady = Steady::start(flow, apart);
    let overflow = Overflow::Block { max_stall: Duration::from_secs(600) };
    let builder = Listener::builder(steady.replay.url()).channels(["channel1"]).overflow(overflow);
    let builder = builder.queue_capacity(QUEUE_CAPACITY).queue_bytes(QUEUE_BYTES);
    // All buffers are created before the test begins, and only those of the queue.
    let builder = builder.pin_limit_bytes(0).read_delay(Duration::ZERO);
    let listener = builder.connect().await.unwrap();
    if apart > 0 {
        // Every buffer is pinned: the reader stalls, although the queue is nearly empty.
        while listener.stats().stalls == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(listener.stats().queued <= apart);
    }
    (steady, listener)
}

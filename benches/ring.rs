//! The hop through the ring, and through queues that count no loss and wake no task.
//!
//! `benches/bakeoff` measures them with the cost of both.

#![allow(missing_docs)] // what `criterion_group!` makes

use std::hint::{black_box, spin_loop};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_queue::ArrayQueue;
use pgbell::proto::ring::{Consumer, Producer, Taken, channel};
use tokio::sync::mpsc;

/// Notifications of one round, and items of one hop.
const NOTIFICATIONS: u64 = 16_000;

/// Slots of each queue.
const SLOTS: usize = 1_024;

/// Sends a round in items of `per_item` and receives it. Returns how many were received.
fn round(per_item: u64) -> u64 {
    let (mut producer, mut consumer) = channel::<u64, ()>(SLOTS as u64);
    let mut delivered = 0;
    for item in 0..NOTIFICATIONS / per_item {
        producer.push(item, per_item, 51 * per_item);
        producer.publish();
        if let Taken::Item { value, first, skip } = consumer.try_take() {
            assert_eq!((value * per_item, skip), (first, 0));
            delivered += per_item;
        }
    }
    delivered
}

/// Sends a round to a consumer that never reads, with a policy that keeps the newest.
fn evict(per_item: u64) -> u64 {
    let (mut producer, mut consumer) = channel::<u64, ()>(SLOTS as u64);
    for item in 0..NOTIFICATIONS / per_item {
        producer.push(item, per_item, 51 * per_item);
        producer.keep_newest(1_000);
        producer.publish();
    }
    let mut accounted = 0;
    loop {
        match consumer.try_take() {
            Taken::Item { skip, .. } => accounted += per_item - skip,
            Taken::Lost { count, .. } => accounted += count,
            _ => return accounted,
        }
    }
}

fn ring(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(NOTIFICATIONS));
    for per_item in [1, 16, 160] {
        assert_eq!(round(per_item), NOTIFICATIONS);
        group.bench_function(format!("publish and take, {per_item} per item"), |b| {
            b.iter(|| round(black_box(per_item)));
        });
        assert_eq!(evict(per_item), NOTIFICATIONS);
        group.bench_function(format!("keep the newest, {per_item} per item"), |b| {
            b.iter(|| evict(black_box(per_item)));
        });
    }
    group.finish();
}

/// An item: a number and another value, 16 bytes.
type Item = (u64, u64);

/// A queue, and nothing else.
trait Queue {
    const NAME: &'static str;
    type In: Send;
    type Out: Send;

    fn make() -> (Self::In, Self::Out);

    /// Sends the next numbers, as many as fit, and publishes them together if the queue can. Returns how many.
    fn send(queue: &mut Self::In, next: u64, count: u64) -> u64;

    fn receive(queue: &mut Self::Out) -> Option<u64>;
}

/// Sends one by one until one does not fit.
fn each(next: u64, count: u64, mut send: impl FnMut(Item) -> bool) -> u64 {
    (next..next + count).take_while(|number| send((*number, 0))).count() as u64
}

struct Ring;

impl Queue for Ring {
    const NAME: &'static str = "pgbell";
    type In = Producer<Item, ()>;
    type Out = Consumer<Item, ()>;

    fn make() -> (Self::In, Self::Out) {
        channel(SLOTS as u64)
    }

    fn send(queue: &mut Self::In, next: u64, count: u64) -> u64 {
        let sent = each(next, count, |item| {
            let fits = queue.has_slot();
            if fits {
                queue.push(item, 1, 51);
            }
            fits
        });
        queue.publish();
        sent
    }

    fn receive(queue: &mut Self::Out) -> Option<u64> {
        match queue.try_take() {
            Taken::Item { value, .. } => Some(value.0),
            _ => None,
        }
    }
}

struct Rtrb;

impl Queue for Rtrb {
    const NAME: &'static str = "rtrb";
    type In = rtrb::Producer<Item>;
    type Out = rtrb::Consumer<Item>;

    fn make() -> (Self::In, Self::Out) {
        rtrb::RingBuffer::new(SLOTS)
    }

    fn send(queue: &mut Self::In, next: u64, count: u64) -> u64 {
        each(next, count, |item| queue.push(item).is_ok())
    }

    fn receive(queue: &mut Self::Out) -> Option<u64> {
        queue.pop().ok().map(|item| item.0)
    }
}

/// As `Rtrb`, but items that are sent together are published by one store.
struct RtrbChunks;

impl Queue for RtrbChunks {
    const NAME: &'static str = "rtrb, chunks";
    type In = rtrb::Producer<Item>;
    type Out = rtrb::Consumer<Item>;

    fn make() -> (Self::In, Self::Out) {
        rtrb::RingBuffer::new(SLOTS)
    }

    fn send(queue: &mut Self::In, next: u64, count: u64) -> u64 {
        let count = count.min(queue.slots() as u64);
        let slots = usize::try_from(count).expect("not more than slots");
        match queue.write_chunk_uninit(slots) {
            Ok(chunk) => {
                chunk.fill_from_iter((next..next + count).map(|number| (number, 0))) as u64
            }
            Err(_) => 0,
        }
    }

    fn receive(queue: &mut Self::Out) -> Option<u64> {
        Rtrb::receive(queue)
    }
}

struct Array;

impl Queue for Array {
    const NAME: &'static str = "crossbeam ArrayQueue";
    type In = Arc<ArrayQueue<Item>>;
    type Out = Arc<ArrayQueue<Item>>;

    fn make() -> (Self::In, Self::Out) {
        let queue = Arc::new(ArrayQueue::new(SLOTS));
        (queue.clone(), queue)
    }

    fn send(queue: &mut Self::In, next: u64, count: u64) -> u64 {
        each(next, count, |item| queue.push(item).is_ok())
    }

    fn receive(queue: &mut Self::Out) -> Option<u64> {
        queue.pop().map(|item| item.0)
    }
}

struct Crossbeam;

impl Queue for Crossbeam {
    const NAME: &'static str = "crossbeam channel";
    type In = crossbeam_channel::Sender<Item>;
    type Out = crossbeam_channel::Receiver<Item>;

    fn make() -> (Self::In, Self::Out) {
        crossbeam_channel::bounded(SLOTS)
    }

    fn send(queue: &mut Self::In, next: u64, count: u64) -> u64 {
        each(next, count, |item| queue.try_send(item).is_ok())
    }

    fn receive(queue: &mut Self::Out) -> Option<u64> {
        queue.try_recv().ok().map(|item| item.0)
    }
}

struct Tokio;

impl Queue for Tokio {
    const NAME: &'static str = "tokio mpsc";
    type In = mpsc::Sender<Item>;
    type Out = mpsc::Receiver<Item>;

    fn make() -> (Self::In, Self::Out) {
        mpsc::channel(SLOTS)
    }

    fn send(queue: &mut Self::In, next: u64, count: u64) -> u64 {
        each(next, count, |item| queue.try_send(item).is_ok())
    }

    fn receive(queue: &mut Self::Out) -> Option<u64> {
        queue.try_recv().ok().map(|item| item.0)
    }
}

/// Sends `at_once` items, receives them, and repeats that.
fn alternate<Q: Queue>(at_once: u64) -> u64 {
    let (mut input, mut output) = Q::make();
    let mut received = 0;
    while received < NOTIFICATIONS {
        assert_eq!(Q::send(&mut input, received, at_once), at_once);
        while let Some(number) = Q::receive(&mut output) {
            assert_eq!(number, received);
            received += 1;
        }
    }
    received
}

/// From one thread to another; a thread that waits spins.
fn between_threads<Q: Queue>(at_once: u64, rounds: u64) -> Duration {
    let total = NOTIFICATIONS * rounds;
    let (mut input, mut output) = Q::make();
    let start = &Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(move || {
            start.wait();
            let mut sent = 0;
            while sent < total {
                match Q::send(&mut input, sent, at_once.min(total - sent)) {
                    0 => spin_loop(),
                    more => sent += more,
                }
            }
        });
        start.wait();
        let begin = Instant::now();
        let mut received = 0;
        while received < total {
            match Q::receive(&mut output) {
                Some(number) => {
                    assert_eq!(number, received);
                    received += 1;
                }
                None => spin_loop(),
            }
        }
        begin.elapsed()
    })
}

fn hop<Q: Queue>(c: &mut Criterion, at_once: u64) {
    let mut group = c.benchmark_group(format!("hop, {at_once} at once"));
    group.throughput(Throughput::Elements(NOTIFICATIONS));
    group.bench_function(BenchmarkId::new(Q::NAME, "one thread"), |b| {
        b.iter(|| alternate::<Q>(black_box(at_once)));
    });
    group.bench_function(BenchmarkId::new(Q::NAME, "two threads"), |b| {
        b.iter_custom(|rounds| between_threads::<Q>(black_box(at_once), rounds));
    });
    group.finish();
}

fn hops(c: &mut Criterion) {
    for at_once in [1, 16, 160] {
        hop::<Ring>(c, at_once);
        hop::<Rtrb>(c, at_once);
        hop::<RtrbChunks>(c, at_once);
        hop::<Array>(c, at_once);
        hop::<Crossbeam>(c, at_once);
        hop::<Tokio>(c, at_once);
    }
}

criterion_group!(benches, ring, hops);
criterion_main!(benches);

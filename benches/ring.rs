//! The hop through the ring on one thread: publish and take, dense and sparse.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgbell::ring::{Taken, channel};

/// Notifications of one round.
const NOTIFICATIONS: u64 = 16_000;

/// Sends a round in items of `per_item` and takes it. Returns how many came out.
fn round(per_item: u64) -> u64 {
    let (mut producer, mut consumer) = channel::<u64, ()>(1_024);
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

/// The same with a consumer that never comes, and a policy that keeps the newest.
fn evict(per_item: u64) -> u64 {
    let (mut producer, mut consumer) = channel::<u64, ()>(1_024);
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

criterion_group!(benches, ring);
criterion_main!(benches);

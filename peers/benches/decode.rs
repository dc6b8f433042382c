//! Decoding notifications: pgbell's hot path and postgres-protocol, on the same bytes.
//!
//! `cargo bench -p peers`. The program of this package measures the same in complete clients.

#![allow(missing_docs)] // for `criterion_group!`

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pgbell::proto::wire::{BackendMessage, RawNotification, Run, frames, scan};
use postgres_protocol::message::backend::Message;

/// The number of bytes that are decoded at once: the highest number that one read of pgbell returns.
const BUFFER_BYTES: usize = 256 * 1024;

/// Returns as many notifications as fit, sent to `channels` channels in turn, and their number.
fn stream(channels: usize, payload_bytes: usize) -> (BytesMut, u64) {
    let (mut out, payload) = (BytesMut::new(), vec![b'p'; payload_bytes]);
    let mut count = 0;
    while out.len() < BUFFER_BYTES - payload_bytes - 64 {
        let channel = format!("orders_{:03}", count % channels);
        let one =
            RawNotification { process_id: 4_711, channel: channel.as_bytes(), payload: &payload };
        BackendMessage::NotificationResponse(one).encode(&mut out).expect("it fits");
        count += 1;
    }
    (out, count as u64)
}

/// The passes of the reader and of the consumer. Returns the number of notifications.
fn pgbell(input: &[u8]) -> u64 {
    let (run, _) = scan(input);
    let mut count = 0;
    for n in frames(&input[..run.bytes]) {
        black_box((n.process_id, n.channel, n.payload));
        count += 1;
    }
    assert_eq!(run, Run { count: usize::try_from(count).expect("a count"), bytes: input.len() });
    count
}

/// The only way to decode: whole messages, split off. Returns the number of notifications.
fn postgres_protocol(input: &mut BytesMut) -> u64 {
    let mut count = 0;
    while let Some(message) = Message::parse(input).expect("good bytes") {
        if let Message::NotificationResponse(n) = message {
            let channel = n.channel().expect("UTF-8");
            black_box((n.process_id(), channel, n.message().expect("UTF-8")));
            count += 1;
        }
    }
    count
}

fn notifications(criterion: &mut Criterion) {
    for (channels, payload_bytes) in [(1, 29), (16, 29), (1, 0), (1, 1_011)] {
        let (input, count) = stream(channels, payload_bytes);
        assert_eq!((pgbell(&input), postgres_protocol(&mut input.clone())), (count, count));
        let label = format!("{}B/{channels}ch", input.len() as u64 / count);
        let mut group = criterion.benchmark_group("notifications");
        group.throughput(Throughput::Elements(count));
        // It consumes its buffer, pgbell does not: both get a new one, which is not measured.
        group.bench_function(BenchmarkId::new("pgbell", &label), |bencher| {
            let fresh = || input.clone();
            bencher.iter_batched_ref(fresh, |input| pgbell(input), BatchSize::LargeInput);
        });
        group.bench_function(BenchmarkId::new("postgres-protocol", &label), |bencher| {
            bencher.iter_batched_ref(|| input.clone(), postgres_protocol, BatchSize::LargeInput);
        });
        group.finish();
    }
}

criterion_group!(benches, notifications);
criterion_main!(benches);

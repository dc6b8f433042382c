//! Framing: a mixed stream, whole and in pieces.

#![allow(missing_docs)] // what `criterion_group!` makes

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pgbell::proto::wire::{BackendMessage, Framer, RawNotification, TransactionStatus};

/// Messages in the measured stream.
const COUNT: usize = 4_096;

/// Makes a stream of three notifications and the answer to a query, repeated.
fn stream() -> BytesMut {
    let mut out = BytesMut::new();
    for index in 0..COUNT {
        let message = match index % 8 {
            3 => BackendMessage::EmptyQueryResponse,
            5 => BackendMessage::CommandComplete { tag: b"LISTEN" },
            7 => BackendMessage::ReadyForQuery { status: TransactionStatus::Idle },
            _ => BackendMessage::NotificationResponse(RawNotification {
                process_id: 1,
                channel: b"orders",
                payload: b"a payload of some length",
            }),
        };
        message.encode(&mut out).expect("it fits");
    }
    out
}

/// Counts the frames if `step` bytes arrive at a time.
fn count(stream: &[u8], step: usize) -> usize {
    let (mut start, mut end, mut count) = (0, 0, 0);
    while end < stream.len() {
        end = (end + step).min(stream.len());
        while let Ok(Some(frame)) = Framer::established().next(&stream[start..end]) {
            count += 1;
            start += frame.wire_len();
        }
    }
    count
}

fn split(criterion: &mut Criterion) {
    let stream = stream();
    let mut group = criterion.benchmark_group("framer");
    group.throughput(Throughput::Elements(4_096));
    for step in [stream.len(), 8_192, 100, 1] {
        assert_eq!(count(&stream, step), COUNT);
        group.bench_function(BenchmarkId::new("step", step), |bencher| {
            bencher.iter(|| count(black_box(&stream), step));
        });
    }
    group.finish();
}

criterion_group!(benches, split);
criterion_main!(benches);

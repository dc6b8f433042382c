//! Decoding: the scan and the iteration over notifications, whole messages, and the topic in a payload.

#![allow(missing_docs)] // what `criterion_group!` makes

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pgbell::proto::wire::{BackendMessage, Framer, RawNotification, Run, Stop, frames, scan};

/// Notifications in one measured buffer.
const COUNT: usize = 4_096;

/// Makes a buffer of notifications on `channels` channels in turn.
fn stream(channels: usize, payload_bytes: usize) -> BytesMut {
    let mut out = BytesMut::new();
    let payload = vec![b'p'; payload_bytes];
    for index in 0..COUNT {
        let channel = format!("orders_{:03}", index % channels);
        let one =
            RawNotification { process_id: 4_711, channel: channel.as_bytes(), payload: &payload };
        BackendMessage::NotificationResponse(one).encode(&mut out).expect("it fits");
    }
    out
}

/// Sums the lengths of everything in the buffer, so that the compiler can remove nothing.
fn digest(input: &[u8]) -> usize {
    frames(input).fold(0, |sum, one| sum + one.channel.len() + one.payload.len())
}

fn digest_by_messages(input: &[u8]) -> usize {
    let (mut rest, mut sum) = (input, 0);
    while let Ok(Some(frame)) = Framer::established().next(rest) {
        if let Ok(BackendMessage::NotificationResponse(one)) = BackendMessage::decode(frame) {
            sum += one.channel.len() + one.payload.len();
        }
        rest = &rest[frame.wire_len()..];
    }
    sum
}

fn notifications(criterion: &mut Criterion) {
    // 51 bytes per frame is the size in the comparison with other clients; 1,033 is a small JSON document.
    for (channels, payload_bytes) in [(1, 29), (16, 29), (1_000, 29), (1, 0), (1, 1_011)] {
        let input = stream(channels, payload_bytes);
        let run = Run { count: COUNT, bytes: input.len() };
        assert_eq!(scan(&input), (run, Stop::NeedMore));
        assert_eq!(digest(&input), COUNT * (10 + payload_bytes));
        assert_eq!(digest_by_messages(&input), COUNT * (10 + payload_bytes));

        let frame_bytes = input.len() / COUNT;
        let label = format!("{frame_bytes}B/{channels}ch");
        let mut group = criterion.benchmark_group("notifications");
        group.throughput(Throughput::Elements(4_096));
        group.bench_function(BenchmarkId::new("scan", &label), |bencher| {
            bencher.iter(|| scan(black_box(&input)));
        });
        group.bench_function(BenchmarkId::new("frames", &label), |bencher| {
            bencher.iter(|| digest(black_box(&input)));
        });
        group.bench_function(BenchmarkId::new("messages", &label), |bencher| {
            bencher.iter(|| digest_by_messages(black_box(&input)));
        });
        group.finish();
    }
}

fn rows(criterion: &mut Criterion) {
    let values: Vec<Option<&[u8]>> = vec![Some(b"some text of a row"), None, Some(b"42")];
    let mut input = BytesMut::new();
    BackendMessage::DataRow { values: values[..].into() }.encode(&mut input).expect("it fits");
    let bytes = |input: &[u8]| {
        let frame = Framer::established().next(input).ok().flatten()?;
        match BackendMessage::decode(frame) {
            Ok(BackendMessage::DataRow { values }) => {
                Some(values.iter().flatten().map(<[u8]>::len).sum::<usize>())
            }
            _ => None,
        }
    };
    assert_eq!(bytes(&input), Some(20));
    criterion.bench_function("data_row/3", |bencher| bencher.iter(|| bytes(black_box(&input))));
}

/// Finds the topic of a payload of 200 bytes: in front of it, and in the second of its six fields.
#[cfg(all(feature = "json", feature = "tokio"))]
fn topics(criterion: &mut Criterion) {
    let fields = r#""table":"orders","id":"f47ac10b-58cc-4372-a567-0e02b2c3d479","op":"UPDATE","at":"2025-01-15T10:30:00.123456+00:00","row":{"state":"paid","total":12.50},"text":""#;
    let object = format!("{{{fields}{}\"}}", "x".repeat(197 - fields.len()));
    let prefixed = format!("f47ac10b-58cc-4372-a567-0e02b2c3d479:{}", &object[..163]);
    let mut group = criterion.benchmark_group("topic");
    for (name, topics, payload) in [
        ("prefix", pgbell::TopicOf::default(), prefixed),
        ("json_field", pgbell::TopicOf::json_field("id"), object),
    ] {
        assert_eq!(payload.len(), 200);
        let found = topics.split(&payload).map(|(topic, _)| topic.into_owned());
        assert_eq!(found.as_deref(), Some("f47ac10b-58cc-4372-a567-0e02b2c3d479"));
        group.bench_function(BenchmarkId::new(name, "200B"), |bencher| {
            bencher.iter(|| {
                topics.split(black_box(&payload)).map(|(topic, rest)| topic.len() + rest.len())
            });
        });
    }
    group.finish();
}

#[cfg(not(all(feature = "json", feature = "tokio")))]
fn topics(_: &mut Criterion) {}

criterion_group!(benches, notifications, rows, topics);
criterion_main!(benches);

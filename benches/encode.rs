//! Encoding: what a notifier sends for each notification, and a batch of LISTENs.

#![allow(missing_docs)] // what `criterion_group!` makes

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgbell::proto::wire::{Framer, FrontendMessage, quote_identifier};

/// Bind, Execute and Sync of a prepared `pg_notify($1, $2)`.
fn notify(channel: &str, payload: &str, out: &mut BytesMut) -> bool {
    let parameters = [Some(channel.as_bytes()), Some(payload.as_bytes())];
    let bind = FrontendMessage::Bind {
        portal: "",
        statement: "n",
        parameter_formats: (&[]).into(),
        parameters: (&parameters).into(),
        result_formats: (&[]).into(),
    };
    let execute = FrontendMessage::Execute { portal: "", max_rows: 1 };
    bind.encode(out).is_ok()
        && execute.encode(out).is_ok()
        && FrontendMessage::Sync.encode(out).is_ok()
}

fn notify_batch(criterion: &mut Criterion) {
    let payload = "p".repeat(29);
    let mut out = BytesMut::with_capacity(1 << 20);
    assert!(notify("orders", &payload, &mut out));
    let mut tags = Vec::new();
    let mut rest = &out[..];
    while let Ok(Some(frame)) = Framer::frontend().next(rest) {
        tags.push(FrontendMessage::decode(frame).map(|message| message.tag()));
        rest = &rest[frame.wire_len()..];
    }
    assert_eq!(tags, [Ok(b'B'), Ok(b'E'), Ok(b'S')]);

    let mut group = criterion.benchmark_group("notify");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("bind_execute_sync", |bencher| {
        bencher.iter(|| {
            out.clear();
            for _ in 0..1_000 {
                notify(black_box("orders"), black_box(&payload), &mut out);
            }
            out.len()
        });
    });
    group.finish();
}

fn listen_batch(criterion: &mut Criterion) {
    let channels: Vec<String> = (0..5_000).map(|index| format!("orders \"{index}\"")).collect();
    let sql = |text: &mut String| {
        text.clear();
        for channel in &channels {
            text.push_str("LISTEN ");
            quote_identifier(channel, text);
            text.push(';');
        }
    };
    let mut text = String::new();
    let mut out = BytesMut::with_capacity(1 << 20);
    sql(&mut text);
    assert!(text.starts_with("LISTEN \"orders \"\"0\"\"\";LISTEN"));
    FrontendMessage::Query(&text).encode(&mut out).expect("it fits");
    assert_eq!(out.len(), text.len() + 6);

    let mut group = criterion.benchmark_group("listen");
    group.throughput(Throughput::Elements(5_000));
    group.bench_function("one_query_of_5000", |bencher| {
        bencher.iter(|| {
            out.clear();
            sql(&mut text);
            FrontendMessage::Query(black_box(&text)).encode(&mut out)
        });
    });
    group.finish();
}

criterion_group!(benches, notify_batch, listen_batch);
criterion_main!(benches);

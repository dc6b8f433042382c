//! Whole clients over loopback TCP: a server sends notifications that were encoded before. And the receiving half of a listener
//! alone: the time to empty a queue that is full.
//!
//! Compare results only within one run: sender and receiver share two cores.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgbell::proto::wire::{
    Authentication, BackendKeyData, BackendMessage, RawNotification, TransactionStatus,
};
use pgbell::testing::Script;
use pgbell::{Connection, Event, Listener, Overflow};
use tokio::runtime::{Builder, Runtime};

/// Notifications of one round.
const NOTIFICATIONS: u64 = 200_000;

/// Notifications in a full queue: less than the level 2 cache of a core.
const QUEUED: usize = 4_000;

/// The server's own write size.
const WRITE_BYTES: usize = 8 * 1024;

fn encode(message: &BackendMessage<'_>, out: &mut BytesMut) {
    message.encode(out).expect("it fits");
}

fn payload(n: u64) -> String {
    format!("{n:032}")
}

/// 51 bytes each: 8 of channel, 32 of payload.
fn notifications() -> Vec<u8> {
    let mut out = BytesMut::new();
    for n in 0..NOTIFICATIONS {
        let payload = payload(n);
        let raw =
            RawNotification { process_id: 1, channel: b"channel1", payload: payload.as_bytes() };
        encode(&BackendMessage::NotificationResponse(raw), &mut out);
    }
    out.to_vec()
}

fn greeting() -> BytesMut {
    let mut out = BytesMut::new();
    encode(&BackendMessage::Authentication(Authentication::Ok), &mut out);
    let (name, value) = (&b"client_encoding"[..], &b"UTF8"[..]);
    encode(&BackendMessage::ParameterStatus { name, value }, &mut out);
    // The process id that `Script::FACTS` returns, so that the client assumes no pooler.
    let key = BackendKeyData { process_id: 7, secret_key: &[0; 4] };
    encode(&BackendMessage::BackendKeyData(key), &mut out);
    encode(&BackendMessage::ReadyForQuery { status: TransactionStatus::Idle }, &mut out);
    out
}

/// Serves one client after the other: login, an answer to LISTEN, then everything at once.
/// Returns the port.
fn replay() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let frames = notifications();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let mut scratch = [0; 4_096];
            let _ = stream.read(&mut scratch);
            stream.write_all(&greeting()).expect("greeting");
            let _ = stream.read(&mut scratch);
            stream.write_all(Script::FACTS).expect("facts");
            let _ = stream.read(&mut scratch);
            let mut answer = BytesMut::new();
            encode(&BackendMessage::CommandComplete { tag: b"LISTEN" }, &mut answer);
            encode(&BackendMessage::ReadyForQuery { status: TransactionStatus::Idle }, &mut answer);
            stream.write_all(&answer).expect("answer");
            for write in frames.chunks(WRITE_BYTES) {
                if stream.write_all(write).is_err() {
                    break;
                }
            }
            // Until the client disconnects.
            while matches!(stream.read(&mut scratch), Ok(1..)) {}
        }
    });
    port
}

/// Checks that every payload is its own number.
fn check(payload: &[u8], expected: u64) {
    let number = payload.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
    assert_eq!(number, expected);
}

async fn inline(url: &str) -> Duration {
    let mut connection = Connection::connect(url).await.expect("connected");
    connection.listen("channel1").await.expect("listening");
    let (start, mut next) = (Instant::now(), 0);
    while next < NOTIFICATIONS {
        for n in connection.recv_batch().await.expect("a batch") {
            check(n.payload_bytes(), next);
            next += 1;
        }
    }
    start.elapsed()
}

async fn listener(url: &str) -> Listener {
    let overflow = Overflow::Block { max_stall: Duration::from_secs(30) };
    let builder = Listener::builder(url).channels(["channel1"]).overflow(overflow);
    builder.connect().await.expect("connected")
}

async fn batches(url: &str) -> Duration {
    let mut listener = listener(url).await;
    let (start, mut next) = (Instant::now(), 0);
    while next < NOTIFICATIONS {
        for n in listener.recv_batch().await.expect("a batch") {
            check(n.payload_bytes(), next);
            next += 1;
        }
    }
    start.elapsed()
}

async fn owned(url: &str) -> Duration {
    let mut listener = listener(url).await;
    let (start, mut next) = (Instant::now(), 0);
    while next < NOTIFICATIONS {
        let Event::Notification(n) = listener.recv().await.expect("an event") else {
            panic!("a loss")
        };
        check(n.payload_bytes(), next);
        next += 1;
    }
    start.elapsed()
}

/// Sums the words of payloads. It costs little: the rest of the measured time is that of the listener.
#[derive(Default, PartialEq, Debug)]
struct Sum(u64);

impl Sum {
    #[inline(always)]
    fn add(&mut self, payload: &[u8]) {
        for word in payload.as_chunks().0 {
            self.0 = self.0.wrapping_add(u64::from_le_bytes(*word));
        }
    }

    fn of_all() -> Self {
        let mut sum = Self::default();
        (0..NOTIFICATIONS).for_each(|n| sum.add(payload(n).as_bytes()));
        sum
    }
}

/// Returns the time of `empty`, which receives [`QUEUED`] notifications. The queue is full before each call, and no other task runs
/// during it. `all` is the sum of all notifications.
async fn emptied(url: &str, all: &Sum, empty: impl AsyncFn(&mut Listener, &mut Sum)) -> Duration {
    let overflow = Overflow::Block { max_stall: Duration::from_secs(30) };
    let builder = Listener::builder(url).channels(["channel1"]).overflow(overflow);
    let mut listener = builder.queue_capacity(QUEUED).connect().await.expect("connected");
    let (mut sum, mut time) = (Sum::default(), Duration::ZERO);
    for _ in 0..NOTIFICATIONS / QUEUED as u64 {
        while listener.stats().queued < QUEUED as u64 {
            tokio::task::yield_now().await;
        }
        let start = Instant::now();
        empty(&mut listener, &mut sum).await;
        time += start.elapsed();
    }
    assert_eq!(sum, *all);
    time
}

async fn empty_by_batches(listener: &mut Listener, sum: &mut Sum) {
    let mut left = QUEUED;
    while left > 0 {
        let batch = listener.recv_batch().await.expect("a batch");
        left -= batch.len();
        batch.iter().for_each(|n| sum.add(n.payload_bytes()));
    }
}

async fn empty_by_events(listener: &mut Listener, sum: &mut Sum) {
    for _ in 0..QUEUED {
        match listener.recv().await.expect("an event") {
            Event::Notification(n) => sum.add(n.payload_bytes()),
            loss => panic!("{loss}"),
        }
    }
}

fn full_queue(c: &mut Criterion) {
    let url = format!("host=127.0.0.1 port={} user=bench sslmode=disable", replay());
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let all = Sum::of_all();
    let mut group = c.benchmark_group("full queue, 51 bytes");
    group.throughput(Throughput::Elements(NOTIFICATIONS)).sample_size(10);
    group.bench_function("Listener::recv_batch", |b| {
        b.iter_custom(|n| {
            (0..n).map(|_| runtime.block_on(emptied(&url, &all, empty_by_batches))).sum()
        });
    });
    group.bench_function("Listener::recv", |b| {
        b.iter_custom(|n| {
            (0..n).map(|_| runtime.block_on(emptied(&url, &all, empty_by_events))).sum()
        });
    });
    group.finish();
}

fn loopback(c: &mut Criterion) {
    let url = format!("host=127.0.0.1 port={} user=bench sslmode=disable", replay());
    let runtime = Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("loopback, 51 bytes");
    group.throughput(Throughput::Elements(NOTIFICATIONS)).sample_size(10);
    group.bench_function("Connection::recv_batch", |b| {
        b.iter_custom(|n| (0..n).map(|_| runtime.block_on(inline(&url))).sum());
    });
    group.bench_function("Listener::recv_batch", |b| {
        b.iter_custom(|n| (0..n).map(|_| runtime.block_on(batches(&url))).sum());
    });
    group.bench_function("Listener::recv", |b| {
        b.iter_custom(|n| (0..n).map(|_| runtime.block_on(owned(&url))).sum());
    });
    group.finish();
}

criterion_group!(benches, full_queue, loopback);
criterion_main!(benches);

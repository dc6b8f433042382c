//! The time of a subscribe while the hub receives a dense flow for many subscriptions.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use pgbell::HubHandle;
use serde::{Deserialize, Serialize};

use super::audience::{Received, Subscribed};
use super::delivery::{check, expect, pause_of};
use super::{Load, ManyJob, Role, Size, start, subscribers};
use crate::cores::Cores;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::shape::Shape;
use crate::source::Source;
use crate::tally::{nanos, print_line};

/// Notifications that arrive together.
const BURST: u64 = 64;

/// The pause of the thread between two subscribes.
const BETWEEN: Duration = Duration::from_micros(500);

/// The lowest number of subscribes of a round that counts.
const LEAST: usize = 10;

/// The times of the subscribes, in nanoseconds, and what the other subscriptions have received.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Busy {
    median: u64,
    p99: u64,
    received: Received,
}

pub(super) fn subscribes(size: Size, cores: &Cores) -> Matchup {
    let subscribers = size.amount(1_000, 20);
    let load = Load { shape: Shape::MAIN, subscribers, count: size.amount(1_000, 200) * BURST };
    let kind = Kind::SubscribeUnderLoad { subscribers, burst: BURST };
    let names = ["median", "99th percentile"];
    Matchup::together(kind, size.rounds(3), names, || {
        // A quick run must last for some subscribes.
        let pause = pause_of(BURST, subscribers).max(BETWEEN);
        let mut source = Source::bursts(load.shape, BURST, pause, &cores.server)?;
        // The hub has a thread, the subscribes have another one.
        let role = Role::SubscribeUnderLoad;
        let mut child = start(role, &load, source.port(), cores.client(2), &[])?;
        child.wait_until_ready()?;
        let _: Subscribed = child.value()?;
        let deliveries = load.count * subscribers as u64;
        expect(&mut child, deliveries)?;
        source.go(load.count)?;
        let Busy { median, p99, received } = child.value()?;
        let sent = source.sent()?;
        child.finish()?;
        check(&received, Some(sent), deliveries)?;
        Ok([median as f64, p99 as f64])
    })
}

pub(super) async fn subscribe(job: &ManyJob) -> Outcome<()> {
    let (hub, audience, took) = subscribers::of_hub(job).await?;
    let handle = hub.handle();
    let (process_id, channel) = (handle.process_id(), job.job.shape.channel(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let until = is_over.clone();
    let timing = thread::spawn(move || times(&handle, &channel, &until));
    let received = audience.receive(job, process_id, took).await;
    is_over.store(true, Ordering::Relaxed);
    let times = timing.join().map_err(|_| "the subscribing thread panicked")?;
    let (received, [median, p99]) = (received?, times?);
    print_line(&Busy { median, p99, received })
}

/// Subscribes to topics, from the first notification until `is_over`. Each subscribe must be ready when it is polled first. Each
/// subscription is dropped after it was timed, so that their number stays. Returns the median and the 99th percentile.
fn times(hub: &HubHandle, channel: &str, is_over: &AtomicBool) -> Result<[u64; 2], String> {
    let goes_on = || !is_over.load(Ordering::Relaxed);
    while goes_on() && hub.stats().connection.received == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let mut times = Vec::new();
    while goes_on() {
        let topic = format!("t{}", times.len());
        let begin = Instant::now();
        let mut future = pin!(hub.subscribe_topic(channel, topic).into_future());
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let took = begin.elapsed();
        match polled {
            Poll::Ready(Ok(_subscription)) => times.push(nanos(took)),
            Poll::Ready(Err(error)) => return Err(format!("{error:#}")),
            Poll::Pending => return Err("a subscribe on an active channel waits".to_owned()),
        }
        thread::sleep(BETWEEN);
    }
    if times.len() < LEAST {
        return Err(format!(
            "{} subscribes during the flow, at least {LEAST} expected",
            times.len()
        ));
    }
    times.sort_unstable();
    Ok([50, 99].map(|hundredths| times[times.len() * hundredths / 100]))
}

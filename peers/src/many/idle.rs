//! Subscriptions of a hub that receive nothing: their memory, and the time of a subscribe.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use pgbell::{Event, Hub, Subscribe, Subscription};
use serde::{Deserialize, Serialize};

use super::subscribers::conninfo;
use super::{Load, ManyJob, Role, Size, start};
use crate::cores::Cores;
use crate::digest::Digest;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::replay::WRITE_BYTES;
use crate::shape::Shape;
use crate::source::Source;
use crate::tally::{nanos, print_line, print_ready};
use crate::usage::rss_kib;

/// Notifications that arrive together, and the pause after them: few are unread at a time, because the allocator would keep their memory.
const BURST: u64 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Memory of the process, in KiB.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Memory {
    before: u64,
    subscribed: u64,
    /// After each subscription has received a notification.
    received: u64,
    digest: Digest,
}

pub(super) fn memory(size: Size, cores: &Cores) -> Matchup {
    let subscribers = size.amount(100_000, 1_000);
    let topics = subscribers as u64;
    let shape = Shape { topics, ..Shape::MAIN };
    let load = Load { shape, subscribers, count: topics };
    let names = ["never received", "received once"];
    Matchup::together(Kind::Idle { subscribers }, size.rounds(3), names, || {
        let mut source = Source::bursts(shape, BURST, PAUSE, &cores.server)?;
        let mut child = start(Role::Idle, &load, source.port(), cores.client(1), &[])?;
        child.wait_until_ready()?;
        source.go(load.count)?;
        let memory: Memory = child.value()?;
        let sent = source.sent()?;
        child.finish()?;
        if memory.digest.checksum() != sent.checksum || memory.digest.count != sent.count {
            return Err(format!("{} sent, {} received", sent.count, memory.digest.count).into());
        }
        let more = |after: u64| (after.saturating_sub(memory.before) * 1024) as f64 / topics as f64;
        Ok([more(memory.subscribed), more(memory.received)])
    })
}

pub(super) async fn idle(job: &ManyJob) -> Outcome<()> {
    let shape = job.job.shape;
    let hub = Hub::connect(&*conninfo(job)).await?;
    let _active = hub.subscribe_topic(shape.channel(0), "active").await?;
    let before = rss_kib()?;
    let mut subscriptions = Vec::with_capacity(job.subscribers);
    for index in 0..job.subscribers as u64 {
        subscriptions.push(hub.subscribe_topic(shape.channel_of(index), shape.topic(index)).await?);
    }
    subscriptions.iter_mut().try_for_each(sleeps)?;
    let subscribed = rss_kib()?;
    print_ready()?;
    let mut digest = Digest::default();
    for subscription in &mut subscriptions {
        match subscription.recv().await? {
            Event::Notification(n) => digest.add(n.channel_bytes(), n.payload_bytes()),
            loss => return Err(format!("a loss: {loss:?}").into()),
        }
        sleeps(subscription)?;
    }
    let received = rss_kib()?;
    print_line(&Memory { before, subscribed, received, digest })
}

/// Lets a subscription wait, as it does in a program.
fn sleeps(subscription: &mut Subscription) -> Outcome<()> {
    match subscription.poll_recv(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Pending => Ok(()),
        std::task::Poll::Ready(event) => Err(format!("{event:?} was received").into()),
    }
}

/// The median times of subscribes, in nanoseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Medians {
    channel: u64,
    topic: u64,
}

pub(super) fn subscribes(size: Size, cores: &Cores) -> Matchup {
    let subscribers = size.amount(10_000, 500);
    let load = Load { shape: Shape::MAIN, subscribers, count: 0 };
    let names = ["to a channel", "to a topic"];
    Matchup::together(Kind::Subscribe { subscribers }, size.rounds, names, || {
        let source = Source::replay(load.shape, WRITE_BYTES, &cores.server, None)?;
        let mut child = start(Role::Subscribe, &load, source.port(), cores.client(1), &[])?;
        let medians: Medians = child.value()?;
        child.finish()?;
        Ok([medians.channel as f64, medians.topic as f64])
    })
}

pub(super) async fn subscribe(job: &ManyJob) -> Outcome<()> {
    let hub = Hub::connect(&*conninfo(job)).await?;
    let channel = job.job.shape.channel(0);
    let _active = hub.subscribe(&channel).await?;
    let topics: Vec<String> = (0..job.subscribers).map(|index| format!("t{index}")).collect();
    let channel_ns = median(topics.iter().map(|_| hub.subscribe(&channel))).await?;
    let topic_ns = median(topics.iter().map(|topic| hub.subscribe_topic(&channel, topic))).await?;
    print_line(&Medians { channel: channel_ns, topic: topic_ns })
}

/// Awaits each subscribe, and returns the median of the times, in nanoseconds. Each must be ready when it is polled first: there is
/// no round trip.
async fn median(mut subscribes: impl Iterator<Item = Subscribe>) -> Outcome<u64> {
    let mut kept = Vec::new();
    let mut times = Vec::new();
    loop {
        let begin = Instant::now();
        let Some(subscribe) = subscribes.next() else { break };
        let mut future = pin!(subscribe.into_future());
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let took = begin.elapsed();
        let std::task::Poll::Ready(subscription) = polled else {
            return Err("a subscribe on an active channel waits".into());
        };
        kept.push(subscription?);
        times.push(nanos(took));
    }
    times.sort_unstable();
    Ok(*times.get(times.len() / 2).ok_or("no subscribe was measured")?)
}

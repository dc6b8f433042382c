//! Many tasks subscribe, receive and leave at random, while a writer commits numbers and the session is killed again and again.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_core::Stream;
use pgbell::{ChannelState, Connection, Event, HubHandle, Subscription};

use super::builder;
use crate::support::{Server, TEST_TIMEOUT, run_for, until};

const CHANNELS: u64 = 60;
const TOPICS: u64 = 4;
const TASKS: u64 = 8;

/// The number of operations: 20,000, or the value in the environment.
fn operations() -> u64 {
    std::env::var("PGBELL_OPERATIONS").map_or(20_000, |n| n.parse().expect("a number"))
}

/// The channel of a number, and its topic.
fn place(number: u64) -> (u64, u64) {
    (number % CHANNELS, number / CHANNELS % TOPICS)
}

/// A pseudo-random number below `limit`.
fn random(state: &mut u64, limit: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) % limit
}

/// The numbers are committed in their order, each in a transaction of its own.
struct Writer {
    /// The next number. Smaller ones may be committed, larger ones are not.
    next: AtomicU64,
    stop: AtomicBool,
}

impl Writer {
    async fn run(&self, mut connection: Connection) {
        while !self.stop.load(Ordering::Acquire) {
            let number = self.next.load(Ordering::Acquire);
            let (channel, topic) = place(number);
            self.next.store(number + 1, Ordering::Release);
            let payload = format!("t{topic}:{number}");
            connection.notify(&format!("ch{channel}"), &payload).await.unwrap();
        }
        connection.close().await;
    }
}

/// A subscription, and what it must receive.
struct Checked {
    subscription: Subscription,
    channel: u64,
    /// `None`: the whole channel.
    topic: Option<u64>,
    /// Every number from here on must be received, or be in a loss.
    next: u64,
    /// The last event was a loss: the next number may be a later one.
    after_loss: bool,
    /// The first number may be smaller: it was committed during the subscribe.
    is_first: bool,
}

impl Checked {
    fn is_wanted(&self, number: u64) -> bool {
        let (channel, topic) = place(number);
        channel == self.channel && self.topic.is_none_or(|wanted| wanted == topic)
    }

    fn check(&mut self, event: &Event) {
        let Event::Notification(notification) = event else {
            self.after_loss = true;
            return;
        };
        let payload = notification.payload();
        let number = match self.topic {
            Some(_) => payload,
            None => payload.split_once(':').unwrap().1,
        };
        let number: u64 = number.parse().unwrap();
        assert!(self.is_wanted(number), "{number} is of another channel or topic");
        let missing = (self.next..number).find(|missing| self.is_wanted(*missing));
        assert!(
            self.after_loss || missing.is_none(),
            "{missing:?} is missing before {number} in {:?}",
            self.subscription
        );
        assert!(self.is_first || number >= self.next, "{number} is a duplicate");
        (self.next, self.after_loss, self.is_first) = (number + 1, false, false);
    }

    fn receive(&mut self, most: u64) {
        for _ in 0..most {
            match self.subscription.try_recv().unwrap() {
                Some(event) => self.check(&event),
                None => return,
            }
        }
    }
}

async fn subscribe(hub: &HubHandle, writer: &Writer, state: &mut u64) -> Option<Checked> {
    let channel = random(state, CHANNELS);
    let topic = (random(state, 3) > 0).then(|| random(state, TOPICS));
    let name = format!("ch{channel}");
    let subscribe = match topic {
        Some(topic) => hub.subscribe_topic(name, format!("t{topic}")),
        None => hub.subscribe(name),
    };
    let capacity = if random(state, 4) == 0 { 3 } else { 1_024 };
    let subscribing = subscribe.queue_capacity(capacity).into_future();
    let subscription = if random(state, 8) == 0 {
        // Given up after a moment.
        let most = Duration::from_micros(random(state, 2_000));
        tokio::time::timeout(most, subscribing).await.ok()?.unwrap()
    } else {
        subscribing.await.unwrap()
    };
    let next = writer.next.load(Ordering::Acquire);
    let (after_loss, is_first) = (false, true);
    Some(Checked { subscription, channel, topic, next, after_loss, is_first })
}

async fn use_hub(hub: HubHandle, writer: Arc<Writer>, task: u64) -> Vec<Checked> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ (task + 1);
    let mut all: Vec<Checked> = Vec::new();
    let (mut count, share) = (0, operations() / TASKS);
    while count < share {
        let one = usize::try_from(random(&mut state, all.len().max(1) as u64)).unwrap();
        match random(&mut state, 10) {
            0..4 if all.len() < 12 => {
                all.extend(subscribe(&hub, &writer, &mut state).await);
                count += 1;
            }
            4..7 if !all.is_empty() => {
                drop(all.swap_remove(one));
                count += 1;
            }
            _ => {
                if let Some(one) = all.get_mut(one) {
                    one.receive(random(&mut state, 200));
                }
            }
        }
        if random(&mut state, 10) == 0 {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
    all
}

/// Also D4: one connection for all of them.
#[test]
fn whatever_is_committed_after_a_subscribe_is_received_or_reported_while_the_session_is_killed() {
    let server = Server::start();
    run_for(10 * TEST_TIMEOUT, async {
        let hub = builder(&server).connect().await.unwrap();
        let handle = hub.handle();
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let writer = Arc::new(Writer { next, stop });
        let connection = server.connection().await;
        let writing = tokio::spawn({
            let writer = writer.clone();
            async move { writer.run(connection).await }
        });
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| tokio::spawn(use_hub(handle.clone(), writer.clone(), task)))
            .collect();
        let mut kills = 0;
        while tasks.iter().any(|task| !task.is_finished()) {
            tokio::time::sleep(Duration::from_millis(25)).await;
            if let Some(process_id) = handle.process_id() {
                // It may have ended in the meantime.
                let _ = server.cluster.terminate_backend(process_id);
                kills += 1;
            }
        }
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        handle.wait_state(pgbell::State::Connected).await.unwrap();
        writer.stop.store(true, Ordering::Release);
        writing.await.unwrap();
        let end = writer.next.load(Ordering::Acquire);
        // The session listens to the channels of the subscriptions, and to no other.
        let wanted: BTreeSet<String> = all.iter().map(|one| format!("ch{}", one.channel)).collect();
        let deadline = tokio::time::Instant::now() + TEST_TIMEOUT;
        loop {
            let channels = handle.channels().await.unwrap();
            let active = channels.iter().all(|(_, state)| matches!(state, ChannelState::Active));
            let names: BTreeSet<String> = channels.into_iter().map(|(name, _)| name).collect();
            if active && names == wanted {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{names:?} instead of {wanted:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let stats = hub.stats();
        assert_eq!(stats.subscriptions, all.len() as u64);
        handle.drain(TEST_TIMEOUT).await.unwrap();
        for one in &mut all {
            let mut subscription = pin!(&mut one.subscription);
            let mut events = Vec::new();
            while let Some(Ok(event)) =
                std::future::poll_fn(|cx| subscription.as_mut().poll_next(cx)).await
            {
                events.push(event);
            }
            events.iter().for_each(|event| one.check(event));
            let missing = (one.next..end).find(|missing| one.is_wanted(*missing));
            assert!(one.after_loss || missing.is_none(), "{missing:?} of {end} is missing");
        }
        drop(all);
        until("everything has left", || hub.stats().subscriptions == 0).await;
        report(&format!("{} gaps, {kills} kills, {stats:?}", stats.connection.gaps));
        assert!(stats.connection.gaps > 0 && kills > 1, "{kills} kills");
        hub.close().await;
    });
}

#[expect(clippy::print_stdout, reason = "a run with many repetitions prints its measurements")]
fn report(text: &str) {
    println!("{text}");
}

//! The memory formula in the documentation of `Hub`.

use std::future::IntoFuture;

use pgbell::{Hub, Overflow, Subscribe, Subscription};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::alone;
use crate::meter::Meter;
use crate::peer::{bind, let_in, notifications, read_query};

/// What the hub itself may take.
const HUB_BYTES: usize = 1024 * 1024;

/// What a subscription takes that has received everything.
const IDLE_BYTES: usize = 1024;

/// The documented formula.
fn formula(capacity: usize, bytes: usize) -> usize {
    IDLE_BYTES + 4 * bytes + 512 * capacity
}

/// A hub, and the server's end of its socket.
struct Served {
    hub: Hub,
    socket: TcpStream,
    written: u64,
}

impl Served {
    async fn connect() -> Self {
        let (server, url) = bind().await;
        let (hub, socket) = tokio::join!(Hub::builder(&*url).connect(), let_in(&server));
        Self { hub: hub.unwrap(), socket, written: 0 }
    }

    /// Makes a subscription for which the server must listen.
    async fn subscribe(&mut self, subscribe: Subscribe) -> Subscription {
        let answer = async {
            read_query(&mut self.socket).await;
            let answer = b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I";
            self.socket.write_all(answer).await.unwrap();
        };
        let (subscription, ()) = tokio::join!(subscribe.into_future(), answer);
        self.written = self.hub.stats().connection.bytes_read;
        subscription.unwrap()
    }

    /// Writes notifications, and waits until they are read.
    async fn write(&mut self, bytes: &[u8], meter: &mut Meter) {
        self.written += bytes.len() as u64;
        let mut rest = bytes;
        while self.hub.stats().connection.bytes_read < self.written {
            if let Ok(count) = self.socket.try_write(rest) {
                rest = &rest[count..];
            }
            tokio::task::yield_now().await;
            meter.look();
        }
    }
}

/// One notification for a topic.
fn with_topic(topic: &str) -> Vec<u8> {
    let payload = format!("{topic}:x");
    let length = u32::try_from(payload.len() + 11).unwrap();
    [b"A", &length.to_be_bytes()[..], &1_i32.to_be_bytes(), b"a\0", payload.as_bytes(), b"\0"]
        .concat()
}

#[test]
fn a_subscription_that_has_received_everything_takes_less_than_a_kibibyte() {
    const COUNT: usize = 10_000;
    alone(async {
        let mut served = Served::connect().await;
        let subscribe = served.hub.subscribe("a");
        let first = served.subscribe(subscribe).await;
        let mut meter = Meter::start();
        let mut all = Vec::with_capacity(COUNT);
        for number in 0..COUNT {
            let topic = format!("topic-{number}");
            all.push(served.hub.subscribe_topic("a", &topic).await.unwrap());
        }
        let never = meter.held() / COUNT;
        for number in 0..COUNT {
            served.write(&with_topic(&format!("topic-{number}")), &mut meter).await;
        }
        drop(first);
        for subscription in &mut all {
            let event = subscription.recv().await.unwrap();
            assert_eq!(event.notification().unwrap().payload(), "x");
            // It waits for the next one.
            let waits = tokio::time::timeout(std::time::Duration::ZERO, subscription.recv());
            assert!(waits.await.is_err());
        }
        let idle = meter.held() / COUNT;
        assert!(never <= IDLE_BYTES && idle <= IDLE_BYTES, "{never} and {idle} bytes");
        let channels = served.hub.stats().channels;
        drop(all);
        let left = meter.held() / COUNT;
        assert!(left < IDLE_BYTES / 8, "{left} bytes, {channels} channels");
    });
}

#[test]
fn no_subscriber_makes_a_subscription_take_more_memory_than_the_formula_says() {
    let short = notifications(3_000, 1);
    let long = notifications(8, 7_900);
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        for (capacity, bytes) in [(1, 8 * 1024), (64, 32 * 1024), (10_000, 1024 * 1024)] {
            let (peak, most) = alone(async {
                let mut served = Served::connect().await;
                let subscribe = served.hub.subscribe("a").overflow(overflow);
                let subscribe = subscribe.queue_capacity(capacity).queue_bytes(bytes);
                let mut meter = Meter::start();
                let mut subscription = served.subscribe(subscribe).await;
                let mut received = 0;
                for turn in 0..100 {
                    served
                        .write(&short[..short.len() / 3_000 * (turn % 7 * 400 + 1)], &mut meter)
                        .await;
                    // One by one.
                    for _ in 0..turn % 5 * 20 {
                        served.write(&short[..short.len() / 3_000], &mut meter).await;
                    }
                    served.write(&long[..long.len() / 8 * (turn % 9)], &mut meter).await;
                    // It takes a little, and keeps its last batch.
                    for _ in 0..turn % 3 {
                        if let Ok(Some(_)) = subscription.try_recv() {
                            received += 1;
                        }
                    }
                    let stats = subscription.stats();
                    assert!(stats.queued <= capacity as u64 && stats.queued_bytes <= bytes as u64);
                }
                assert!(received > 0 && subscription.stats().dropped > 0);
                (meter.peak(), formula(capacity, bytes) + HUB_BYTES)
            });
            assert!(peak <= most, "{overflow:?}, {capacity}, {bytes}: {peak} of {most} bytes");
        }
    }
}

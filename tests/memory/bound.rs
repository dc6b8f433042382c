//! The memory formula in the documentation of `ListenerBuilder`, and the worst consumer for it.

use std::time::Duration;

use pgbell::{Listener, Overflow};

use crate::alone;
use crate::peer::{Pair, diagnostic, notifications};

/// The documented formula of `ListenerBuilder::queue_bytes`.
pub(crate) fn formula(capacity: usize, bytes: usize) -> usize {
    288 * 1024 * (bytes.div_ceil(232 * 1024) + 4) + 144 * capacity
}

/// Slots for reads beyond the capacity, the session, the task and its socket.
pub(crate) const OVERHEAD_BYTES: usize = 256 * 1024;

const BLOCK: Overflow = Overflow::Block { max_stall: Duration::from_secs(3_600) };

/// Capacity and bytes: the defaults, the smallest, and others.
const QUEUES: [(usize, usize); 5] = [
    (16_384, 8 * 1024 * 1024),
    (1, 256 * 1024 + 1),
    (64, 300 * 1024),
    (1_000, 4 * 1024 * 1024),
    (65_536, 1024 * 1024),
];

#[test]
fn no_mix_of_traffic_takes_more_memory_than_the_formula_says() {
    let short = notifications(5_000, 1);
    let single = notifications(1, 1);
    let long = notifications(8, 7_999);
    let notice = diagnostic(b'N', 90 * 1024);
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, BLOCK] {
        for (capacity, bytes) in QUEUES {
            let peak = alone(async {
                let mut pair = Pair::connect(|url| {
                    let builder = Listener::builder(url).queue_capacity(capacity);
                    let builder = builder.queue_bytes(bytes).overflow(overflow).pin_limit_bytes(0);
                    // A delayed read looks like a stalled one, and the consumer would take events too early.
                    builder.read_delay(Duration::ZERO)
                })
                .await;
                // One in every 250 KiB, which are dropped or stall the task.
                pair.take_every = 250 * 1024;
                for _ in 0..20 {
                    pair.write(&short, 5_000).await;
                }
                for _ in 0..300 {
                    pair.write(&single, 1).await;
                }
                for _ in 0..2 * bytes / long.len() {
                    pair.write(&long, 8).await;
                }
                // A little more than an eighth of each buffer, and the consumer takes none. Of less there would be copies.
                pair.drain().await;
                pair.take_every = u64::MAX;
                for _ in 0..2 * bytes.div_ceil(256 * 1024) + 8 {
                    pair.write(&long[..long.len() / 8 * 5], 5).await;
                    for _ in 0..3 {
                        pair.write(&notice, 0).await;
                    }
                }
                pair.take_every = 250 * 1024;
                for turn in 0..40 {
                    pair.write(&long, 8).await;
                    pair.write(&single, 1).await;
                    if turn % 2 == 0 {
                        pair.write(&notice, 0).await;
                    } else {
                        pair.write(&short[..single.len() * 100], 100).await;
                    }
                }
                pair.drain().await;
                pair.meter.peak()
            });
            let most = formula(capacity, bytes) + OVERHEAD_BYTES;
            assert!(
                peak <= most,
                "{overflow:?}, {capacity}, {bytes}: {peak} bytes, more than {most}"
            );
            // It was near the worst case. (A queue for one notification does not use all its buffers.)
            assert!(
                capacity == 1 || 4 * peak > 3 * most,
                "{overflow:?}, {capacity}, {bytes}: {peak} of {most}"
            );
        }
    }
}

/// A million notifications arrive while the consumer sleeps.
#[test]
fn a_consumer_that_sleeps_takes_no_more_memory_than_the_formula_and_every_notification_is_counted()
{
    let million = notifications(1_000, 32);
    for overflow in [
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::Block { max_stall: Duration::from_millis(1) },
    ] {
        let (first, peak) = alone(async {
            let mut pair = Pair::connect(|url| Listener::builder(url).overflow(overflow)).await;
            pair.asleep = true;
            for _ in 0..1_000 {
                pair.write(&million, 1_000).await;
            }
            let first = (pair.take(), pair.next, pair.lost);
            pair.drain().await;
            assert_eq!((pair.next, pair.lost), (1_000_000, 1_000_000 - 16_384), "{overflow:?}");
            (first, pair.meter.peak())
        });
        // The newest, or the oldest.
        let expect = match overflow {
            Overflow::DropOldest => (true, 1_000_000 - 16_384, 1_000_000 - 16_384),
            _ => (true, 1, 0),
        };
        assert_eq!(first, expect, "{overflow:?}");
        assert!(peak <= formula(16_384, 8 * 1024 * 1024) + OVERHEAD_BYTES, "{overflow:?}: {peak}");
    }
}

//! Models of the ring: every interleaving within the preemption bound, weak memory included.
//!
//! `RUSTFLAGS="--cfg loom -C debug-assertions" cargo test --release --lib ring::loom`;
//! `LOOM_MAX_PREEMPTIONS=2` keeps it to seconds, 4 takes minutes.

pub(super) mod lock;
mod pins;
mod sleep;

use std::future::poll_fn;
use std::task::{Context, Poll};

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use super::{Consumer, Producer, Taken, channel};

/// What an item holds: its own first sequence number and its length.
type Probe = (u64, u64);

/// What a mark says: its own place, and how many it stands for.
type Place = (u64, u64);

fn push(producer: &mut Producer<Probe, Place>, count: u64) {
    producer.push((producer.sequence(), count), count, count);
}

fn mark(producer: &mut Producer<Probe, Place>) {
    producer.mark((producer.sequence(), 1), |last, more| last.1 += more.1);
}

/// What came out of a ring until its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    delivered: u64,
    lost: u64,
    marks: u64,
}

impl Sum {
    /// Panics unless every sequence number comes once and in order. Returns whether it is the end.
    fn add(&mut self, taken: &Taken<Probe, Place>) -> bool {
        let next = self.delivered + self.lost;
        match *taken {
            Taken::Item { value: (stamp, count), first, skip } => {
                assert_eq!((stamp, first + skip), (first, next), "an item out of its place");
                assert!(skip < count, "an item with nothing to look at");
                self.delivered += count - skip;
            }
            Taken::Lost { first, count } => {
                assert_eq!(first, next, "a loss out of its place");
                assert!(count > 0);
                self.lost += count;
            }
            Taken::Mark((at, marks)) => {
                assert_eq!(at, next, "a mark out of its place");
                self.marks += marks;
            }
            Taken::Empty => thread::yield_now(),
            Taken::Closed => return true,
        }
        false
    }
}

fn drain(mut consumer: Consumer<Probe, Place>) -> Sum {
    let mut sum = Sum::default();
    while !sum.add(&consumer.try_take()) {}
    sum
}

/// Polls, and sleeps in between. A side that finds the other at its waker is polled again until that one is
/// through: loom must be told that it waits.
fn asleep<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    block_on(poll_fn(|cx| {
        let found = poll(cx);
        if found.is_pending() {
            thread::yield_now();
        }
        found
    }))
}

/// The same, asleep while there is nothing.
fn drain_asleep(mut consumer: Consumer<Probe, Place>) -> Sum {
    let mut sum = Sum::default();
    while !sum.add(&asleep(|cx| consumer.poll_take(cx))) {}
    sum
}

#[test]
fn lapping_loses_exactly_what_is_not_delivered() {
    loom::model(|| {
        let (mut producer, consumer) = channel(2);
        let writer = thread::spawn(move || {
            for _ in 0..3 {
                push(&mut producer, 1);
                producer.publish();
            }
        });
        let sum = drain(consumer);
        assert_eq!(sum.delivered + sum.lost, 3);
        assert!(sum.lost <= 1, "two of three fit");
        writer.join().unwrap();
    });
}

/// Two slots, of which one may be unread: the third item belongs where the consumer may still be.
#[test]
fn a_slot_that_the_consumer_is_in_is_passed_over() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel(1);
        let writer = thread::spawn(move || {
            for _ in 0..3 {
                push(&mut producer, 1);
                producer.publish();
            }
            producer
        });
        let mut sum = Sum::default();
        while sum.delivered + sum.lost < 3 {
            sum.add(&consumer.try_take());
        }
        assert!(sum.delivered >= 1, "the last one is never lost");
        let producer = writer.join().unwrap();
        assert_eq!((producer.unread(), producer.unread_bytes()), (0, 0));
        assert!(producer.has_slot());
    });
}

/// It looks from a round behind for an item that is gone, and finds the one that is to be taken back.
#[test]
fn what_a_consumer_a_round_behind_keeps_from_eviction_is_accounted_for() {
    loom::model(|| {
        let held = Arc::new(());
        let (mut producer, mut consumer) = channel::<_, ()>(1);
        producer.push(held.clone(), 1, 1);
        producer.publish();
        let writer = thread::spawn({
            let held = held.clone();
            move || {
                producer.push(held.clone(), 1, 1);
                producer.push(held.clone(), 1, 1);
                let evicted = u64::from(producer.evict());
                // Where it was kept, the second of these comes upon it.
                producer.push(held.clone(), 1, 1);
                producer.push(held.clone(), 1, 1);
                producer.publish();
                (producer, evicted)
            }
        });
        let (mut delivered, mut lost) = (0, 0);
        while delivered + lost < 5 {
            match consumer.try_take() {
                Taken::Item { first, skip, .. } => {
                    assert_eq!((first, skip), (delivered + lost, 0));
                    delivered += 1;
                }
                Taken::Lost { first, count } => {
                    assert_eq!(first, delivered + lost);
                    lost += count;
                }
                _ => thread::yield_now(),
            }
        }
        let (producer, evicted) = writer.join().unwrap();
        // What was taken back is not delivered, and the newest is.
        assert!((1..=5 - evicted).contains(&delivered), "{delivered} {evicted}");
        assert_eq!((producer.unread(), producer.unread_bytes()), (0, 0));
        assert!(matches!(consumer.try_take(), Taken::Empty));
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// What is not there any more counts neither as unread nor as taken, whoever was quicker.
#[test]
fn room_is_counted_right_whoever_gets_an_item() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel(2);
        push(&mut producer, 1);
        push(&mut producer, 2);
        producer.publish();
        let reader = thread::spawn(move || {
            let mut sum = Sum::default();
            sum.add(&consumer.try_take());
            (consumer, sum)
        });
        let evicted = producer.evict();
        push(&mut producer, 4);
        producer.publish();
        let (mut consumer, mut sum) = reader.join().unwrap();
        assert!(evicted);
        while sum.delivered + sum.lost < 7 {
            assert!(!sum.add(&consumer.try_take()));
        }
        assert!(sum.delivered >= 4, "the last one is never lost");
        assert_eq!((producer.unread(), producer.unread_bytes()), (0, 0));
    });
}

#[test]
fn eviction_and_take_never_both_get_an_item() {
    loom::model(|| {
        let (mut producer, consumer) = channel(2);
        let writer = thread::spawn(move || {
            push(&mut producer, 1);
            producer.publish();
            push(&mut producer, 1);
            producer.publish();
            let evicted = u64::from(producer.evict());
            drop(producer);
            evicted
        });
        let sum = drain(consumer);
        assert_eq!(sum.delivered + sum.lost, 2);
        assert_eq!(sum.lost, writer.join().unwrap());
    });
}

#[test]
fn the_floor_is_exact() {
    loom::model(|| {
        let (mut producer, consumer) = channel(4);
        let writer = thread::spawn(move || {
            push(&mut producer, 1);
            push(&mut producer, 1);
            producer.publish();
            producer.keep_newest(1);
            producer.skip(1);
            producer.publish();
        });
        let sum = drain(consumer);
        assert_eq!(sum.delivered + sum.lost, 3);
        assert!(sum.delivered >= 1 && sum.lost >= 1);
        writer.join().unwrap();
    });
}

/// An item that lies across the floor, while it is taken: the whole of it, or its upper part.
#[test]
fn of_an_item_across_the_floor_the_upper_part_is_delivered() {
    loom::model(|| {
        let (mut producer, consumer) = channel(2);
        let writer = thread::spawn(move || {
            push(&mut producer, 3);
            producer.publish();
            producer.keep_newest(1);
            producer.publish();
        });
        let sum = drain(consumer);
        assert!(matches!((sum.delivered, sum.lost), (3, 0) | (1, 2)), "{sum:?}");
        writer.join().unwrap();
    });
}

/// What DropOldest does with a queue for one: the last one is never the one that is lost.
#[test]
fn the_newest_is_delivered_whatever_is_dropped() {
    loom::model(|| {
        let (mut producer, consumer) = channel(2);
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                push(&mut producer, 1);
                producer.keep_newest(1);
                producer.publish();
            }
            producer.skip(1);
        });
        let sum = drain(consumer);
        assert_eq!(sum.delivered + sum.lost, 3);
        assert!(sum.delivered >= 1);
        writer.join().unwrap();
    });
}

#[test]
fn a_loss_at_the_end_is_seen_and_never_early() {
    loom::model(|| {
        let (mut producer, consumer) = channel(2);
        let writer = thread::spawn(move || {
            push(&mut producer, 1);
            producer.skip(2);
            producer.publish();
            push(&mut producer, 1);
            producer.publish();
        });
        assert_eq!(drain(consumer), Sum { delivered: 2, lost: 2, marks: 0 });
        writer.join().unwrap();
    });
}

/// The producer goes without having published: the end comes behind it.
#[test]
fn the_end_comes_after_everything() {
    loom::model(|| {
        let (mut producer, consumer) = channel(2);
        let writer = thread::spawn(move || {
            push(&mut producer, 1);
            producer.skip(1);
            mark(&mut producer);
        });
        assert_eq!(drain_asleep(consumer), Sum { delivered: 1, lost: 1, marks: 1 });
        writer.join().unwrap();
    });
}

#[test]
fn a_mark_keeps_its_place() {
    loom::model(|| {
        let (mut producer, consumer) = channel(2);
        let writer = thread::spawn(move || {
            push(&mut producer, 1);
            producer.publish();
            mark(&mut producer);
            push(&mut producer, 1);
            producer.publish();
        });
        assert_eq!(drain(consumer), Sum { delivered: 2, lost: 0, marks: 1 });
        writer.join().unwrap();
    });
}

/// The consumer takes one while the next is made, or is merged into it.
#[test]
fn no_mark_is_lost_while_another_is_taken() {
    loom::model(|| {
        let (mut producer, consumer) = channel(2);
        let writer = thread::spawn(move || {
            mark(&mut producer);
            mark(&mut producer);
            producer.skip(1);
            mark(&mut producer);
        });
        assert_eq!(drain(consumer), Sum { delivered: 0, lost: 1, marks: 3 });
        writer.join().unwrap();
    });
}

/// A consumer goes while the producer pushes and evicts: no item is left where nobody can reach it.
#[test]
fn everything_is_freed_when_the_consumer_goes() {
    loom::model(|| {
        let held = Arc::new(());
        let (mut producer, consumer) = channel::<Arc<()>, ()>(2);
        producer.push(held.clone(), 1, 1);
        producer.publish();
        let reader = thread::spawn(move || drop(consumer));
        producer.push(held.clone(), 1, 1);
        producer.publish();
        let _ = producer.evict();
        reader.join().unwrap();
        while producer.evict() {}
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

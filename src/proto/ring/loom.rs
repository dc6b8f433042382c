//! Models of the ring: every interleaving within the preemption bound, weak memory included.
//!
//! `RUSTFLAGS="--cfg loom -C debug-assertions" cargo test --release --lib ring::loom`;
//! With `LOOM_MAX_PREEMPTIONS=2` they take seconds, with 4 minutes.

pub(super) mod lock;
mod marks;
mod pins;
mod sleep;

use std::future::poll_fn;
use std::task::{Context, Poll};

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use super::{Consumer, Producer, Taken, channel};

/// The value of an item: its first sequence number and its number of notifications.
type ItemValue = (u64, u64);

/// The value of a mark: its position, and the number of marks that were merged into it.
type MarkValue = (u64, u64);

fn push(producer: &mut Producer<ItemValue, MarkValue>, count: u64) {
    producer.push((producer.sequence(), count), count, count);
}

fn mark(producer: &mut Producer<ItemValue, MarkValue>) {
    producer.mark((producer.sequence(), 1), |last, more| last.1 += more.1);
}

/// The elements that were taken out of a ring.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    delivered: u64,
    lost: u64,
    marks: u64,
}

impl Sum {
    /// Adds an element. Returns true at the end. Panics if the sequence numbers are not consecutive.
    fn add(&mut self, taken: &Taken<ItemValue, MarkValue>) -> bool {
        let next = self.delivered + self.lost;
        match *taken {
            Taken::Item { value: (own_first, count), first, skip } => {
                assert_eq!((own_first, first + skip), (first, next), "an item out of order");
                assert!(skip < count, "an item with no notification left");
                self.delivered += count - skip;
            }
            Taken::Lost { first, count } => {
                assert_eq!(first, next, "a loss out of order");
                assert!(count > 0);
                self.lost += count;
            }
            Taken::Mark((at, marks)) => {
                assert_eq!(at, next, "a mark out of order");
                self.marks += marks;
            }
            Taken::Empty => thread::yield_now(),
            Taken::Closed => return true,
        }
        false
    }
}

fn drain(mut consumer: Consumer<ItemValue, MarkValue>) -> Sum {
    let mut sum = Sum::default();
    while !sum.add(&consumer.try_take()) {}
    sum
}

/// Polls until the result is ready, and sleeps between the polls. A side whose waker is locked by the other side wakes
/// itself: the yield makes loom run the other thread.
fn asleep<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    block_on(poll_fn(|cx| {
        let found = poll(cx);
        if found.is_pending() {
            thread::yield_now();
        }
        found
    }))
}

/// The same as `drain`, but sleeps while the ring is empty.
fn drain_asleep(mut consumer: Consumer<ItemValue, MarkValue>) -> Sum {
    let mut sum = Sum::default();
    while !sum.add(&asleep(|cx| consumer.poll_take(cx))) {}
    sum
}

#[test]
fn after_a_full_round_each_notification_is_delivered_or_lost() {
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

/// Two slots, of which one may be unread: the third item uses the slot that the consumer may still have locked.
#[test]
fn a_slot_that_the_consumer_has_locked_is_skipped() {
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

/// The consumer looks for an item of the previous round, and locks the slot of an item that is to be evicted.
#[test]
fn an_item_that_a_consumer_a_round_behind_keeps_from_eviction_is_counted() {
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
                // If that one was not evicted, the second of these items finds it in its slot.
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
        // An evicted item is not delivered, and the newest one is.
        assert!((1..=5 - evicted).contains(&delivered), "{delivered} {evicted}");
        assert_eq!((producer.unread(), producer.unread_bytes()), (0, 0));
        assert!(matches!(consumer.try_take(), Taken::Empty));
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// An item that was evicted counts neither as unread nor as taken.
#[test]
fn unread_notifications_are_counted_right_while_items_are_taken_and_evicted() {
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

/// The floor is set inside an item while the item is taken: all of it is delivered, or its newer part.
#[test]
fn the_newer_part_of_an_item_across_the_floor_is_delivered() {
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

/// The model is `Overflow::DropOldest` with a queue of one notification.
#[test]
fn the_newest_notification_is_always_delivered() {
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
fn a_loss_at_the_end_is_reported_and_never_early() {
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

/// The producer is dropped without a call of `publish`.
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
fn a_mark_keeps_its_position() {
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

/// The consumer is dropped while the producer pushes and evicts.
#[test]
fn everything_is_freed_when_the_consumer_is_dropped() {
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

//! Models of sleeping and waking.

use loom::thread;

use super::super::{Taken, channel};
use super::{ItemValue, MarkValue, Sum, asleep, drain, mark, push};

#[test]
fn a_sleeper_is_woken() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel(2);
        let writer = thread::spawn(move || {
            push(&mut producer, 1);
            producer.publish();
            producer
        });
        let found = asleep(|cx| consumer.poll_take(cx));
        assert_eq!(found, Taken::Item { value: (0, 1), first: 0, skip: 0 });
        drop(writer.join().unwrap());
        assert_eq!(consumer.try_take(), Taken::Closed);
    });
}

/// The consumer sleeps again while the previous wake-up is in progress, or finds an item just before it sleeps.
#[test]
fn a_sleeper_is_woken_every_time() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel(2);
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                push(&mut producer, 1);
                producer.publish();
            }
            producer
        });
        for first in 0..2 {
            let found = asleep(|cx| consumer.poll_take(cx));
            assert_eq!(found, Taken::Item { value: (first, 1), first, skip: 0 });
        }
        drop(writer.join().unwrap());
    });
}

#[test]
fn a_mark_wakes_a_sleeper() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel(1);
        let writer = thread::spawn(move || {
            mark(&mut producer);
            producer
        });
        assert_eq!(asleep(|cx| consumer.poll_take(cx)), Taken::Mark((0, 1)));
        drop(writer.join().unwrap());
    });
}

#[test]
fn the_end_wakes_a_sleeper() {
    loom::model(|| {
        let (producer, mut consumer) = channel::<ItemValue, MarkValue>(1);
        let writer = thread::spawn(move || drop(producer));
        assert_eq!(asleep(|cx| consumer.poll_take(cx)), Taken::Closed);
        writer.join().unwrap();
    });
}

#[test]
fn room_wakes_a_waiting_producer() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel(1);
        push(&mut producer, 1);
        producer.publish();
        let reader = thread::spawn(move || {
            let taken = consumer.try_take();
            (consumer, taken)
        });
        asleep(|cx| producer.poll_room(cx, |p| p.unread() == 0));
        let (_consumer, taken) = reader.join().unwrap();
        assert_eq!(taken, Taken::Item { value: (0, 1), first: 0, skip: 0 });
    });
}

/// As with `Overflow::Block`: wait, then push. A slot that is reported as free is free.
#[test]
fn a_producer_that_waits_for_room_loses_nothing() {
    loom::model(|| {
        let (mut producer, consumer) = channel(1);
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                asleep(|cx| producer.poll_room(cx, |p| p.has_slot() && p.unread_bytes() == 0));
                push(&mut producer, 1);
                producer.publish();
            }
        });
        assert_eq!(drain(consumer), Sum { delivered: 2, lost: 0, marks: 0 });
        writer.join().unwrap();
    });
}

#[test]
fn a_consumer_that_is_dropped_wakes_a_waiting_producer() {
    loom::model(|| {
        // The ring is empty: an item that is taken would wake the producer too.
        let (mut producer, consumer) = channel::<ItemValue, MarkValue>(1);
        let reader = thread::spawn(move || drop(consumer));
        asleep(|cx| producer.poll_room(cx, |_| false));
        assert!(producer.is_abandoned());
        reader.join().unwrap();
    });
}

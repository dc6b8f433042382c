//! Models of the ring: every interleaving within the preemption bound, weak memory included.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib ring::loom`; `LOOM_MAX_PREEMPTIONS=2` keeps it
//! to seconds, 3 takes minutes.

use std::future::poll_fn;
use std::num::NonZeroU64;
use std::task::Poll;

use bytes::Bytes;
use loom::future::block_on;
use loom::thread;

use super::{Consumer, Lender, Pins, Taken, channel};

/// Takes until the end; panics unless every sequence number comes once and in order.
/// Returns how many were delivered and how many lost.
fn drain(mut consumer: Consumer<u64, u64>) -> (u64, u64) {
    let (mut next, mut delivered, mut lost) = (0, 0, 0);
    loop {
        match consumer.try_take() {
            Taken::Item { value, first, skip } => {
                assert_eq!((value, first + skip), (first, next), "an item out of its place");
                next += 1;
                delivered += 1;
            }
            Taken::Lost { first, count } => {
                assert_eq!(first, next);
                next += count;
                lost += count;
            }
            Taken::Mark(at) => assert_eq!(at, next, "a mark out of its place"),
            Taken::Empty => thread::yield_now(),
            Taken::Closed => return (delivered, lost),
        }
    }
}

#[test]
fn lapping_loses_exactly_what_is_not_delivered() {
    loom::model(|| {
        let (mut producer, consumer) = channel::<u64, u64>(2);
        let writer = thread::spawn(move || {
            for n in 0..3 {
                producer.push(n, 1, 1);
                producer.publish();
            }
        });
        let (delivered, lost) = drain(consumer);
        assert_eq!(delivered + lost, 3);
        assert!(lost <= 1, "two of three fit");
        writer.join().unwrap();
    });
}

#[test]
fn eviction_and_take_never_both_get_an_item() {
    loom::model(|| {
        let (mut producer, consumer) = channel::<u64, u64>(2);
        let writer = thread::spawn(move || {
            producer.push(0, 1, 1);
            producer.publish();
            producer.push(1, 1, 1);
            producer.publish();
            let evicted = u64::from(producer.evict());
            drop(producer);
            evicted
        });
        let (delivered, lost) = drain(consumer);
        assert_eq!(delivered + lost, 2);
        assert_eq!(lost, writer.join().unwrap());
    });
}

#[test]
fn the_floor_is_exact() {
    loom::model(|| {
        let (mut producer, consumer) = channel::<u64, u64>(4);
        let writer = thread::spawn(move || {
            producer.push(0, 1, 1);
            producer.push(1, 1, 1);
            producer.publish();
            producer.keep_newest(1);
            producer.skip(1);
            producer.publish();
        });
        let (delivered, lost) = drain(consumer);
        assert_eq!(delivered + lost, 3);
        assert!(delivered >= 1 && lost >= 1);
        writer.join().unwrap();
    });
}

#[test]
fn a_loss_at_the_end_is_seen_and_never_early() {
    loom::model(|| {
        let (mut producer, consumer) = channel::<u64, u64>(2);
        let writer = thread::spawn(move || {
            producer.push(0, 1, 1);
            producer.skip(2);
            producer.publish();
            producer.push(3, 1, 1);
            producer.publish();
        });
        assert_eq!(drain(consumer), (2, 2));
        writer.join().unwrap();
    });
}

#[test]
fn a_mark_keeps_its_place() {
    loom::model(|| {
        let (mut producer, consumer) = channel::<u64, u64>(2);
        let writer = thread::spawn(move || {
            producer.push(0, 1, 1);
            producer.publish();
            producer.mark(1, |_, _| {});
            producer.push(1, 1, 1);
            producer.publish();
        });
        assert_eq!(drain(consumer), (2, 0));
        writer.join().unwrap();
    });
}

#[test]
fn a_sleeper_is_woken() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel::<u64, u64>(2);
        let writer = thread::spawn(move || {
            producer.push(0, 1, 1);
            producer.publish();
            producer
        });
        let found = block_on(poll_fn(|cx| consumer.poll_take(cx)));
        assert_eq!(found, Taken::Item { value: 0, first: 0, skip: 0 });
        drop(writer.join().unwrap());
        assert_eq!(consumer.try_take(), Taken::Closed);
    });
}

#[test]
fn the_end_wakes_a_sleeper() {
    loom::model(|| {
        let (producer, mut consumer) = channel::<u64, u64>(1);
        let writer = thread::spawn(move || drop(producer));
        assert_eq!(block_on(poll_fn(|cx| consumer.poll_take(cx))), Taken::Closed);
        writer.join().unwrap();
    });
}

#[test]
fn room_wakes_a_waiting_producer() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel::<u64, u64>(1);
        producer.push(0, 1, 1);
        producer.publish();
        let reader = thread::spawn(move || {
            let taken = consumer.try_take();
            (consumer, taken)
        });
        block_on(poll_fn(|cx| match producer.poll_room(cx, |p| p.unread() == 0) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }));
        let (_consumer, taken) = reader.join().unwrap();
        assert_eq!(taken, Taken::Item { value: 0, first: 0, skip: 0 });
    });
}

/// Lends a buffer of one byte.
fn lender(pins: &Pins) -> Lender {
    let mut lender = Lender::new(pins.clone(), 1);
    lender.lend(Bytes::from_static(b"x"), NonZeroU64::new(1));
    lender
}

#[test]
fn two_buffers_never_have_the_room_of_one() {
    loom::model(|| {
        let pins = Pins::new(1);
        let hold = |lender: Lender, pins: Pins| {
            let held = lender.lent().hold(0..1);
            assert!(pins.bytes() <= 1);
            held.is_some()
        };
        let (first, second) = (lender(&pins), lender(&pins));
        let other = thread::spawn({
            let pins = pins.clone();
            move || hold(first, pins)
        });
        let one_held = hold(second, pins.clone());
        assert!(other.join().unwrap() || one_held, "the first to come has room");
        assert_eq!(pins.bytes(), 0);
    });
}

#[test]
fn one_buffer_counts_once_whoever_holds_it() {
    loom::model(|| {
        let pins = Pins::new(1);
        let lender = lender(&pins);
        let held = lender.lent().hold(0..1).unwrap();
        let other = thread::spawn(move || {
            let clone = held.clone();
            drop(held);
            drop(clone);
        });
        // Perhaps before the other is at its end, perhaps after, and perhaps just then: it may find the
        // limit reached, but what it holds is counted.
        let again = lender.lent().hold(0..1);
        assert!(again.is_none() || pins.bytes() == 1);
        other.join().unwrap();
        assert_eq!(pins.bytes(), u64::from(again.is_some()));
        drop(again);
        assert_eq!(pins.bytes(), 0);
    });
}

#[test]
fn the_last_pin_wakes_a_waiting_reader() {
    loom::model(|| {
        let pins = Pins::new(1);
        let held = lender(&pins).lent().hold(0..1).unwrap();
        let other = thread::spawn(move || drop(held));
        block_on(poll_fn(|cx| {
            pins.wake_on_release(cx);
            if pins.bytes() == 0 { Poll::Ready(()) } else { Poll::Pending }
        }));
        other.join().unwrap();
    });
}

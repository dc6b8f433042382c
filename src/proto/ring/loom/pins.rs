//! Models of the count of pinned buffers.

use std::num::NonZeroU64;
use std::task::Poll;

use bytes::Bytes;
use loom::thread;

use super::super::{Lender, Pins};
use super::asleep;

/// Returns a lender of a buffer of one byte.
fn lender(pins: &Pins) -> Lender {
    let mut lender = Lender::new(pins.clone(), 1);
    lender.lend(Bytes::from_static(b"x"), NonZeroU64::new(1));
    lender
}

#[test]
fn two_buffers_are_never_pinned_within_the_limit_of_one() {
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
        assert!(other.join().unwrap() || one_held, "one of the two is pinned");
        assert_eq!(pins.bytes(), 0);
    });
}

#[test]
fn one_buffer_counts_once_for_pins_of_two_threads() {
    loom::model(|| {
        let pins = Pins::new(1);
        let lender = lender(&pins);
        let held = lender.lent().hold(0..1).unwrap();
        let other = thread::spawn(move || {
            let clone = held.clone();
            drop(held);
            drop(clone);
        });
        // This runs before, after or during the end of the other thread. It may fail because of the limit, but a pin
        // that succeeds is counted.
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
        asleep(|cx| {
            pins.wake_on_release(cx);
            if pins.bytes() == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        other.join().unwrap();
    });
}

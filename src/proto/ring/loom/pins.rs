//! Models of the count of pinned buffers.

use std::num::NonZeroU64;
use std::task::Poll;

use bytes::Bytes;
use loom::thread;

use super::super::{CurrentBytes, Pins};
use super::asleep;

/// Returns the bytes of a buffer of one byte.
fn current_bytes(pins: &Pins) -> CurrentBytes {
    let mut current_bytes = CurrentBytes::new(pins.clone(), 1);
    current_bytes.replace(Bytes::from_static(b"x"), NonZeroU64::new(1));
    current_bytes
}

#[test]
fn two_buffers_are_never_pinned_within_the_limit_of_one() {
    loom::model(|| {
        let pins = Pins::new(1);
        let pin = |current_bytes: CurrentBytes, pins: Pins| {
            let pinned = current_bytes.part().pin(0..1);
            assert!(pins.bytes() <= 1);
            pinned.is_some()
        };
        let (first, second) = (current_bytes(&pins), current_bytes(&pins));
        let other = thread::spawn({
            let pins = pins.clone();
            move || pin(first, pins)
        });
        let is_one_pinned = pin(second, pins.clone());
        assert!(other.join().unwrap() || is_one_pinned, "one of the two is pinned");
        assert_eq!(pins.bytes(), 0);
    });
}

#[test]
fn one_buffer_counts_once_for_pins_of_two_threads() {
    loom::model(|| {
        let pins = Pins::new(1);
        let current_bytes = current_bytes(&pins);
        let pinned = current_bytes.part().pin(0..1).unwrap();
        let other = thread::spawn(move || {
            let clone = pinned.clone();
            drop(pinned);
            drop(clone);
        });
        // This runs before, after or during the end of the other thread. It may fail because of the limit, but a pin
        // that succeeds is counted.
        let again = current_bytes.part().pin(0..1);
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
        let pinned = current_bytes(&pins).part().pin(0..1).unwrap();
        let other = thread::spawn(move || drop(pinned));
        asleep(|cx| {
            pins.wake_on_release(cx);
            if pins.bytes() == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        other.join().unwrap();
    });
}

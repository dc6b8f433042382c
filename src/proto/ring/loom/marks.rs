//! Models of the marks. Here at most two are unread, so that the third one is merged.

use loom::thread;

use super::super::channel;
use super::{MarkValue, Sum, drain, mark};

type Producer = super::Producer<super::ItemValue, MarkValue>;

/// Makes a mark, and a loss after it.
fn mark_and_lose(producer: &mut Producer) {
    mark(producer);
    producer.skip(1);
}

/// The consumer takes a mark while the next one is made, or merged into it.
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

/// The consumer takes the last mark while the producer merges into it, twice: the value is in either cell.
#[test]
fn a_mark_that_is_merged_while_it_is_taken_counts_once() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel(1);
        mark(&mut producer);
        let writer = thread::spawn(move || {
            mark(&mut producer);
            mark(&mut producer);
            producer
        });
        let mut sum = Sum::default();
        sum.add(&consumer.try_take());
        let mut producer = writer.join().unwrap();
        mark(&mut producer);
        drop(producer);
        while !sum.add(&consumer.try_take()) {}
        assert_eq!(sum.marks, 4);
    });
}

/// Two marks are unread while the third one is made: it is merged into the second one, or a mark of its own.
#[test]
fn a_mark_too_many_is_merged_unless_another_is_taken() {
    loom::model(|| {
        let (mut producer, consumer) = channel(1);
        mark_and_lose(&mut producer);
        mark_and_lose(&mut producer);
        producer.publish();
        let writer = thread::spawn(move || {
            mark(&mut producer);
        });
        assert_eq!(drain(consumer), Sum { delivered: 0, lost: 2, marks: 3 });
        writer.join().unwrap();
    });
}

/// There are three slots. The consumer may still be in the slot of a mark that it has taken.
#[test]
fn slots_of_marks_are_used_again_only_after_the_consumer_has_left_them() {
    loom::model(|| {
        let (mut producer, consumer) = channel(1);
        mark_and_lose(&mut producer);
        mark_and_lose(&mut producer);
        producer.publish();
        let writer = thread::spawn(move || {
            mark_and_lose(&mut producer);
            mark_and_lose(&mut producer);
        });
        assert_eq!(drain(consumer), Sum { delivered: 0, lost: 4, marks: 4 });
        writer.join().unwrap();
    });
}

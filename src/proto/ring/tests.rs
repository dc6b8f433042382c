//! Tests of the ring: comparison with a naive model, and two threads.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;

use super::{Taken, channel};

/// The value of an item: its first sequence number and its number of notifications.
type ItemValue = (u64, u64);

#[derive(Debug, Clone)]
enum Op {
    Push(u64),
    Skip(u64),
    Publish,
    Evict,
    KeepNewest(u64),
    Mark,
    Take,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1_u64..6).prop_map(Op::Push),
        2 => (1_u64..4).prop_map(Op::Skip),
        4 => Just(Op::Publish),
        1 => Just(Op::Evict),
        1 => (0_u64..8).prop_map(Op::KeepNewest),
        1 => Just(Op::Mark),
        6 => Just(Op::Take),
    ]
}

/// A model of the ring: a list with one entry for each notification, without concurrency.
#[derive(Default)]
struct Model {
    slots: usize,
    /// For each sequence number: true if it was not lost.
    kept: Vec<bool>,
    items: VecDeque<ItemValue>,
    /// An item that was taken out of its slot, and not returned yet.
    stash: Option<ItemValue>,
    marks: BTreeSet<u64>,
    visible: u64,
    next: u64,
    floor: u64,
}

impl Model {
    fn seen(&self) -> u64 {
        self.kept.len() as u64
    }

    fn lose_front(&mut self) -> bool {
        let Some((first, count)) = self.items.pop_front() else { return false };
        for sequence in first..first + count {
            self.kept[usize::try_from(sequence).unwrap()] = false;
        }
        true
    }

    fn push(&mut self, count: u64) -> ItemValue {
        if self.items.len() == self.slots {
            self.lose_front();
        }
        let value = (self.seen(), count);
        self.items.push_back(value);
        self.kept.extend((0..count).map(|_| true));
        value
    }

    fn keep_newest(&mut self, n: u64) {
        self.floor = self.seen().saturating_sub(n);
        while self.items.front().is_some_and(|(first, count)| first + count <= self.floor) {
            self.lose_front();
        }
    }

    fn take(&mut self) -> Taken<ItemValue, u64> {
        loop {
            // An item that was taken out cannot be evicted, even if a loss or a mark before it is returned first.
            if self.stash.is_none() && self.items.front().is_some_and(|i| i.0 < self.visible) {
                self.stash = self.items.pop_front();
            }
            let limit = self
                .stash
                .map_or(self.visible, |(first, count)| self.floor.clamp(first, first + count));
            if let Some(&mark) = self.marks.first()
                && mark <= limit
            {
                if mark > self.next {
                    return self.lose(mark);
                }
                self.marks.pop_first();
                return Taken::Mark(mark);
            }
            if limit > self.next {
                return self.lose(limit);
            }
            let Some((first, count)) = self.stash.take() else { return Taken::Empty };
            if self.next < first + count {
                let skip = self.next - first;
                self.next = first + count;
                return Taken::Item { value: (first, count), first, skip };
            }
        }
    }

    fn lose(&mut self, up_to: u64) -> Taken<ItemValue, u64> {
        let first = std::mem::replace(&mut self.next, up_to);
        Taken::Lost { first, count: up_to - first }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_ring_does_what_the_naive_model_does(
        slots in 1_u64..9,
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let (mut producer, mut consumer) = channel::<ItemValue, u64>(slots);
        let mut model = Model { slots: usize::try_from(slots).unwrap(), ..Model::default() };
        for op in ops {
            match op {
                Op::Push(count) => {
                    let value = model.push(count);
                    producer.push(value, count, 10 * count);
                }
                Op::Skip(count) => {
                    model.kept.extend((0..count).map(|_| false));
                    producer.skip(count);
                }
                Op::Publish => {
                    model.visible = model.seen();
                    producer.publish();
                }
                Op::Evict => prop_assert_eq!(producer.evict(), model.lose_front()),
                Op::KeepNewest(n) => {
                    model.keep_newest(n);
                    producer.keep_newest(n);
                }
                Op::Mark => {
                    let at = producer.sequence();
                    producer.mark(at, |_, _| {});
                    model.marks.insert(at);
                }
                Op::Take => prop_assert_eq!(consumer.try_take(), model.take()),
            }
            prop_assert_eq!(producer.sequence(), model.seen());
        }
        let kept = producer.kept();
        drop(producer);
        model.visible = model.seen();
        loop {
            match consumer.try_take() {
                Taken::Closed => {
                    prop_assert_eq!(model.take(), Taken::Empty);
                    break;
                }
                found => prop_assert_eq!(found, model.take()),
            }
        }
        prop_assert_eq!((consumer.sequence(), consumer.taken()), (model.seen(), kept));
    }
}

#[test]
fn an_item_is_taken_only_after_it_is_published() {
    let (mut producer, mut consumer) = channel::<u8, ()>(4);
    producer.push(7, 3, 30);
    assert_eq!(consumer.try_take(), Taken::Empty);
    producer.publish();
    assert_eq!(consumer.try_take(), Taken::Item { value: 7, first: 0, skip: 0 });
    assert_eq!(consumer.try_take(), Taken::Empty);
}

#[test]
fn a_loss_at_the_end_of_the_stream_is_reported() {
    let (mut producer, mut consumer) = channel::<u8, ()>(4);
    producer.push(7, 3, 30);
    producer.skip(5);
    producer.publish();
    assert_eq!(consumer.try_take(), Taken::Item { value: 7, first: 0, skip: 0 });
    assert_eq!(consumer.try_take(), Taken::Lost { first: 3, count: 5 });
    assert_eq!(consumer.try_take(), Taken::Empty);
}

#[test]
fn unread_notifications_and_bytes_are_counted() {
    let (mut producer, mut consumer) = channel::<u8, ()>(2);
    producer.push(1, 3, 30);
    producer.push(2, 4, 50);
    assert_eq!((producer.unread(), producer.unread_bytes(), producer.has_slot()), (7, 80, false));
    producer.publish();
    assert!(matches!(consumer.try_take(), Taken::Item { value: 1, .. }));
    assert_eq!((producer.unread(), producer.unread_bytes(), producer.has_slot()), (4, 50, true));
    assert!(producer.evict());
    assert_eq!((producer.unread(), producer.unread_bytes()), (0, 0));
    assert_eq!(consumer.try_take(), Taken::Lost { first: 3, count: 4 });
}

#[test]
fn adjacent_marks_are_merged() {
    let (mut producer, mut consumer) = channel::<u8, u32>(2);
    producer.mark(1, |_, _| {});
    producer.mark(1, |last, more| *last += more);
    producer.skip(1);
    producer.mark(1, |last, more| *last += more);
    producer.publish();
    assert_eq!(consumer.try_take(), Taken::Mark(2));
    assert_eq!(consumer.try_take(), Taken::Lost { first: 0, count: 1 });
    assert_eq!(consumer.try_take(), Taken::Mark(1));
    assert_eq!(consumer.try_take(), Taken::Empty);
}

/// If the drop published it, notifications of a later session would come without the mark before them.
#[test]
fn items_that_are_held_back_are_not_published_when_the_producer_is_dropped() {
    let (mut producer, mut consumer) = channel::<u8, u32>(8);
    producer.push(1, 1, 1);
    producer.hold();
    producer.push(2, 1, 1);
    producer.publish();
    producer.mark_at(1, 1, |_, _, _| {});
    producer.release();
    producer.push(3, 1, 1);
    producer.hold();
    producer.push(4, 1, 1);
    drop(producer);
    let mut seen = Vec::new();
    loop {
        match consumer.try_take() {
            Taken::Item { value, .. } => seen.push(u32::from(value)),
            Taken::Mark(mark) => seen.push(100 + mark),
            Taken::Closed => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [1, 101, 2, 3]);
}

#[test]
fn the_65th_unread_mark_is_merged_as_not_adjacent() {
    let (mut producer, mut consumer) = channel::<u8, (u32, bool)>(2);
    for n in 0..65 {
        producer.mark_at(n, (1, true), |last, more, is_adjacent| {
            *last = (last.0 + more.0, is_adjacent);
        });
        producer.skip(1);
    }
    producer.publish();
    let mut last = (0, true);
    while let taken @ (Taken::Mark(_) | Taken::Lost { .. }) = consumer.try_take() {
        if let Taken::Mark(mark) = taken {
            last = mark;
        }
    }
    assert_eq!(last, (2, false), "two marks were merged into the last one");
}

#[test]
fn unread_marks_stay_bounded() {
    let (mut producer, mut consumer) = channel::<u8, u32>(2);
    for _ in 0..5_000 {
        producer.skip(1);
        producer.mark(1, |last, more| *last += more);
    }
    producer.publish();
    let (mut marks, mut merged, mut lost) = (0, 0, 0);
    loop {
        match consumer.try_take() {
            Taken::Mark(n) => {
                marks += 1;
                merged += n;
            }
            Taken::Lost { count, .. } => lost += count,
            Taken::Empty => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((marks, merged, lost), (64, 5_000, 5_000));
}

#[test]
fn marks_work_after_a_panic_in_merge() {
    let (mut producer, mut consumer) = channel::<u8, u32>(2);
    producer.mark(1, |_, _| {});
    let merging = AssertUnwindSafe(|| producer.mark(1, |_, _| panic!("in merge")));
    assert!(catch_unwind(merging).is_err());
    producer.mark(1, |last, more| *last += more);
    assert_eq!(consumer.try_take(), Taken::Mark(2));
}

/// One thread makes marks, merges them into unread ones, and absorbs them if too many are unread. The other takes them.
#[test]
fn two_threads_lose_no_mark_and_none_counts_twice() {
    let (mut producer, mut consumer) = channel::<u8, u64>(1);
    let total = 300_000;
    let writer = std::thread::spawn(move || {
        for n in 0..total {
            producer.mark(1, |last, more| *last += more);
            // Mostly the consumer is awake, and takes each mark while the next is merged into it.
            if n % 7 == 0 {
                producer.skip(1);
                producer.publish();
            }
        }
    });
    let mut marks = 0;
    loop {
        match consumer.try_take() {
            Taken::Mark(merged) => marks += merged,
            Taken::Closed => break,
            _ => {}
        }
    }
    writer.join().unwrap();
    assert_eq!(marks, total);
}

/// The loss is reported at its position, and the items of the newest round follow.
#[test]
fn a_consumer_that_is_rounds_behind_finds_the_newest_round() {
    let (mut producer, mut consumer) = channel::<u64, ()>(3);
    for item in 0..2 {
        producer.push(item, 1, 1);
        producer.publish();
    }
    assert_eq!(consumer.try_take(), Taken::Item { value: 0, first: 0, skip: 0 });
    // Its snapshot has one more item, which is evicted before it is taken, and so are the items of four more rounds.
    for item in 2..20 {
        producer.push(item, 1, 1);
    }
    producer.publish();
    assert_eq!((producer.unread(), producer.unread_bytes()), (3, 3));
    assert_eq!(consumer.try_take(), Taken::Lost { first: 1, count: 16 });
    for item in 17..20 {
        assert_eq!(consumer.try_take(), Taken::Item { value: item, first: item, skip: 0 });
    }
    assert_eq!(consumer.try_take(), Taken::Empty);
}

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn only_a_consumer_that_sleeps_is_woken_and_once_per_publish() {
    let (mut producer, mut consumer) = channel::<u8, ()>(8);
    let count = Arc::new(CountingWaker::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    producer.push(1, 1, 1);
    producer.publish();
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    assert!(consumer.poll_take(&mut cx).is_ready());
    assert_eq!(consumer.poll_take(&mut cx), Poll::Pending);
    producer.push(2, 1, 1);
    producer.push(3, 1, 1);
    producer.publish();
    producer.publish();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_producer_that_waits_for_room_is_woken_by_a_take_and_by_a_drop() {
    let (mut producer, mut consumer) = channel::<u8, ()>(1);
    let count = Arc::new(CountingWaker::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    producer.push(1, 1, 1);
    producer.publish();
    assert_eq!(producer.poll_room(&mut cx, |p| p.unread() == 0), Poll::Pending);
    assert!(matches!(consumer.try_take(), Taken::Item { .. }));
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(producer.poll_room(&mut cx, |p| p.unread() == 0).is_ready());
    producer.push(1, 1, 1);
    assert_eq!(producer.poll_room(&mut cx, |p| p.unread() == 0), Poll::Pending);
    drop(consumer);
    assert_eq!(count.0.load(Ordering::SeqCst), 2);
    assert!(producer.is_abandoned());
}

/// Otherwise the other side would keep the task of the side that ended.
#[test]
fn a_side_that_is_dropped_frees_its_waker() {
    let (mut producer, mut consumer) = channel::<u8, ()>(1);
    let count = Arc::new(CountingWaker::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    assert_eq!(consumer.poll_take(&mut cx), Poll::Pending);
    drop(consumer);
    assert_eq!(Arc::strong_count(&count), 2);
    producer.push(1, 1, 1);
    producer.publish();
    drop(producer);
    let (mut producer, consumer) = channel::<u8, ()>(1);
    assert_eq!(producer.poll_room(&mut cx, |_| false), Poll::Pending);
    drop(producer);
    assert_eq!(Arc::strong_count(&count), 2);
    drop(consumer);
}

/// One thread produces, one consumes, with every policy: the sum is exact, and the order is kept.
#[test]
fn two_threads_account_for_every_notification() {
    for round in 0..60_u64 {
        let (mut producer, mut consumer) = channel(1 + round % 17);
        let total = 10_000_u64;
        let writer = std::thread::spawn(move || {
            let mut random = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            while producer.sequence() < total {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let count = 1 + random % 9;
                match random % 11 {
                    0 => producer.skip(count),
                    1 => drop(producer.evict()),
                    2 if round % 3 == 0 => producer.keep_newest(count),
                    3 => {
                        let at = producer.sequence();
                        producer.mark(at, |_, _| {});
                    }
                    4 => std::thread::yield_now(),
                    _ => producer.push((producer.sequence(), count), count, count),
                }
                if random & 1 == 0 {
                    producer.publish();
                }
            }
            (producer.sequence(), producer.kept())
        });
        let mut next = 0;
        loop {
            match consumer.try_take() {
                Taken::Item { value: (own_first, count), first, skip } => {
                    assert_eq!((own_first, first + skip), (first, next));
                    assert!(skip < count);
                    next = first + count;
                }
                Taken::Lost { first, count } => {
                    assert_eq!(first, next);
                    assert!(count > 0);
                    next += count;
                }
                Taken::Mark(at) => assert_eq!(at, next),
                Taken::Empty => std::thread::yield_now(),
                Taken::Closed => break,
            }
        }
        // Every item that was not evicted was taken.
        assert_eq!((next, consumer.taken()), writer.join().unwrap());
    }
}

//! A mailbox, compared with a naive model: a list of single notifications.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;

use super::super::mailbox::{Limits, Mailbox, MailboxSource, Place};
use super::support::{frames, info, placed};
use crate::proto::ring::Taken;
use crate::proto::supervisor::Scope;
use crate::queue::Source;

#[derive(Debug, Clone)]
enum Op {
    /// A run of so many notifications with payloads of this length.
    Put(usize, usize),
    /// Holds back everything, or what is in this mailbox.
    Hold {
        all: bool,
    },
    /// Puts a gap at the end.
    MarkHere,
    /// Puts gaps at some of the holds, and shows everything.
    Release(u16),
    Take,
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let length = prop_oneof![Just(0_usize), 1_usize..100, Just(2_000)];
    prop_oneof![
        6 => (1_usize..7, length).prop_map(|(count, length)| Op::Put(count, length)),
        2 => any::<bool>().prop_map(|all| Op::Hold { all }),
        1 => Just(Op::MarkHere),
        2 => any::<u16>().prop_map(Op::Release),
        6 => Just(Op::Take),
        1 => prop_oneof![9 => Just(Op::Take), 1 => Just(Op::Close)],
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Notification { bytes: u64 },
    Lost,
    Gap,
}

#[derive(Debug)]
struct Item {
    kind: Kind,
    position: u64,
    is_shown: bool,
}

/// The content of a mailbox, one by one.
#[derive(Debug, Default)]
struct Naive {
    items: Vec<Item>,
    /// The sequence number of the next notification that is taken.
    next: u64,
    position: u64,
    holds: Vec<u64>,
    hold: u32,
    is_all_held: bool,
    is_this_held: bool,
    is_closed: bool,
    is_asleep: bool,
}

impl Naive {
    fn unread(&self) -> (u64, u64) {
        self.items.iter().fold((0, 0), |(count, all), item| match item.kind {
            Kind::Notification { bytes } => (count + 1, all + bytes),
            _ => (count, all),
        })
    }

    fn add(&mut self, kind: Kind) {
        let is_shown = !self.is_all_held && !self.is_this_held;
        self.items.push(Item { kind, position: self.position, is_shown });
    }

    fn put(&mut self, count: usize, bytes: u64, limits: Limits) {
        let mut is_full = false;
        let first = self.position;
        for _ in 0..count {
            let (unread, used) = self.unread();
            is_full |= unread >= limits.capacity || used + bytes > limits.bytes;
            self.position = first;
            match is_full && !limits.drop_oldest {
                true => self.add(Kind::Lost),
                false => self.add(Kind::Notification { bytes }),
            }
        }
        self.position = first + count as u64;
        let is_over = |(unread, used): (u64, u64)| unread > limits.capacity || used > limits.bytes;
        while is_over(self.unread()) {
            let is_notification = |item: &&mut Item| matches!(item.kind, Kind::Notification { .. });
            self.items.iter_mut().find(is_notification).unwrap().kind = Kind::Lost;
        }
    }

    fn mark(&mut self, position: u64) {
        let is_behind =
            |item: &Item| !item.is_shown && item.kind != Kind::Gap && item.position >= position;
        let at = self.items.iter().position(is_behind).unwrap_or(self.items.len());
        self.items.insert(at, Item { kind: Kind::Gap, position, is_shown: false });
    }

    fn has_visible(&self) -> bool {
        self.is_closed || self.items.first().is_some_and(|item| item.is_shown)
    }

    /// Removes items of one kind from the front, which must be visible.
    fn remove(&mut self, count: u64, is_of_kind: impl Fn(Kind) -> bool) {
        for _ in 0..count {
            let item = self.items.remove(0);
            assert!(item.is_shown && is_of_kind(item.kind), "{item:?}");
        }
    }

    /// Compares what was taken with the front.
    fn took(&mut self, taken: Taken<crate::queue::Chunk, crate::notification::Gap>) {
        match taken {
            Taken::Item { value, first, .. } => {
                assert_eq!(first, self.next);
                let count = value.count() as u64;
                self.remove(count, |kind| matches!(kind, Kind::Notification { .. }));
                self.next += count;
            }
            Taken::Lost { first, count } => {
                assert!(first == self.next && count > 0);
                self.remove(count, |kind| kind == Kind::Lost);
                self.next += count;
            }
            Taken::Mark(gap) => self.remove(gap.sessions().into(), |kind| kind == Kind::Gap),
            Taken::Empty => {
                assert!(!self.has_visible(), "{:?}", self.items);
                self.is_asleep = true;
            }
            Taken::Closed => assert!(self.is_closed && self.items.is_empty()),
        }
    }

    /// Checks that a consumer is woken if it sleeps and something is visible.
    fn woke(&mut self, waker: Option<&Waker>) {
        let must_wake = self.is_asleep && self.has_visible();
        assert_eq!(waker.is_some(), must_wake, "{self:?}");
        self.is_asleep &= !must_wake;
    }
}

fn run(limits: Limits, ops: Vec<Op>) {
    let mailbox = Arc::new(Mailbox::new(limits, None, false));
    let mut source = MailboxSource::new(mailbox.clone());
    let mut naive = Naive::default();
    // Fewer gaps than are kept apart.
    let mut gaps_left = 14;
    let gap = Arc::new(placed(0, Scope::All, &[]).gap);
    for op in ops {
        match op {
            Op::Put(count, length) if !naive.is_closed => {
                let (bytes, run) = frames("a", count, &"x".repeat(length));
                let place =
                    Place { at: naive.position, is_held: naive.is_all_held, hold: naive.hold };
                let dropped = mailbox.stats().dropped;
                naive.put(count, (run.bytes / count) as u64, limits);
                let (lost, waker) = mailbox.put(bytes.clone(), run, info(), place);
                assert_eq!(mailbox.stats().dropped, dropped + lost);
                naive.woke(waker.as_ref());
            }
            Op::Hold { all } => {
                naive.hold += 1;
                naive.holds.push(naive.position);
                if all {
                    naive.is_all_held = true;
                } else {
                    naive.is_this_held = true;
                    mailbox.hold();
                }
            }
            Op::MarkHere if gaps_left > 0 && !naive.is_closed => {
                gaps_left -= 1;
                // Behind a gap that can be taken, it is merged into that one.
                let last = naive.items.last();
                let is_merged = last.is_some_and(|last| last.kind == Kind::Gap && last.is_shown);
                naive.add(Kind::Gap);
                naive.items.last_mut().unwrap().is_shown |= is_merged;
                let waker = mailbox.mark_here(&gap, naive.is_all_held);
                naive.woke(waker.as_ref());
            }
            Op::Release(which) if !naive.is_closed => {
                for (number, position) in std::mem::take(&mut naive.holds).into_iter().enumerate() {
                    if which >> (number % 16) & 1 == 1 && gaps_left > 0 {
                        gaps_left -= 1;
                        naive.mark(position);
                        mailbox.mark(position, &gap);
                    }
                }
                (naive.is_all_held, naive.is_this_held) = (false, false);
                naive.items.iter_mut().for_each(|item| item.is_shown = true);
                let waker = mailbox.release();
                naive.woke(waker.as_ref());
            }
            Op::Take => {
                let taken = match source.poll_take(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(taken) => taken,
                    Poll::Pending => Taken::Empty,
                };
                naive.took(taken);
            }
            Op::Close if !naive.is_closed => {
                let (unread, dropped) = (naive.unread().0, mailbox.stats().dropped);
                naive.items.retain(|item| item.is_shown);
                naive.is_closed = true;
                let (held_back, waker) = mailbox.close();
                assert_eq!(held_back, unread - naive.unread().0);
                assert_eq!(mailbox.stats().dropped, dropped + held_back);
                naive.woke(waker.as_ref());
            }
            Op::Put(..) | Op::MarkHere | Op::Release(_) | Op::Close => {}
        }
        assert_eq!(mailbox.wrong(), None);
        let stats = mailbox.stats();
        assert_eq!((stats.queued, stats.queued_bytes), naive.unread());
    }
    while naive.has_visible() && !naive.items.is_empty() {
        naive.took(source.try_take());
    }
}

proptest! {
    #[test]
    fn a_mailbox_does_what_a_list_of_single_notifications_does(
        capacity in 1_u64..20,
        bytes in prop_oneof![Just(8 * 1024_u64), Just(1024 * 1024)],
        drop_oldest in any::<bool>(),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        run(Limits { capacity, bytes, drop_oldest }, ops);
    }
}

/// An earlier version kept the memory of a burst if the consumer polled with `try_recv`.
#[test]
fn a_mailbox_that_was_emptied_without_waiting_keeps_no_memory_for_entries() {
    let mailbox = Arc::new(Mailbox::new(Limits::default(), None, false));
    let mut source = MailboxSource::new(mailbox.clone());
    let (bytes, run) = frames("a", 1, "x");
    for at in 0..100 {
        mailbox.put(bytes.clone(), run, info(), Place { at, is_held: false, hold: 0 });
    }
    assert!(mailbox.entry_capacity() >= 100);
    while !matches!(source.try_take(), Taken::Empty) {}
    assert!(mailbox.entry_capacity() <= 1);
}

/// Its drop is code of the user. An earlier version dropped it while the mailbox was locked.
#[test]
fn the_drop_of_a_waker_that_is_replaced_can_use_its_subscription() {
    struct LooksOnDrop(Arc<Mailbox>, Arc<std::sync::atomic::AtomicBool>);
    impl Wake for LooksOnDrop {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for LooksOnDrop {
        fn drop(&mut self) {
            self.1.store(self.0.is_unlocked(), std::sync::atomic::Ordering::Relaxed);
        }
    }
    let mailbox = Arc::new(Mailbox::new(Limits::default(), None, false));
    let mut source = MailboxSource::new(mailbox.clone());
    let was_unlocked = Arc::default();
    let waker = Waker::from(Arc::new(LooksOnDrop(mailbox, Arc::clone(&was_unlocked))));
    assert!(source.poll_take(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert!(source.poll_take(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(was_unlocked.load(std::sync::atomic::Ordering::Relaxed));
}

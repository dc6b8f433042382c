//! The counts of the comparison of rings (`benches/bakeoff`): the ring and its rivals under the same small loads. No time is
//! measured here.

#![allow(dead_code, unreachable_pub)] // shared with benches

#[path = "../benches/loads/mod.rs"]
mod loads;
#[path = "../benches/rivals/mod.rs"]
mod rivals;

use std::sync::Arc;
use std::thread;

use loads::digest::Digest;
use loads::traffic::Traffic;
use loads::{fan_out, hop};
use rivals::descriptor_hub::DescriptorFanOut;
use rivals::descriptors::DescriptorPath;
use rivals::fifo::{Array, Mpsc, Rtrb, Seg};
use rivals::hub::{FanOut, RunFanOut};
use rivals::library::Library;
use rivals::path::{Path, RunPath};
use rivals::positioned::Positioned;
use rivals::swap_ring::SwapRing;
use rivals::{Queue, Receiver, Sender, Taken};

/// Calls a generic function for every path.
macro_rules! for_all_paths {
    ($function:ident) => {
        $function::<RunPath<Library>>();
        $function::<RunPath<SwapRing>>();
        $function::<RunPath<Positioned<Array>>>();
        $function::<RunPath<Positioned<Seg>>>();
        $function::<RunPath<Positioned<Rtrb>>>();
        $function::<RunPath<Positioned<Mpsc>>>();
        $function::<DescriptorPath>();
    };
}

/// Calls a generic function for every hub.
macro_rules! for_all_hubs {
    ($function:ident($($argument:expr),*)) => {
        $function::<RunFanOut<Library>>($($argument),*);
        $function::<RunFanOut<SwapRing>>($($argument),*);
        $function::<RunFanOut<Positioned<Array>>>($($argument),*);
        $function::<RunFanOut<Positioned<Seg>>>($($argument),*);
        $function::<RunFanOut<Positioned<Rtrb>>>($($argument),*);
        $function::<RunFanOut<Positioned<Mpsc>>>($($argument),*);
        $function::<DescriptorFanOut>($($argument),*);
    };
}

fn uncounted() -> usize {
    0
}

#[test]
fn all_notifications_arrive_once_and_in_order_through_every_path() {
    fn check<P: Path>() {
        use hop::Layout::{Alternate, Park, Spin, Tasks};
        for per_read in [160, 16, 1] {
            let traffic = Arc::new(Traffic::of_one_channel(per_read));
            let reads = 20_000 / per_read as u64;
            let expected = traffic.digests(reads)[0];
            for layout in [Alternate, Tasks, Spin, Park] {
                let (sample, digest) = hop::run::<P>(layout, &traffic, reads);
                assert_eq!(digest, expected, "{}, {per_read} per read, {layout:?}", P::NAME);
                assert_eq!((digest.lost, sample.delivered), (0, expected.delivered));
            }
        }
    }
    for_all_paths!(check);
}

/// The oldest notifications are kept up to the capacity, and all others are counted, with many and with one per read.
#[test]
fn a_consumer_that_sleeps_loses_exactly_the_notifications_without_room() {
    fn check<P: Path>() {
        for per_read in [160, 16, 1] {
            let traffic = Arc::new(Traffic::of_one_channel(per_read));
            let reads = 40_000 / per_read as u64;
            let slept = hop::sleep::<P>(&traffic, reads, uncounted);
            let expected = traffic.digest_of_first(hop::LIMITS.notifications, reads);
            assert_eq!(slept.digest, expected, "{}, {per_read} per read", P::NAME);
            // 16,384 notifications of 51 bytes, and the buffer of the reader.
            assert!(slept.buffers <= 5, "{}: {} buffers", P::NAME, slept.buffers);
        }
    }
    for_all_paths!(check);
}

/// The highest number of unread notifications of a subscriber in the tests of the hub. If each is in a read of its own, they are
/// in more receive buffers than there are.
const UNREAD_MAX: u64 = 256;

/// Reads in the tests of the hub: 288 notifications for each subscriber, more than it may leave unread.
const READS: u64 = 1_800;

#[test]
fn of_1000_subscribers_999_get_everything_and_one_that_sleeps_gets_an_exact_loss() {
    fn check<F: FanOut>(run: usize, traffic: &Arc<Traffic>, expected: &[Digest]) {
        let layout = fan_out::Layout::Alternate;
        let outcome = fan_out::run::<F>(layout, traffic, UNREAD_MAX, READS, uncounted);
        fan_out::check(&outcome, expected);
        let sleeper = &outcome.digests[fan_out::SLEEPER];
        assert!(sleeper.lost > 0 && sleeper.delivered > 0, "{}: {sleeper:?}", F::NAME);
        if run == 1 {
            // One item in 50 KiB: the subscriber that sleeps pins every buffer that the reader cannot evict.
            let (buffers, evicted) = (outcome.buffers, outcome.evicted);
            let few = buffers <= 38 && evicted > 0;
            let many = buffers >= 50 && evicted == 0;
            assert!(if F::EVICTS { few } else { many }, "{}: {buffers}, {evicted}", F::NAME);
        }
    }
    for run in [16, 1] {
        let traffic = Arc::new(Traffic::of_subscribers(1_000, run, 160));
        let expected = traffic.digests(READS);
        for_all_hubs!(check(run, &traffic, &expected));
    }
}

#[test]
fn a_hub_of_tasks_delivers_the_same_on_one_core_and_on_two() {
    fn check<F: FanOut>(layout: fan_out::Layout, traffic: &Arc<Traffic>, expected: &[Digest]) {
        let outcome = fan_out::run::<F>(layout, traffic, UNREAD_MAX, 500, uncounted);
        fan_out::check(&outcome, expected);
    }
    for (run, layout) in [(16, fan_out::Layout::Tasks), (1, fan_out::Layout::Threads)] {
        let traffic = Arc::new(Traffic::of_subscribers(1_000, run, 160));
        let expected = traffic.digests(500);
        for_all_hubs!(check(layout, &traffic, &expected));
    }
}

/// The sender evicts items at random while the receiver takes them.
#[test]
fn evicted_items_are_lost_and_no_others() {
    fn check<Q: Queue>() {
        assert!(Q::EVICTS);
        for round in 0..10_u64 {
            let (mut sender, mut receiver) = Q::channel::<(u64, u64)>(32);
            let total = 20_000;
            let writer = thread::spawn(move || {
                let mut random = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                let (mut sequence, mut evicted) = (0, 0_u64);
                while sequence < total {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let count = 1 + random % 5;
                    if sender.unread() + count > 32 {
                        evicted += u64::from(sender.evict());
                        continue;
                    }
                    match random % 7 {
                        0 => sender.skip(count),
                        _ => sender.push((sequence, count), count, count),
                    }
                    sequence += count;
                    if random & 8 == 0 {
                        sender.publish();
                    }
                }
                drop(sender);
                (sequence, evicted)
            });
            let mut next = 0;
            loop {
                match receiver.try_take() {
                    Taken::Item { value: (stamp, count), first, skip } => {
                        assert_eq!((stamp, first, skip), (next, next, 0), "{}", Q::NAME);
                        next += count;
                    }
                    Taken::Lost { first, count } => {
                        assert_eq!(first, next, "{}", Q::NAME);
                        next += count;
                    }
                    Taken::Mark(()) => panic!("there are no marks"),
                    Taken::Empty => thread::yield_now(),
                    Taken::Closed => break,
                }
            }
            let (sequence, evicted) = writer.join().expect("the writer ends");
            assert_eq!(next, sequence, "{}", Q::NAME);
            assert!(evicted > 0, "{}: nothing was evicted", Q::NAME);
        }
    }
    check::<Library>();
    check::<SwapRing>();
    check::<Positioned<Array>>();
    check::<Positioned<Seg>>();
}

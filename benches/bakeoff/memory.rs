//! Memory in use while a consumer sleeps.

use std::sync::Arc;

use crate::loads::hop::{self, Slept, Socket};
use crate::loads::traffic::Traffic;
use crate::loads::{digest::Digest, fan_out};
use crate::rivals::descriptor_hub::DescriptorFanOut;
use crate::rivals::descriptors::DescriptorPath;
use crate::rivals::fifo::{Array, Mpsc, Rtrb, Seg};
use crate::rivals::hub::{FanOut, RunFanOut};
use crate::rivals::library::Library;
use crate::rivals::path::{Consumer, Found, Path, RunPath};
use crate::rivals::positioned::Positioned;
use crate::rivals::swap_ring::SwapRing;
use crate::rounds::Options;
use crate::table::Table;
use crate::{HUB_READ, SUBSCRIBERS, held};

pub fn print(options: &Options) {
    let queues = [
        listener::<RunPath<Library>>(options),
        listener::<RunPath<SwapRing>>(options),
        listener::<RunPath<Positioned<Array>>>(options),
        listener::<RunPath<Positioned<Seg>>>(options),
        listener::<RunPath<Positioned<Rtrb>>>(options),
        listener::<RunPath<Positioned<Mpsc>>>(options),
        listener::<DescriptorPath>(options),
    ];
    let hubs = [
        hub::<RunFanOut<Library>>(options),
        hub::<RunFanOut<SwapRing>>(options),
        hub::<RunFanOut<Positioned<Array>>>(options),
        hub::<RunFanOut<Positioned<Seg>>>(options),
        hub::<RunFanOut<Positioned<Rtrb>>>(options),
        hub::<RunFanOut<Positioned<Mpsc>>>(options),
        hub::<DescriptorFanOut>(options),
    ];
    if options.test {
        return;
    }
    println!("\n### One consumer, which sleeps: KiB held, receive buffers included\n");
    let head =
        ["", "empty", "160 per read", "1 per read", "buffers", "allocations per 1,000 reads"];
    show(&head, &queues);
    println!("\n### 1,000 subscribers, one sleeps: KiB held, receive buffers included\n");
    let head = ["", "empty", "runs of 16", "round robin", "buffers", "items evicted"];
    show(&head, &hubs);
}

fn show(head: &[&str], rows: &[[String; 6]]) {
    let mut table = Table::new(head);
    for row in rows {
        table.row(row);
    }
    println!("{table}");
}

fn kib(bytes: usize) -> String {
    bytes.div_ceil(1_024).to_string()
}

/// A listener whose consumer sleeps.
fn listener<P: Path>(options: &Options) -> [String; 6] {
    let dense = sleeping::<P>(160, options.amount(100_000));
    let sparse = sleeping::<P>(1, options.amount(1_000_000));
    [
        P::NAME.to_owned(),
        kib(dense.empty_bytes),
        kib(dense.held_bytes),
        kib(sparse.held_bytes),
        sparse.buffers.to_string(),
        allocations::<P>(options.amount(1_000_000)),
    ]
}

fn sleeping<P: Path>(per_read: usize, reads: u64) -> Slept {
    let traffic = Arc::new(Traffic::of_one_channel(per_read));
    let slept = hop::sleep::<P>(&traffic, reads, held);
    let kept = hop::LIMITS.notifications;
    assert_eq!(slept.digest, traffic.digest_of_first(kept, reads), "{}", P::NAME);
    slept
}

/// Allocations of a consumer that keeps up, per 1,000 reads of one notification.
fn allocations<P: Path>(reads: u64) -> String {
    let traffic = Arc::new(Traffic::of_one_channel(1));
    let (reader, mut consumer) = P::open(hop::LIMITS, &["sub_0000"]);
    let mut socket = Socket::new(reader, &traffic);
    let mut digest = Digest::default();
    let mut before = 0;
    // The first lap makes the allocations that are made only once.
    for read in 0..2 * reads {
        if read == reads {
            before = crate::ALLOCATOR.stats().allocations;
        }
        socket.read();
        while consumer.try_take(&mut digest) == Found::Some {}
    }
    let allocations = crate::ALLOCATOR.stats().allocations - before;
    format!("{:.1}", allocations as f64 * 1e3 / reads as f64)
}

fn hub<F: FanOut>(options: &Options) -> [String; 6] {
    let empty = {
        let traffic = Traffic::of_subscribers(SUBSCRIBERS, 16, HUB_READ);
        let before = held();
        let queues = F::open(fan_out::UNREAD_MAX, traffic.names());
        let empty = held() - before;
        drop(queues);
        empty
    };
    let outcome = |run: usize| {
        let traffic = Arc::new(Traffic::of_subscribers(SUBSCRIBERS, run, HUB_READ));
        let reads = options.amount(40_000);
        let layout = fan_out::Layout::Alternate;
        let outcome = fan_out::run::<F>(layout, &traffic, fan_out::UNREAD_MAX, reads, held);
        fan_out::check(&outcome, &traffic.digests(reads));
        outcome
    };
    let (dense, sparse) = (outcome(16), outcome(1));
    [
        F::NAME.to_owned(),
        kib(empty),
        kib(dense.held_bytes),
        kib(sparse.held_bytes),
        sparse.buffers.to_string(),
        sparse.evicted.to_string(),
    ]
}

//! Compares the ring with other designs under the same loads, within one run.
//!
//! ```sh
//! cargo bench --bench bakeoff                          # everything
//! cargo bench --bench bakeoff -- one-core --rounds 20  # parts: one-core two-cores hub memory mailboxes
//! cargo bench --bench bakeoff -- --only lock          # one contestant, for a profiler
//! cargo bench --bench bakeoff -- --test                # small amounts, only the checks
//! ```
//!
//! Every design moves the same frames through the same receive buffers, and reads every byte. The order of the designs is
//! reversed in every second round. Median, minimum and maximum of all rounds are printed. A wrong count or checksum ends the
//! run.

#![allow(missing_docs, unreachable_pub)] // shared with tests
#![allow(clippy::print_stdout)] // it prints the results

#[path = "../loads/mod.rs"]
mod loads;
mod mailboxes;
mod memory;
#[path = "../rivals/mod.rs"]
mod rivals;
mod rounds;
mod table;

use std::alloc::System;
use std::process::ExitCode;
use std::sync::Arc;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

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
use rounds::{Contestant, Options};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The number of allocated bytes.
fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Notifications per read: as many as in one write of a server, a few, one.
const DENSITIES: [usize; 3] = [160, 16, 1];

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(problem) => {
            println!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    use hop::Layout::{Alternate, Park, Spin, Tasks};
    if options.wants("one-core") {
        hops(&options, "One core, alternating", Alternate);
        hops(&options, "One core, two tasks", Tasks);
    }
    if options.wants("two-cores") {
        hops(&options, "Two cores, spinning", Spin);
        hops(&options, "Two cores, sleeping", Park);
    }
    if options.wants("hub") {
        hubs(&options, "1,000 subscribers, one core, alternating", fan_out::Layout::Alternate);
        hubs(&options, "1,000 subscribers, one core, a task each", fan_out::Layout::Tasks);
        hubs(&options, "1,000 subscribers, two cores, a task each", fan_out::Layout::Threads);
    }
    if options.wants("memory") {
        memory::print(&options);
    }
    if options.wants("mailboxes") {
        mailboxes::print(&options);
    }
    ExitCode::SUCCESS
}

/// Reads in one sample, which takes about 50 to 100 ms.
fn reads(layout: hop::Layout, per_read: usize) -> u64 {
    let slow = matches!(layout, hop::Layout::Park | hop::Layout::Tasks);
    match (per_read, slow) {
        (160, _) => 60_000,
        (16, false) => 400_000,
        (16, true) => 200_000,
        (_, false) => 1_000_000,
        (_, true) => 400_000,
    }
}

fn hops(options: &Options, title: &str, layout: hop::Layout) {
    for per_read in DENSITIES {
        let traffic = Arc::new(Traffic::of_one_channel(per_read));
        let reads = options.amount(reads(layout, per_read));
        let expected = traffic.digests(reads)[0];
        fn contestant<'a, P: Path>(
            layout: hop::Layout,
            traffic: &'a Arc<Traffic>,
            reads: u64,
            expected: loads::digest::Digest,
        ) -> Contestant<'a> {
            let run = move || {
                let (sample, digest) = hop::run::<P>(layout, traffic, reads);
                assert_eq!(digest, expected, "{}: count, order or bytes", P::NAME);
                sample
            };
            Contestant { name: P::NAME, run: Box::new(run) }
        }
        let all = vec![
            contestant::<RunPath<Library>>(layout, &traffic, reads, expected),
            contestant::<RunPath<SwapRing>>(layout, &traffic, reads, expected),
            contestant::<RunPath<Positioned<Array>>>(layout, &traffic, reads, expected),
            contestant::<RunPath<Positioned<Seg>>>(layout, &traffic, reads, expected),
            contestant::<RunPath<Positioned<Rtrb>>>(layout, &traffic, reads, expected),
            contestant::<RunPath<Positioned<Mpsc>>>(layout, &traffic, reads, expected),
            contestant::<DescriptorPath>(layout, &traffic, reads, expected),
        ];
        let title = format!("{title}, {per_read} per read");
        rounds::run(options, &title, all);
    }
}

/// Subscribers of the hub.
const SUBSCRIBERS: usize = 1_000;

/// Notifications of one read of the hub.
const HUB_READ: usize = 160;

fn hubs(options: &Options, title: &str, layout: fan_out::Layout) {
    for (flow, run) in [("runs of 16", 16), ("round robin", 1)] {
        let traffic = Arc::new(Traffic::of_subscribers(SUBSCRIBERS, run, HUB_READ));
        let reads = options.amount(20_000);
        let expected = traffic.digests(reads);
        fn contestant<'a, F: FanOut>(
            layout: fan_out::Layout,
            traffic: &'a Arc<Traffic>,
            reads: u64,
            expected: &'a [loads::digest::Digest],
        ) -> Contestant<'a> {
            let run = move || {
                let outcome = fan_out::run::<F>(layout, traffic, fan_out::UNREAD_MAX, reads, held);
                fan_out::check(&outcome, expected);
                outcome.sample
            };
            Contestant { name: F::NAME, run: Box::new(run) }
        }
        let all = vec![
            contestant::<RunFanOut<Library>>(layout, &traffic, reads, &expected),
            contestant::<RunFanOut<SwapRing>>(layout, &traffic, reads, &expected),
            contestant::<RunFanOut<Positioned<Array>>>(layout, &traffic, reads, &expected),
            contestant::<RunFanOut<Positioned<Seg>>>(layout, &traffic, reads, &expected),
            contestant::<RunFanOut<Positioned<Rtrb>>>(layout, &traffic, reads, &expected),
            contestant::<RunFanOut<Positioned<Mpsc>>>(layout, &traffic, reads, &expected),
            contestant::<DescriptorFanOut>(layout, &traffic, reads, &expected),
        ];
        let title = format!("{title}, {flow}");
        rounds::run(options, &title, all);
    }
}

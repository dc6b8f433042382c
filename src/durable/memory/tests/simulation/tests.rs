//! Tests that run many seeds.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::cases::CursorCases;
use super::fault::{Fault, RunFailure};
use super::reader::Method;
use super::run::CursorSimulation;
use crate::simulator::number;

/// The default number of seeds.
const SEEDS: u64 = 10_000;

/// The number of seeds within which a wrong method must fail.
const RIVAL_SEEDS: u64 = 500;

/// Runs one seed, with its steps if they are recorded.
fn run(
    seed: u64,
    method: Method,
    is_traced: bool,
) -> (Result<CursorCases, RunFailure>, Vec<String>) {
    let mut simulation = CursorSimulation::new(seed, method, is_traced);
    let result = simulation.run();
    (result.map(|()| simulation.cases), simulation.trace.unwrap_or_default())
}

#[test]
fn ten_thousand_seeds_of_a_cursor_deliver_every_record_once() {
    if let Some(seed) = number("PGBELL_SEED") {
        let (result, trace) = run(seed, Method::Position, true);
        let _ = writeln!(io::stderr(), "{}", trace.join("\n"));
        if let Err(why) = result {
            panic!("seed {seed}: {why}");
        }
        return;
    }
    let first = number("PGBELL_FIRST").unwrap_or(0);
    let count = number("PGBELL_SEEDS").unwrap_or(SEEDS);
    let mut sum = CursorCases::default();
    for seed in first..first + count {
        match run(seed, Method::Position, false).0 {
            Ok(cases) => sum.add(&cases),
            Err(why) => {
                let (_, trace) = run(seed, Method::Position, true);
                let last = trace[trace.len().saturating_sub(60)..].join("\n");
                panic!(
                    "…\n{last}\nseed {seed}: {why}\nreplay: scripts/simulate.sh --cursor 1 {seed}"
                );
            }
        }
    }
    let _ = writeln!(io::stderr(), "{count} seeds of a cursor from {first}: {sum:?}");
    if count >= SEEDS {
        let (rarest, times) = sum.rarest();
        assert!(times > count / 20, "{rarest} is too rare");
        assert!(sum.acknowledged > 5 * count, "too little happens");
    }
}

/// Returns how many of the seeds show each fault of a wrong method.
fn faults(method: Method) -> BTreeMap<Fault, usize> {
    let mut faults = BTreeMap::new();
    for seed in 0..RIVAL_SEEDS {
        if let Err(RunFailure { fault, .. }) = run(seed, method, false).0 {
            *faults.entry(fault).or_default() += 1;
        }
    }
    faults
}

#[test]
fn the_simulator_sees_that_a_cursor_by_id_misses_records_that_commit_late() {
    let faults = faults(Method::LastId);
    assert!(faults[&Fault::Missed] > 20, "{faults:?}");
    assert!(!faults.contains_key(&Fault::Stalled), "{faults:?}");
}

#[test]
fn the_simulator_sees_that_a_barrier_at_xmin_stalls_beside_any_open_transaction() {
    let faults = faults(Method::XminBarrier);
    assert!(faults[&Fault::Stalled] > 20, "{faults:?}");
    assert!(!faults.contains_key(&Fault::Missed), "{faults:?}");
}

#[test]
fn the_simulator_sees_that_a_position_without_next_misses_records() {
    let faults = faults(Method::WithoutNext);
    assert!(faults[&Fault::Missed] > 0, "{faults:?}");
}

#[test]
fn the_simulator_sees_that_a_position_without_the_listed_transactions_misses_records() {
    let faults = faults(Method::WithoutListed);
    assert!(faults[&Fault::Missed] > 20, "{faults:?}");
}

#[test]
fn the_simulator_sees_that_a_window_whose_snapshot_moves_misses_records() {
    let faults = faults(Method::MovingUpper);
    assert!(faults[&Fault::Missed] > 0, "{faults:?}");
}

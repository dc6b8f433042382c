//! Tests that run many seeds.

use std::io::{self, Write};

use super::NotifierSimulation;
use super::nudges::{NudgeCases, NudgeSimulation};
use crate::notifier::stats::NotifierStats;
use crate::simulator::number;

/// The default number of seeds.
const SEEDS: u64 = 2_000;

/// Runs one seed, of the calls and of the nudges. The error contains the trace and the failure.
fn run(seed: u64, is_traced: bool) -> Result<(NotifierStats, NudgeCases), String> {
    Ok((run_calls(seed, is_traced)?, run_nudges(seed, is_traced)?))
}

fn run_nudges(seed: u64, is_traced: bool) -> Result<NudgeCases, String> {
    let mut simulation = NudgeSimulation::new(seed, is_traced);
    let result = simulation.run();
    let trace = simulation.trace.take().unwrap_or_default().join("\n");
    if is_traced && result.is_ok() {
        let _ = writeln!(io::stderr(), "{trace}");
    }
    let cases = simulation.cases;
    result.map(|()| cases).map_err(|why| format!("{trace}\nseed {seed}: nudges: {why}"))
}

fn run_calls(seed: u64, is_traced: bool) -> Result<NotifierStats, String> {
    let mut simulation = NotifierSimulation::new(seed, is_traced);
    let result = simulation.run();
    let trace = simulation.trace.take().unwrap_or_default().join("\n");
    if is_traced && result.is_ok() {
        let _ = writeln!(io::stderr(), "{trace}");
    }
    result
        .map(|()| simulation.machine.stats())
        .map_err(|why| format!("{trace}\nseed {seed}: {why}"))
}

#[test]
fn thousands_of_seeds_of_a_notifier_keep_every_promise() {
    if let Some(seed) = number("PGBELL_SEED") {
        if let Err(text) = run(seed, true) {
            let _ = writeln!(io::stderr(), "{text}");
            panic!("seed {seed} fails");
        }
        return;
    }
    let first = number("PGBELL_FIRST").unwrap_or(0);
    let count = number("PGBELL_SEEDS").unwrap_or(SEEDS);
    let (mut sum, mut cases) = (NotifierStats::default(), NudgeCases::default());
    for seed in first..first + count {
        match run(seed, false) {
            Ok((stats, nudges)) => {
                add(&mut sum, &stats);
                cases.add(&nudges);
            }
            Err(_) => {
                let trace = run(seed, true).err().unwrap_or_default();
                let lines: Vec<&str> = trace.lines().collect();
                let last = &lines[lines.len().saturating_sub(60)..];
                panic!("…\n{}\nreplay: scripts/simulate.sh --notifier 1 {seed}", last.join("\n"));
            }
        }
    }
    let _ = writeln!(io::stderr(), "{count} seeds of a notifier from {first}: {sum:?}, {cases:?}");
    if count >= SEEDS {
        let NotifierStats { committed, refused, in_doubt, not_sent, groups, halved, .. } = sum;
        let rare = [committed, refused, in_doubt, not_sent, groups, halved, sum.attempts_failed];
        assert!(rare.iter().all(|cases| *cases > count / 10), "a case is too rare");
        assert!(cases.rarest() > count / 10, "a case of nudges is too rare");
        assert!(sum.sessions > 2 * count && committed > 10 * count, "too little happens");
    }
}

fn add(sum: &mut NotifierStats, more: &NotifierStats) {
    for (sum, more) in [
        (&mut sum.calls, more.calls),
        (&mut sum.committed, more.committed),
        (&mut sum.refused, more.refused),
        (&mut sum.in_doubt, more.in_doubt),
        (&mut sum.not_sent, more.not_sent),
        (&mut sum.transactions, more.transactions),
        (&mut sum.groups, more.groups),
        (&mut sum.halved, more.halved),
        (&mut sum.sessions, more.sessions),
        (&mut sum.attempts_failed, more.attempts_failed),
    ] {
        *sum += more;
    }
}

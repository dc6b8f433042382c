//! Tests that run many seeds.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io::{self, Write};

use super::Simulation;
use super::calls::CallCounts;

/// The default number of seeds.
const SEEDS: u64 = 10_000;

pub(crate) fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

/// Runs one seed. The error contains the trace and the failure.
fn run(seed: u64, is_traced: bool) -> Result<Simulation, String> {
    let (mut simulation, parts) = Simulation::new(seed, is_traced);
    simulation.run(parts);
    match &simulation.failure {
        Some(why) => Err(format!("{}\nseed {seed}: {why}", simulation.trace.text())),
        None => Ok(simulation),
    }
}

fn run_all(first: u64, count: u64) {
    let shows_all = env::var_os("PGBELL_ALL").is_some();
    let mut sum = SeedSums::default();
    for seed in first..first + count {
        match run(seed, false) {
            Ok(simulation) => sum.add(&simulation),
            Err(why) if shows_all => sum.failed(seed, &why),
            Err(_) => {
                let trace = run(seed, true).err().unwrap_or_default();
                let lines: Vec<&str> = trace.lines().collect();
                let last = &lines[lines.len().saturating_sub(60)..];
                panic!("…\n{}\nreplay: scripts/simulate.sh 1 {seed}", last.join("\n"));
            }
        }
    }
    let _ = writeln!(io::stderr(), "{count} seeds from {first}: {sum}");
    assert!(sum.failures.is_empty(), "{} kinds of failures", sum.failures.len());
    sum.check();
}

/// The sums of many runs.
#[derive(Default)]
struct SeedSums {
    runs: u64,
    events: u64,
    commits: u64,
    delivered: u64,
    lagged: u64,
    lost: u64,
    handovers: u64,
    delayed: u64,
    calls: CallCounts,
    spread: Vec<f64>,
    /// The failures, by their text without numbers: the number of runs, the first seed, and its text.
    failures: BTreeMap<String, (u64, u64, String)>,
}

impl SeedSums {
    fn add(&mut self, simulation: &Simulation) {
        self.runs += 1;
        self.events += simulation.clock.count();
        self.commits += simulation.commits;
        self.delivered += simulation.consumer.delivered;
        self.lagged += simulation.consumer.lagged;
        self.lost += u64::from(simulation.lost_sessions);
        self.handovers += u64::from(simulation.handovers);
        self.delayed += simulation.delayed;
        self.calls.add(simulation.calls.counts);
        self.spread.extend(&simulation.backoff.spread);
    }

    fn failed(&mut self, seed: u64, why: &str) {
        let why = why.trim().to_owned();
        let (_, words) = why.split_once(": ").unwrap_or_default();
        let kind = words.split('"').step_by(2).flat_map(str::chars);
        let kind = kind.filter(|c| !c.is_ascii_digit()).collect();
        self.failures.entry(kind).or_insert((0, seed, why)).0 += 1;
    }

    /// Checks what only many runs can show.
    fn check(&self) {
        if self.runs < 1_000 {
            return;
        }
        assert!(self.delivered > 10 * self.runs, "too little was delivered: {self}");
        assert!(self.lagged > self.runs && self.lost > self.runs, "too little was lost: {self}");
        assert!(self.handovers > self.runs / 10, "too few handovers succeeded: {self}");
        assert!(self.delayed > self.runs / 40, "too few reads were delayed: {self}");
        let CallCounts { waited, withdrawn, refused, refused_by_failure, dropped } = self.calls;
        assert!(waited > self.runs && dropped > self.runs / 10, "too few calls waited: {self}");
        assert!(
            withdrawn > self.runs / 10 && refused > self.runs / 10 && refused_by_failure > 0,
            "too few calls that waited were withdrawn or refused: {self}"
        );
        let mean = self.spread.iter().sum::<f64>() / self.spread.len() as f64;
        assert!((0.4..0.6).contains(&mean), "delays are not random: {mean} on average");
    }
}

impl fmt::Display for SeedSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, commits, delivered, lagged, lost, handovers, delayed, calls, .. } = self;
        let CallCounts { waited, withdrawn, refused, refused_by_failure, dropped } = calls;
        write!(
            f,
            "{events} events, {commits} commits, {delivered} delivered, {lagged} lagged, \
             {lost} sessions lost, {handovers} handovers, {delayed} reads delayed, \
             {waited} calls waited for room, {withdrawn} withdrawn, \
             {refused} refused ({refused_by_failure} by a failure), {dropped} dropped after they were sent"
        )?;
        for (count, _, words) in self.failures.values() {
            write!(f, "\n{count} times, first with {words}")?;
        }
        Ok(())
    }
}

#[test]
fn ten_thousand_seeds_keep_every_promise() {
    if let Some(seed) = number("PGBELL_SEED") {
        let (text, result) = match run(seed, true) {
            Ok(simulation) => (simulation.trace.text(), Ok(())),
            Err(text) => (text, Err(())),
        };
        let _ = io::stderr().write_all(text.as_bytes());
        assert!(result.is_ok(), "seed {seed} fails");
        return;
    }
    run_all(number("PGBELL_FIRST").unwrap_or(0), number("PGBELL_SEEDS").unwrap_or(SEEDS));
}

//! Tests that run many seeds of a hub.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io::{self, Write};

use super::super::Simulation;
use super::super::tests::number;
use super::HubCounts;

/// The default number of seeds.
const SEEDS: u64 = 1_000;

/// The number of seeds in which every case must happen.
const SEEDS_OF_ALL_CASES: u64 = 1_000;

/// Runs one seed. The error contains the trace and the failure.
fn run(seed: u64, is_traced: bool) -> Result<Simulation, String> {
    let (mut simulation, parts) = Simulation::of_hub(seed, is_traced);
    simulation.run(parts);
    match &simulation.failure {
        Some(why) => Err(format!("{}\nseed {seed}: {why}", simulation.trace.text())),
        None => Ok(simulation),
    }
}

/// The sums of many runs.
#[derive(Default)]
struct HubSums {
    runs: u64,
    events: u64,
    commits: u64,
    lost: u64,
    handovers: u64,
    counts: HubCounts,
    /// The failures, by their text without numbers: the number of runs, and the text of the first.
    failures: BTreeMap<String, (u64, String)>,
}

impl HubSums {
    fn add(&mut self, simulation: &Simulation) {
        self.runs += 1;
        self.events += simulation.clock.count();
        self.commits += simulation.commits;
        self.lost += u64::from(simulation.lost_sessions);
        self.handovers += u64::from(simulation.handovers);
        if let Some(hub) = &simulation.hub {
            self.counts.add(&hub.counts);
        }
    }

    fn failed(&mut self, why: &str) {
        let why = why.trim().to_owned();
        let (_, words) = why.split_once(": ").unwrap_or_default();
        let kind = words.split('"').step_by(2).flat_map(str::chars);
        let kind: String = kind.filter(|c| !c.is_ascii_digit()).take(80).collect();
        self.failures.entry(kind).or_insert((0, why)).0 += 1;
    }

    /// Checks that every case has happened.
    fn check(&self) {
        if self.runs < SEEDS_OF_ALL_CASES {
            return;
        }
        let missing: Vec<&str> =
            self.counts.all().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
        assert!(missing.is_empty(), "these cases have not happened: {missing:?}");
        assert!(self.lost > self.runs / 2 && self.handovers > self.runs / 10, "{self}");
        assert!(self.counts.delivered() > 10 * self.runs, "{self}");
    }
}

impl fmt::Display for HubSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, commits, lost, handovers, .. } = self;
        write!(
            f,
            "{events} events, {commits} commits, {lost} sessions lost, {handovers} handovers"
        )?;
        for (name, count) in self.counts.all() {
            write!(f, ", {name} {count}")?;
        }
        for (count, words) in self.failures.values() {
            write!(f, "\n{count} times, first with {words}")?;
        }
        Ok(())
    }
}

#[test]
fn thousands_of_seeds_of_a_hub_keep_every_promise() {
    if let Some(seed) = number("PGBELL_SEED") {
        let (text, is_ok) = match run(seed, true) {
            Ok(simulation) => (simulation.trace.text(), true),
            Err(text) => (text, false),
        };
        let _ = io::stderr().write_all(text.as_bytes());
        assert!(is_ok, "seed {seed} fails");
        return;
    }
    let first = number("PGBELL_FIRST").unwrap_or(0);
    let count = number("PGBELL_SEEDS").unwrap_or(SEEDS);
    let shows_all = env::var_os("PGBELL_ALL").is_some();
    let mut sum = HubSums::default();
    for seed in first..first + count {
        match run(seed, false) {
            Ok(simulation) => sum.add(&simulation),
            Err(why) if shows_all => sum.failed(&why),
            Err(_) => {
                let trace = run(seed, true).err().unwrap_or_default();
                let lines: Vec<&str> = trace.lines().collect();
                let last = &lines[lines.len().saturating_sub(60)..];
                panic!("…\n{}\nreplay: scripts/simulate.sh --hub 1 {seed}", last.join("\n"));
            }
        }
    }
    let _ = writeln!(io::stderr(), "{count} seeds of a hub from {first}: {sum}");
    assert!(sum.failures.is_empty(), "{} kinds of failures", sum.failures.len());
    sum.check();
}

//! Runs of many seeds.

use std::env;
use std::io::{self, Write};

use super::World;

/// Seeds of every commit.
const SEEDS: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// Runs one seed. The error is what is wrong, with what happened before.
fn run(seed: u64, is_traced: bool) -> Result<World, String> {
    let mut world = World::new(seed, is_traced);
    world.run();
    match &world.failure {
        Some(why) => Err(format!("{}\nseed {seed}: {why}", world.trace.text())),
        None => Ok(world),
    }
}

fn run_all(first: u64, count: u64) {
    let mut sum = (0, 0, 0);
    for seed in first..first + count {
        match run(seed, false) {
            Ok(world) => {
                sum.0 += world.clock.count();
                sum.1 += world.commits;
                sum.2 += u64::from(world.lost_sessions);
            }
            Err(_) => {
                let trace = run(seed, true).err().unwrap_or_default();
                let lines: Vec<&str> = trace.lines().collect();
                let last = &lines[lines.len().saturating_sub(60)..];
                panic!(
                    "…\n{}\nreplay: PGBELL_SEED={seed} cargo test -p pgbell --all-features --lib \
                     seeds_of_a_world",
                    last.join("\n")
                );
            }
        }
    }
    let (events, commits, lost) = sum;
    let _ = writeln!(
        io::stderr(),
        "{count} seeds from {first}: {events} events, {commits} notifications, {lost} lost sessions"
    );
}

#[test]
fn ten_thousand_seeds_of_a_world_that_breaks() {
    if let Some(seed) = number("PGBELL_SEED") {
        let (text, result) = match run(seed, true) {
            Ok(world) => (world.trace.text(), Ok(())),
            Err(text) => (text, Err(())),
        };
        let _ = io::stderr().write_all(text.as_bytes());
        assert!(result.is_ok(), "seed {seed} fails");
        return;
    }
    run_all(number("PGBELL_FIRST").unwrap_or(0), number("PGBELL_SEEDS").unwrap_or(SEEDS));
}

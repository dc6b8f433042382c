//! The order of the measurements, and their output.

use crate::loads::Sample;
use crate::table::Table;

/// The options of the command line.
pub struct Options {
    parts: Vec<String>,
    rounds: usize,
    /// Part of a name: only designs with it are measured.
    only: Option<String>,
    /// Small amounts, one round, no results.
    pub test: bool,
}

const PARTS: [&str; 5] = ["one-core", "two-cores", "hub", "memory", "mailboxes"];

impl Options {
    /// Returns `None` if no measurement is wanted.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { parts: Vec::new(), rounds: 11, only: None, test: false };
        let mut is_bench = false;
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match &*argument {
                "--bench" => is_bench = true,
                "--test" => options.test = true,
                "--list" => return Ok(None),
                "--rounds" => {
                    let number = arguments.next().and_then(|number| number.parse().ok());
                    options.rounds = number.filter(|n| *n > 0).ok_or("--rounds needs a number")?;
                }
                "--only" => options.only = arguments.next(),
                part if PARTS.contains(&part) => options.parts.push(part.to_owned()),
                other => return Err(format!("{other:?} is none of the parts {PARTS:?}")),
            }
        }
        // As with criterion: `cargo test` runs benches without `--bench`, and needs no results.
        options.test |= !is_bench;
        Ok(Some(options))
    }

    pub fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    /// Returns the amount for a run, if a measurement uses `full`.
    pub fn amount(&self, full: u64) -> u64 {
        if self.test { (full / 200).max(1_000) } else { full }
    }

    fn is_measured(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|part| name.contains(part))
    }

    pub fn rounds(&self) -> usize {
        if self.test { 1 } else { self.rounds }
    }
}

pub struct Contestant<'a> {
    pub name: &'static str,
    pub run: Box<dyn FnMut() -> Sample + 'a>,
}

/// A B C ... C B A, round after round. The others are compared with the first one.
pub fn run(options: &Options, title: &str, contestants: Vec<Contestant<'_>>) {
    let mut contestants = contestants;
    contestants.retain(|contestant| options.is_measured(contestant.name));
    let mut samples = vec![Vec::new(); contestants.len()];
    for round in 0..options.rounds() {
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for nth in order {
            samples[nth].push((contestants[nth].run)());
        }
    }
    if options.test {
        return;
    }
    println!("\n### {title}\n");
    let mut table = Table::new(&["", "ns wall", "least", "most", "ratio", "ns CPU", "ratio"]);
    let nanos =
        |samples: &[Sample]| -> (Vec<f64>, Vec<f64>) { samples.iter().map(Sample::nanos).unzip() };
    let Some(first) = samples.first() else { return };
    let (first_wall, first_cpu) = nanos(first);
    for (contestant, samples) in contestants.iter().zip(&samples) {
        let (wall, cpu) = nanos(samples);
        let (least, most) = (wall.iter().copied().fold(f64::MAX, f64::min), max(&wall));
        table.row(&[
            contestant.name.to_owned(),
            number(median(&wall)),
            number(least),
            number(most),
            format!("{:.2}", median_ratio(&wall, &first_wall)),
            number(median(&cpu)),
            format!("{:.2}", median_ratio(&cpu, &first_cpu)),
        ]);
    }
    println!("{table}");
}

fn number(nanos: f64) -> String {
    if nanos < 100.0 { format!("{nanos:.1}") } else { format!("{nanos:.0}") }
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        Some(upper) if sorted.len().is_multiple_of(2) => (sorted[middle - 1] + upper) / 2.0,
        Some(middle) => *middle,
        None => 0.0,
    }
}

/// Returns the median of the ratios within the rounds: a disturbance of a round affects both values.
fn median_ratio(values: &[f64], base: &[f64]) -> f64 {
    let ratios: Vec<f64> = values.iter().zip(base).map(|(value, base)| value / base).collect();
    median(&ratios)
}

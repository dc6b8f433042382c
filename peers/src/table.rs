//! Tables, as text and as Markdown.

use crate::delays::{DelayedPairs, Delays};
use crate::matchup::Matchup;
use crate::results::{Ran, Results};
use crate::spread::{Spread, number};
use crate::target::Bound;

/// The format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Text,
    Markdown,
}

/// Rows below a head. The first column is text, the others are numbers.
#[derive(Debug)]
struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(title: impl Into<String>, head: &[&str]) -> Self {
        let head = head.iter().map(ToString::to_string).collect();
        Self { title: title.into(), rows: vec![head] }
    }

    fn show(&self, style: Style) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut out = match style {
            Style::Text => format!("\n{}\n", self.title),
            Style::Markdown => format!("\n**{}**\n\n", self.title),
        };
        for (number, row) in self.rows.iter().enumerate() {
            let mut cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            match style {
                Style::Text => {
                    let line: Vec<String> = cells.collect();
                    out.push_str(line.join("  ").trim_end());
                }
                Style::Markdown => {
                    out.push('|');
                    cells.by_ref().for_each(|cell| out.push_str(&format!(" {cell} |")));
                    if number == 0 {
                        out.push_str("\n|---|");
                        out.push_str(&"--:|".repeat(columns.saturating_sub(1)));
                    }
                }
            }
            out.push('\n');
        }
        out
    }
}

/// Returns all results.
pub(crate) fn show(results: &Results, style: Style) -> String {
    let mut out = results.machine.lines().join(if style == Style::Text { "\n" } else { "  \n" });
    out.push_str("\n\n");
    out.push_str(
        "Median [least, most] of interleaved rounds. CPU is user and system time of the client, in ns per \
         notification; sender CPU is the same for the sending process. \"of raw\" is the rate divided by that of \
         `raw-touch` in the same round. Every client reads every byte; count and checksum are compared with \
         the sender's. Peak memory includes the program with all drivers: see `raw`. Over TLS `raw-touch` decrypts \
         in place, and `raw-rustls` through rustls' own connection.\n",
    );
    // In Markdown, for the README, only the main heats are shown.
    let most = results.heats.iter().map(|ran| ran.heat.rounds).max().unwrap_or(0);
    let shown = |ran: &&Ran| style == Style::Text || ran.heat.rounds == most;
    let heats = results.heats.iter().filter(shown);
    let tables =
        heats.map(heat).chain(latency(results)).chain(sleeper(results)).chain(copies(results));
    let tables = tables.chain(results.delays.as_ref().map(delays));
    let matchups = results.many.iter().chain(&results.publishing).chain(&results.log);
    let matchups = matchups.chain(&results.queue);
    let tables = tables.chain(matchups.map(matchup));
    for table in tables.chain(targets(results)) {
        out.push_str(&table.show(style));
    }
    for void in results.voids() {
        out.push_str(&format!("\n{void}\n"));
    }
    out
}

fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| spread.show())
}

fn heat(ran: &Ran) -> Table {
    let head = [
        "",
        "M notifications/s",
        "CPU ns",
        "kernel share",
        "of raw",
        "peak MiB",
        "sender CPU ns",
        "sample",
        "right",
    ];
    let mut table = Table::new(ran.title(), &head);
    for row in &ran.rows {
        let median = |spread: Option<Spread>, unit: f64| {
            spread.map_or_else(|| "-".to_owned(), |spread| number(spread.median / unit))
        };
        let mut rate = cell(row.rate.map(|rate| rate.map(|rate| rate / 1e6)));
        if row.sender_bound {
            rate.push_str(" sender-bound");
        }
        let right = match row.right == row.rounds {
            true => format!("{}/{}", row.right, row.rounds),
            false => format!("VOID {}/{}", row.right, row.rounds),
        };
        table.rows.push(vec![
            row.contestant.name(),
            rate,
            cell(row.cpu_ns),
            median(row.system_ns, 1.0),
            cell(row.of_raw_touch),
            median(row.peak_rss_kib, 1024.0),
            median(row.sender_cpu_ns, 1.0),
            row.count.to_string(),
            right,
        ]);
    }
    table
}

fn latency(results: &Results) -> Option<Table> {
    let first = results.latency.first()?;
    let pings = first.rounds.first().map_or(0, |round| round.pings);
    let title = format!("ping-pong on PostgreSQL, µs, {} rounds of {pings}", first.rounds.len());
    let mut table = Table::new(title, &["", "p50", "p99", "least"]);
    for contest in &results.latency {
        table.rows.push(vec![
            contest.contestant.name(),
            cell(contest.micros(|round| round.p50_ns)),
            cell(contest.micros(|round| round.p99_ns)),
            cell(contest.micros(|round| round.min_ns)),
        ]);
    }
    Some(table)
}

fn sleeper(results: &Results) -> Option<Table> {
    let sleeper_run = results.sleeper.as_ref()?;
    let title =
        format!("a listener with DropNewest sleeps while {} of 51 B arrive", sleeper_run.sent);
    let mut table = Table::new(title, &["", ""]);
    let mut line = |what: &str, value: String| table.rows.push(vec![what.to_owned(), value]);
    match &sleeper_run.slept {
        Some(slept) => {
            line("delivered", slept.delivered.to_string());
            line("lagged", slept.lagged.to_string());
            line("arrived in, ms", slept.arrival_ms.to_string());
            line("peak MiB asleep", number(slept.peak_asleep_kib as f64 / 1024.0));
            line("peak MiB", number(slept.peak_rss_kib as f64 / 1024.0));
        }
        None => line("VOID", sleeper_run.void.clone().unwrap_or_default()),
    }
    Some(table)
}

fn delays(results: &DelayedPairs) -> Table {
    let title = "delay of a notification from before its write, at the pace of PostgreSQL, ms";
    let columns = ["", "p50", "p99", "longest of 20 ms", "longest", "reads delayed"];
    let mut table = Table::new(title, &columns);
    for pair in &results.pairs {
        for (index, suffix) in ["", ", without delayed reads"].into_iter().enumerate() {
            let of = |value: fn(&Delays) -> u64, unit: f64| {
                cell(Spread::of(pair.rounds.iter().map(|round| value(&round[index]) as f64 / unit)))
            };
            table.rows.push(vec![
                format!("{}{suffix}", pair.contestant),
                of(|delays| delays.p50_ns, 1e6),
                of(|delays| delays.p99_ns, 1e6),
                of(|delays| delays.window_max_ns, 1e6),
                of(|delays| delays.max_ns, 1e6),
                of(|delays| delays.reads_delayed, 1.0),
            ]);
        }
    }
    table
}

fn matchup(matchup: &Matchup) -> Table {
    let rounds = matchup.rounds.len();
    let title =
        format!("{}, {rounds} round{}", matchup.title(), if rounds == 1 { "" } else { "s" });
    let mut table = Table::new(title, &["", "median [least, most]"]);
    for (index, name) in matchup.names.iter().enumerate() {
        table.rows.push(vec![(*name).to_owned(), cell(matchup.spread(index))]);
    }
    table
}

fn copies(results: &Results) -> Option<Table> {
    results.copies.first()?;
    let title = "bytes copied by memcpy and related functions in the client, per byte of the wire";
    let mut table = Table::new(title, &["", "size", "in the clear", "over TLS", "more"]);
    let show = |copied: Option<f64>| copied.map_or_else(|| "-".to_owned(), number);
    for copied in &results.copies {
        table.rows.push(vec![
            copied.contestant.name(),
            copied.size.to_string(),
            show(copied.clear),
            show(copied.tls),
            show(copied.more()),
        ]);
    }
    Some(table)
}

fn targets(results: &Results) -> Option<Table> {
    if results.targets.is_empty() {
        return None;
    }
    let mut table = Table::new("targets", &["", "wanted", "found", "met"]);
    for target in &results.targets {
        let wanted = match target.bound {
            Bound::AtLeast(least) => format!("≥ {}", number(least)),
            Bound::AtMost(most) => format!("≤ {}", number(most)),
        };
        let met = if target.met { "yes" } else { "no" };
        table.rows.push(vec![target.what.clone(), wanted, target.found.show(), met.to_owned()]);
    }
    Some(table)
}

//! `pgbell outbox status`: the size of a log and its cursors, as a table, as JSON, and as an exit code.

use std::io::Write as _;
use std::time::Duration;

use pgbell::durable::{CursorStatus, OutboxStatus};
use serde::Serialize;

use super::args::Status;
use super::manage::{no_cursor, refused};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::numbers::{age, bytes, counted, grouped};
use crate::output;
use crate::record;

pub(super) const REBASE_HINT: &str =
    "run `pgbell outbox rebase` while no other program uses the log";

pub(super) async fn run(args: Status) -> Result<Exit, Failure> {
    let log = args.log.open()?;
    let mut found = log.status().await.map_err(refused)?;
    if !args.cursor.is_empty() {
        found.cursors.retain(|cursor| args.cursor.contains(&cursor.name));
    }
    let problems = problems(&args, log.name(), &found);
    let mut out = Vec::new();
    if args.json {
        record::push_json(&Report::new(log.name(), &found, &problems), &mut out);
    } else {
        push_text(log.name(), &found, &mut out);
    }
    output::print(&out).await?;
    for problem in &problems {
        console::line(&format!("pgbell: {}", problem.text));
    }
    if foreign(&found.cursors).next().is_some() {
        console::line(&format!("hint: {REBASE_HINT}"));
    }
    // What is lost is worse than what is late.
    let is_lost = problems.iter().any(|problem| problem.exit == Exit::Loss);
    let first = problems.first().map_or(Exit::Ok, |problem| problem.exit);
    Ok(if is_lost { Exit::Loss } else { first })
}

/// Returns a text for each cursor whose position is of another cluster.
pub(super) fn foreign(cursors: &[CursorStatus]) -> impl Iterator<Item = String> {
    let foreign = cursors.iter().filter(|cursor| !cursor.is_of_this_cluster);
    foreign.map(|cursor| format!("the cursor {} has a position of another cluster", cursor.name))
}

/// Something that leads to an exit code.
struct Problem {
    exit: Exit,
    text: String,
}

fn problems(args: &Status, log: &str, found: &OutboxStatus) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |exit, text| problems.push(Problem { exit, text });
    for text in foreign(&found.cursors) {
        add(Exit::Check, text);
    }
    for name in &args.cursor {
        if found.cursors.iter().all(|cursor| cursor.name != *name) {
            add(Exit::Check, no_cursor(log, name));
        }
    }
    if let Some(limit) = args.max_size.filter(|limit| found.bytes > *limit) {
        let (size, limit) = (bytes(found.bytes), bytes(limit));
        add(Exit::Check, format!("the log has a size of {size}, above {limit}"));
    }
    for cursor in &found.cursors {
        let name = &cursor.name;
        if let Some(limit) = args.max_lag.filter(|limit| cursor.lag > *limit) {
            let (lag, limit) = (grouped(cursor.lag), grouped(limit));
            add(Exit::Check, format!("the cursor {name} has a lag of {lag}, above {limit}"));
        }
        if let Some((lag, limit)) =
            cursor.lag_time.zip(args.max_lag_time).filter(|(lag, limit)| lag > limit)
        {
            let (lag, limit) = (age(lag), age(limit));
            add(Exit::Check, format!("the cursor {name} has a lag of {lag}, above {limit}"));
        }
        if args.fail_on_loss && cursor.lost > 0 {
            let lost = counted(cursor.lost, "record", "records");
            add(Exit::Loss, format!("the cursor {name} has lost {lost}"));
        }
    }
    problems
}

/// The object that `--json` prints. Later versions keep these keys and may add others.
#[derive(Serialize)]
struct Report<'a> {
    log: &'a str,
    payload: &'a str,
    bytes: u64,
    position_bytes: u64,
    highest_id: i64,
    oldest_seconds: Option<f64>,
    max_age_seconds: Option<f64>,
    max_bytes: Option<u64>,
    cursors: Vec<Row<'a>>,
    /// The lines on stderr.
    problems: Vec<&'a str>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    lag: u64,
    lag_seconds: Option<f64>,
    idle_seconds: f64,
    reader: Option<&'a str>,
    lease_seconds: Option<f64>,
    token: i64,
    lost: u64,
    is_of_this_cluster: bool,
    position: Option<&'a str>,
}

impl<'a> Report<'a> {
    fn new(log: &'a str, found: &'a OutboxStatus, problems: &'a [Problem]) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let row = |cursor: &'a CursorStatus| Row {
            name: &cursor.name,
            lag: cursor.lag,
            lag_seconds: seconds(cursor.lag_time),
            idle_seconds: cursor.idle.as_secs_f64(),
            reader: cursor.reader.as_deref(),
            lease_seconds: seconds(cursor.lease_left),
            token: cursor.token,
            lost: cursor.lost,
            is_of_this_cluster: cursor.is_of_this_cluster,
            position: cursor.position.as_deref(),
        };
        Self {
            log,
            payload: found.payload.sql_name(),
            bytes: found.bytes,
            position_bytes: found.position_bytes,
            highest_id: found.highest_id,
            oldest_seconds: seconds(found.oldest),
            max_age_seconds: seconds(found.max_age),
            max_bytes: found.max_bytes,
            cursors: found.cursors.iter().map(row).collect(),
            problems: problems.iter().map(|problem| problem.text.as_str()).collect(),
        }
    }
}

const HEADINGS: [&str; 8] = ["CURSOR", "LAG", "TIME", "IDLE", "READER", "LEASE", "TOKEN", "LOST"];

fn push_text(log: &str, found: &OutboxStatus, out: &mut Vec<u8>) {
    let time = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), age);
    for (name, value) in [
        ("log", log.to_owned()),
        ("payloads", found.payload.to_string()),
        ("size", bytes(found.bytes)),
        ("highest id", found.highest_id.to_string()),
        ("oldest record", time(found.oldest)),
        ("limit of age", time(found.max_age)),
        ("limit of size", found.max_bytes.map_or_else(|| "-".to_owned(), bytes)),
    ] {
        // Writing to a Vec does not fail.
        let _ = writeln!(out, "{name:<15}{value}");
    }
    if found.cursors.is_empty() {
        return;
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(found.cursors.iter().map(|cursor| {
        [
            visible(&cursor.name),
            grouped(cursor.lag),
            time(cursor.lag_time),
            age(cursor.idle),
            cursor.reader.as_deref().map_or_else(|| "-".to_owned(), visible),
            time(cursor.lease_left),
            cursor.token.to_string(),
            grouped(cursor.lost),
        ]
    }));
    out.push(b'\n');
    push_table(&rows, out);
}

fn push_table<const N: usize>(rows: &[[String; N]], out: &mut Vec<u8>) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.extend_from_slice(line.trim_end().as_bytes());
        out.push(b'\n');
    }
}

fn visible(text: &str) -> String {
    let mut out = Vec::new();
    record::push_visible(text, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_a_table_are_as_wide_as_their_widest_cell() {
        let rows = [["NAME", "LAG"], ["grüße", "1"], ["b", "1,000"]];
        let mut out = Vec::new();
        push_table(&rows.map(|row| row.map(str::to_owned)), &mut out);
        let expected = "NAME   LAG\ngrüße  1\nb      1,000\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

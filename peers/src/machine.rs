//! The machine, the date and the versions of a measurement.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::client;

/// The machine data above every table.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// The share of processor time that the hypervisor gave to other machines during the run, in percent.
    pub(crate) steal_percent: f64,
    pub(crate) rustc: &'static str,
    pub(crate) build: &'static str,
    pub(crate) versions: String,
    /// The version of the server, if one was used.
    pub(crate) postgres: Option<String>,
    /// In UTC.
    pub(crate) date: String,
    pub(crate) command: String,
    #[serde(skip)]
    ticks: Ticks,
}

/// The processor time of the machine: in total, and stolen.
#[derive(Debug, Clone, Copy, Default)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl Machine {
    /// Reads the data of the machine, and begins the measurement of stolen time.
    pub(crate) fn look(allowed: &[usize]) -> Self {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let command: Vec<String> = std::env::args().skip(1).collect();
        let profile = if cfg!(debug_assertions) { "" } else { "--release " };
        Self {
            processor: field("/proc/cpuinfo", "model name"),
            cores: allowed.len(),
            memory_gib: field("/proc/meminfo", "MemTotal")
                .split_whitespace()
                .next()
                .and_then(|kib| kib.parse::<u64>().ok())
                .map_or(0, |kib| kib.div_ceil(1024 * 1024)),
            kernel: read("/proc/sys/kernel/osrelease"),
            steal_percent: 0.0,
            rustc: env!("PEERS_RUSTC"),
            build,
            versions: format!("{}, libpq {}", env!("PEERS_VERSIONS"), client::libpq_version()),
            postgres: None,
            date: date(SystemTime::now()),
            command: format!("cargo run {profile}-p peers -- {}", command.join(" "))
                .trim_end_matches(" -- ")
                .to_owned(),
            ticks: Ticks::now(),
        }
    }

    /// Ends the measurement of stolen time.
    pub(crate) fn finish(&mut self, postgres: Option<&str>) {
        let now = Ticks::now();
        let all = now.all.saturating_sub(self.ticks.all).max(1);
        let stolen = now.stolen.saturating_sub(self.ticks.stolen);
        self.steal_percent = 100.0 * stolen as f64 / all as f64;
        self.postgres = postgres.map(str::to_owned);
    }

    /// Returns the data, one item per line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "{}, {} cores, {} GiB, Linux {}, TCP over loopback, {:.1} % steal",
                self.processor, self.cores, self.memory_gib, self.kernel, self.steal_percent
            ),
            format!("{}, {} build, system allocator", self.rustc, self.build),
        ];
        let server = self.postgres.as_ref().map(|version| format!(", PostgreSQL {version}"));
        lines.push(format!("{}{}", self.versions, server.unwrap_or_default()));
        lines.push(format!("{}: {}", self.date, self.command));
        lines
    }
}

impl Ticks {
    fn now() -> Self {
        let text = read("/proc/stat");
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> =
            first.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; user includes the time of guests.
        let all = ticks.iter().take(8).sum();
        Self { all, stolen: ticks.get(7).copied().unwrap_or(0) }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Returns the value of `name : value` or `name: value`.
fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

/// `2026-11-21`, in UTC.
fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (mut days, mut year) = (seconds / 86_400, 1970);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let length = |year| if is_leap(year) { 366 } else { 365 };
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn dates_agree_with_the_calendar() {
        for (days, expected) in
            [(0, "1970-01-01"), (59, "1970-03-01"), (19_782, "2024-02-29"), (20_088, "2024-12-31")]
        {
            assert_eq!(super::date(UNIX_EPOCH + Duration::from_secs(86_400 * days)), expected);
        }
    }
}

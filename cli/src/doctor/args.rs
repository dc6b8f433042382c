//! The arguments of `pgbell doctor`.

use std::time::Duration;

use clap::ValueEnum;

use super::limits::{Limits, falling_times, percents, sizes, times};
use crate::args::{Url, duration};

/// The end of `pgbell doctor --help`.
const EXAMPLES: &str = "\
Examples:
  pgbell doctor                                  what is wrong, why, and what to do
  pgbell doctor --format nagios --no-probe       for a monitoring system: 0, 1, 2, 3
  pgbell doctor --format prometheus > pgbell.prom
  pgbell doctor --queue 5,25 --lag 1m,10m        other limits
  pgbell doctor --skip triggers,version

Exit codes, as those of monitoring plugins: 0 ok, 1 warning, 2 critical, also if the server cannot be reached, 3 unknown, also
for wrong arguments.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) server: Url,
    /// How the findings are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
    /// In text: print what is in order too
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Send no notification. Without it, some are sent on a private channel, and their way is timed
    #[arg(long)]
    pub(super) no_probe: bool,
    /// Measure what a NOTIFY costs in the transaction of a writer: some transactions of 8 sessions, which write no table
    #[arg(long, conflicts_with = "no_probe")]
    pub(super) measure: bool,
    /// Make only these checks
    #[arg(long, value_name = "CHECK", value_enum, value_delimiter = ',')]
    pub(super) only: Vec<Check>,
    /// Leave these checks out
    #[arg(long, value_name = "CHECK", value_enum, value_delimiter = ',')]
    pub(super) skip: Vec<Check>,
    /// For how long a client that listens is watched: if it reads nothing meanwhile, that is a warning
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    pub(super) watch: Duration,
    /// The longest time of a check. The server cancels a statement that takes longer
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub(super) timeout: Duration,
    /// The longest time of all checks
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1m")]
    pub(super) deadline: Duration,
    #[command(flatten)]
    pub(super) limits: AllLimits,
}

/// The values from which a finding is a warning, and critical.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits, each WARNING,CRITICAL")]
pub(super) struct AllLimits {
    /// Fill of the notification queue, in percent
    #[arg(long, value_parser = percents, default_value = "10,50", value_name = "LIMITS")]
    pub(super) queue: Limits<f64>,
    /// For how long a transaction has waited for the lock of NOTIFY
    #[arg(long, value_parser = times, default_value = "1s,10s", value_name = "LIMITS")]
    pub(super) lock: Limits<Duration>,
    /// Age of a transaction
    #[arg(long, value_parser = times, default_value = "5m,1h", value_name = "LIMITS")]
    pub(super) transaction: Limits<Duration>,
    /// WAL that a replication slot retains
    #[arg(long, value_parser = sizes, default_value = "1GB,10GB", value_name = "LIMITS")]
    pub(super) slot: Limits<u64>,
    /// Age of the oldest record of an outbox, or job of a queue, that waits
    #[arg(long, value_parser = times, default_value = "5m,1h", value_name = "LIMITS")]
    pub(super) lag: Limits<Duration>,
    /// Rest of the validity of a certificate, the longer time first
    #[arg(long, value_parser = falling_times, default_value = "30d,7d", value_name = "LIMITS")]
    pub(super) certificate: Limits<Duration>,
    /// Time from the commit of a notification to its receipt
    #[arg(long, value_parser = times, default_value = "100ms,1s", value_name = "LIMITS")]
    pub(super) latency: Limits<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One line for each finding, with its cause and its cure
    Text,
    /// One object
    Json,
    /// One line, and the metrics as performance data
    Nagios,
    /// Metrics in the text format of Prometheus
    Prometheus,
}

/// The checks, by their names in reports and arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Check {
    /// Version of the server, with known faults of LISTEN
    Version,
    /// Standby, read-only, encoding
    Server,
    /// A pooler in between
    Pooler,
    /// Fill of the notification queue, and its limit
    Queue,
    /// Clients that listen and do not read
    Readers,
    /// Sessions that hold the lock of NOTIFY at commit, and that wait for it
    CommitLock,
    /// Old transactions
    Transactions,
    /// Triggers that send notifications
    Triggers,
    /// Timeouts and keepalives
    Timeouts,
    /// The certificates of the server
    Certificate,
    /// The password of the connection string
    Password,
    /// WAL that replication slots retain
    Slots,
    /// Lag of outboxes
    Outbox,
    /// Lag of queues of pgmq
    Pgmq,
    /// End-to-end delivery
    Delivery,
    /// The cost of NOTIFY in the transaction of a writer, only with --measure
    Measure,
    /// Reads of the notification queue from disk, while the other checks are made
    Slru,
}

impl Doctor {
    /// Returns whether a check is to be made.
    pub(super) fn makes(&self, check: Check) -> bool {
        (self.only.is_empty() || self.only.contains(&check))
            && !self.skip.contains(&check)
            && !(self.no_probe && check == Check::Delivery)
            && (self.measure || check != Check::Measure)
    }
}

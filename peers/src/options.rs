//! The command line.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::Job;
use crate::contestant::Contestant;
use crate::log::{self, LogJob};
use crate::many::{ManyJob, Role};
use crate::publishing::{self, PublishingJob};
use crate::queue::{self, QueueJob};
use crate::replay::Replay;
use crate::source::Origin;

/// Measures pgbell and other PostgreSQL drivers, each in a process of its own.
///
/// Without a load (`--size`, `--channels`, `--source`, `--write-bytes`) it runs all loads, in about ten
/// minutes. If a notification is missing, duplicated or different, its run is VOID and the exit code is 1.
#[derive(Debug, Parser)]
#[command(name = "peers", args_conflicts_with_subcommands = true)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
}

/// The loads to run, and the format of the output.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Rounds of the main heats [default: 10]; the others have at most 3.
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Only these contestants.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<Contestant>,
    /// Bytes of a notification on the wire.
    #[arg(long, value_delimiter = ',')]
    pub(crate) size: Vec<usize>,
    /// Channels, round robin.
    #[arg(long, value_delimiter = ',')]
    pub(crate) channels: Vec<u64>,
    /// The sender.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) source: Vec<Origin>,
    /// Bytes of a write of the replay server.
    #[arg(long, value_delimiter = ',')]
    pub(crate) write_bytes: Vec<usize>,
    /// Notifications of a sample, or pings of a round [default: depends on the contestant].
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// 0: not pinned. 1: client and server share a core. 2: one core each.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=2).map(usize::from))]
    pub(crate) cores: usize,
    /// Only this scenario.
    #[arg(long, value_enum)]
    pub(crate) scenario: Option<Scenario>,
    /// An older build of this program, with which `moderation` compares `Listener::recv`.
    #[arg(long, value_name = "PATH")]
    pub(crate) before: Option<PathBuf>,
    /// Minutes of the writers with a fixed rate in the scenario `log`.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) minutes: u64,
    /// A smoke run: every contestant, with very few notifications.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print all results as JSON, including samples.
    #[arg(long, conflicts_with = "markdown")]
    pub(crate) json: bool,
    /// Print the tables for the README.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Draw throughput and processor time by size into this directory.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "peers/plots")]
    pub(crate) plot: Option<PathBuf>,
    /// In addition write the tables and the JSON into this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
}

impl Options {
    /// Returns whether a load was named.
    pub(crate) fn names_a_load(&self) -> bool {
        !(self.size.is_empty()
            && self.channels.is_empty()
            && self.source.is_empty()
            && self.write_bytes.is_empty())
    }

    pub(crate) fn admits(&self, contestant: Contestant) -> bool {
        self.only.is_empty() || self.only.contains(&contestant)
    }
}

/// A scenario that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Notifications per second, and their cost.
    Throughput,
    /// Ping-pong on a PostgreSQL server.
    Latency,
    /// A consumer that sleeps while notifications arrive.
    Sleeper,
    /// Like throughput, over TLS.
    Tls,
    /// Reads that are delayed, against reads that are not. Runs only on request.
    Moderation,
    /// Threads without async, against libpq's loop. Runs only on request.
    Blocking,
    /// Many subscriptions of a hub, against sessions and `tokio::sync::broadcast`. Runs only on request.
    Hub,
    /// Many topics of a hub, against a map of `tokio::sync::mpsc` senders. Runs only on request.
    Topics,
    /// Nudges beside durable writers, group commit, and the memory of a notifier. Runs only on request.
    Publish,
    /// The time from a wake-up to the start of work, and the statements of the server. Runs only on request.
    Wake,
    /// A log that is read by position: nothing missed, rows per second, delays, dead rows, and its cost for writers. Runs only on request.
    Log,
    /// A queue of pgmq, against the same loop written with sqlx, and a mirror of a table. Runs only on request.
    Queue,
    /// Copies per byte, in the clear and over TLS. Needs valgrind; runs only on request.
    Copies,
}

/// A process of a run.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    /// A client that receives.
    #[command(hide = true)]
    Child {
        contestant: Contestant,
        #[command(flatten)]
        job: Job,
    },
    /// A client that plays ping-pong.
    #[command(hide = true)]
    PingPong {
        contestant: Contestant,
        #[command(flatten)]
        job: Job,
    },
    /// A client that sleeps.
    #[command(hide = true)]
    Sleeper {
        #[command(flatten)]
        job: Job,
    },
    /// A client that measures the delay of each notification.
    #[command(hide = true)]
    Delays {
        contestant: Contestant,
        #[command(flatten)]
        job: Job,
    },
    /// A process with many subscribers, or the sessions that notify them.
    #[command(hide = true)]
    Many {
        role: Role,
        #[command(flatten)]
        job: ManyJob,
    },
    /// A process that publishes, or is woken.
    #[command(hide = true)]
    Publishing {
        role: publishing::Role,
        #[command(flatten)]
        job: PublishingJob,
    },
    /// A process that writes to a log, or reads it.
    #[command(hide = true)]
    Log {
        role: log::Role,
        #[command(flatten)]
        job: LogJob,
    },
    /// A process that handles jobs of a queue, or mirrors a table.
    #[command(hide = true)]
    Queue {
        role: queue::Role,
        #[command(flatten)]
        job: QueueJob,
    },
    /// The server that sends notifications encoded in advance.
    #[command(hide = true)]
    Replay(Replay),
}

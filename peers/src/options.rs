//! The command line.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::Job;
use crate::contestant::Contestant;
use crate::replay::Replay;
use crate::source::Origin;

/// Measures pgbell and other PostgreSQL drivers side by side, each in a process of its own.
///
/// Without a load (`--size`, `--channels`, `--source`, `--write-bytes`) it runs all of them, in about ten
/// minutes. A notification that is missing, or too many, or different makes its run VOID and the exit code 1.
#[derive(Debug, Parser)]
#[command(name = "peers", args_conflicts_with_subcommands = true)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
}

/// What to run, and what to print.
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
    /// Who sends.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) source: Vec<Origin>,
    /// Bytes of a write of the replay server.
    #[arg(long, value_delimiter = ',')]
    pub(crate) write_bytes: Vec<usize>,
    /// Notifications of a sample, or pings of a round [default: what suits the contestant].
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// 0: wherever the kernel likes. 1: client and server share a core. 2: one each.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=2).map(usize::from))]
    pub(crate) cores: usize,
    /// Only this part.
    #[arg(long, value_enum)]
    pub(crate) scenario: Option<Scenario>,
    /// A smoke run: everybody, with next to nothing to do.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print everything as JSON, samples included.
    #[arg(long, conflicts_with = "markdown")]
    pub(crate) json: bool,
    /// Print the tables for the README.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Draw throughput and processor time by size into this directory.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "peers/plots")]
    pub(crate) plot: Option<PathBuf>,
    /// Whatever is printed: write the tables and the JSON into this directory too.
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
}

impl Options {
    /// Whether a load was named.
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

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Notifications a second, and what they cost.
    Throughput,
    /// Ping-pong on a PostgreSQL server.
    Latency,
    /// A consumer that sleeps while notifications arrive.
    Sleeper,
    /// As throughput, over TLS.
    Tls,
    /// How often a byte is copied, in the clear and over TLS. Needs valgrind; only when asked for.
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
    /// The server that sends what it encoded beforehand.
    #[command(hide = true)]
    Replay(Replay),
}

//! The arguments of `pgbell notify`.

use std::path::PathBuf;
use std::time::Duration;

use crate::args::{Url, duration};
use crate::listen::separator;

const AFTER_HELP: &str = "\
Examples:
  pgbell notify orders '{\"id\":1}'
  produce | pgbell notify orders - -v              # one for each line
  find . -print0 | pgbell notify files --null      # one for each NUL
  pgbell notify report --whole --file report.txt   # all of it in one payload
  pgbell listen a b --format json > records; pgbell notify --json-records --file records
  pgbell notify orders tick --repeat 1000 --rate 50";

#[derive(clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Notify {
    /// Channel to notify. With --json-records it replaces the channels of the records
    #[arg(value_name = "CHANNEL", required_unless_present = "json_records")]
    pub(crate) channel: Option<String>,
    /// What to send, at most 7,999 bytes; `-` sends every line of stdin; default: the empty payload
    #[arg(value_name = "PAYLOAD", allow_negative_numbers = true)]
    pub(crate) payload: Option<String>,
    #[command(flatten)]
    pub(crate) server: Url,
    /// Print how many were sent and how fast
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Send every part of the input that ends with a NUL, instead of every line
    #[arg(long, conflicts_with_all = ["payload", "whole", "json_records"], help_heading = "Input")]
    pub(crate) null: bool,
    /// Send the whole input as one payload
    #[arg(long, conflicts_with_all = ["payload", "json_records"], help_heading = "Input")]
    pub(crate) whole: bool,
    /// Send the records that `listen --format json` has written, each to its channel. Those of losses are left out, and counted
    #[arg(long, conflicts_with = "payload", help_heading = "Input")]
    pub(crate) json_records: bool,
    /// Read this file instead of stdin
    #[arg(long, value_name = "PATH", conflicts_with = "payload", help_heading = "Input")]
    pub(crate) file: Option<PathBuf>,

    /// Send to this topic: it is put before the payload, as `listen --topic` and subscriptions to topics expect it
    #[arg(long, value_name = "TOPIC", help_heading = "Sending")]
    pub(crate) topic: Option<String>,
    /// The character between topic and payload, of ASCII
    #[arg(long, value_name = "CHARACTER", default_value = ":", value_parser = separator, help_heading = "Sending")]
    pub(crate) topic_separator: u8,
    /// Send at most N in a second, at an even pace
    #[arg(long, value_name = "N", help_heading = "Sending", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Send the payload N times, each in a transaction of its own
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["null", "json_records"], help_heading = "Sending",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) repeat: u64,

    /// How long it tries again after a call has failed, which takes up to 30 s without a session, also at the start; default: one attempt at the start, and 1m after it
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Connection")]
    pub(crate) retry: Option<Duration>,
    /// Send what is in doubt again after its session was lost, so it may arrive twice. By default it is counted, and the exit code is 8
    #[arg(long, help_heading = "Connection")]
    pub(crate) resend_in_doubt: bool,
}

/// Parses a number per second.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e6).contains(rate));
    rate.ok_or_else(|| "expected a number from 0.001 to 1000000, for each second".to_owned())
}

//! The arguments of `pgbell listen`.

use std::time::Duration;

use clap::ValueEnum;
use pgbell::Overflow;

use super::filter::Filter;
use super::template::Template;
use crate::args::{Url, duration};
use crate::palette::Color;
use crate::record::TimeStyle;
use crate::units;

/// The end of `pgbell listen --help`: examples, and what a program that reads the records can rely on.
const AFTER_HELP: &str = "\
Examples:
  pgbell listen orders stock
  pgbell listen orders --filter /type=paid --template '{received_at} {/order/id}'
  pgbell listen orders --payload-only | while read -r payload; do …; done
  pgbell listen orders --exec 'jq .id'
  pgbell listen orders -n 1 -W 30s --retry-first 1m     # for scripts

JSON records have these keys, always in this order:
  channel, payload, process_id, received_at (RFC 3339, UTC), sequence, epoch, and with --topic: topic
Losses are at their position in the stream:
  {\"event\":\"gap\", cause, lost_at, restored_at, attempts, sessions, epoch, refused}
  {\"event\":\"lagged\", count, first_sequence}
In text, a loss is a line with `~` in place of the channel. In the other formats losses are lines on stderr. A backslash is
written \\\\, an invisible character \\n, \\r, \\t or \\u{HEX}, and a space in a channel's name \\u{20}: the original can be restored exactly.

The program of --exec gets the payload on stdin, and PGBELL_CHANNEL, PGBELL_PID, PGBELL_SEQUENCE, PGBELL_RECEIVED_AT and, with --topic,
PGBELL_TOPIC in its environment.";

#[derive(clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Listen {
    /// Channels to listen to, exactly as written: no quoting, no folding to lower case
    #[arg(required = true, value_name = "CHANNEL")]
    pub(crate) channels: Vec<String>,
    #[command(flatten)]
    pub(crate) server: Url,

    /// End after COUNT notifications, of those that --topic and --filter choose
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after DURATION (10, 1.5s, 500ms, 2m, 1h): exit code 5 when fewer than COUNT arrived, or,
    /// without --count, none
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// End with exit code 6 at the first gap or loss
    #[arg(long)]
    pub(crate) fail_on_loss: bool,

    /// How a record is written
    #[arg(long, value_enum, default_value_t = ListenFormat::Text, help_heading = "Output")]
    pub(crate) format: ListenFormat,
    /// Print this text for each notification, with {channel}, {payload}, {topic}, {pid}, {received_at}, {sequence}, {epoch}, a place in a JSON payload such
    /// as {/order/id}, {{, }}, \n, \t and \\. Hidden characters are escaped
    #[arg(long, value_name = "TEXT", value_parser = Template::parse, conflicts_with_all = ["format", "pretty", "payload_only"],
        help_heading = "Output")]
    pub(crate) template: Option<Template>,
    /// Print the payload alone, with the escapes of text
    #[arg(long, conflicts_with_all = ["format", "pretty"], help_heading = "Output")]
    pub(crate) payload_only: bool,
    /// Print JSON over several lines, with indents: for people
    #[arg(long, help_heading = "Output")]
    pub(crate) pretty: bool,
    /// How times are written in text and in templates
    #[arg(long, value_enum, default_value_t = TimeStyle::Utc, help_heading = "Output")]
    pub(crate) time: TimeStyle,
    /// When text is coloured
    #[arg(long, value_enum, default_value_t = Color::Auto, help_heading = "Output")]
    pub(crate) color: Color,
    /// Print the numbers on stderr at this interval
    #[arg(long, value_name = "EVERY", value_parser = duration, help_heading = "Output")]
    pub(crate) stats: Option<Duration>,
    /// Print only errors, warnings, losses, and when the session is lost and restored, on stderr
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Only payloads that begin with a PREFIX, are JSON with a place (/order/id), or have a value there (/type=paid). ! negates; =TEXT is a prefix that
    /// begins with one of these characters. All of several filters must match
    #[arg(long, value_name = "FILTER", value_parser = Filter::parse, help_heading = "Choice")]
    pub(crate) filter: Vec<Filter>,
    /// Only notifications of this topic, as `notify --topic` sends them. It is not a part of the payload then. May be repeated
    #[arg(long, value_name = "TOPIC", help_heading = "Choice")]
    pub(crate) topic: Vec<String>,
    /// The character between topic and payload, of ASCII
    #[arg(long, value_name = "CHARACTER", default_value = ":", value_parser = separator, help_heading = "Choice")]
    pub(crate) topic_separator: u8,

    /// Run CMD by sh for each notification, instead of printing it. See below for what it gets
    #[arg(long, value_name = "CMD", conflicts_with_all = ["format", "template", "payload_only", "pretty", "time"], help_heading = "Commands")]
    pub(crate) exec: Option<String>,
    /// How many commands run at the same time. With one, they run in the order of the notifications
    #[arg(long, value_name = "N", default_value_t = 1, requires = "exec", help_heading = "Commands",
        value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) jobs: u16,
    /// End with exit code 1 at the first command that fails
    #[arg(long, requires = "exec", help_heading = "Commands")]
    pub(crate) exec_fail_fast: bool,

    /// End with exit code 1 when the session is lost, instead of reconnecting and reporting a gap
    #[arg(long, help_heading = "Connection")]
    pub(crate) no_reconnect: bool,
    /// Try again for DURATION if the server cannot be reached at the start; default: one attempt. --wait begins after it
    #[arg(long, visible_alias = "retry-connect", value_name = "DURATION", value_parser = duration, help_heading = "Connection")]
    pub(crate) retry_first: Option<Duration>,
    /// The shortest and the longest delay before an attempt to reconnect, such as 100ms..10s; default: 50ms..30s
    #[arg(long, value_name = "MIN..MAX", value_parser = backoff, help_heading = "Connection")]
    pub(crate) backoff: Option<(Duration, Duration)>,
    /// The size of the queue between the session and the output: notifications (10000) or bytes (64MB)
    #[arg(long, value_name = "SIZE", value_parser = queue_size, help_heading = "Connection")]
    pub(crate) queue: Option<QueueSize>,
    /// What happens when the queue is full: block (for at most 1 s, or block:5s), drop-newest or drop-oldest. What is dropped is reported as a loss
    #[arg(long, value_name = "POLICY", value_parser = overflow, help_heading = "Connection")]
    pub(crate) overflow: Option<Overflow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListenFormat {
    /// `2026-11-21T12:00:01.123Z orders #4711 {"id":1}`, invisible characters are escaped
    Text,
    /// One JSON object per line, with the same escapes
    Json,
    /// The payload as it is, and a line end. Not for a terminal
    Raw,
    /// The payload as it is, and a NUL, which no payload contains. Not for a terminal
    Nul,
}

/// The size of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueSize {
    Notifications(usize),
    Bytes(usize),
}

/// Parses a character of ASCII.
pub(crate) fn separator(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && *byte != 0 => Ok(*byte),
        _ => Err("expected one character of ASCII".to_owned()),
    }
}

/// Parses `100ms..10s`.
fn backoff(text: &str) -> Result<(Duration, Duration), String> {
    let delays =
        text.split_once("..").and_then(|(min, max)| duration(min).ok().zip(duration(max).ok()));
    delays
        .filter(|(min, max)| min <= max)
        .ok_or_else(|| "expected two times such as 100ms..10s, the shorter one first".to_owned())
}

fn queue_size(text: &str) -> Result<QueueSize, String> {
    let size = match text.parse() {
        Ok(number) if number > 0 => Some(QueueSize::Notifications(number)),
        Ok(_) => None,
        Err(_) => {
            units::size(text).ok().and_then(|size| size.try_into().ok()).map(QueueSize::Bytes)
        }
    };
    size.ok_or_else(|| {
        "expected a number of notifications such as 10000, or a size such as 64MB".to_owned()
    })
}

fn overflow(text: &str) -> Result<Overflow, String> {
    let expected = || "expected block, block:5s, drop-newest or drop-oldest".to_owned();
    match text {
        "drop-newest" => Ok(Overflow::DropNewest),
        "drop-oldest" => Ok(Overflow::DropOldest),
        "block" => Ok(Overflow::Block { max_stall: Duration::from_secs(1) }),
        _ => {
            let max_stall = text.strip_prefix("block:").and_then(|time| duration(time).ok());
            max_stall.map(|max_stall| Overflow::Block { max_stall }).ok_or_else(expected)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_several_forms_are_parsed() {
        let millis = Duration::from_millis;
        assert_eq!(backoff("100ms..10s"), Ok((millis(100), millis(10_000))));
        for text in ["", "1s", "2s..1s", "0..1s", "1s...2s"] {
            assert!(backoff(text).is_err(), "{text}");
        }
        assert_eq!(queue_size("10000"), Ok(QueueSize::Notifications(10_000)));
        assert_eq!(queue_size("64MB"), Ok(QueueSize::Bytes(64 << 20)));
        for text in ["", "0", "-1", "x", "1.5MB"] {
            assert!(queue_size(text).is_err(), "{text}");
        }
        assert_eq!(overflow("block"), Ok(Overflow::Block { max_stall: millis(1_000) }));
        assert_eq!(overflow("block:5s"), Ok(Overflow::Block { max_stall: millis(5_000) }));
        assert_eq!(overflow("drop-oldest"), Ok(Overflow::DropOldest));
        for text in ["", "block:", "block:x", "drop"] {
            assert!(overflow(text).is_err(), "{text}");
        }
        assert_eq!(separator("|"), Ok(b'|'));
        for text in ["", "ab", "é", "\0"] {
            assert!(separator(text).is_err(), "{text}");
        }
    }
}

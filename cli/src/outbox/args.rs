//! The arguments of `pgbell outbox`.

use std::time::Duration;

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;
use pgbell::durable::{Outbox as Table, PayloadType, Start};

use super::start::start;
use crate::args::{Format, Url, duration};
use crate::connect;
use crate::exit::Failure;
use crate::units::{age, size};

#[derive(clap::Subcommand)]
pub(crate) enum Outbox {
    /// Create the log, or update one that exists
    ///
    /// A log that exists keeps its records and cursors. It gets the functions of this version, and the settings of this call: an option that is
    /// not given has its default.
    Init(Init),
    /// Check the tables, the rights of the role and the cluster: exit code 7 if something is wrong
    Check(Log),
    /// Print the size of the log, and where each cursor is
    Status(Status),
    /// Print the records that a cursor has not acknowledged
    Read(Read),
    /// Empty the partitions that every cursor has acknowledged, or that exceed a limit of the log
    Rotate(Rotate),
    /// Make the positions valid after a dump and restore, pg_upgrade, or logical replication to another cluster
    Rebase(Log),
    /// Delete a cursor and its position
    DropCursor(DropCursor),
    /// Delete the log with its records and cursors
    Drop(Drop),
}

#[derive(clap::Args)]
pub(crate) struct Log {
    /// The log: a table or schema.table
    #[arg(value_name = "NAME", default_value = "outbox")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) server: Url,
}

impl Log {
    pub(crate) fn open(&self) -> Result<Table, Failure> {
        table(&self.server, &self.name)
    }
}

fn table(server: &Url, name: &str) -> Result<Table, Failure> {
    let config = connect::config(server.url.as_deref())?;
    Table::new(config, name).map_err(|error| Failure::of_log(&error))
}

#[derive(clap::Args)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) log: Log,
    /// The type of the payloads; it cannot be changed later
    #[arg(long, value_enum, default_value_t = Payload::Json)]
    pub(crate) payload: Payload,
    /// Write to another partition when the current one is older: 500ms, 10m, 1h, 7d; default: 10m
    #[arg(long, value_name = "DURATION", value_parser = age)]
    pub(crate) partition_age: Option<Duration>,
    /// Or when it is larger, with its indexes: 4096, 64MB, 1GB, in units of 1024; default: 256MB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) partition_bytes: Option<u64>,
    /// Empty a partition whose newest record is older, even if a cursor has not acknowledged all of it; default: never
    #[arg(long, value_name = "DURATION", value_parser = age)]
    pub(crate) max_age: Option<Duration>,
    /// Empty the oldest partition when all of them are larger, even if a cursor has not acknowledged it; default: never
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_bytes: Option<u64>,
    /// Send a notification with each transaction that writes records. Such commits wait for each other
    #[arg(long)]
    pub(crate) notify_on_commit: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Payload {
    /// text
    Text,
    /// jsonb
    Json,
    /// bytea
    Bytea,
}

impl From<Payload> for PayloadType {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Text => Self::Text,
            Payload::Json => Self::Json,
            Payload::Bytea => Self::Bytea,
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) log: Log,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this cursor: exit code 7 if there is none. Can be repeated
    #[arg(short, long, value_name = "CURSOR")]
    pub(crate) cursor: Vec<String>,
    /// Exit code 7 if a cursor has more records to receive
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_lag: Option<u64>,
    /// Exit code 7 if a cursor has not received a record that is older: 500ms, 10m, 1h, 7d
    #[arg(long, value_name = "DURATION", value_parser = age)]
    pub(crate) max_lag_time: Option<Duration>,
    /// Exit code 7 if the log is larger, with its indexes: 4096, 64MB, 1GB, in units of 1024
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// Exit code 6 if records were removed before a cursor acknowledged them, until it acknowledges the loss
    #[arg(long)]
    pub(crate) fail_on_loss: bool,
}

/// The end of `pgbell outbox read --help`.
const RECORDS: &str = "\
JSON records have these keys, always in this order:
  id, key, payload, headers, written_at (RFC 3339, UTC)
payload is a string for each type of payloads: JSON as text, a bytea as hexadecimal digits. headers is JSON as text, or null.
Records that were removed unread, because of a limit of the log, are at their position:
  {\"event\":\"gap\", first_id, last_id, records}
In text, a record is its time, key, #id and payload, without the headers, and a gap has `~` in place of the key. The escapes are those of `pgbell listen`.";

#[derive(clap::Args)]
#[command(after_long_help = RECORDS)]
pub(crate) struct Read {
    #[command(flatten)]
    pub(crate) log: Log,
    /// The cursor that is read. While another reader has it, this one waits
    #[arg(short, long, value_name = "CURSOR", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) cursor: String,
    /// Create the cursor if there is none. It begins at `beginning`, at `now`, at a time (2026-11-21T12:00:00Z), or a duration ago (10m)
    #[arg(long, value_name = "START", value_parser = start)]
    pub(crate) from: Option<Start>,
    /// Acknowledge records when they are written. Without it at most one batch is printed, and is received again later
    #[arg(long)]
    pub(crate) ack: bool,
    /// Wait for further records
    #[arg(short, long, requires = "ack")]
    pub(crate) follow: bool,
    /// End after COUNT records; without --ack at most 1,000 by default
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after DURATION (10, 1.5s, 500ms, 2m, 1h): exit code 5 when fewer than COUNT were received, or,
    /// without --count, none
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Take the cursor from its reader, and wait only for a transaction that has acknowledged and is open. What that one acknowledges later is refused
    #[arg(long)]
    pub(crate) take_over: bool,
    /// How a record is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// End with exit code 6 at the first gap, which stays unacknowledged
    #[arg(long)]
    pub(crate) fail_on_loss: bool,
    /// Print only errors, warnings and losses on stderr
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(clap::Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pub(crate) log: Log,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct DropCursor {
    /// The log: a table or schema.table
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The cursor
    #[arg(value_name = "CURSOR", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) cursor: String,
    #[command(flatten)]
    pub(crate) server: Url,
}

impl DropCursor {
    pub(crate) fn open(&self) -> Result<Table, Failure> {
        table(&self.server, &self.name)
    }
}

#[derive(clap::Args)]
pub(crate) struct Drop {
    #[command(flatten)]
    pub(crate) log: Log,
    /// Do not ask. Without a terminal it is required
    #[arg(long)]
    pub(crate) yes: bool,
}

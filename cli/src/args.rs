//! The command line: one definition for parsing, help and usage errors.

use std::env;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::console;
use crate::doctor::Doctor;
use crate::exit::{self, Exit};
use crate::listen::Listen;
use crate::notify::Notify;
use crate::outbox::Outbox;
use crate::pages::{Completions, ManPages};

/// PostgreSQL LISTEN/NOTIFY from the command line.
///
/// Data goes to stdout, everything else to stderr.
// No `Debug` here and below: a connection string may hold a password.
#[derive(Parser)]
#[command(name = "pgbell", version, max_term_width = 100)]
#[command(after_help = exit::help())]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print the notifications of channels, one record per line
    Listen(Listen),
    /// Send a notification, or one for each line of stdin
    Notify(Notify),
    /// Create, watch and read a log in a table, from which nothing is missed
    #[command(subcommand)]
    Outbox(Outbox),
    /// Find what is wrong with LISTEN and NOTIFY on a server, why, and what to do
    Doctor(Box<Doctor>),
    /// Receive notifications from a temporary server, and check that none is lost
    Demo(Demo),
    /// Print the completions of a shell
    Completions(Completions),
    /// Print the manual page, or write one for each command
    Man(ManPages),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pgbell demo
  pgbell demo postgres://localhost/postgres
  pgbell demo --count 1000000 --json")]
pub(crate) struct Demo {
    /// Your own server instead of a temporary one. DATABASE_URL and PG* do not choose it: the demo
    /// uses a real server only with this argument
    #[arg(value_name = "URL", conflicts_with_all = ["server", "url"])]
    pub(crate) target: Option<String>,
    /// The same
    #[arg(long, value_name = "URL", conflicts_with = "server")]
    pub(crate) url: Option<String>,
    /// How many notifications to send
    #[arg(long, value_name = "N", default_value_t = 5_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) count: u64,
    /// Print one JSON object and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// Which temporary server
    #[arg(long, value_enum, default_value_t = DemoServer::Auto)]
    pub(crate) server: DemoServer,
}

#[derive(clap::Args)]
pub(crate) struct Url {
    /// Connection string, postgres://… or key=value; else DATABASE_URL, else PGHOST, PGUSER and so on
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// `2026-11-21T12:00:01.123Z orders #4711 {"id":1}`, invisible characters are escaped
    Text,
    /// One JSON object per line, with the same escapes
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoServer {
    /// A real PostgreSQL if one is installed, else the loopback backend
    Auto,
    /// A real PostgreSQL, or an error
    Postgres,
    /// The crate's own backend on a real local socket
    Loopback,
}

/// Parses the command line. Prints the help, the version and usage errors.
pub(crate) fn parse() -> Result<Command, Exit> {
    let parsed = Cli::command().try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
    let error = match parsed {
        Ok(cli) => return Ok(cli.command),
        Err(error) => error,
    };
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // If the reader of the help has closed it, that is no failure.
        let _ = error.print();
        return Err(Exit::Ok);
    }
    // An argument need not be UTF-8.
    let arguments = || env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let secrets = || arguments().filter(|argument| may_hold_password(argument));
    let text = error.to_string();
    if secrets().any(|argument| text.contains(&argument)) {
        for line in secrets().fold(text, |text, found| text.replace(&found, "…")).lines() {
            console::line(line);
        }
    } else {
        let _ = error.print();
    }
    // A monitoring system would take the code of a usage error for a critical state.
    let is_doctor = env::args_os().nth(1).is_some_and(|command| command == "doctor");
    Err(if is_doctor { Exit::Monitor(3) } else { Exit::Usage })
}

/// Returns whether an argument looks like a connection string, which an error must not repeat.
fn may_hold_password(argument: &str) -> bool {
    let argument = argument.to_ascii_lowercase();
    argument.contains("://") || argument.contains("password")
}

/// `10`, `1.5s`, `500ms`, `2m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time above zero such as 10, 1.5s, 500ms, 2m or 1h".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| expected())?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err(expected()),
    };
    let time = Duration::try_from_secs_f64(seconds).map_err(|_| expected())?;
    if time.is_zero() { Err(expected()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        for (text, millis) in [
            ("10", 10_000),
            ("1.5", 1_500),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "s", "-1", "0", "1d", "1 s", "1.2.3", "1e9", "inf", "99999999999999999999h"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_payload_may_look_like_a_number_or_follow_two_dashes() {
        for (arguments, payload) in [
            (&["pgbell", "notify", "c"][..], ""),
            (&["pgbell", "notify", "c", "-"], "-"),
            (&["pgbell", "notify", "c", "-5"], "-5"),
            (&["pgbell", "notify", "c", "--", "-v"], "-v"),
            (&["pgbell", "notify", "c", "x", "-v"], "x"),
        ] {
            match Cli::try_parse_from(arguments).ok().map(|cli| cli.command) {
                Some(Command::Notify(notify)) => {
                    assert_eq!(notify.payload.unwrap_or_default(), payload);
                }
                _ => panic!("{arguments:?}"),
            }
        }
    }
}

//! The commands that change a log.

use pgbell::durable::{OutboxSettings, OutboxStatus, Rotation};
use pgbell::{Error, ErrorKind};
use serde_json::json;

use super::args::{Drop, DropCursor, Init, Log, Rotate};
use super::{confirm, status};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::numbers::{bytes, counted};
use crate::output;
use crate::record;

pub(super) async fn init(args: Init) -> Result<Exit, Failure> {
    let log = args.log.open()?;
    let mut settings =
        OutboxSettings::new().payload(args.payload.into()).notify_on_commit(args.notify_on_commit);
    if let Some(age) = args.partition_age {
        settings = settings.partition_age(age);
    }
    if let Some(bytes) = args.partition_bytes {
        settings = settings.partition_bytes(bytes);
    }
    if let Some(age) = args.max_age {
        settings = settings.max_age(age);
    }
    if let Some(bytes) = args.max_bytes {
        settings = settings.max_bytes(bytes);
    }
    log.init(&settings).await.map_err(refused)?;
    console::line(&format!("the log {} is ready: {}", log.name(), log.insert_sql()));
    Ok(Exit::Ok)
}

/// Checks the cluster too, which is a matter of the cursors.
pub(super) async fn check(args: Log) -> Result<Exit, Failure> {
    let log = args.open()?;
    let found = log.status().await.map_err(refused)?;
    if let Some(problem) = status::foreign(&found.cursors).next() {
        return Err(Failure::new(Exit::Check, problem).with_hint(status::REBASE_HINT));
    }
    let cursors = counted(number(found.cursors.len()), "cursor", "cursors");
    print_line(&format!("{}: as expected, payloads {}, {cursors}", log.name(), found.payload)).await
}

pub(super) async fn rotate(args: Rotate) -> Result<Exit, Failure> {
    let done = args.log.open()?.rotate().await.map_err(refused)?;
    let Rotation { truncated, lost, advanced, ref waits_for, is_empty, .. } = done;
    if lost > 0 {
        let records = counted(lost, "record was", "records were");
        console::line(&format!(
            "pgbell: warning: {records} removed unread, because of a limit of the log"
        ));
    }
    if args.json {
        let report = json!({
            "truncated": truncated, "lost": lost, "advanced": advanced, "waits_for": waits_for,
            "is_empty": is_empty
        });
        let mut out = Vec::new();
        record::push_json(&report, &mut out);
        return output::print(&out).await.map(|()| Exit::Ok);
    }
    let mut text = format!("emptied {}", counted(truncated.into(), "partition", "partitions"));
    if advanced {
        text.push_str(", began the next one");
    }
    if let Some(waits_for) = waits_for {
        text.push_str("; waits for ");
        text.push_str(waits_for);
    }
    print_line(&text).await
}

pub(super) async fn rebase(args: Log) -> Result<Exit, Failure> {
    let log = args.open()?;
    log.rebase().await.map_err(refused)?;
    console::line(&format!(
        "the positions of {} are those of this cluster; records that were acknowledged can be received again",
        log.name()
    ));
    Ok(Exit::Ok)
}

pub(super) async fn drop_cursor(args: DropCursor) -> Result<Exit, Failure> {
    let log = args.open()?;
    if log.drop_cursor(&args.cursor).await.map_err(refused)? {
        return Ok(Exit::Ok);
    }
    Err(Failure::new(Exit::Check, no_cursor(log.name(), &args.cursor)))
}

pub(super) async fn drop(args: Drop) -> Result<Exit, Failure> {
    let log = args.log.open()?;
    let what = format!("the log {} with its records and cursors", log.name());
    if !args.yes {
        if !confirm::can_ask() {
            let hint = "add --yes: there is no terminal on which this can be asked";
            let failure = Failure::new(Exit::Usage, format!("drop deletes {what}"));
            return Err(failure.with_hint(hint));
        }
        let size = match log.status().await {
            Ok(found) => size(&found),
            // A log that is damaged can be deleted too.
            Err(error) if error.kind() == ErrorKind::Schema => {
                console::line(&format!("pgbell: warning: {error:#}"));
                String::new()
            }
            Err(error) => return Err(refused(error)),
        };
        if !confirm::ask(&format!("delete {what}{size}?")).await? {
            return Err(Failure::new(Exit::Runtime, "nothing was deleted"));
        }
    }
    log.drop_log().await.map_err(refused)?;
    Ok(Exit::Ok)
}

fn size(found: &OutboxStatus) -> String {
    let cursors = counted(number(found.cursors.len()), "cursor", "cursors");
    format!(" ({}, {cursors})", bytes(found.bytes))
}

#[allow(clippy::needless_pass_by_value, reason = "it is an argument of map_err")]
pub(super) fn refused(error: Error) -> Failure {
    Failure::of_log(&error)
}

pub(super) fn no_cursor(log: &str, cursor: &str) -> String {
    format!("the log {log} has no cursor {cursor}")
}

pub(super) fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Prints a line on stdout, with hidden characters escaped.
async fn print_line(text: &str) -> Result<Exit, Failure> {
    let mut out = Vec::new();
    record::push_visible(text, &mut out);
    out.push(b'\n');
    output::print(&out).await.map(|()| Exit::Ok)
}

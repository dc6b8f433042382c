//! The lock that a transaction with a NOTIFY holds from before its commit to its end: the commits of all databases wait for each other.

use std::time::Duration;

use pgbell::Error;

use super::super::session_of;
use crate::doctor::args::AllLimits;
use crate::doctor::client::Client;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::Values as _;
use crate::numbers::{age, counted};

const CHECK: &str = "commit-lock";

/// The first row is that of the holder, if there is one, and then the one that waits longest.
fn query(facts: &Facts) -> String {
    // Before 14, a lock has no time: the statement is the COMMIT.
    let since = if facts.major() >= 14 { "lock.waitstart" } else { "activity.query_start" };
    format!(
        "SELECT lock.granted, activity.pid, activity.usename, activity.application_name,
            coalesce(activity.client_addr::text, 'a local socket'),
            extract(epoch FROM pg_catalog.clock_timestamp() - {since}),
            concat_ws(':', activity.wait_event_type, activity.wait_event)
        FROM pg_catalog.pg_locks AS lock JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = lock.pid
        WHERE lock.locktype = 'object' AND lock.database = 0 AND lock.classid = 'pg_catalog.pg_database'::regclass AND lock.objid = 0
            AND lock.mode = 'AccessExclusiveLock'
        ORDER BY lock.granted DESC, 6 DESC NULLS LAST"
    )
}

pub(in crate::doctor) async fn check(
    client: &mut Client,
    facts: &Facts,
    limits: &AllLimits,
) -> Result<Vec<Finding>, Error> {
    let rows = client.query(&query(facts)).await?;
    let waiting: Vec<_> = rows.iter().filter(|row| !row.is_true(0)).collect();
    let longest = waiting.iter().filter_map(|row| row.seconds(5)).max().unwrap_or(Duration::ZERO);
    let severity = limits.lock.severity(longest);
    let summary = match waiting.len() as u64 {
        0 => "no commit waits for the lock of NOTIFY".to_owned(),
        count => format!(
            "{} for the lock of NOTIFY, the longest for {}",
            counted(count, "commit waits", "commits wait"),
            age(longest)
        ),
    };
    let mut finding = Finding::new(CHECK, severity, summary);
    if severity > Severity::Ok {
        let holder = rows.iter().find(|row| row.is_true(0));
        let cause = match holder {
            None => "the holder has just released it".to_owned(),
            Some(row) => {
                let name = session_of(&row.text(1), &row.text(2), &row.text(3), &row.text(4));
                format!("{name} holds it: {}", reason(&row.text(6)))
            }
        };
        finding = finding.because(cause).cure(
            "send notifications after the commit, in a transaction of their own or with a nudge: the guide of pgbell has a chapter on publishing",
        );
    }
    Ok(vec![finding.metric("commit_lock_waiting", waiting.len() as f64).metric_with_limits(
        "commit_lock_wait_seconds",
        longest.as_secs_f64(),
        limits.lock.seconds(),
    )])
}

/// Explains the wait event of a holder.
fn reason(event: &str) -> String {
    let why = match event {
        "IPC:SyncRep" => "it waits for a synchronous standby",
        "IO:WALSync"
        | "IO:WalSync"
        | "LWLock:WALWrite"
        | "LWLock:WALWriteLock"
        | "IO:WALWrite"
        | "IO:WalWrite" => "it waits until WAL is flushed to disk",
        "Timeout:PgSleep" | "Timeout:CommitDelay" => "its commit is delayed: see commit_delay",
        "" => "it is working",
        _ => return format!("it waits for {event}"),
    };
    why.to_owned()
}

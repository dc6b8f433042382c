//! Clients that listen and do not read.

use std::collections::BTreeSet;
use std::time::Duration;

use pgbell::Error;
use tokio::time::sleep;

use super::super::{not_visible, session_of};
use crate::doctor::client::Client;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::Values as _;
use crate::numbers::counted;

const CHECK: &str = "readers";

/// An idle session only writes if it sends notifications. That it waits for its client means that the buffers of the connection are full. Its
/// times are those of its last statement, and say nothing of the wait.
const SQL: &str = "SELECT pid, backend_start::pg_catalog.text, usename, application_name,
        coalesce(client_addr::pg_catalog.text, 'a local socket')
    FROM pg_catalog.pg_stat_activity
    WHERE state = 'idle' AND wait_event = 'ClientWrite' AND pid <> pg_catalog.pg_backend_pid()
    ORDER BY pid LIMIT 1000";

/// How many of them are named.
const NAMED_MAX: usize = 20;

/// Looks three times: a client that reads slowly is not always waited for.
pub(in crate::doctor) async fn check(
    client: &mut Client,
    facts: &Facts,
    wait: Duration,
) -> Result<Vec<Finding>, Error> {
    if !facts.sees_all {
        return Ok(vec![not_visible(CHECK)]);
    }
    let mut stalled = look(client).await?;
    for _ in 0..2 {
        if stalled.is_empty() {
            break;
        }
        sleep(wait / 2).await;
        let again: BTreeSet<_> = look(client).await?.into_iter().collect();
        stalled.retain(|one| again.contains(one));
    }
    let count = stalled.len();
    let mut findings: Vec<_> = stalled
        .iter()
        .take(NAMED_MAX)
        .map(|Stalled { pid, name, .. }| {
            let seconds = wait.as_secs_f64();
            let summary = format!("{name} listens, and has not read in the last {seconds} s");
            Finding::new(CHECK, Severity::Warning, summary)
                .because("its notifications stay in the queue, which all databases share. When the queue is full, every commit with a NOTIFY fails")
                .cure(format!("let the client read, or end its session: SELECT pg_terminate_backend({pid})"))
        })
        .collect();
    if count > NAMED_MAX {
        let more = counted((count - NAMED_MAX) as u64, "client does", "clients do");
        findings.push(Finding::new(CHECK, Severity::Warning, format!("{more} not read, too")));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "every client that listens reads"));
    }
    if let Some(first) = findings.first_mut() {
        *first = first.clone().metric("stalled_readers", count as f64);
    }
    Ok(findings)
}

/// A session that waits for its client.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stalled {
    pid: String,
    /// A process id is used again.
    began: String,
    name: String,
}

async fn look(client: &mut Client) -> Result<Vec<Stalled>, Error> {
    let rows = client.query(SQL).await?;
    let stalled = rows.iter().map(|row| Stalled {
        name: session_of(&row.text(0), &row.text(2), &row.text(3), &row.text(4)),
        pid: row.text(0),
        began: row.text(1),
    });
    Ok(stalled.collect())
}

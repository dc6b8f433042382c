//! Clients that listen and do not read.

use std::time::Duration;

use pgbell::{Connection, Error};

use super::super::session_of;
use crate::doctor::args::AllLimits;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::{self, Values as _};
use crate::numbers::age;

const CHECK: &str = "readers";

/// An idle session only writes if it sends notifications. That it waits for its client with a snapshot means that the buffers of the connection are full.
const SQL: &str =
    "SELECT pid, usename, application_name, coalesce(client_addr::text, 'a local socket'),
        extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(xact_start, state_change))
    FROM pg_catalog.pg_stat_activity
    WHERE state = 'idle' AND wait_event = 'ClientWrite' AND backend_xmin IS NOT NULL
    ORDER BY 5 DESC LIMIT 20";

pub(in crate::doctor) async fn check(
    session: &mut Connection,
    facts: &Facts,
    limits: &AllLimits,
) -> Result<Vec<Finding>, Error> {
    let rows = sql::query(session, SQL).await?;
    let mut findings = Vec::new();
    let mut longest = Duration::ZERO;
    for row in rows.iter() {
        let stalled = row.seconds(4).unwrap_or_default();
        longest = longest.max(stalled);
        let severity = limits.reader.severity(stalled);
        if severity == Severity::Ok {
            continue;
        }
        let summary = format!(
            "{} listens, and has not read for {}",
            session_of(&row.text(0), &row.text(1), &row.text(2), &row.text(3)),
            age(stalled)
        );
        findings.push(
            Finding::new(CHECK, severity, summary)
                .because("its notifications stay in the queue, which all databases share, and its snapshot keeps VACUUM from removing rows")
                .cure(format!("let the client read, or end its session: SELECT pg_terminate_backend({})", row.text(0))),
        );
    }
    if findings.is_empty() {
        let summary = match facts.sees_all {
            true => "every client that listens reads",
            false => {
                "no client of this role is known that does not read. For those of other roles, grant pg_monitor"
            }
        };
        findings.push(Finding::ok(CHECK, summary));
    }
    if let Some(first) = findings.first_mut() {
        let figure = first.clone().figure_with_limits(
            "reader_stalled_seconds",
            longest.as_secs_f64(),
            limits.reader.seconds(),
        );
        *first = figure;
    }
    Ok(findings)
}

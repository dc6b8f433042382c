//! Old transactions: a session inside one keeps its place in the notification queue.

use std::time::Duration;

use pgbell::Error;

use super::super::{not_visible, session_of};
use crate::doctor::args::AllLimits;
use crate::doctor::client::Client;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::Values as _;
use crate::numbers::age;

const CHECK: &str = "transactions";

const SQL: &str = "SELECT pid, usename, application_name, coalesce(client_addr::pg_catalog.text, 'a local socket'),
        extract(epoch FROM pg_catalog.clock_timestamp() - xact_start), state
    FROM pg_catalog.pg_stat_activity
    WHERE xact_start IS NOT NULL AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
        AND NOT (state = 'idle' AND wait_event = 'ClientWrite')
    ORDER BY 5 DESC LIMIT 5";

pub(in crate::doctor) async fn check(
    client: &mut Client,
    facts: &Facts,
    limits: &AllLimits,
) -> Result<Vec<Finding>, Error> {
    if !facts.sees_all {
        return Ok(vec![not_visible(CHECK)]);
    }
    let rows = client.query(SQL).await?;
    let oldest = rows.get(0).seconds(4).unwrap_or(Duration::ZERO);
    let mut findings = Vec::new();
    for row in rows.iter() {
        let time = row.seconds(4).unwrap_or_default();
        let severity = limits.transaction.severity(time);
        if severity == Severity::Ok {
            continue;
        }
        let name = session_of(&row.text(0), &row.text(1), &row.text(2), &row.text(3));
        let summary = format!("{name} is inside a transaction for {} ({})", age(time), row.text(5));
        findings.push(
            Finding::new(CHECK, severity, summary)
                .because("if it has executed LISTEN, it reads nothing until the end of its transaction, and the notification queue cannot be shortened. Its snapshot keeps VACUUM from removing rows")
                .cure(format!("end the transaction, or its session: SELECT pg_terminate_backend({}); set idle_in_transaction_session_timeout", row.text(0))),
        );
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok(CHECK, format!("the oldest transaction began {} ago", age(oldest))));
    }
    if let Some(first) = findings.first_mut() {
        *first = first.clone().metric_with_limits(
            "transaction_age_seconds",
            oldest.as_secs_f64(),
            limits.transaction.seconds(),
        );
    }
    Ok(findings)
}

//! How full the notification queue is.

use pgbell::Error;

use crate::doctor::args::AllLimits;
use crate::doctor::client::Client;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::Values as _;

const CHECK: &str = "queue";

/// The default of `max_notify_queue_pages`: 8 GiB.
const PAGES_DEFAULT: u64 = 1_048_576;

pub(in crate::doctor) async fn check(
    client: &mut Client,
    facts: &Facts,
    limits: &AllLimits,
) -> Result<Vec<Finding>, Error> {
    let rows = client.query("SELECT pg_catalog.pg_notification_queue_usage(), pg_catalog.current_setting('max_notify_queue_pages', true)",
    )
    .await?;
    let row = rows.get(0);
    let percent = 100.0 * row.number(0).unwrap_or(0.0);
    let severity = limits.queue.severity(percent);
    let mut finding = Finding::new(
        CHECK,
        severity,
        format!("{percent:.1} % of the notification queue is in use"),
    );
    if severity > Severity::Ok {
        finding = finding
            .because("a session that listens has not read for long, or is inside a transaction. When the queue is full, every commit with a NOTIFY fails")
            .cure("end the session that `readers` or `transactions` names with SELECT pg_terminate_backend(pid)");
    }
    let limits = (limits.queue.warning / 100.0, limits.queue.critical / 100.0);
    let mut findings =
        vec![finding.metric_with_limits("queue_usage_ratio", percent / 100.0, limits)];
    let pages: Option<u64> = row.number(1);
    if facts.major() >= 17
        && let Some(pages) = pages.filter(|pages| *pages < PAGES_DEFAULT)
    {
        let summary =
            format!("max_notify_queue_pages is {pages}, below the default of {PAGES_DEFAULT}");
        let finding = Finding::new(CHECK, Severity::Warning, summary)
            .because("a listener that does not read for a short time fills the queue, and then every commit with a NOTIFY fails")
            .cure("ALTER SYSTEM RESET max_notify_queue_pages, and restart the server");
        findings.push(finding.metric("queue_pages_max", pages as f64));
    }
    Ok(findings)
}

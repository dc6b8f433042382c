//! Lag of queues of pgmq.

use std::time::Duration;

use pgbell::{Connection, Error};

use crate::doctor::args::AllLimits;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::{self, Values as _};
use crate::numbers::{age, counted};

const CHECK: &str = "pgmq";

pub(in crate::doctor) async fn check(
    session: &mut Connection,
    limits: &AllLimits,
) -> Result<Vec<Finding>, Error> {
    let there =
        sql::query(session, "SELECT pg_catalog.to_regprocedure('pgmq.metrics_all()') IS NOT NULL")
            .await?;
    if !there.get(0).is_true(0) {
        return Ok(vec![Finding::ok(CHECK, "there is no pgmq in this database")]);
    }
    let sql = "SELECT queue_name, queue_length, oldest_msg_age_sec FROM pgmq.metrics_all() ORDER BY 3 DESC NULLS LAST";
    let rows = sql::query(session, sql).await?;
    let oldest = rows.get(0).seconds(2).unwrap_or_default();
    let mut findings = Vec::new();
    for row in rows.iter() {
        let time: Duration = row.seconds(2).unwrap_or_default();
        let severity = limits.lag.severity(time);
        if severity > Severity::Ok {
            let count = counted(row.number(1).unwrap_or(0), "message", "messages");
            let summary =
                format!("the queue {} has {count}, the oldest of {} ago", row.text(0), age(time));
            findings.push(
                Finding::new(CHECK, severity, summary)
                    .because("its consumer does not run, is too slow, or tries again and again")
                    .cure("look at read_ct of its messages; give its consumer a dead-letter queue"),
            );
        }
    }
    if findings.is_empty() {
        let count = counted(rows.len() as u64, "queue", "queues");
        findings.push(Finding::ok(CHECK, format!("{count}, none with a lag")));
    }
    if let Some(first) = findings.first_mut() {
        *first = first.clone().figure_with_limits(
            "pgmq_oldest_message_seconds",
            oldest.as_secs_f64(),
            limits.lag.seconds(),
        );
    }
    Ok(findings)
}

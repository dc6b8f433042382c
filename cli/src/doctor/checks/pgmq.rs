//! Lag of queues of pgmq.

use std::time::Duration;

use pgbell::Error;

use super::outbox::not_examined;
use crate::doctor::args::AllLimits;
use crate::doctor::client::Client;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::owners::foreign_owners;
use crate::doctor::sql::Values as _;
use crate::numbers::{age, counted};

const CHECK: &str = "pgmq";

/// The queues that have a table, with the table.
const QUEUES: &str = "SELECT meta.queue_name, pg_catalog.format('pgmq.%I', queue.relname)
    FROM pgmq.meta AS meta JOIN pg_catalog.pg_class AS queue ON queue.relname = 'q_' || pg_catalog.lower(meta.queue_name)
        JOIN pg_catalog.pg_namespace AS schema ON schema.oid = queue.relnamespace AND schema.nspname = 'pgmq'
    WHERE queue.relkind IN ('r', 'p') ORDER BY 1 LIMIT 200";

pub(in crate::doctor) async fn check(
    client: &mut Client,
    limits: &AllLimits,
) -> Result<Vec<Finding>, Error> {
    let there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS meta
        JOIN pg_catalog.pg_namespace AS schema ON schema.oid = meta.relnamespace
        WHERE schema.nspname = 'pgmq' AND meta.relname = 'meta' AND meta.relkind = 'r')";
    if !client.query(there).await?.get(0).is_true(0) {
        return Ok(vec![Finding::ok(CHECK, "there is no pgmq in this database")]);
    }
    // Its functions are not called: they belong to the owner of the schema.
    let owners = foreign_owners(client, "pgmq", "").await?;
    if !owners.is_empty() {
        return Ok(vec![not_examined(CHECK, "pgmq", &owners)]);
    }
    let queues = client.query(QUEUES).await?;
    let (mut findings, mut longest) = (Vec::new(), Duration::ZERO);
    for queue in queues.iter() {
        // The oldest one has the lowest id.
        let sql = format!(
            "SELECT extract(epoch FROM pg_catalog.clock_timestamp() - enqueued_at), read_ct FROM {} ORDER BY msg_id LIMIT 1",
            queue.text(1)
        );
        let oldest = client.query(&sql).await?;
        let waited = oldest.get(0).seconds(0).unwrap_or_default();
        longest = longest.max(waited);
        let severity = limits.lag.severity(waited);
        if severity > Severity::Ok {
            let reads: u64 = oldest.get(0).number(1).unwrap_or(0);
            let reads = counted(reads, "read", "reads");
            let summary = format!(
                "the oldest message of the queue {} was sent {} ago, with {reads}",
                queue.text(0),
                age(waited)
            );
            findings.push(
                Finding::new(CHECK, severity, summary)
                    .because("its consumer does not run, is too slow, or tries again and again")
                    .cure("start its consumer, and give it a dead-letter queue"),
            );
        }
    }
    if findings.is_empty() {
        let count = counted(queues.len() as u64, "queue", "queues");
        findings.push(Finding::ok(CHECK, format!("{count}, none with a lag")));
    }
    if let Some(first) = findings.first_mut() {
        *first = first.clone().metric_with_limits(
            "pgmq_oldest_message_seconds",
            longest.as_secs_f64(),
            limits.lag.seconds(),
        );
    }
    Ok(findings)
}

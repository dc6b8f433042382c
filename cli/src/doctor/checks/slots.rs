//! WAL that replication slots retain.

use pgbell::Error;

use crate::doctor::args::AllLimits;
use crate::doctor::client::Client;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::Values as _;
use crate::numbers::bytes;

const CHECK: &str = "slots";

pub(in crate::doctor) async fn check(
    client: &mut Client,
    facts: &Facts,
    limits: &AllLimits,
) -> Result<Vec<Finding>, Error> {
    let end = match facts.is_standby {
        true => "pg_catalog.pg_last_wal_replay_lsn()",
        false => "pg_catalog.pg_current_wal_lsn()",
    };
    let sql = format!(
        "SELECT slot_name, active, coalesce(wal_status, ''), greatest(pg_catalog.pg_wal_lsn_diff({end}, restart_lsn), 0)::bigint
        FROM pg_catalog.pg_replication_slots ORDER BY 4 DESC NULLS LAST"
    );
    let rows = client.query(&sql).await?;
    let most: u64 = rows.get(0).number(3).unwrap_or(0);
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (retained, state) = (row.number(3).unwrap_or(0), row.text(2));
        let is_lost = state == "lost" || state == "unreserved";
        let severity = match limits.slot.severity(retained) {
            Severity::Ok if is_lost => Severity::Warning,
            severity => severity,
        };
        if severity == Severity::Ok {
            continue;
        }
        let reader = if row.is_true(1) { "is behind" } else { "has no reader" };
        let summary = format!(
            "the replication slot {} {reader}, and retains {} of WAL{}",
            row.text(0),
            bytes(retained),
            if is_lost { format!(" ({state})") } else { String::new() }
        );
        findings.push(
            Finding::new(CHECK, severity, summary)
                .because("WAL is kept until the disk is full, and then the server stops")
                .cure(format!("start its reader, or SELECT pg_drop_replication_slot('{}'); set max_slot_wal_keep_size", row.text(0))),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "no replication slot retains much WAL"));
    }
    if let Some(first) = findings.first_mut() {
        let limits = (limits.slot.warning as f64, limits.slot.critical as f64);
        *first = first.clone().metric_with_limits("slot_retained_bytes", most as f64, limits);
    }
    Ok(findings)
}

//! Lag of outboxes.

use std::time::Duration;

use pgbell::durable::{CursorStatus, Outbox};
use pgbell::{Config, Error};

use crate::doctor::args::AllLimits;
use crate::doctor::client::Client;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::owners::foreign_owners;
use crate::doctor::sql::Values as _;
use crate::numbers::{age, counted};

const CHECK: &str = "outbox";

/// A log is a partitioned table with others whose names begin with its name.
const SQL: &str = "SELECT schema.nspname, log.relname
    FROM pg_catalog.pg_class AS log JOIN pg_catalog.pg_namespace AS schema ON schema.oid = log.relnamespace
    WHERE log.relkind = 'p' AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class AS other
        WHERE other.relnamespace = log.relnamespace
            AND other.relname = ANY (ARRAY[log.relname || '_settings', log.relname || '_cursors', log.relname || '_positions'])) = 3
    ORDER BY 1, 2 LIMIT 50";

pub(in crate::doctor) async fn check(
    config: &Config,
    client: &mut Client,
    limits: &AllLimits,
) -> Result<Vec<Finding>, Error> {
    let logs = client.query(SQL).await?;
    let mut all = All::default();
    for row in logs.iter() {
        let (schema, table) = (row.text(0), row.text(1));
        let name = format!("{schema}.{table}");
        // The status is read by functions of the log, with the rights of this role.
        let owners = foreign_owners(client, &schema, &table).await?;
        if !owners.is_empty() {
            all.findings.push(not_examined(CHECK, &format!("the outbox {name}"), &owners));
            continue;
        }
        // Operators of the server only, as in the other checks.
        let options = "-c search_path=pg_catalog,pg_temp";
        let found = Outbox::new(config.clone().options(options), &name)?.status().await?;
        for cursor in &found.cursors {
            all.take(&name, cursor, limits);
        }
    }
    let All { mut findings, cursors, longest } = all;
    if findings.is_empty() {
        let count = counted(logs.len() as u64, "outbox", "outboxes");
        let cursors = counted(cursors, "cursor", "cursors");
        findings.push(Finding::ok(CHECK, format!("{count} with {cursors}, none with a lag")));
    }
    if let Some(first) = findings.first_mut() {
        *first = first.clone().metric_with_limits(
            "outbox_lag_seconds",
            longest.as_secs_f64(),
            limits.lag.seconds(),
        );
    }
    Ok(findings)
}

/// Says that objects are not read, because reading them could run code of other roles.
pub(super) fn not_examined(check: &'static str, what: &str, owners: &[String]) -> Finding {
    let roles = owners.join(", ");
    Finding::new(
        check,
        Severity::Note,
        format!("{what} is not examined: parts of it belong to {roles}"),
    )
    .because("reading it can run functions of its owner with the rights of this role")
    .cure("run pgbell doctor as its owner")
}

#[derive(Default)]
struct All {
    findings: Vec<Finding>,
    cursors: u64,
    longest: Duration,
}

impl All {
    fn take(&mut self, log: &str, cursor: &CursorStatus, limits: &AllLimits) {
        self.cursors += 1;
        let name = format!("the cursor {} of {log}", cursor.name);
        if !cursor.is_of_this_cluster {
            let summary = format!("{name} has a position of another cluster");
            let cure = format!("pgbell outbox rebase {log}, while no other program uses the log");
            self.findings.push(Finding::new(CHECK, Severity::Critical, summary).cure(cure));
        }
        if cursor.lost > 0 {
            let records = counted(cursor.lost, "record", "records");
            let finding =
                Finding::new(CHECK, Severity::Critical, format!("{name} has lost {records}"));
            self.findings.push(finding.because(
                "the log has exceeded its limit of age or size, and they were removed unread",
            ));
        }
        let lag = cursor.lag_time.unwrap_or_default();
        self.longest = self.longest.max(lag);
        let severity = limits.lag.severity(lag);
        if severity > Severity::Ok {
            let cause = match &cursor.reader {
                Some(reader) => format!("its reader is {reader}"),
                None => "it has no reader".to_owned(),
            };
            let finding =
                Finding::new(CHECK, severity, format!("{name} has a lag of {}", age(lag)));
            self.findings.push(finding.because(cause).cure(format!(
                "start its reader, or pgbell outbox drop-cursor {log} {}",
                cursor.name
            )));
        }
    }
}

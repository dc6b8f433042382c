//! Lag of outboxes.

use pgbell::durable::Outbox;
use pgbell::{Config, Connection, Error};

use crate::doctor::args::AllLimits;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::{self, Values as _};
use crate::numbers::{age, counted};

const CHECK: &str = "outbox";

/// A log is a partitioned table with others whose names begin with its name.
const SQL: &str = "SELECT schema.nspname || '.' || log.relname
    FROM pg_catalog.pg_class AS log JOIN pg_catalog.pg_namespace AS schema ON schema.oid = log.relnamespace
    WHERE log.relkind = 'p' AND (SELECT count(*) FROM pg_catalog.pg_class AS other
        WHERE other.relnamespace = log.relnamespace
            AND other.relname = ANY (ARRAY[log.relname || '_settings', log.relname || '_cursors', log.relname || '_positions'])) = 3
    ORDER BY 1 LIMIT 50";

pub(in crate::doctor) async fn check(
    config: &Config,
    session: &mut Connection,
    limits: &AllLimits,
) -> Result<Vec<Finding>, Error> {
    let logs = sql::query(session, SQL).await?;
    let mut findings = Vec::new();
    let mut longest = std::time::Duration::ZERO;
    let mut cursors = 0;
    for row in logs.iter() {
        let name = row.text(0);
        let found = Outbox::new(config.clone(), &name)?.status().await?;
        cursors += found.cursors.len() as u64;
        for cursor in &found.cursors {
            let who = format!("the cursor {} of {name}", cursor.name);
            if !cursor.is_of_this_cluster {
                findings.push(
                    Finding::new(
                        CHECK,
                        Severity::Critical,
                        format!("{who} has a position of another cluster"),
                    )
                    .cure(format!(
                        "pgbell outbox rebase {name}, while no other program uses the log"
                    )),
                );
            }
            if cursor.lost > 0 {
                let records = counted(cursor.lost, "record", "records");
                findings.push(
                    Finding::new(CHECK, Severity::Critical, format!("{who} has lost {records}"))
                        .because("the log has exceeded its limit of age or size, and they were removed unread"),
                );
            }
            let lag = cursor.lag_time.unwrap_or_default();
            longest = longest.max(lag);
            let severity = limits.lag.severity(lag);
            if severity > Severity::Ok {
                let cause = match &cursor.reader {
                    Some(reader) => format!("its reader is {reader}"),
                    None => "it has no reader".to_owned(),
                };
                findings.push(
                    Finding::new(CHECK, severity, format!("{who} has a lag of {}", age(lag)))
                        .because(cause)
                        .cure(format!(
                            "start its reader, or pgbell outbox drop-cursor {name} {}",
                            cursor.name
                        )),
                );
            }
        }
    }
    if findings.is_empty() {
        let count = counted(logs.len() as u64, "outbox", "outboxes");
        let cursors = counted(cursors, "cursor", "cursors");
        findings.push(Finding::ok(CHECK, format!("{count} with {cursors}, none with a lag")));
    }
    if let Some(first) = findings.first_mut() {
        *first = first.clone().figure_with_limits(
            "outbox_lag_seconds",
            longest.as_secs_f64(),
            limits.lag.seconds(),
        );
    }
    Ok(findings)
}

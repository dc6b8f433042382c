//! Triggers that send notifications inside the transaction of the writer.

use pgbell::Error;

use crate::doctor::client::Client;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::Values as _;
use crate::numbers::counted;

const CHECK: &str = "triggers";

const SQL: &str = r"SELECT function.oid::regprocedure::text, string_agg(trigger.tgrelid::regclass::text, ', ' ORDER BY trigger.tgrelid)
    FROM pg_catalog.pg_trigger AS trigger JOIN pg_catalog.pg_proc AS function ON function.oid = trigger.tgfoid
    WHERE NOT trigger.tgisinternal AND trigger.tgenabled <> 'D' AND function.prosrc ~* '\m(pg_notify|notify)\M'
    GROUP BY function.oid ORDER BY 1 LIMIT 20";

pub(in crate::doctor) async fn check(client: &mut Client) -> Result<Vec<Finding>, Error> {
    let rows = client.query(SQL).await?;
    let count = rows.len() as u64;
    let finding = if rows.is_empty() {
        Finding::ok(CHECK, "no trigger of this database sends notifications")
    } else {
        let list: Vec<_> =
            rows.iter().map(|row| format!("{} on {}", row.text(0), row.text(1))).collect();
        let functions = counted(count, "function of triggers sends", "functions of triggers send");
        Finding::new(CHECK, Severity::Note, format!("{functions} notifications: {}", list.join("; ")))
            .because("with a NOTIFY, the commits of all writers of the server wait for each other, and PREPARE TRANSACTION fails. `--measure` shows the cost")
            .cure("let the writer send the notification after its commit, or use an outbox")
    };
    Ok(vec![finding.metric("notifying_triggers", count as f64)])
}

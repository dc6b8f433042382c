//! Standby, read-only, encoding.

use pgbell::Error;

use crate::doctor::client::Client;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::Values as _;

const CHECK: &str = "server";

pub(in crate::doctor) async fn check(
    client: &mut Client,
    facts: &Facts,
) -> Result<Vec<Finding>, Error> {
    let sql = "SELECT pg_catalog.current_setting('server_encoding'), pg_catalog.current_setting('default_transaction_read_only')";
    let rows = client.query(sql).await?;
    let (encoding, is_read_only) = (rows.get(0).text(0), rows.get(0).text(1) == "on");
    let mut findings = Vec::new();
    if facts.is_standby {
        findings.push(
            Finding::new(CHECK, Severity::Critical, "the server is a standby, which refuses LISTEN and NOTIFY")
                .cure("connect to the primary: several hosts in the connection string, and target_session_attrs=read-write"),
        );
    } else if is_read_only {
        findings.push(
            Finding::new(CHECK, Severity::Note, "default_transaction_read_only is on")
                .because("LISTEN and NOTIFY work, but neither an outbox nor a queue")
                .cure("ALTER ROLE … RESET default_transaction_read_only, or of the database"),
        );
    }
    if encoding == "SQL_ASCII" {
        findings.push(
            Finding::new(CHECK, Severity::Warning, "the encoding of the database is SQL_ASCII")
                .because("the server checks and converts nothing, so a payload can have bytes that are not UTF-8")
                .cure("use a database with the encoding UTF8, or let all clients send UTF-8"),
        );
    } else if encoding != "UTF8" {
        findings.push(
            Finding::new(CHECK, Severity::Note, format!("the encoding of the database is {encoding}"))
                .because("a character that it does not have cannot be sent, and the name of a channel may have fewer characters"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "the server is a primary with UTF8"));
    }
    Ok(findings)
}

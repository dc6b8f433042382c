//! Timeouts and keepalives, as they are for the role of this program.

use pgbell::{Config, Error};

use crate::doctor::client::Client;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::Values as _;

const CHECK: &str = "timeouts";

/// From this time on, a connection whose other end has vanished is noticed too late, in seconds.
const KEEPALIVE_IDLE_MAX: u64 = 7_200;

const SQL: &str = "SELECT name, setting::bigint, unit, source FROM pg_catalog.pg_settings
    WHERE name IN ('idle_session_timeout', 'statement_timeout', 'transaction_timeout', 'tcp_keepalives_idle') ORDER BY name";

pub(in crate::doctor) async fn check(
    config: &Config,
    client: &mut Client,
) -> Result<Vec<Finding>, Error> {
    let rows = client.query_settings(SQL).await?;
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (name, value): (_, u64) = (row.text(0), row.number(1).unwrap_or(0));
        let set_by = source(&row.text(3));
        let shown = format!("{name} is {value} {}, set {set_by}", row.text(2));
        match name.as_str() {
            "idle_session_timeout" if value > 0 => findings.push(
                Finding::new(CHECK, Severity::Warning, shown)
                    .because("the server ends a session that only listens. A listener of pgbell asks the server at intervals, other clients do not")
                    .cure("ALTER ROLE … SET idle_session_timeout = 0 for the role that listens"),
            ),
            "statement_timeout" if value > 0 => findings.push(
                Finding::new(CHECK, Severity::Note, shown)
                    .because("a LISTEN that takes longer is cancelled. A commit that waits for the lock of NOTIFY is not: that is what lock_timeout is for"),
            ),
            "transaction_timeout" if value > 0 => findings.push(
                Finding::new(CHECK, Severity::Note, shown)
                    .because("the server ends the session of a commit that waits longer for the lock of NOTIFY"),
            ),
            // 0 is the default of the system, and a local socket has none.
            "tcp_keepalives_idle" if value >= KEEPALIVE_IDLE_MAX && config.get_keepalives() == Some(false) => {
                findings.push(
                    Finding::new(CHECK, Severity::Warning, format!("keepalives are off in the client, and {shown}"))
                        .because("a connection whose other end has vanished is noticed after two hours or more")
                        .cure("remove keepalives=0 from the connection string, and set tcp_keepalives_idle = 60 on the server"),
                );
            }
            _ => {}
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "no timeout ends a session that listens"));
    }
    Ok(findings)
}

/// Says where a setting comes from.
fn source(source: &str) -> &'static str {
    match source {
        "client" => "by the client",
        "user" => "for the role",
        "database" => "for the database",
        "database user" => "for the role in the database",
        "session" => "in the session",
        _ => "on the server",
    }
}

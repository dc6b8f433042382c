//! What a NOTIFY costs in the transaction of a writer: commits per second of some sessions, with and without it.

use std::time::{Duration, Instant};

use pgbell::{Config, Connection, Error};
use tokio::task::JoinSet;

use super::client::Client;
use super::delivery_channel::private_channel;
use super::finding::{Finding, Severity};
use super::sql::Values as _;
use crate::numbers::{per_second, rate};

const CHECK: &str = "measure";

/// How many sessions commit at the same time.
const SESSIONS: usize = 8;

/// How long each way is measured.
const TIME: Duration = Duration::from_millis(500);

/// Whether a commit waits for the lock of NOTIFY.
const WAITS: &str =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'object' AND database = 0
    AND classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND objid = 0 AND NOT granted)";

/// A transaction that writes WAL, and so waits for its flush as any other one, but no table.
const WRITE: &str = "SELECT pg_catalog.pg_logical_emit_message(true, 'pgbell doctor', '')";

pub(super) async fn check(
    config: &Config,
    client: &mut Client,
    limit: Duration,
) -> Result<Vec<Finding>, Error> {
    // It would make them wait longer.
    if client.query(WAITS).await?.get(0).is_true(0) {
        let summary = "not measured: commits wait for the lock of NOTIFY at the moment";
        return Ok(vec![Finding::new(CHECK, Severity::Unknown, summary)]);
    }
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Connection::connect(config.clone()).await?);
    }
    let (millis, channel) = (limit.as_millis(), private_channel());
    let begin = format!(
        "BEGIN; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL lock_timeout = {millis}; SET LOCAL statement_timeout = {millis}"
    );
    let plain = format!("{begin}; {WRITE}; COMMIT");
    let notify = format!("{begin}; SELECT pg_catalog.pg_notify('{channel}', ''); {WRITE}; COMMIT");
    // The first round is a warm-up. Both ways in turn, so that neither has the quieter server.
    let (mut with, mut without) = (0.0, 0.0);
    for round in 0..3 {
        let one = commits(&mut sessions, &plain).await?;
        let other = commits(&mut sessions, &notify).await?;
        if round > 0 {
            (without, with) = (without + one / 2.0, with + other / 2.0);
        }
    }
    for session in sessions {
        session.close().await;
    }
    let summary = format!(
        "{SESSIONS} writers commit {} without, and {} with a NOTIFY in their transactions",
        rate(without),
        rate(with)
    );
    let severity = if with < without / 2.0 { Severity::Note } else { Severity::Ok };
    let mut finding = Finding::new(CHECK, severity, summary)
        .metric("commits_per_second", without)
        .metric("notifying_commits_per_second", with);
    if severity > Severity::Ok {
        finding = finding
            .because("transactions with a NOTIFY commit one after the other, each with its own flush of WAL")
            .cure("send the notification after the commit");
    }
    Ok(vec![finding])
}

/// Returns the commits per second of all sessions.
async fn commits(sessions: &mut Vec<Connection>, sql: &str) -> Result<f64, Error> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for mut session in sessions.drain(..) {
        let sql = sql.to_owned();
        tasks.spawn(async move {
            let mut count = 0_u64;
            while begun.elapsed() < TIME {
                session.simple_query(&sql).await?;
                count += 1;
            }
            Ok::<_, Error>((session, count))
        });
    }
    let mut total = 0;
    let mut failed = None;
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(Ok((session, count))) => {
                total += count;
                sessions.push(session);
            }
            Ok(Err(error)) => failed = Some(error),
            // A task that has panicked ends the program by itself.
            Err(_) => {}
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(per_second(total, begun.elapsed())),
    }
}

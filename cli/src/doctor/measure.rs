//! What a NOTIFY costs in the transaction of a writer: commits per second of some sessions, with and without it.

use std::time::{Duration, Instant};

use pgbell::{Config, Connection, Error};
use tokio::task::JoinSet;

use super::finding::{Finding, Severity};
use crate::numbers::{per_second, rate};

const CHECK: &str = "measure";

/// How many sessions commit at the same time.
const SESSIONS: usize = 8;

/// How long each way is measured.
const TIME: Duration = Duration::from_millis(500);

/// A transaction that writes WAL, and so waits for its flush as any other one, but no table.
const WRITE: &str = "SELECT pg_catalog.pg_logical_emit_message(true, 'pgbell doctor', '')";

pub(super) async fn check(config: &Config) -> Result<Vec<Finding>, Error> {
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Connection::connect(config.clone()).await?);
    }
    let notify = "BEGIN; SELECT pg_catalog.pg_notify('pgbell_doctor_measure', ''); ".to_owned()
        + WRITE
        + "; COMMIT";
    let plain = format!("BEGIN; {WRITE}; COMMIT");
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
        .figure("commits_per_second", without)
        .figure("notifying_commits_per_second", with);
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

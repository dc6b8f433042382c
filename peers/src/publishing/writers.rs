//! Durable writers: without notifications, with a nudge after each commit, with `pg_notify` in each transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::arrivals::Arrivals;
use super::durable_server::DurableServer;
use super::nudges::Nudger;
use super::{PublishingJob, Role, median, nudges, sessions, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::{Failure, Outcome};
use crate::tally::print_line;

/// The sessions that write.
const WRITERS: usize = 32;

/// A transaction that writes a row.
const INSERT: &str = "INSERT INTO jobs VALUES ($1)";

/// The same with a notification in it. It is one statement too, so that both take one round trip.
const INSERT_AND_NOTIFY: &str = "WITH job AS (INSERT INTO jobs VALUES ($1) RETURNING key) \
    SELECT pg_notify('jobs', key) FROM job";

/// What the writers have done.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Written {
    commits_per_second: f64,
    /// The median time from the publication to the consumer.
    delay_ms: Option<f64>,
}

pub(super) fn contest(server: &DurableServer, size: Size) -> Matchup {
    let roles = [Role::WritersAlone, Role::WritersNudge, Role::WritersNotify];
    let names = ["no notification", "nudge after the commit", "pg_notify in the transaction"];
    let kind = Kind::Writers { writers: WRITERS };
    Matchup::contest(kind, size.rounds(5), &names, |index| {
        Ok(measure(roles[index], server, size)?.commits_per_second)
    })
}

/// Measures the time from a nudge to its consumer, without a load and beside writers that nudge after each commit.
pub(super) fn delays(server: &DurableServer, size: Size) -> Matchup {
    let kind = Kind::NudgeDelay { writers: WRITERS };
    Matchup::contest(kind, size.rounds(5), &["idle", "under load"], |index| match index {
        0 => nudges::idle_ms(server, size),
        _ => {
            let written = measure(Role::WritersNudge, server, size)?;
            Ok(written.delay_ms.ok_or("no nudge was measured")?)
        }
    })
}

fn measure(role: Role, server: &DurableServer, size: Size) -> Outcome<Written> {
    let mut child = start(role, server.port(), 0, size.amount(2_000, 200))?;
    let written = child.value()?;
    child.finish()?;
    Ok(written)
}

/// Commits with all sessions, again and again. The consumer must receive every key that was published.
pub(super) async fn write(role: Role, job: &PublishingJob) -> Outcome<()> {
    // It is there without notifications too.
    let arrivals = Arrivals::listen(&job.conninfo("consumer")).await?;
    let nudger = match role {
        Role::WritersNudge => Some(Nudger::connect_and_nudge(job, &arrivals).await?),
        _ => None,
    };
    let sql = if role == Role::WritersNotify { INSERT_AND_NOTIFY } else { INSERT };
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let client = sessions::open(&job.conninfo("writer")).await?;
        let statement = client.prepare(sql).await?;
        writers.push((client, statement));
    }
    let limit = Duration::from_millis(job.millis);
    let begin = Instant::now();
    let tasks = writers.into_iter().enumerate().map(|(writer, (client, statement))| {
        let (arrivals, nudger) = (Arc::clone(&arrivals), nudger.clone());
        tokio::spawn(async move {
            let mut commits = 0_u64;
            while begin.elapsed() < limit {
                let key = format!("{writer} {commits}");
                if role == Role::WritersNotify {
                    arrivals.expect(&key);
                }
                client.execute(&statement, &[&key]).await?;
                commits += 1;
                if let Some(nudger) = &nudger {
                    arrivals.expect(&key);
                    nudger.nudge(&key);
                }
            }
            Ok::<u64, Failure>(commits)
        })
    });
    let mut commits = 0;
    for task in tasks.collect::<Vec<_>>() {
        commits += task.await??;
    }
    let commits_per_second = commits as f64 / begin.elapsed().as_secs_f64();
    let delays = arrivals.all().await?;
    let delay_ms = if delays.is_empty() { None } else { Some(median(delays)?) };
    print_line(&Written { commits_per_second, delay_ms })
}

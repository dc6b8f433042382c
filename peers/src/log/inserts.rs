//! What a log costs durable writers: against the same statement for a plain table.

use std::time::Instant;

use pgbell::Connection;

use super::{LogJob, Role, on_runtime, outbox, settings, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::{Failure, Outcome};
use crate::publishing::durable_server::DurableServer;
use crate::publishing::{conninfo, sessions};
use crate::tally::print_line;

const LOG: &str = "outbox";

/// A table that a user would have without a log.
const PLAIN: &str = "CREATE TABLE plain (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL DEFAULT '',
    headers jsonb,
    payload text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
)";

const INSERT_PLAIN: &str = "INSERT INTO plain (key, payload) VALUES ($1, $2)";

/// The bytes of a payload.
const PAYLOAD: usize = 64;

/// Measures few and many writers.
pub(super) fn run(size: Size) -> Outcome<Vec<Matchup>> {
    let server = DurableServer::start()?;
    on_runtime(async {
        outbox(server.port(), LOG)?.init(&settings()).await?;
        let mut session = Connection::connect(&*conninfo(server.port(), "create")).await?;
        session.simple_query(PLAIN).await?;
        session.close().await;
        Ok(())
    })?;
    let measure = |writers: u64| {
        let roles = [Role::InsertsLog, Role::InsertsPlain];
        let names = ["log", "plain table"];
        let kind = Kind::LogInserts { writers };
        Matchup::contest(kind, size.rounds(7), &names, |index| {
            let millis = size.amount(3_000, 200);
            let arguments = [("count", 0), ("writers", writers), ("millis", millis)];
            let mut child = start(roles[index], server.port(), &arguments)?;
            let rate = child.value()?;
            child.finish()?;
            Ok(rate)
        })
    };
    Ok(vec![measure(12), measure(32)])
}

/// Commits with all sessions, again and again. Prints the commits per second.
pub(super) async fn write(role: Role, job: &LogJob) -> Outcome<()> {
    let log_sql = outbox(job.job.port, LOG)?.insert_sql();
    let sql = if role == Role::InsertsLog { &log_sql } else { INSERT_PLAIN };
    let mut writers = Vec::new();
    for _ in 0..job.writers {
        let client = sessions::open(&job.conninfo("writer")).await?;
        let statement = client.prepare(sql).await?;
        writers.push((client, statement));
    }
    let limit = job.duration();
    let payload = "x".repeat(PAYLOAD);
    let begin = Instant::now();
    let tasks = writers.into_iter().enumerate().map(|(writer, (client, statement))| {
        let (key, payload) = (format!("key {writer}"), payload.clone());
        tokio::spawn(async move {
            let mut commits = 0_u64;
            while begin.elapsed() < limit {
                client.execute(&statement, &[&key, &payload]).await?;
                commits += 1;
            }
            Ok::<u64, Failure>(commits)
        })
    });
    let mut commits = 0;
    for task in tasks.collect::<Vec<_>>() {
        commits += task.await??;
    }
    print_line(&(commits as f64 / begin.elapsed().as_secs_f64()))
}

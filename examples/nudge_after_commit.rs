//! Ends by itself. A writer commits jobs and nudges, and the workers of this process and of another session read them.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example nudge_after_commit`
//!
//! It needs a PostgreSQL server, and creates a table in a schema of its own, which it drops at the end.

use std::time::Duration;

use pgbell::{Connection, Error, Notifier, Wake, WakeTask, WakeWorker, Wakeups};
use tokio::task::JoinSet;

const JOBS: usize = 20;

/// Claims jobs at every wake-up, until all of them are done.
#[allow(clippy::print_stdout)]
async fn work(
    name: &'static str,
    worker: WakeWorker,
    mut connection: Connection,
) -> Result<(), Error> {
    // A job that takes time is deleted after it, in the same transaction: see the example `skip_locked_queue`.
    let sql = "WITH taken AS MATERIALIZED ( \
                   SELECT id FROM pgbell_example.job ORDER BY id FOR UPDATE SKIP LOCKED LIMIT $1::int), \
               deleted AS ( \
                   DELETE FROM pgbell_example.job USING taken WHERE job.id = taken.id RETURNING job.id) \
               SELECT id FROM deleted ORDER BY id";
    while let Ok(wake) = worker.wake().await {
        let limit = worker.batch_size().to_string();
        let jobs = connection.query(sql, &[Some(&limit)]).await?;
        worker.found(jobs.len());
        let why = match wake {
            Wake::Notified { .. } => "nudged",
            _ => "polled",
        };
        for job in jobs.iter().filter_map(|row| row.get(0)) {
            println!("{name}: {why}: job {job} is done");
        }
    }
    connection.close().await;
    Ok(())
}

/// Waits until there are no jobs.
async fn until_done(connection: &mut Connection) -> Result<(), Error> {
    loop {
        let left = connection.simple_query("SELECT count(*) FROM pgbell_example.job").await?;
        if left.first().and_then(|rows| rows.get(0)?.get(0)) == Some("0") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let mut writer = Connection::connect(&url).await?;
    writer
        .simple_query(
            "DROP SCHEMA IF EXISTS pgbell_example CASCADE; \
             CREATE SCHEMA pgbell_example; \
             CREATE TABLE pgbell_example.job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
        )
        .await?;

    let notifier = Notifier::connect(&url).await?;
    let task = || WakeTask::new("jobs").channel("jobs").interval(Duration::from_secs(5));
    // Woken by the nudges directly.
    let here = Wakeups::builder(&url).task(task()).connect().await?;
    here.attach(&notifier);
    // Woken by the notifications, as in another process.
    let there = Wakeups::builder(&url).task(task()).connect().await?;
    let mut workers = JoinSet::new();
    for (name, wakeups) in [("here", &here), ("there", &there)] {
        workers.spawn(work(name, wakeups.worker("jobs")?, Connection::connect(&url).await?));
    }

    for _ in 0..JOBS {
        // One statement is one transaction: it is committed when this returns.
        let sql = "INSERT INTO pgbell_example.job DEFAULT VALUES RETURNING id";
        let inserted = writer.simple_query(sql).await?;
        let id = inserted.first().and_then(|rows| rows.get(0)?.get(0)).ok_or("no id")?;
        notifier.nudge("jobs", id);
    }
    tokio::select! {
        done = until_done(&mut writer) => done?,
        // A worker ends only after an error.
        Some(ended) = workers.join_next() => return Err(ended?.err().map_or("a worker has ended".into(), Into::into)),
    }

    // Sends what waits.
    notifier.clone().close().await;
    let stats = notifier.stats();
    println!("{} nudges, {} dropped", stats.nudges, stats.nudges_dropped);
    here.close().await;
    there.close().await;
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    writer.simple_query("DROP SCHEMA pgbell_example CASCADE").await?;
    writer.close().await;
    Ok(())
}

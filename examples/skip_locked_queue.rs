//! Ends by itself. A queue that is a table, as programs write it by hand: the producers notify in the transaction of the item, and each of four
//! workers claims items with `FOR UPDATE SKIP LOCKED`. [`Wakeups`] only replace the loop that sleeps and polls.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example skip_locked_queue`
//!
//! It needs a PostgreSQL server, and creates a table in a schema of its own, which it drops at the end.

use std::time::Duration;

use pgbell::{Connection, Error, Listen, WakeTask, WakeWorker, Wakeups};
use tokio::task::JoinSet;

const ITEMS: usize = 50;
const WORKERS: usize = 4;

/// The delay after which an item that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The work for an item. The thirteenth fails once.
fn handle(id: &str, attempts: &str) -> Result<(), &'static str> {
    if id == "13" && attempts == "0" { Err("bad luck") } else { Ok(()) }
}

/// Claims a batch in one transaction, and handles it. An item is locked until it is done: if this program ends before, another worker gets it.
/// Returns how many were done.
#[allow(clippy::print_stdout)]
async fn do_batch(
    number: usize,
    worker: &WakeWorker,
    connection: &mut Connection,
) -> Result<usize, Error> {
    let claim = "SELECT id, attempts FROM pgbell_queue.item WHERE due <= now() \
                 ORDER BY id FOR UPDATE SKIP LOCKED LIMIT $1::int";
    let delete = "DELETE FROM pgbell_queue.item WHERE id = $1::bigint";
    let retry = "UPDATE pgbell_queue.item SET attempts = attempts + 1, due = now() + $2::interval \
                 WHERE id = $1::bigint";
    let delay = format!("{} milliseconds", RETRY.as_millis());
    let limit = worker.batch_size().to_string();
    let (mut done, mut has_failed) = (0, false);

    connection.simple_query("BEGIN").await?;
    let claimed = connection.query(claim, &[Some(&limit)]).await?;
    // Before they are handled: after a full batch another worker claims the next ones meanwhile.
    worker.found(claimed.len());
    for row in claimed.iter() {
        let (Some(id), Some(attempts)) = (row.get(0), row.get(1)) else { continue };
        match handle(id, attempts) {
            Ok(()) => {
                connection.query(delete, &[Some(id)]).await?;
                println!("worker {number}: item {id} is done");
                done += 1;
            }
            Err(why) => {
                connection.query(retry, &[Some(id), Some(&delay)]).await?;
                println!("worker {number}: item {id} failed, {why}");
                has_failed = true;
            }
        }
    }
    connection.simple_query("COMMIT").await?;
    if has_failed {
        // It is due without a notification.
        worker.retry_in(RETRY);
    }
    Ok(done)
}

/// Does batches at every wake-up: after a notification, a loss, an interval or a full batch.
async fn work(
    number: usize,
    worker: WakeWorker,
    mut connection: Connection,
) -> Result<usize, Error> {
    let mut done = 0;
    while worker.changed().await {
        done += do_batch(number, &worker, &mut connection).await?;
    }
    connection.close().await;
    Ok(done)
}

/// Waits until there are no items.
async fn until_done(connection: &mut Connection) -> Result<(), Error> {
    loop {
        let left = connection.simple_query("SELECT count(*) FROM pgbell_queue.item").await?;
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
    let mut producer = Connection::connect(&url).await?;
    producer
        .simple_query(
            "DROP SCHEMA IF EXISTS pgbell_queue CASCADE; \
             CREATE SCHEMA pgbell_queue; \
             CREATE TABLE pgbell_queue.item ( \
                 id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                 attempts int NOT NULL DEFAULT 0, \
                 due timestamptz NOT NULL DEFAULT now())",
        )
        .await?;

    let task = WakeTask::new("items").channel("item_added");
    let wakeups = Wakeups::builder(&url)
        .task(task.interval(Duration::from_secs(30)).batch_size(5))
        // Polls if notifications do not arrive, as behind a pooler in transaction mode.
        .listen(Listen::Automatic)
        .connect()
        .await?;
    println!("status: {}", wakeups.status());
    let mut workers = JoinSet::new();
    for number in 1..=WORKERS {
        let connection = Connection::connect(&url).await?;
        workers.spawn(work(number, wakeups.worker("items")?, connection));
    }

    for _ in 0..ITEMS {
        // The item and its notification are committed together or not at all.
        let sql = "WITH added AS (INSERT INTO pgbell_queue.item DEFAULT VALUES RETURNING id) \
                   SELECT pg_notify('item_added', id::text) FROM added";
        producer.simple_query(sql).await?;
    }
    tokio::select! {
        done = until_done(&mut producer) => done?,
        // A worker ends only after an error.
        Some(ended) = workers.join_next() => return Err(ended?.err().map_or("a worker has ended".into(), Into::into)),
    }

    wakeups.close().await;
    let mut done = 0;
    while let Some(ended) = workers.join_next().await {
        done += ended??;
    }
    println!("end: {done} items are done");
    producer.simple_query("DROP SCHEMA pgbell_queue CASCADE").await?;
    producer.close().await;
    Ok(())
}

//! Ends by itself. The two patterns of LISTEN and NOTIFY with tables: jobs that are done reliably, and a state that is followed.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example jobs_and_state`
//!
//! It needs a PostgreSQL server, and creates two tables in a schema of its own, which it drops at the beginning and at the end.
//!
//! | pattern | here |
//! |---|---|
//! | `BEGIN; SELECT pgmq.send('jobs', …); NOTIFY jobs_channel; COMMIT` | `SEND` and `Connection::notify` in a transaction |
//! | `LISTEN jobs_channel`, else read every 30 s | `Wakeups` with `WakeTask::interval(30 s)` |
//! | `SELECT * FROM pgmq.read('jobs', vt => 30, qty => 10)` | `READ` with `worker.batch_size()` |
//! | `SELECT pgmq.archive('jobs', msg_id)` | `DONE` |
//! | `BEGIN; UPDATE orders …; NOTIFY orders_channel, '456'; COMMIT` | `Connection::notify` in a transaction |
//! | refresh what a notification names | `Event::Notification`: one row is read |
//! | a periodic refresh, in case one was missed | `Event::Gap`: all rows are read, and only then |

use std::error::Error;
use std::time::Duration;

use pgbell::{Connection, Event, Listener, WakeTask, WakeWorker, Wakeups};

const TABLES: &str = "
    DROP SCHEMA IF EXISTS pgbell_jobs_and_state CASCADE;
    CREATE SCHEMA pgbell_jobs_and_state;
    SET search_path = pgbell_jobs_and_state;
    CREATE TABLE jobs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        message text NOT NULL,
        visible_at timestamptz NOT NULL DEFAULT now(),
        attempts int NOT NULL DEFAULT 0);
    CREATE TABLE orders (id bigint PRIMARY KEY, status text NOT NULL);
    INSERT INTO orders VALUES (455, 'paid'), (456, 'paid')";

const SEND: &str = "INSERT INTO pgbell_jobs_and_state.jobs (message) VALUES ($1)";

/// A job that is read is invisible for a second. If it is not done by then, another read returns it. Write the longest time that a job may take.
/// MATERIALIZED: the rows are chosen once, so that there are at most `$1`.
const READ: &str = "
    WITH taken AS MATERIALIZED (
        SELECT id FROM pgbell_jobs_and_state.jobs WHERE visible_at <= now()
        ORDER BY id FOR UPDATE SKIP LOCKED LIMIT $1::bigint
    ), read AS (
        UPDATE pgbell_jobs_and_state.jobs AS job
        SET visible_at = now() + interval '1 second', attempts = attempts + 1
        FROM taken WHERE job.id = taken.id
        RETURNING job.id, job.message, job.attempts)
    SELECT id, message, attempts FROM read ORDER BY id";

const DONE: &str = "DELETE FROM pgbell_jobs_and_state.jobs WHERE id = $1::bigint";

const INVISIBLE: Duration = Duration::from_secs(1);

/// Reads jobs at every wake-up, until the `Wakeups` are closed. The first attempt of each job whose message is `"crash"` is not completed.
#[allow(clippy::print_stdout)]
async fn work(worker: WakeWorker, mut connection: Connection) -> Result<(), pgbell::Error> {
    while worker.changed().await {
        let limit = worker.batch_size().to_string();
        let jobs = connection.query(READ, &[Some(&limit)]).await?;
        worker.found(jobs.len());
        for job in jobs.iter() {
            let column = |index| job.get(index).unwrap_or_default();
            let (id, message, attempt) = (column(0), column(1), column(2));
            if message == "crash" && attempt == "1" {
                println!("job {id}: attempt {attempt} is not completed");
                // Nothing is notified when a job becomes visible again.
                worker.retry_in(INVISIBLE);
                continue;
            }
            connection.query(DONE, &[Some(id)]).await?;
            println!("job {id}: done in attempt {attempt}");
        }
    }
    connection.close().await;
    Ok(())
}

/// The first pattern: the table keeps the jobs, and a notification only saves the wait for the next read.
#[allow(clippy::print_stdout)]
async fn jobs(url: &str, producer: &mut Connection) -> Result<(), Box<dyn Error>> {
    let task = WakeTask::new("jobs").channel("jobs_channel").batch_size(10);
    let task = task.interval(Duration::from_secs(30));
    let wakeups = Wakeups::builder(url).task(task).connect().await?;
    let worker = tokio::spawn(work(wakeups.worker("jobs")?, Connection::connect(url).await?));

    for (message, end) in [("mail", "COMMIT"), ("never", "ROLLBACK"), ("crash", "COMMIT")] {
        producer.simple_query("BEGIN").await?;
        producer.query(SEND, &[Some(message)]).await?;
        producer.notify("jobs_channel", "").await?;
        producer.simple_query(end).await?;
    }
    while one(producer, "SELECT count(*) FROM jobs").await? != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    wakeups.close().await;
    worker.await??;
    Ok(())
}

/// The second pattern: the table is the state, and a notification names the row that has changed.
#[allow(clippy::print_stdout)]
async fn state(url: &str, producer: &mut Connection) -> Result<(), Box<dyn Error>> {
    let mut listener = Listener::builder(url).channels(["orders_channel"]).await?;
    // After LISTEN: so nothing is missed in between.
    let mut reader = Connection::connect(url).await?;
    let all = "SELECT id, status FROM pgbell_jobs_and_state.orders ORDER BY id";
    println!("orders: {}", reader.query(all, &[]).await?.len());

    producer.simple_query("BEGIN").await?;
    producer.simple_query("UPDATE orders SET status = 'shipped' WHERE id = 456").await?;
    producer.notify("orders_channel", "456").await?;
    producer.simple_query("COMMIT").await?;

    match listener.recv().await? {
        Event::Notification(n) => {
            let row = "SELECT status FROM pgbell_jobs_and_state.orders WHERE id = $1::bigint";
            let rows = reader.query(row, &[Some(n.payload())]).await?;
            let status = rows.get(0).and_then(|row| row.get(0)).unwrap_or("deleted");
            println!("order {}: {status}", n.payload());
        }
        loss => {
            let rows = reader.query(all, &[]).await?;
            println!("{} orders are read again: {loss}", rows.len());
        }
    }
    listener.close().await;
    reader.close().await;
    Ok(())
}

/// Returns the only value of a query.
async fn one(connection: &mut Connection, sql: &str) -> Result<String, pgbell::Error> {
    let rows = connection.query(sql, &[]).await?;
    Ok(rows.get(0).and_then(|row| row.get(0)).unwrap_or_default().to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let mut producer = Connection::connect(&url).await?;
    producer.simple_query(TABLES).await?;
    jobs(&url, &mut producer).await?;
    state(&url, &mut producer).await?;
    producer.simple_query("DROP SCHEMA pgbell_jobs_and_state CASCADE").await?;
    producer.close().await;
    Ok(())
}

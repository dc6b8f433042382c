//! Wake-ups: workers of a table that are woken by notifications and at intervals.

mod automatic;
mod nudges;
mod outages;
mod queues;
mod workers;

use std::time::Duration;

use pgbell::{Connection, Error, Wake, WakeTask, WakeWorker, Wakeups, WakeupsBuilder};

use crate::support::{TEST_TIMEOUT, until_sql};

/// An interval that does not pass in a test.
const NEVER: Duration = Duration::from_secs(3_600);

/// An interval that passes often.
const OFTEN: Duration = Duration::from_millis(100);

/// A builder that connects again at once.
fn builder(url: &str) -> WakeupsBuilder {
    Wakeups::builder(url).backoff(Duration::from_millis(10), Duration::from_millis(100))
}

/// The task that does the jobs of [`create_jobs`], 10 at a time.
fn jobs(interval: Duration) -> WakeTask {
    WakeTask::new("jobs").channel("jobs").interval(interval).batch_size(10)
}

async fn wake(worker: &WakeWorker) -> Wake {
    let wake = tokio::time::timeout(TEST_TIMEOUT, worker.wake()).await;
    wake.expect("there is a wake-up").unwrap()
}

async fn create_jobs(connection: &mut Connection) {
    let sql = "CREATE TABLE job (id int PRIMARY KEY); \
               CREATE TABLE done (id int PRIMARY KEY, worker text, batch int)";
    connection.simple_query(sql).await.unwrap();
}

/// Adds the jobs from `first` to `last`, with a notification for each if `notifies`.
async fn add_jobs(connection: &mut Connection, first: u32, last: u32, notifies: bool) {
    let sql = "WITH added AS (INSERT INTO job SELECT generate_series($1::int, $2::int) RETURNING id) \
               SELECT CASE WHEN $3::bool THEN pg_notify('jobs', id::text) END FROM added";
    let (first, last) = (first.to_string(), last.to_string());
    let parameters = [Some(first.as_str()), Some(&last), Some(if notifies { "t" } else { "f" })];
    connection.query(sql, &parameters).await.unwrap();
}

/// Does a batch of jobs in one transaction, and returns how many. A job that is done twice is an error.
async fn do_jobs(connection: &mut Connection, name: &str, limit: usize) -> Result<usize, Error> {
    let sql = "WITH taken AS MATERIALIZED ( \
                   SELECT id FROM job ORDER BY id FOR UPDATE SKIP LOCKED LIMIT $1::int), \
               claimed AS (DELETE FROM job USING taken WHERE job.id = taken.id RETURNING job.id) \
               INSERT INTO done SELECT id, $2, count(*) OVER () FROM claimed RETURNING id";
    let rows = connection.query(sql, &[Some(&limit.to_string()), Some(name)]).await?;
    Ok(rows.len())
}

/// Does jobs at every wake-up until the end, and returns how many.
async fn work(
    worker: WakeWorker,
    mut connection: Connection,
    name: String,
) -> Result<usize, Error> {
    let mut count = 0;
    while worker.changed().await {
        let found = do_jobs(&mut connection, &name, worker.batch_size()).await?;
        worker.found(found);
        count += found;
    }
    connection.close().await;
    Ok(count)
}

/// Waits until this number of jobs is done.
async fn until_done(connection: &mut Connection, count: u32) {
    until_sql(connection, &format!("SELECT count(*) = {count} FROM done")).await;
}

//! Ends by itself. A consumer of a queue of pgmq: jobs are done once, tried again after an error, and put aside after the last attempt.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example job_queue --features durable`
//!
//! It needs a PostgreSQL server with pgmq 1.5 or later. If there is none, it runs the SQL of pgmq that `PGMQ_SQL` names, a file. It creates two queues,
//! which it drops at the end.

use std::time::Duration;

use pgbell::durable::pgmq::{Finish, Job, Queue, Version};
use pgbell::{Connection, Error, ErrorKind};

const JOBS: u64 = 20;

/// Finds pgmq, or installs it.
async fn pgmq(connection: &mut Connection) -> Result<Version, Box<dyn std::error::Error>> {
    match Version::of(connection).await {
        Err(error) if error.kind() == ErrorKind::Schema => {
            let Some(path) = std::env::var_os("PGMQ_SQL") else { return Err(error.into()) };
            connection.simple_query(&std::fs::read_to_string(path)?).await?;
        }
        found => return Ok(found?),
    }
    Ok(Version::of(connection).await?)
}

/// Sends jobs, each in a transaction of its own. Every fourth transaction is rolled back, and its job does not exist.
async fn send(connection: &mut Connection, queue: &Queue) -> Result<(), Error> {
    for number in 1..=JOBS {
        connection.simple_query("BEGIN").await?;
        queue.send(connection, &format!("{{\"number\": {number}}}"), Duration::ZERO).await?;
        let end = if number % 4 == 0 { "ROLLBACK" } else { "COMMIT" };
        connection.simple_query(end).await?;
    }
    Ok(())
}

/// Does a job. One of them fails in its first attempt, and another one in each.
async fn work(job: Job) -> Result<(), String> {
    match job.message() {
        "{\"number\": 3}" if job.attempts() == 1 => Err("the mail server is busy".to_owned()),
        "{\"number\": 7}" => Err("there is no such address".to_owned()),
        _ => Ok(()),
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let mut connection = Connection::connect(url.as_str()).await?;
    let version = pgmq(&mut connection).await?;
    let (queue, dead) = (Queue::new("pgbell_example")?, Queue::new("pgbell_example_dead")?);
    for queue in [&queue, &dead] {
        queue.drop_queue(&mut connection).await?;
        queue.create(&mut connection).await?;
    }
    if version.has_throttle() {
        queue.enable_notifications(&mut connection, Duration::from_millis(250)).await?;
    }

    let consumer = queue
        .consumer(url.as_str())
        .concurrency(4)
        .max_attempts(3)
        .backoff(Duration::from_millis(10), Duration::from_millis(100))
        .finish(Finish::Delete)
        .dead_letter(dead.clone())
        .run(work)
        .await?;
    send(&mut connection, &queue).await?;
    while queue.metrics(&mut connection).await?.length > 0 {
        tokio::select! {
            ended = consumer.wait() => ended?,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    let stopped = consumer.stop(Duration::from_secs(10)).await;
    if let Some(error) = stopped.error {
        return Err(error.into());
    }
    let stats = consumer.stats();
    println!(
        "{} done, {} attempts failed, {} put aside",
        stats.finished, stats.failures, stats.dead
    );
    for message in dead.read(&mut connection, Duration::from_secs(30), 10).await? {
        println!("{}", message.message());
    }
    for queue in [&queue, &dead] {
        queue.drop_queue(&mut connection).await?;
    }
    connection.close().await;
    Ok(())
}

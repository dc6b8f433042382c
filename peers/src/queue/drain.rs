//! Jobs that wait: jobs per second and processor time of a consumer, against the same loop written with sqlx.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pgbell::Connection;
use pgbell::durable::pgmq::{Job, Queue};
use pgbell_testkit::Cluster;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{INTERVAL, QUEUE, QueueJob, Role, queue, settle, start};
use crate::client::USER;
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::tally::print_line;
use crate::usage::Usage;

/// The batches and the handlers that run at once. The first pair is the default of a consumer.
pub(super) const SIZES: [(u64, u64); 2] = [(10, 8), (100, 100)];

/// The channel that wakes the consumer when the jobs are committed.
const CHANNEL: &str = "go";

/// The visibility timeout in seconds, the default of a consumer.
const VISIBILITY: i32 = 30;

/// How often the end is looked for, when all handlers have run.
const LOOK: Duration = Duration::from_millis(1);

/// The message of a job: an object of about a hundred bytes.
const MESSAGE: &str = r#"{"to": "anna@example.org", "subject": "Your order has been shipped", "order": 123456, "urgent": false}"#;

/// The values of a message that the consumer has too: without them the loop would have less to decode. sqlx decodes no timestamps here.
const READ: &str = "SELECT msg_id, read_ct, (extract(epoch FROM enqueued_at) * 1000000)::bigint,
    (extract(epoch FROM vt) * 1000000)::bigint, message::text, headers::text FROM pgmq.read($1::text, $2::integer, $3::integer)";

/// What a process has measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Measured {
    rate: f64,
    /// Processor time of the process per job, in microseconds.
    cpu_us: f64,
}

/// Measures both in turn.
pub(super) fn contest(server: &Cluster, size: Size, batch: u64, concurrency: u64) -> Matchup {
    let jobs = size.amount(20_000, 500);
    let names =
        ["consumer, jobs/s", "sqlx, jobs/s", "consumer, CPU µs per job", "sqlx, CPU µs per job"];
    let mut is_reversed = true;
    let kind = Kind::QueueDrain { jobs, batch, concurrency };
    Matchup::together(kind, size.rounds(7), names, || {
        is_reversed = !is_reversed;
        let mut order = [(0, Role::Consumer), (1, Role::Sqlx)];
        if is_reversed {
            order.reverse();
        }
        let mut values = [0.0; 4];
        for (index, role) in order {
            let arguments = [("count", jobs), ("batch", batch), ("concurrency", concurrency)];
            let mut child = start(role, server.port(), &arguments)?;
            let Measured { rate, cpu_us } = child.value()?;
            child.finish()?;
            (values[index], values[index + 2]) = (rate, cpu_us);
        }
        Ok(values)
    })
}

/// Empties the queue and its archive: what the rounds before have left would make this one slower.
async fn prepare(job: &QueueJob) -> Outcome<Connection> {
    let mut session = Connection::connect(&*job.conninfo("sender")).await?;
    let empty = format!("TRUNCATE pgmq.q_{QUEUE}, pgmq.a_{QUEUE}");
    session.simple_query(&empty).await?;
    Ok(session)
}

/// Sends the jobs, and makes their rows known to the planner.
async fn send(session: &mut Connection, job: &QueueJob) -> Outcome<()> {
    let count = job.job.count;
    let send = format!(
        "SELECT count(*) FROM pgmq.send_batch('{QUEUE}', array_fill('{MESSAGE}'::jsonb, ARRAY[{count}]))"
    );
    session.simple_query(&send).await?;
    session.simple_query(&format!("VACUUM ANALYZE pgmq.q_{QUEUE}")).await?;
    Ok(())
}

/// Handles the jobs with a consumer, which a notification wakes. Prints what was measured.
pub(super) async fn consumer(job: &QueueJob) -> Outcome<()> {
    let mut session = prepare(job).await?;
    let count = job.job.count;
    let (handled, all_handled) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let handler = {
        let (handled, all_handled) = (handled.clone(), all_handled.clone());
        move |_: Job| {
            if handled.fetch_add(1, Ordering::Relaxed) + 1 == count {
                all_handled.notify_one();
            }
            async {}
        }
    };
    let builder = queue()?.consumer(&*job.conninfo("consumer")).channel(CHANNEL);
    let builder = builder.batch_size(job.batch).concurrency(job.concurrency).interval(INTERVAL);
    let running = builder.run(handler).await?;
    settle(&running).await;
    send(&mut session, job).await?;
    if running.stats().jobs != 0 {
        return Err("the consumer has read before the measurement begins".into());
    }
    let (begin, before) = (Instant::now(), Usage::of_process()?);
    session.notify(CHANNEL, "").await?;
    all_handled.notified().await;
    while running.stats().finished < count {
        sleep(LOOK).await;
    }
    let measured = measured(job, begin, &before)?;
    running.stop(Duration::from_secs(10)).await;
    check(&mut session, job).await?;
    print_line(&measured)
}

/// Handles the jobs with a loop: read, handle, archive, until a read returns less than a batch. Prints what was measured.
pub(super) async fn sqlx(job: &QueueJob) -> Outcome<()> {
    let mut session = prepare(job).await?;
    let port = job.job.port;
    let url = format!("postgres://{USER}@127.0.0.1:{port}/{USER}?sslmode=disable");
    let mut client = PgConnection::connect(&url).await?;
    let quantity = i32::try_from(job.batch)?;
    let mut handled = 0_u64;
    // It prepares the statement.
    let is_first_empty = read(&mut client, quantity).await?.is_empty();
    send(&mut session, job).await?;
    if !is_first_empty {
        return Err("the loop has read before the measurement begins".into());
    }
    let (begin, before) = (Instant::now(), Usage::of_process()?);
    loop {
        let messages = read(&mut client, quantity).await?;
        let is_full = messages.len() >= job.batch;
        let mut done = Vec::with_capacity(messages.len());
        for message in messages {
            done.push(message.msg_id);
            // The handler, which does nothing.
            black_box(message);
            handled += 1;
        }
        if !done.is_empty() {
            let archive = sqlx::query(Queue::archive_sql()).bind(QUEUE).bind(&done);
            let archived = archive.execute(&mut client).await?.rows_affected();
            if archived != done.len() as u64 {
                return Err(format!("{archived} of {} jobs were archived", done.len()).into());
            }
        }
        if !is_full {
            break;
        }
    }
    let measured = measured(job, begin, &before)?;
    if handled != job.job.count {
        return Err(format!("{handled} jobs were handled").into());
    }
    client.close().await?;
    check(&mut session, job).await?;
    print_line(&measured)
}

/// A message that sqlx has read, with the values that a [`Job`] has.
#[derive(Debug)]
#[expect(dead_code, reason = "the handler does nothing")]
struct Message {
    msg_id: i64,
    read_count: i32,
    enqueued_at: i64,
    visible_at: i64,
    message: String,
    headers: Option<String>,
}

async fn read(client: &mut PgConnection, quantity: i32) -> Outcome<Vec<Message>> {
    let query = sqlx::query(READ).bind(QUEUE).bind(VISIBILITY).bind(quantity);
    let rows = query.fetch_all(client).await?;
    let messages = rows.iter().map(|row| {
        Ok(Message {
            msg_id: row.try_get(0)?,
            read_count: row.try_get(1)?,
            enqueued_at: row.try_get(2)?,
            visible_at: row.try_get(3)?,
            message: row.try_get(4)?,
            headers: row.try_get(5)?,
        })
    });
    messages.collect::<Result<_, sqlx::Error>>().map_err(Into::into)
}

/// Checks that every job is in the archive, read once.
async fn check(session: &mut Connection, job: &QueueJob) -> Outcome<()> {
    let sql = format!(
        "SELECT (SELECT count(*) FROM pgmq.q_{QUEUE}), count(*) FROM pgmq.a_{QUEUE} WHERE read_ct = 1"
    );
    let rows = session.query(&sql, &[]).await?;
    let row = rows.get(0).ok_or("no answer")?;
    let expected = job.job.count.to_string();
    match (row.get(0), row.get(1)) {
        (Some("0"), Some(archived)) if archived == expected => Ok(()),
        found => Err(format!("in the queue and in the archive: {found:?}").into()),
    }
}

fn measured(job: &QueueJob, begin: Instant, before: &Usage) -> Outcome<Measured> {
    let took = begin.elapsed();
    let used = Usage::of_process()?.since(before).total();
    let count = job.job.count as f64;
    Ok(Measured { rate: count / took.as_secs_f64(), cpu_us: used.as_secs_f64() * 1e6 / count })
}

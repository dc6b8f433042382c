//! Writers with a fixed rate beside a transaction that stays open: dead rows, size, and whether reading and acknowledging become slower.

use std::time::{Duration, Instant};

use pgbell::durable::{Cursor, Outbox, Start};
use pgbell::{Connection, Notifier};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{LogJob, Role, outbox, quantile, server, settings, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::publishing::sessions;
use crate::tally::print_line;

const LOG: &str = "outbox";

/// The rows per second of all writers.
const RATE: u64 = 800;

const WRITERS: u64 = 8;

/// The parts of the time that are compared: the first and the last one.
const PARTS: u32 = 10;

/// How many times the log begins another partition, at least, if it takes this part of the time for each.
const PARTITIONS: u32 = 20;

/// The least number of partitions that must have been truncated.
const TRUNCATED_MIN: u64 = 8;

/// How often the log is rotated, and the dead rows are counted.
const ROTATION_INTERVAL: Duration = Duration::from_millis(500);

/// How often the reader looks whether the writers have ended.
const LOOK: Duration = Duration::from_secs(1);

/// The longest time after which a session reports its statistics.
const STATISTICS: Duration = Duration::from_millis(1_500);

/// Dead rows and bytes: of the partitions of records and of acknowledgements, then of the other tables of the log.
const LOOK_SQL: &str = "SELECT
    coalesce(sum(n_dead_tup) FILTER (WHERE relname ~ '^outbox(_acks)?_[0-9]$'), 0)::bigint,
    coalesce(sum(n_dead_tup) FILTER (WHERE relname !~ '^outbox(_acks)?_[0-9]$'), 0)::bigint,
    coalesce(sum(n_tup_ins) FILTER (WHERE relname ~ '^outbox_[0-9]$'), 0)::bigint,
    (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('outbox'))::bigint
        + (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('outbox_acks'))::bigint
    FROM pg_stat_user_tables WHERE relname LIKE 'outbox%'";

/// What a process has measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Measured {
    written: u64,
    received: u64,
    /// Rows per second, in the first and in the last part.
    rates: [f64; 2],
    /// The median time of an acknowledgement in milliseconds, in the first and in the last part.
    acks_ms: [f64; 2],
    watched: Watched,
}

/// What was seen beside the writers and the reader.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Watched {
    /// The most dead rows at any time: in the partitions, in the other tables of the log.
    dead: [i64; 2],
    /// The rows that the server has counted. They prove that its statistics are current.
    inserted: i64,
    most_bytes: i64,
    truncated: u64,
}

pub(super) fn run(size: Size, duration: Duration) -> Matchup {
    let server = server().start().map_err(|error| error.to_string());
    let kind = Kind::LogSteady { seconds: duration.as_secs(), rate: RATE };
    let names = [
        "dead rows",
        "rate at the end of that at the beginning",
        "ack at the end of that at the beginning",
        "rows/s",
        "ack at the beginning, p50, ms",
        "ack at the end, p50, ms",
        "partitions truncated",
        "largest size, MiB",
        "dead rows of the lease and the settings",
    ];
    Matchup::together(kind, 1, names, || {
        let server = server.as_ref().map_err(Clone::clone)?;
        let millis = u64::try_from(duration.as_millis())?;
        let arguments = [("count", 0), ("writers", WRITERS), ("millis", millis)];
        let mut child = start(Role::Steady, server.port(), &arguments)?;
        let measured: Measured = child.value()?;
        child.finish()?;
        let Measured { written, received, rates, acks_ms, watched } = measured;
        if written != received || u64::try_from(watched.inserted)? != written {
            let inserted = watched.inserted;
            return Err(format!(
                "{written} rows were written, {received} received, {inserted} counted by the server"
            )
            .into());
        }
        if watched.truncated < size.amount(TRUNCATED_MIN, 1) {
            return Err(format!("only {} partitions were truncated", watched.truncated).into());
        }
        Ok([
            watched.dead[0] as f64,
            rates[1] / rates[0],
            acks_ms[1] / acks_ms[0],
            received as f64 / duration.as_secs_f64(),
            acks_ms[0],
            acks_ms[1],
            watched.truncated as f64,
            watched.most_bytes as f64 / f64::from(1 << 20),
            watched.dead[1] as f64,
        ])
    })
}

/// Writes, reads and rotates at the same time. Prints what was measured.
pub(super) async fn play(job: &LogJob) -> Outcome<()> {
    let limit = job.duration();
    let log = outbox(job.job.port, LOG)?;
    log.init(&settings().partition_age(limit / PARTITIONS)).await?;
    // Its snapshot keeps every row that is deleted or updated from now on, and its xid is in progress in every snapshot of the cursor.
    let mut elsewhere = Connection::connect(&*job.conninfo("elsewhere")).await?;
    let begin_sql = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()";
    elsewhere.simple_query(begin_sql).await?;

    let notifier = Notifier::connect(&*job.conninfo("notifier")).await?;
    let cursor = log.cursor("reader").start(Start::Beginning).rotate(false).open().await?;
    let (ended, has_ended) = watch::channel(false);
    let begin = Instant::now();
    let reader = tokio::spawn(read(cursor, begin, has_ended.clone()));
    let watcher = tokio::spawn(rotate(job.conninfo("rotation"), log.clone(), has_ended));
    let mut writers = JoinSet::new();
    for _ in 0..job.writers {
        let (conninfo, log, notifier) = (job.conninfo("writer"), log.clone(), notifier.clone());
        writers.spawn(write(conninfo, log, notifier, job.writers, begin, limit));
    }
    let mut measured = Measured::default();
    while let Some(writer) = writers.join_next().await {
        measured.written += writer??;
    }
    ended.send_replace(true);
    let handled = reader.await??;
    measured.received = handled.iter().map(|one| one.rows).sum();
    measured.watched = watcher.await??;
    let part = limit / PARTS;
    for (index, from) in [Duration::ZERO, limit - part].into_iter().enumerate() {
        let within = handled.iter().filter(|one| (from..from + part).contains(&one.at));
        let rows: u64 = within.clone().map(|one| one.rows).sum();
        measured.rates[index] = rows as f64 / part.as_secs_f64();
        measured.acks_ms[index] =
            quantile(&mut within.map(|one| one.ack_ms).collect::<Vec<_>>(), 50)?;
    }
    elsewhere.simple_query("COMMIT").await?;
    print_line(&measured)
}

/// Commits rows with its part of the rate. Returns their number.
async fn write(
    conninfo: String,
    log: Outbox,
    notifier: Notifier,
    writers: usize,
    begin: Instant,
    limit: Duration,
) -> Outcome<u64> {
    let client = sessions::open(&conninfo).await?;
    let insert = client.prepare(&log.insert_sql()).await?;
    let pause = Duration::from_secs(u64::try_from(writers)?) / u32::try_from(RATE)?;
    let mut ticks = interval(pause);
    // Rows that could not be written in time follow, so the rate stays.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (payload, mut written) = ("x".repeat(64), 0);
    loop {
        ticks.tick().await;
        if begin.elapsed() >= limit {
            return Ok(written);
        }
        client.execute(&insert, &[&"key", &payload]).await?;
        written += 1;
        notifier.nudge(log.channel(), "");
    }
}

/// A batch that was received and acknowledged.
#[derive(Debug, Clone, Copy)]
struct Handled {
    at: Duration,
    rows: u64,
    ack_ms: f64,
}

/// Receives and acknowledges until the writers have ended and nothing is left.
async fn read(
    mut cursor: Cursor,
    begin: Instant,
    has_ended: watch::Receiver<bool>,
) -> Outcome<Vec<Handled>> {
    let mut all = Vec::new();
    loop {
        let batch = if *has_ended.borrow() {
            let Some(batch) = cursor.try_next().await? else { break };
            batch
        } else {
            let Ok(batch) = timeout(LOOK, cursor.next()).await else { continue };
            batch?
        };
        let (at, rows) = (begin.elapsed(), batch.len() as u64);
        let ack = Instant::now();
        batch.ack().await?;
        all.push(Handled { at, rows, ack_ms: ack.elapsed().as_secs_f64() * 1e3 });
    }
    cursor.close().await;
    Ok(all)
}

/// Rotates as a scheduler does, and watches dead rows and sizes.
async fn rotate(
    conninfo: String,
    log: Outbox,
    has_ended: watch::Receiver<bool>,
) -> Outcome<Watched> {
    let client = sessions::open(&conninfo).await?;
    let rotation =
        client.prepare(&format!("SELECT truncated FROM {}_rotate()", log.name())).await?;
    let look = client.prepare(LOOK_SQL).await?;
    let mut watched = Watched::default();
    loop {
        let is_last = *has_ended.borrow();
        // At the end the other sessions report what they have done.
        sleep(if is_last { STATISTICS } else { ROTATION_INTERVAL }).await;
        // The dead rows of a partition are forgotten when it is truncated, so they are counted before.
        let row = client.query_one(&look, &[]).await?;
        for (most, index) in watched.dead.iter_mut().zip(0..) {
            *most = row.get::<usize, i64>(index).max(*most);
        }
        watched.inserted = row.get(2);
        watched.most_bytes = row.get::<usize, i64>(3).max(watched.most_bytes);
        if is_last {
            return Ok(watched);
        }
        let truncated: i32 = client.query_one(&rotation, &[]).await?.get(0);
        watched.truncated += u64::try_from(truncated)?;
    }
}

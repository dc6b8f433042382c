//! Writers whose transactions end late, roll back or are prepared: what a cursor receives, and what a reader by id misses.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pgbell::durable::{Batch, Cursor, Outbox};
use pgbell::{Connection, Notifier};
use pgbell_testkit::Installation;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::ledger::{Entry, Findings, Ledger};
use super::transactions::{KEYS, Writer};
use super::{LogJob, Role, outbox, quantile, server, settings, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::{Failure, Outcome};
use crate::publishing::sessions;
use crate::tally::print_line;

/// The sessions that write.
const WRITERS: u64 = 12;

const LOG: &str = "outbox";

/// The interval of the cursor's poll, so long that only notifications wake it.
const INTERVAL: Duration = Duration::from_secs(60);

/// How often the reader looks whether the writers have ended.
const LOOK: Duration = Duration::from_secs(1);

/// The interval of the reader by id.
const ID_INTERVAL: Duration = Duration::from_millis(10);

/// What a process has found.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    findings: Findings,
    missed_by_id: u64,
}

/// Measures each version of the matrix, or the installed one if there is no matrix.
pub(super) fn run(size: Size) -> Vec<Matchup> {
    let mut all = Installation::matrix().unwrap_or_else(|why| {
        eprintln!("peers: {why}");
        Installation::find().into_iter().collect()
    });
    if size.is_quick {
        all.truncate(1);
    }
    all.iter().map(|installation| measure(installation, size)).collect()
}

fn measure(installation: &Installation, size: Size) -> Matchup {
    let builder = server().installation(installation.clone());
    let server = builder.setting("max_prepared_transactions", "20").start();
    let kind = Kind::LogWriters { major: installation.major(), writers: WRITERS };
    let names = [
        "missed",
        "reordered within a key",
        "received twice",
        "lag p99, ms",
        "lag p50, ms",
        "records",
        "missed by a reader by id",
    ];
    Matchup::together(kind, 1, names, || {
        let server = server.as_ref().map_err(ToString::to_string)?;
        let arguments =
            [("count", 0), ("writers", WRITERS), ("millis", size.amount(10_000, 1_000))];
        let mut child = start(Role::Concurrent, server.port(), &arguments)?;
        let Found { mut findings, missed_by_id } = child.value()?;
        child.finish()?;
        if findings.not_committed != 0 {
            let count = findings.not_committed;
            return Err(format!("{count} records were received that are not committed").into());
        }
        if missed_by_id == 0 && !size.is_quick {
            return Err("these writers make no fault visible".into());
        }
        let counts = [findings.missed, findings.reordered, findings.twice];
        let [missed, reordered, twice] = counts.map(|count| count as f64);
        let (p99, p50) =
            (quantile(&mut findings.lags_ms, 99)?, quantile(&mut findings.lags_ms, 50)?);
        let (records, by_id) = (findings.committed as f64, missed_by_id as f64);
        Ok([missed, reordered, twice, p99, p50, records, by_id])
    })
}

/// The ledger that the tasks share.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes and reads at the same time. Prints what was found.
pub(super) async fn play(job: &LogJob) -> Outcome<()> {
    let log = outbox(job.job.port, LOG)?;
    log.init(&settings()).await?;
    let mut admin = Connection::connect(&*job.conninfo("admin")).await?;
    let create = format!(
        "CREATE TABLE keys (key text PRIMARY KEY, counter bigint NOT NULL) WITH (fillfactor = 20);
        INSERT INTO keys SELECT n::text, 0 FROM generate_series(0, {}) AS n",
        KEYS - 1
    );
    admin.simple_query(&create).await?;
    admin.simple_query("CREATE DATABASE elsewhere").await?;
    let mut elsewhere =
        Connection::connect(&*format!("{} dbname=elsewhere", job.conninfo("elsewhere"))).await?;
    elsewhere.simple_query("BEGIN; SELECT pg_current_xact_id()").await?;

    let ledger = Shared::default();
    let notifier = Notifier::connect(&*job.conninfo("notifier")).await?;
    let cursor = log.cursor("reader").interval(INTERVAL).open().await?;
    let (ended, has_ended) = watch::channel(false);
    let reader = tokio::spawn(read(cursor, ledger.clone(), has_ended.clone()));
    let by_id = tokio::spawn(read_by_id(job.conninfo("by_id"), has_ended));

    let mut writers = JoinSet::new();
    for number in 0..job.writers as u64 {
        let writer = Writer::open(&job.conninfo("writer"), &log, number).await?;
        let (log, notifier, ledger) = (log.clone(), notifier.clone(), ledger.clone());
        writers.spawn(write(writer, log, notifier, ledger, job.duration()));
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    ended.send_replace(true);
    reader.await??;
    let seen_by_id = by_id.await??;
    // It was open all the time.
    elsewhere.simple_query("COMMIT").await?;
    let ledger = ledger.lock();
    print_line(&Found { findings: ledger.compare(), missed_by_id: ledger.missing(&seen_by_id) })
}

async fn write(
    mut writer: Writer,
    log: Outbox,
    notifier: Notifier,
    ledger: Shared,
    limit: Duration,
) -> Outcome<()> {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        let written = writer.transact().await?;
        if !written.is_empty() {
            ledger.lock().committed(&written, Instant::now());
            notifier.nudge(log.channel(), "");
        }
    }
    Ok(())
}

/// Receives and acknowledges until the writers have ended and nothing is left.
async fn read(mut cursor: Cursor, ledger: Shared, has_ended: watch::Receiver<bool>) -> Outcome<()> {
    loop {
        if *has_ended.borrow() {
            match cursor.try_next().await? {
                Some(batch) => handle(batch, &ledger).await?,
                None => break,
            }
        } else if let Ok(batch) = timeout(LOOK, cursor.next()).await {
            handle(batch?, &ledger).await?;
        }
    }
    cursor.close().await;
    Ok(())
}

async fn handle(batch: Batch<'_>, ledger: &Shared) -> Outcome<()> {
    let now = Instant::now();
    for record in batch.iter() {
        let entry = Entry::parse(record.key(), record.payload());
        ledger.lock().received(entry.ok_or("a record that is not of these writers")?, now);
    }
    Ok(batch.ack().await?)
}

/// Reads as a reader does that remembers the highest id. Returns the serials that it has seen.
async fn read_by_id(
    conninfo: String,
    has_ended: watch::Receiver<bool>,
) -> Result<HashSet<u64>, Failure> {
    let client = sessions::open(&conninfo).await?;
    let sql = format!("SELECT id, key, payload FROM {LOG} WHERE id > $1 ORDER BY id");
    let statement = client.prepare(&sql).await?;
    let (mut last, mut seen) = (0_i64, HashSet::new());
    loop {
        let is_last = *has_ended.borrow();
        for row in client.query(&statement, &[&last]).await? {
            last = row.get(0);
            seen.extend(Entry::parse(row.get(1), row.get(2)).map(|entry| entry.serial));
        }
        if is_last {
            return Ok(seen);
        }
        sleep(ID_INTERVAL).await;
    }
}

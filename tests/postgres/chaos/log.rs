//! Readers, backends and the server are killed at random while writers commit late: the records of a log are received in the order of their keys,
//! effects in the same database happen exactly once, and a reader that was suspended beyond its lease acknowledges nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pgbell::durable::{Cursor, Outbox, OutboxSettings, PayloadType};
use pgbell::{Connection, Error, ErrorKind};
use pgbell_testkit::Mode;
use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::support::{Server, TEST_TIMEOUT, run_for, value};

const KEYS: u64 = 20;
const WRITERS: u64 = 8;
const LEASE: Duration = Duration::from_secs(2);

/// The number of records: 2,000, or the value in the environment.
fn records() -> u64 {
    std::env::var("PGBELL_RECORDS").map_or(2_000, |n| n.parse().expect("PGBELL_RECORDS: a number"))
}

/// What all tasks of a run share.
struct Run {
    url: String,
    outbox: Outbox,
    /// No more records are written, and nothing is killed any more.
    is_calm: AtomicBool,
    /// Everything was received.
    is_over: AtomicBool,
    committed: AtomicU64,
    /// Transactions of readers that had lost the cursor.
    fenced: AtomicU64,
}

/// Returns whether kills, crashes and other readers explain the error.
fn is_expected(error: &Error) -> bool {
    error.is_transient()
        || matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Closed)
        || matches!(error.sqlstate(), Some("PGB01" | "PGB02" | "40001" | "25P02"))
}

/// Commits records: the counter of each key and its records are in the same transactions.
async fn write(run: &Run, dice: &mut Dice) -> Result<(), Error> {
    let mut session = Connection::connect(run.url.as_str()).await?;
    while !run.is_calm.load(Ordering::Acquire) {
        session.simple_query("BEGIN").await?;
        let key = dice.below(KEYS).to_string();
        for _ in 0..=dice.below(3) {
            let sql = "WITH counted AS (UPDATE counters SET written = written + 1 WHERE key = $1 RETURNING written) \
                INSERT INTO outbox (key, payload) SELECT $1, written::text FROM counted";
            session.query(sql, &[Some(&key)]).await?;
        }
        if dice.below(4) == 0 {
            let undone = "SAVEPOINT one; INSERT INTO outbox (key, payload) VALUES ('undone', ''); ROLLBACK TO one";
            session.simple_query(undone).await?;
        }
        sleep(Duration::from_millis(dice.below(15))).await;
        let is_undone = dice.below(10) == 0;
        session.simple_query(if is_undone { "ROLLBACK" } else { "COMMIT" }).await?;
        run.committed.fetch_add(1, Ordering::Release);
    }
    Ok(())
}

async fn open(run: &Run, name: &str) -> Result<Cursor, Error> {
    run.outbox
        .cursor(name)
        .page_size(50)
        .interval(Duration::from_millis(200))
        .lease(LEASE)
        .backoff(Duration::from_millis(1), Duration::from_millis(200))
        .open()
        .await
}

/// Receives, with effects in the same database. Sometimes it is suspended beyond its lease, and then goes on; sometimes it is killed, and its
/// lease stays.
async fn apply(run: &Run, dice: &mut Dice) -> Result<(), Error> {
    let mut cursor = open(run, "applying").await?;
    let mut session = Connection::connect(run.url.as_str()).await?;
    while !run.is_over.load(Ordering::Acquire) {
        let Some(batch) = cursor.try_next().await? else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        if !run.is_calm.load(Ordering::Acquire) && dice.below(60) == 0 {
            sleep(LEASE + Duration::from_secs(2)).await;
        }
        session.simple_query("BEGIN").await?;
        let mut is_right = true;
        for record in batch.iter() {
            // Only the next number of the key is accepted.
            let sql = "UPDATE counters SET applied = applied + 1 WHERE key = $1 AND applied = $2::bigint - 1";
            let arguments = [Some(record.key()), Some(record.payload())];
            is_right &= session.query(sql, &arguments).await?.rows_affected() == Some(1);
        }
        let receipt = batch.receipt().to_string();
        if let Err(error) = session.query(&run.outbox.ack_sql(), &[Some(&receipt)]).await {
            run.fenced.fetch_add(u64::from(error.sqlstate() == Some("PGB01")), Ordering::Relaxed);
            return Err(error);
        }
        assert!(is_right, "records that were applied already, or not in order, were acknowledged");
        session.simple_query("COMMIT").await?;
        if !run.is_calm.load(Ordering::Acquire) && dice.below(50) == 0 {
            return Ok(());
        }
    }
    cursor.close().await;
    Ok(())
}

/// Receives at least once: a number may come again, but none is left out.
async fn follow(run: &Run, seen: &Mutex<BTreeMap<String, u64>>) -> Result<(), Error> {
    let mut cursor = open(run, "following").await?;
    while !run.is_over.load(Ordering::Acquire) {
        let Ok(batch) = timeout(Duration::from_millis(100), cursor.next()).await else { continue };
        let batch = batch?;
        for record in batch.iter() {
            let number: u64 = record.payload().parse().unwrap();
            let mut seen = seen.lock().unwrap();
            let last = seen.entry(record.key().to_owned()).or_default();
            assert!(number <= *last + 1, "{} {number} after {last}", record.key());
            *last = number.max(*last);
        }
        batch.ack().await?;
    }
    cursor.close().await;
    Ok(())
}

/// Repeats the work of a reader or writer until it is over.
async fn repeat<F: Future<Output = Result<(), Error>>>(
    is_over: &AtomicBool,
    mut work: impl FnMut() -> F,
) {
    while !is_over.load(Ordering::Acquire) {
        if let Err(error) = work().await {
            assert!(is_expected(&error), "{error:#}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Kills backends at random, and from time to time the server.
async fn kill(server: &Server, run: &Run) {
    let mut dice = Dice::new(7);
    let mut crashes = 0;
    while run.committed.load(Ordering::Acquire) < records() / 2 {
        sleep(Duration::from_millis(50 + dice.below(150))).await;
        if dice.below(25) == 0 {
            server.cluster.stop(Mode::Immediate).unwrap();
            server.cluster.start_again().unwrap();
            crashes += 1;
            continue;
        }
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2";
        if let Ok(mut session) = Connection::connect(run.url.as_str()).await {
            let _ = session.simple_query(sql).await;
            session.close().await;
        }
    }
    report!("{crashes} crashes of the server");
}

#[test]
fn a_log_loses_nothing_and_applies_nothing_twice_while_everything_is_killed() {
    // What was committed must survive a crash.
    let server = Server::with(|builder| {
        builder.setting("synchronous_commit", "on").setting("max_connections", "60")
    });
    let limit =
        Duration::from_secs(240) + Duration::from_millis(40) * u32::try_from(records()).unwrap();
    run_for(limit, async {
        let mut session = server.connection().await;
        let create = format!(
            "CREATE TABLE counters (key text PRIMARY KEY, written bigint NOT NULL, applied bigint NOT NULL);
            INSERT INTO counters SELECT i::text, 0, 0 FROM generate_series(0, {KEYS} - 1) i"
        );
        session.simple_query(&create).await.unwrap();
        let outbox = Outbox::new(server.url(), "outbox").unwrap();
        let settings = OutboxSettings::new().payload(PayloadType::Text);
        // Partitions are rotated all the time.
        outbox.init(&settings.partition_age(Duration::from_secs(1))).await.unwrap();
        let run = Arc::new(Run {
            url: server.url(),
            outbox,
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            committed: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
        });
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let mut tasks = Vec::new();
        for writer in 1..=WRITERS {
            let run = run.clone();
            tasks.push(tokio::spawn(async move {
                let dice = tokio::sync::Mutex::new(Dice::new(writer));
                repeat(&run.is_calm, || async { write(&run, &mut *dice.lock().await).await }).await;
            }));
        }
        for reader in 1..=3 {
            let run = run.clone();
            tasks.push(tokio::spawn(async move {
                let dice = tokio::sync::Mutex::new(Dice::new(100 + reader));
                repeat(&run.is_over, || async { apply(&run, &mut *dice.lock().await).await }).await;
            }));
        }
        for _ in 0..2 {
            let (run, seen) = (run.clone(), seen.clone());
            tasks.push(tokio::spawn(async move {
                repeat(&run.is_over, || follow(&run, &seen)).await;
            }));
        }
        let rotation = {
            let run = run.clone();
            tokio::spawn(async move {
                while !run.is_over.load(Ordering::Acquire) {
                    if let Err(error) = run.outbox.rotate().await {
                        assert!(is_expected(&error), "{error:#}");
                    }
                    sleep(Duration::from_millis(500)).await;
                }
            })
        };
        kill(&server, &run).await;
        run.is_calm.store(true, Ordering::Release);
        let mut session = server.connection().await;
        let deadline = Instant::now() + 2 * TEST_TIMEOUT;
        loop {
            let left = value(&mut session, "SELECT sum(written - applied) FROM counters").await;
            let written = value(&mut session, "SELECT sum(written) FROM counters").await;
            let followed: u64 = seen.lock().unwrap().values().sum();
            if left == "0" && followed.to_string() == written {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{left} are not applied; {followed} of {written} followed"
            );
            sleep(Duration::from_millis(100)).await;
        }
        run.is_over.store(true, Ordering::Release);
        for task in tasks {
            task.await.unwrap();
        }
        rotation.await.unwrap();
        let rows = session.query("SELECT key, written FROM counters", &[]).await.unwrap();
        let written: BTreeMap<_, u64> = rows
            .iter()
            .map(|row| (row.get(0).unwrap().to_owned(), row.get(1).unwrap().parse().unwrap()))
            .filter(|(_, written)| *written > 0)
            .collect();
        assert_eq!(*seen.lock().unwrap(), written);
        let fenced = run.fenced.load(Ordering::Relaxed);
        report!(
            "{} records, {fenced} transactions of fenced readers",
            written.values().sum::<u64>()
        );
    });
}

//! Readers, backends and the server are killed at random while writers commit late: the records of a log are received in the order of their keys,
//! effects in the same database happen exactly once, and a reader that was suspended beyond its lease acknowledges nothing. The usual wrong ways to
//! read a log fail under the same load.

mod readers;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pgbell::durable::{Outbox, OutboxSettings, PayloadType};
use pgbell::{Connection, Error, ErrorKind};
use pgbell_testkit::Mode;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::readers::{account, apply, follow, read_behind_xmin, read_by_id};
use self::writers::{resolve, tables, write};
use crate::dice::Dice;
use crate::support::{Server, TEST_TIMEOUT, run_for, value};

const KEYS: u64 = 20;
const WRITERS: u64 = 8;
const LEASE: Duration = Duration::from_secs(2);

/// The number of transactions of the longest test, of which each writes up to three records: 2,000, or the value in the environment.
fn records() -> u64 {
    std::env::var("PGBELL_RECORDS").map_or(2_000, |n| n.parse().expect("PGBELL_RECORDS: a number"))
}

/// What happens in a run.
#[derive(Debug, Clone, Copy, Default)]
struct Plan {
    /// Backends are killed until half of this number of transactions has ended. Then it is calm.
    transactions: u64,
    /// The server crashes from time to time, and once at least.
    crashes: bool,
    /// Writers do not wait until a commit is on the disk, so a crash can lose it.
    is_asynchronous: bool,
    /// Writers prepare some transactions.
    prepares: bool,
    /// Rotations remove what is older, acknowledged or not.
    max_age: Option<Duration>,
}

/// What all tasks of a run share.
struct Run {
    plan: Plan,
    url: String,
    outbox: Outbox,
    /// No more records are written, and nothing is killed any more.
    is_calm: AtomicBool,
    /// Everything was received.
    is_over: AtomicBool,
    committed: AtomicU64,
    /// Transactions that were prepared, and those of them whose session was killed.
    prepared: AtomicU64,
    orphans: AtomicU64,
    /// Transactions of readers that had lost the cursor.
    fenced: AtomicU64,
    rebases: AtomicU64,
}

/// Returns whether kills, crashes and other readers explain the error.
fn is_expected(error: &Error) -> bool {
    error.is_transient()
        || matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Closed)
        || matches!(error.sqlstate(), Some("PGB01" | "PGB02" | "40001" | "25P02"))
}

type Work<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// A server with a log, and the tasks that use it.
struct Chaos {
    server: Server,
    run: Arc<Run>,
    tasks: Vec<JoinHandle<()>>,
}

impl Chaos {
    /// Starts a server with a log.
    async fn new(plan: Plan) -> Self {
        // What was committed must survive a crash.
        let server = Server::with(|builder| {
            builder
                .setting("synchronous_commit", "on")
                .setting("max_connections", "60")
                .setting("max_prepared_transactions", "30")
        });
        server.connection().await.simple_query(&tables()).await.unwrap();
        let outbox = Outbox::new(server.url(), "outbox").unwrap();
        // Partitions are rotated all the time.
        let age = plan.max_age.unwrap_or(Duration::from_secs(1));
        let settings = OutboxSettings::new().payload(PayloadType::Text).partition_age(age / 3);
        let settings = match plan.max_age {
            Some(age) => settings.max_age(age),
            None => settings,
        };
        outbox.init(&settings).await.unwrap();
        let run = Arc::new(Run {
            plan,
            url: server.url(),
            outbox,
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            committed: AtomicU64::new(0),
            prepared: AtomicU64::new(0),
            orphans: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
            rebases: AtomicU64::new(0),
        });
        Self { server, run, tasks: Vec::new() }
    }

    /// Starts the writers.
    fn write(&mut self) {
        for writer in 1..=WRITERS {
            let dice = Arc::new(tokio::sync::Mutex::new(Dice::new(writer)));
            self.repeat_until(
                |run| &run.is_calm,
                move |run| {
                    let dice = dice.clone();
                    Box::pin(async move { write(run, &mut *dice.lock().await).await })
                },
            );
        }
        if self.run.plan.prepares {
            self.repeat(|run| Box::pin(resolve(run)));
        }
    }

    /// Starts a task that repeats the work of a reader until everything was received.
    fn repeat(&mut self, work: impl FnMut(&Run) -> Work<'_> + Send + 'static) {
        self.repeat_until(|run| &run.is_over, work);
    }

    fn repeat_until(
        &mut self,
        is_over: fn(&Run) -> &AtomicBool,
        mut work: impl FnMut(&Run) -> Work<'_> + Send + 'static,
    ) {
        let run = self.run.clone();
        self.tasks.push(tokio::spawn(async move {
            while !is_over(&run).load(Ordering::Acquire) {
                if let Err(error) = work(&run).await {
                    assert!(is_expected(&error), "{error:#}");
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }));
    }

    /// Starts readers whose effects happen exactly once.
    fn apply(&mut self) {
        for reader in 1..=3 {
            let dice = Arc::new(tokio::sync::Mutex::new(Dice::new(100 + reader)));
            self.repeat(move |run| {
                let dice = dice.clone();
                Box::pin(async move { apply(run, &mut *dice.lock().await).await })
            });
        }
    }

    /// Starts readers that receive at least once. Returns the last number of each key that they have received.
    fn follow(&mut self) -> Arc<Mutex<BTreeMap<String, u64>>> {
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        for _ in 0..2 {
            let seen = seen.clone();
            self.repeat(move |run| {
                let seen = seen.clone();
                Box::pin(async move { follow(run, &seen).await })
            });
        }
        seen
    }

    /// Starts rotations.
    fn rotate(&mut self, interval: Duration) {
        self.repeat(move |run| {
            Box::pin(async move {
                run.outbox.rotate().await?;
                sleep(interval).await;
                Ok(())
            })
        });
    }

    /// Starts the writers, and kills backends at random, and the server if the plan says so, until there are enough transactions. Then it is calm.
    async fn kill(&mut self) {
        self.write();
        let Self { server, run, .. } = self;
        let mut dice = Dice::new(7);
        let mut crashes = 0;
        let enough = run.plan.transactions / 2;
        loop {
            let committed = run.committed.load(Ordering::Acquire);
            let must_crash = run.plan.crashes && crashes == 0 && committed >= enough;
            if committed >= enough && !must_crash {
                break;
            }
            sleep(Duration::from_millis(50 + dice.below(150))).await;
            if must_crash || run.plan.crashes && dice.below(25) == 0 {
                server.cluster.stop(Mode::Immediate).unwrap();
                server.cluster.start_again().unwrap();
                crashes += 1;
                continue;
            }
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'
                AND datname = 'postgres' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2";
            if let Ok(mut session) = Connection::connect(run.url.as_str()).await {
                let _ = session.simple_query(sql).await;
                session.close().await;
            }
        }
        report!("{crashes} crashes of the server");
        run.is_calm.store(true, Ordering::Release);
    }

    /// Waits until a query returns true: everything that is committed was received.
    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut(&mut Connection) -> bool) {
        let mut session = self.server.connection().await;
        let deadline = Instant::now() + 2 * TEST_TIMEOUT;
        while !is_so(&mut session).await {
            assert!(Instant::now() < deadline, "never happened: {what}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the records of every key were applied.
    async fn until_applied(&self) {
        let sql = "SELECT NOT EXISTS (SELECT FROM pg_prepared_xacts) AND NOT EXISTS (SELECT FROM counters WHERE written <> applied)";
        self.until("all are applied", async |session| value(session, sql).await == "t").await;
    }

    /// Waits until the last number of every key was received.
    async fn until_followed(&self, seen: &Mutex<BTreeMap<String, u64>>) {
        self.until("all are followed", async |session| {
            let written = written(session).await;
            let seen = seen.lock().unwrap();
            written.iter().all(|(key, written)| seen.get(key) >= Some(written))
        })
        .await;
    }

    /// Ends all tasks.
    async fn end(self) -> Server {
        self.run.is_over.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.server
    }
}

/// The last number of each key.
async fn written(session: &mut Connection) -> BTreeMap<String, u64> {
    let rows = session.query("SELECT key, written FROM counters", &[]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0).unwrap().to_owned(), row.get(1).unwrap().parse().unwrap()))
        .filter(|(_, written)| *written > 0)
        .collect()
}

fn limit(transactions: u64) -> Duration {
    Duration::from_secs(240) + Duration::from_millis(40) * u32::try_from(transactions).unwrap()
}

#[test]
fn a_log_loses_nothing_and_applies_nothing_twice_while_everything_is_killed() {
    let plan = Plan { transactions: records(), crashes: true, ..Plan::default() };
    run_for(limit(plan.transactions), async {
        let mut chaos = Chaos::new(plan).await;
        chaos.apply();
        let seen = chaos.follow();
        chaos.rotate(Duration::from_millis(500));
        chaos.kill().await;
        chaos.until_applied().await;
        chaos.until_followed(&seen).await;
        let run = chaos.run.clone();
        let server = chaos.end().await;
        let written = written(&mut server.connection().await).await;
        assert_eq!(*seen.lock().unwrap(), written);
        let fenced = run.fenced.load(Ordering::Relaxed);
        report!(
            "{} records, {fenced} transactions of fenced readers",
            written.values().sum::<u64>()
        );
    });
}

/// The load is one under which the faults of other ways to read a log can be seen.
#[test]
fn a_cursor_by_id_misses_records_and_one_behind_xmin_receives_none_beside_an_open_transaction() {
    let plan = Plan { transactions: 400, ..Plan::default() };
    run_for(limit(plan.transactions), async {
        let mut chaos = Chaos::new(plan).await;
        let mut session = chaos.server.connection().await;
        session.simple_query("CREATE DATABASE elsewhere").await.unwrap();
        let cluster = &chaos.server.cluster;
        let url = cluster.url(cluster.superuser(), cluster.superuser_password(), "elsewhere");
        let mut elsewhere = Connection::connect(&url).await.unwrap();
        let begin = "BEGIN; SELECT pg_current_xact_id()";
        let xid = elsewhere.simple_query(begin).await.unwrap();
        let xid: u64 = xid[1].get(0).unwrap().get(0).unwrap().parse().unwrap();

        let seen = chaos.follow();
        let by_id = Arc::new(Mutex::new(BTreeSet::new()));
        let behind_xmin = Arc::new(Mutex::new(BTreeSet::new()));
        let found = by_id.clone();
        chaos.repeat(move |run| {
            let found = found.clone();
            Box::pin(async move { read_by_id(run, &found).await })
        });
        let found = behind_xmin.clone();
        chaos.repeat(move |run| {
            let found = found.clone();
            Box::pin(async move { read_behind_xmin(run, &found).await })
        });
        chaos.kill().await;
        // The cursor has everything while the transaction is open.
        chaos.until_followed(&seen).await;
        let records = "SELECT count(*) FROM outbox";
        let all: usize =
            value(&mut chaos.server.connection().await, records).await.parse().unwrap();
        chaos
            .until("the reader by id has the last record", async |session| {
                let last = by_id.lock().unwrap().last().map_or(0, |id| *id).to_string();
                value(session, "SELECT max(id) FROM outbox").await == last
            })
            .await;
        let stalled = behind_xmin.lock().unwrap().iter().filter(|(of, _)| *of > xid).count();
        assert_eq!(stalled, 0, "the transaction in another database does not stall the barrier");
        elsewhere.simple_query("COMMIT").await.unwrap();
        chaos
            .until("the barrier is passed", async |_| behind_xmin.lock().unwrap().len() == all)
            .await;
        chaos.end().await;
        let missed = all - by_id.lock().unwrap().len();
        report!("{all} records, {missed} missed by id");
        assert!(missed > 0 && missed < all, "{missed} of {all}");
    });
}

/// A crash may lose what was committed without waiting for the disk, and nothing else: not what a reader has acknowledged, because that
/// commit is on the disk behind it.
#[test]
fn a_log_with_asynchronous_and_prepared_transactions_applies_nothing_twice_after_crashes() {
    let plan = Plan {
        transactions: 500,
        crashes: true,
        is_asynchronous: true,
        prepares: true,
        ..Plan::default()
    };
    run_for(limit(plan.transactions), async {
        let mut chaos = Chaos::new(plan).await;
        chaos.apply();
        let seen = chaos.follow();
        chaos.rotate(Duration::from_millis(500));
        chaos.kill().await;
        chaos.until_applied().await;
        chaos.until_followed(&seen).await;
        let run = chaos.run.clone();
        let server = chaos.end().await;
        let mut session = server.connection().await;
        // The counters and the records are of the same transactions, also after a crash.
        let sql = "SELECT (SELECT sum(written) FROM counters) = (SELECT count(*) FROM written)";
        assert_eq!(value(&mut session, sql).await, "t");
        let [prepared, orphans] =
            [&run.prepared, &run.orphans].map(|count| count.load(Ordering::Relaxed));
        report!("{prepared} prepared, {orphans} of killed sessions");
        assert!(prepared > 0);
    });
}

#[test]
fn every_record_that_a_limit_removes_is_in_a_gap_while_everything_is_killed() {
    let plan =
        Plan { transactions: 500, max_age: Some(Duration::from_millis(300)), ..Plan::default() };
    run_for(limit(plan.transactions), async {
        let mut chaos = Chaos::new(plan).await;
        for reader in 1..=2 {
            let dice = Arc::new(tokio::sync::Mutex::new(Dice::new(200 + reader)));
            chaos.repeat(move |run| {
                let dice = dice.clone();
                Box::pin(async move { account(run, &mut *dice.lock().await).await })
            });
        }
        chaos.rotate(Duration::from_millis(50));
        chaos.kill().await;
        let accounted = "SELECT (SELECT count(*) FROM written)
            = (SELECT count(*) FROM seen) + (SELECT coalesce(sum(records), 0) FROM losses)";
        chaos
            .until("all are received or lost", async |session| {
                value(session, accounted).await == "t"
            })
            .await;
        let server = chaos.end().await;
        let mut session = server.connection().await;
        let unknown = "SELECT count(*) FROM written WHERE NOT EXISTS (SELECT FROM seen WHERE seen.id = written.id)
            AND NOT EXISTS (SELECT FROM losses WHERE written.id BETWEEN first AND last)";
        assert_eq!(value(&mut session, unknown).await, "0");
        let not_written = "SELECT count(*) FROM seen WHERE id NOT IN (SELECT id FROM written)";
        assert_eq!(value(&mut session, not_written).await, "0");
        let lost = value(&mut session, "SELECT coalesce(sum(records), 0) FROM losses").await;
        report!("{lost} records in gaps");
        assert_ne!(lost, "0", "nothing was lost: the readers are too fast");
    });
}

#[test]
fn a_rebase_beside_writers_and_readers_skips_no_record() {
    let plan = Plan { transactions: 400, ..Plan::default() };
    run_for(limit(plan.transactions), async {
        let mut chaos = Chaos::new(plan).await;
        let seen = chaos.follow();
        chaos.repeat(|run| {
            Box::pin(async move {
                while !run.is_calm.load(Ordering::Acquire) {
                    sleep(Duration::from_millis(100)).await;
                    run.outbox.rebase().await?;
                    run.rebases.fetch_add(1, Ordering::Relaxed);
                }
                sleep(Duration::from_millis(20)).await;
                Ok(())
            })
        });
        chaos.kill().await;
        chaos.until_followed(&seen).await;
        let rebased = chaos.run.rebases.load(Ordering::Relaxed);
        let server = chaos.end().await;
        let written = written(&mut server.connection().await).await;
        assert_eq!(*seen.lock().unwrap(), written);
        report!("{rebased} rebases");
        assert!(rebased > 0);
    });
}

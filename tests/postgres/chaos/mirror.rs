//! Backends and the server are killed at random, and what the server sends to the mirror is lost without a sign, while writers commit out of order and calls
//! ask for rows: a mirror never shows an older row again, a call returns when the row is as new as it was before it, and the mirror is equal to the table a second after
//! it is calm, and after a failover.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pgbell::durable::{Mirror, MirrorRow, MirrorSource};
use pgbell::{Connection, Error, ErrorKind, WakeTask, Wakeups};
use pgbell_testkit::{Direction, Flow, Mode, Proxy};
use tokio::sync::RwLock;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::support::{Server, TEST_TIMEOUT, run_for, until, until_sql, value};

const KEYS: u64 = 300;
const WRITERS: u64 = 6;
const CALLERS: u64 = 3;

/// The rows from this one on can be deleted. The numbers of those below only grow.
const DELETED_FROM: u64 = KEYS / 2;

/// The kills between two moments of calm.
const ROUND: u64 = 10;

/// How long after the calm the mirror may differ. A debug build on a busy machine needs longer to open sessions.
const CALM_LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

/// The number of kills: 50, or the value in the environment.
fn kills() -> u64 {
    std::env::var("PGBELL_KILLS").map_or(50, |n| n.parse().expect("PGBELL_KILLS: a number"))
}

/// What the tasks of a run share.
struct Run {
    url: String,
    /// A transaction has it shared. It is calm while it is held alone.
    calm: RwLock<()>,
    is_over: AtomicBool,
    committed: AtomicU64,
    called: AtomicU64,
}

/// Changes and deletes rows, each with a notification of its key, in transactions that are open for different times.
async fn write(run: &Run, dice: &mut Dice) -> Result<(), Error> {
    let mut session = Connection::connect(run.url.as_str()).await?;
    while !run.is_over.load(Ordering::Acquire) {
        let _not_calm = run.calm.read().await;
        session.simple_query("BEGIN").await?;
        // Sorted: writers do not wait for each other in a circle.
        let keys: BTreeSet<_> = (0..=dice.below(4)).map(|_| dice.below(KEYS)).collect();
        for key in keys {
            let change = match dice.below(4) {
                0 if key >= DELETED_FROM => format!("DELETE FROM orders WHERE id = {key}"),
                _ => format!(
                    "INSERT INTO orders VALUES ({key}, nextval('numbers')) ON CONFLICT (id) DO UPDATE SET n = nextval('numbers')"
                ),
            };
            session.simple_query(&format!("{change}; NOTIFY orders, '{key}'")).await?;
        }
        sleep(Duration::from_millis(dice.below(12))).await;
        let is_undone = dice.chance(10);
        session.simple_query(if is_undone { "ROLLBACK" } else { "COMMIT" }).await?;
        run.committed.fetch_add(1, Ordering::Release);
    }
    Ok(())
}

/// Reads rows from the table, and asserts that the mirror is as new after a refresh.
async fn call(run: &Run, mirror: &Mirror<u64>, dice: &mut Dice) -> Result<(), Error> {
    let mut session = Connection::connect(run.url.as_str()).await?;
    while !run.is_over.load(Ordering::Acquire) {
        let key = dice.below(DELETED_FROM).to_string();
        let rows = session
            .query("SELECT n FROM orders WHERE id = $1::text::bigint", &[Some(&key)])
            .await?;
        let committed: u64 = rows.get(0).and_then(|row| row.get(0)).unwrap().parse().unwrap();
        // The second one is a key that no type of a number has.
        let keys = if dice.chance(5) { vec![key.as_str(), "none"] } else { vec![key.as_str()] };
        // A read that fails is reported. What was asked for is read nevertheless.
        if mirror.refresh(keys).await.is_ok() {
            let found = *mirror.get(&key).expect("the row is never deleted");
            assert!(found >= committed, "row {key}: {found}, after {committed} was read");
            run.called.fetch_add(1, Ordering::Release);
        }
    }
    Ok(())
}

/// What the server sends to the mirror is lost, until its listening session is given up.
async fn lose(proxy: &Proxy, wakeups: &Wakeups) {
    let before = wakeups.stats().connection.sessions_lost;
    proxy.handle().set(Direction::ToClient, Flow::Swallow);
    // One that is not there now is opened again in any case.
    until("the half-open session is noticed", || {
        wakeups.stats().connection.sessions_lost > before || !wakeups.status().is_listening()
    })
    .await;
    proxy.handle().set(Direction::ToClient, Flow::Forward);
}

/// Asserts that no watched row becomes older.
async fn follow(mirror: Arc<Mirror<u64>>, key: u64) -> u64 {
    let mut watch = mirror.watch_key(&key.to_string());
    let mut last = watch.current().map_or(0, |n| *n);
    let mut changes = 0;
    while let Ok(now) = watch.changed().await {
        let now = *now.expect("the row is never deleted");
        assert!(now > last, "row {key}: {now} after {last}");
        (last, changes) = (now, changes + 1);
    }
    changes
}

async fn table(session: &mut Connection) -> Result<BTreeMap<String, u64>, Error> {
    let rows = session.query("SELECT id, n FROM orders", &[]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0).unwrap().to_owned(), row.get(1).unwrap().parse().unwrap()))
        .collect())
}

/// Returns how long it takes until the mirror is equal to the table, of which no writer changes a row.
async fn until_equal(mirror: &Mirror<u64>, session: &mut Connection) -> Duration {
    let begun = Instant::now();
    let expected = table(session).await.unwrap();
    loop {
        let found: BTreeMap<_, _> =
            mirror.snapshot().iter().map(|(key, n)| (key.to_owned(), **n)).collect();
        if found == expected {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < TEST_TIMEOUT, "{mirror:?}, {:?}", mirror.last_error());
        sleep(Duration::from_millis(1)).await;
    }
}

/// The primary fails, and a standby is promoted, which has changes that were not notified. Returns how long after it the mirror is equal to the table.
async fn fail_over(server: &Server, proxy: &Proxy, mirror: &Mirror<u64>) -> Duration {
    let standby = server.cluster.standby().unwrap_or_else(|error| panic!("{error}"));
    let mut session = server.connection().await;
    let change = format!(
        "DELETE FROM orders WHERE id >= {DELETED_FROM}; UPDATE orders SET n = nextval('numbers')"
    );
    session.simple_query(&change).await.unwrap();
    standby.wait_caught_up(&server.cluster).unwrap();
    server.cluster.stop(Mode::Immediate).unwrap();
    proxy.handle().retarget(standby.port());
    standby.promote().unwrap();
    let mut session = Connection::connect(standby.url_for_superuser()).await.unwrap();
    assert_eq!(value(&mut session, "SELECT count(*) FROM orders").await, DELETED_FROM.to_string());
    let time = until_equal(mirror, &mut session).await;
    assert!(time < CALM_LIMIT, "{time:?} after a promotion: {mirror:?}");
    // And the notifications of the new primary.
    session
        .simple_query("BEGIN; DELETE FROM orders WHERE id = 7; NOTIFY orders, '7'; COMMIT")
        .await
        .unwrap();
    until_equal(mirror, &mut session).await;
    time
}

/// G6: every row that has changed is read again, and everything after a loss, whatever is killed.
#[test]
fn a_mirror_is_equal_to_its_table_a_second_after_calm_whatever_is_killed() {
    // What was committed must survive a crash.
    let server = Server::with(|builder| builder.setting("synchronous_commit", "on"));
    let limit =
        Duration::from_secs(240) + Duration::from_millis(500) * u32::try_from(kills()).unwrap();
    run_for(limit, async {
        let mut session = server.connection().await;
        let create = format!(
            "CREATE SEQUENCE numbers; CREATE TABLE orders (id bigint PRIMARY KEY, n bigint NOT NULL);
            INSERT INTO orders SELECT i, nextval('numbers') FROM generate_series(0, {KEYS} - 1) i"
        );
        session.simple_query(&create).await.unwrap();
        let number = |row: MirrorRow<'_>| -> Result<u64, Error> { row.parse("n") };
        let cluster = &server.cluster;
        let proxy = Proxy::start(cluster.port()).unwrap();
        let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
        let wakeups = Wakeups::builder(url.as_str())
            .task(WakeTask::new("orders").channel("orders").interval(Duration::MAX))
            .heartbeat(Duration::from_millis(200), Duration::from_millis(300))
            .backoff(Duration::from_millis(5), Duration::from_millis(100))
            .connect()
            .await
            .unwrap();
        let mirror = Mirror::builder(url.as_str(), MirrorSource::table("orders", "id"))
            .woken_by(wakeups.worker("orders").unwrap())
            .interval(Duration::MAX)
            .backoff(Duration::from_millis(5), Duration::from_millis(100))
            .load(number)
            .await
            .unwrap();
        let mirror = Arc::new(mirror);
        let run = Arc::new(Run {
            url: server.url(),
            calm: RwLock::new(()),
            is_over: AtomicBool::new(false),
            committed: AtomicU64::new(0),
            called: AtomicU64::new(0),
        });
        let followers: Vec<_> =
            (0..5).map(|key| tokio::spawn(follow(mirror.clone(), key))).collect();
        let writers: Vec<_> = (1..=WRITERS)
            .map(|writer| {
                let run = run.clone();
                tokio::spawn(async move {
                    let mut dice = Dice::new(writer);
                    while !run.is_over.load(Ordering::Acquire) {
                        if let Err(error) = write(&run, &mut dice).await {
                            assert!(
                                error.is_transient() || error.kind() == ErrorKind::Closed,
                                "{error:#}"
                            );
                            sleep(Duration::from_millis(10)).await;
                        }
                    }
                })
            })
            .collect();
        let callers: Vec<_> = (1..=CALLERS)
            .map(|caller| {
                let (run, mirror) = (run.clone(), mirror.clone());
                tokio::spawn(async move {
                    let mut dice = Dice::new(100 + caller);
                    while !run.is_over.load(Ordering::Acquire) {
                        if let Err(error) = call(&run, &mirror, &mut dice).await {
                            assert!(
                                error.is_transient() || error.kind() == ErrorKind::Closed,
                                "{error:#}"
                            );
                            sleep(Duration::from_millis(10)).await;
                        }
                    }
                })
            })
            .collect();
        let mut dice = Dice::new(7);
        let (mut killed, mut crashes, mut half_open, mut longest) = (0, 0, 0, Duration::ZERO);
        while killed < kills() {
            let until = killed + ROUND;
            lose(&proxy, &wakeups).await;
            (killed, half_open) = (killed + 1, half_open + 1);
            while killed < until {
                sleep(Duration::from_millis(20 + dice.below(60))).await;
                if dice.chance(3) {
                    server.cluster.stop(Mode::Immediate).unwrap();
                    server.cluster.start_again().unwrap();
                    (killed, crashes) = (killed + 1, crashes + 1);
                    continue;
                }
                // Every other time only those of the mirror: the writers continue, so that notifications are lost.
                let of = ["query ~ 'LISTEN|pgbell_mirror|ANY'", "true"][dice.index(2)];
                let kill = format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'
                        AND pid <> pg_backend_pid() AND ({of}) ORDER BY random() LIMIT 2"
                );
                let Ok(mut killer) = Connection::connect(run.url.as_str()).await else { continue };
                if let Ok(rows) = killer.simple_query(&kill).await {
                    killed += u64::try_from(rows[0].len()).unwrap();
                }
                killer.close().await;
            }
            // The writers end their transactions.
            let _calm = run.calm.write().await;
            let mut session = server.connection().await;
            // A transaction whose session was killed at its COMMIT has ended too.
            let others = "SELECT count(*) = 0 FROM pg_stat_activity WHERE state <> 'idle' AND backend_type = 'client backend' AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()";
            until_sql(&mut session, others).await;
            let time = until_equal(&mirror, &mut session).await;
            assert!(time < CALM_LIMIT, "{time:?} after calm: {mirror:?}");
            longest = longest.max(time);
        }
        run.is_over.store(true, Ordering::Release);
        for task in writers.into_iter().chain(callers) {
            task.await.unwrap();
        }
        let failover = fail_over(&server, &proxy, &mirror).await;
        let stats = mirror.stats();
        mirror.close().await;
        let mut changes = 0;
        for follower in followers {
            changes += follower.await.unwrap();
        }
        assert!(stats.refreshes > 0 && stats.loads > 1 && changes > 0, "{stats:?}");
        assert!(half_open > 0 && stats.given_up > 0, "{half_open} half-open sessions: {stats:?}");
        let committed = run.committed.load(Ordering::Acquire);
        let called = run.called.load(Ordering::Acquire);
        assert!(called > 0);
        report!(
            "{killed} kills, {crashes} of them crashes and {half_open} half-open sessions, {committed} transactions, {called} refreshes by calls; \
            equal after at most {longest:?}, and {failover:?} after a promotion; {stats:?}"
        );
    });
}

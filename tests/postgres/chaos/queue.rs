//! Consumers of a queue of pgmq, their listeners, backends and the server are killed at random: every job is finished or put aside, each once, no two
//! live workers run a job within its visibility timeout, and no attempt has the number of another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgbell::durable::pgmq::{ConsumerStats, Job, Queue};
use pgbell::proto::route::PseudoRandom;
use pgbell::{Connection, Error, ErrorKind};
use pgbell_testkit::Mode;
use tokio::time::sleep;

use crate::pgmq::support::Jobs;
use crate::support::{Server, TEST_TIMEOUT, run_for, value};

const WORKERS: u64 = 3;
const SENDERS: u64 = 3;
const VISIBILITY: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 4;

/// Every job with a number that this divides fails in each attempt.
const POISON: i64 = 50;

/// The number of jobs: 2,000, or the value in the environment.
fn jobs() -> u64 {
    std::env::var("PGBELL_JOBS").map_or(2_000, |n| n.parse().expect("PGBELL_JOBS: a number"))
}

/// Returns a number below a limit.
fn below(random: &mut PseudoRandom, limit: u64) -> u64 {
    random.number() % limit
}

/// Returns whether kills and crashes explain the error.
fn is_expected(error: &Error) -> bool {
    error.is_transient() || error.kind() == ErrorKind::Closed
}

/// A run of a handler.
#[derive(Debug, Clone)]
struct Attempt {
    number: u32,
    worker: u64,
    begun: SystemTime,
    /// `None` while it runs.
    ended: Option<(SystemTime, Outcome)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
    /// Its consumer was stopped or killed.
    Dropped,
}

impl Attempt {
    fn outcome(&self) -> Option<Outcome> {
        self.ended.map(|(_, outcome)| outcome)
    }
}

/// Stores the end of a run, also if its future is dropped.
struct Ending {
    run: Arc<Run>,
    msg_id: i64,
    index: usize,
    outcome: Outcome,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let end = Some((SystemTime::now(), self.outcome));
        let mut attempts = self.run.attempts.lock().unwrap();
        if let Some(attempt) =
            attempts.get_mut(&self.msg_id).and_then(|all| all.get_mut(self.index))
        {
            attempt.ended = end;
        }
    }
}

/// What all threads and tasks of a run share.
struct Run {
    url: String,
    queue: Queue,
    dead: Queue,
    /// Nothing is killed any more, and no more jobs are sent.
    is_calm: AtomicBool,
    is_over: AtomicBool,
    committed: AtomicU64,
    /// The runs of each job, in the order in which they began.
    attempts: Mutex<BTreeMap<i64, Vec<Attempt>>>,
    crashed: AtomicU64,
    totals: Mutex<ConsumerStats>,
}

impl Run {
    /// The handler of the workers.
    async fn handle(self: Arc<Self>, job: Job, worker: u64, number: u64) -> Result<(), String> {
        let msg_id = job.msg_id();
        let index = {
            let mut attempts = self.attempts.lock().unwrap();
            let of_job = attempts.entry(msg_id).or_default();
            let begun = SystemTime::now();
            of_job.push(Attempt { number: job.attempts(), worker, begun, ended: None });
            of_job.len() - 1
        };
        let mut ending = Ending { run: self.clone(), msg_id, index, outcome: Outcome::Dropped };
        // Some run for longer than the visibility timeout.
        let is_long = number.is_multiple_of(151);
        sleep(if is_long { VISIBILITY * 5 / 4 } else { Duration::from_millis(number % 7) }).await;
        let is_poison = msg_id % POISON == 0;
        if is_poison || !self.is_calm.load(Ordering::Acquire) && number.is_multiple_of(17) {
            ending.outcome = Outcome::Failed;
            return Err(format!("job {msg_id} fails"));
        }
        ending.outcome = Outcome::Succeeded;
        Ok(())
    }
}

/// Sends jobs, each in a transaction, some of which are rolled back.
async fn send(run: &Run, dice: &mut PseudoRandom) -> Result<(), Error> {
    let mut session = Connection::connect(run.url.as_str()).await?;
    while !run.is_calm.load(Ordering::Acquire) {
        session.simple_query("BEGIN").await?;
        let count = 1 + below(dice, 4);
        for _ in 0..count {
            run.queue.send(&mut session, "{}", Duration::ZERO).await?;
        }
        let is_undone = below(dice, 10) == 0;
        session.simple_query(if is_undone { "ROLLBACK" } else { "COMMIT" }).await?;
        run.committed.fetch_add(count, Ordering::Release);
        sleep(Duration::from_millis(below(dice, 50))).await;
    }
    Ok(())
}

/// Runs consumers, one after the other, each in a runtime of its own. Some end as a process that is killed does: nothing of them runs any more.
fn work(run: &Arc<Run>, worker: u64, dice: &mut PseudoRandom) {
    while !run.is_over.load(Ordering::Acquire) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let is_killed = runtime.block_on(async {
            let shared = run.clone();
            let numbers = AtomicU64::new(below(dice, 1_000));
            let started = run
                .queue
                .consumer(run.url.as_str())
                .visibility_timeout(VISIBILITY)
                .interval(Duration::from_millis(500))
                .concurrency(4)
                .max_attempts(ATTEMPTS)
                .backoff(Duration::ZERO, Duration::from_millis(200))
                .dead_letter(run.dead.clone())
                .reconnect(Duration::from_millis(1), Duration::from_millis(200))
                .run(move |job: Job| {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    shared.clone().handle(job, worker, number)
                })
                .await;
            let consumer = match started {
                Ok(consumer) => consumer,
                Err(error) => {
                    assert!(is_expected(&error), "{error:#}");
                    sleep(Duration::from_millis(20)).await;
                    return false;
                }
            };
            let until = Instant::now() + Duration::from_millis(200 + below(dice, 3_000));
            while !run.is_over.load(Ordering::Acquire)
                && (run.is_calm.load(Ordering::Acquire) || Instant::now() < until)
            {
                sleep(Duration::from_millis(20)).await;
            }
            let is_killed = !run.is_calm.load(Ordering::Acquire) && below(dice, 2) == 0;
            if is_killed {
                std::mem::forget(consumer);
                return true;
            }
            let stopped = consumer.stop(Duration::from_millis(below(dice, 200))).await;
            assert!(stopped.error.is_none(), "{:?}", stopped.error);
            let (stats, mut totals) = (consumer.stats(), run.totals.lock().unwrap());
            totals.finished += stats.finished;
            totals.extended += stats.extended;
            totals.lapsed += stats.lapsed;
            totals.overtaken += stats.overtaken;
            totals.released += stats.released;
            totals.retries += stats.retries;
            totals.panics += stats.panics;
            totals.refused += stats.refused;
            totals.removed += stats.removed;
            false
        });
        run.crashed.fetch_add(u64::from(is_killed), Ordering::Relaxed);
        runtime.shutdown_background();
    }
}

/// Kills backends at random, listening ones too, and from time to time the server.
async fn kill(server: &Server, run: &Run) {
    let mut dice = PseudoRandom::new(11);
    let mut crashes = 0;
    while run.committed.load(Ordering::Acquire) < jobs() {
        sleep(Duration::from_millis(50 + below(&mut dice, 150))).await;
        if below(&mut dice, 12) == 0 {
            server.cluster.stop(Mode::Immediate).unwrap();
            server.cluster.start_again().unwrap();
            crashes += 1;
            continue;
        }
        let backends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2";
        if let Ok(mut session) = Connection::connect(run.url.as_str()).await {
            let _ = session.simple_query(backends).await;
            session.close().await;
        }
    }
    report!("{crashes} crashes of the server");
}

/// Logs what changes a row of the queue.
const CHANGES: &str = "CREATE TABLE changes (msg_id bigint, at timestamptz, vt timestamptz); \
    CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    INSERT INTO changes VALUES (NEW.msg_id, clock_timestamp(), NEW.vt); RETURN NEW; END $$; \
    CREATE TRIGGER log BEFORE UPDATE ON pgmq.q_jobs FOR EACH ROW EXECUTE FUNCTION log()";

#[test]
fn every_job_of_a_queue_ends_once_while_everything_is_killed() {
    // What was committed must survive a crash.
    let server = Server::with(|builder| {
        builder.setting("synchronous_commit", "on").setting("max_connections", "60")
    });
    let limit =
        Duration::from_secs(240) + Duration::from_millis(40) * u32::try_from(jobs()).unwrap();
    run_for(limit, async {
        let set_up = Jobs::new(server).await;
        let mut session = set_up.session().await;
        let dead = Queue::new("dead").unwrap();
        dead.create(&mut session).await.unwrap();
        let throttle = Duration::from_millis(250);
        set_up.queue.enable_notifications(&mut session, throttle).await.unwrap();
        // What sets a visibility timeout, and to when.
        session.simple_query(CHANGES).await.unwrap();
        session.close().await;
        let run = Arc::new(Run {
            url: set_up.url.clone(),
            queue: set_up.queue.clone(),
            dead,
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            committed: AtomicU64::new(0),
            attempts: Mutex::default(),
            crashed: AtomicU64::new(0),
            totals: Mutex::default(),
        });
        let workers: Vec<_> = (1..=WORKERS)
            .map(|worker| {
                let run = run.clone();
                thread::spawn(move || work(&run, worker, &mut PseudoRandom::new(worker)))
            })
            .collect();
        let mut senders = Vec::new();
        for sender in 1..=SENDERS {
            let run = run.clone();
            senders.push(tokio::spawn(async move {
                let mut dice = PseudoRandom::new(100 + sender);
                while !run.is_calm.load(Ordering::Acquire) {
                    if let Err(error) = send(&run, &mut dice).await {
                        assert!(is_expected(&error), "{error:#}");
                        sleep(Duration::from_millis(20)).await;
                    }
                }
            }));
        }
        kill(&set_up.server, &run).await;
        run.is_calm.store(true, Ordering::Release);
        for sender in senders {
            sender.await.unwrap();
        }
        let mut session = set_up.session().await;
        let deadline = Instant::now() + 4 * TEST_TIMEOUT;
        loop {
            let left = value(&mut session, "SELECT count(*) FROM pgmq.q_jobs").await;
            if left == "0" {
                break;
            }
            assert!(Instant::now() < deadline, "{left} jobs are left");
            sleep(Duration::from_millis(50)).await;
        }
        run.is_over.store(true, Ordering::Release);
        for worker in workers {
            tokio::task::spawn_blocking(move || worker.join().unwrap()).await.unwrap();
        }
        check(&run, &mut session).await;
    });
}

async fn check(run: &Run, session: &mut Connection) {
    // The archive has each id once. Which were put aside is in the other queue.
    let archived = "SELECT msg_id, read_ct FROM pgmq.a_jobs";
    let archived = session.query(archived, &[]).await.unwrap();
    let archived: BTreeMap<i64, u32> = archived
        .iter()
        .map(|row| (row.get(0).unwrap().parse().unwrap(), row.get(1).unwrap().parse().unwrap()))
        .collect();
    let dead = "SELECT (message->>'msg_id')::bigint, (message->>'attempts')::int FROM pgmq.q_dead";
    let dead = session.query(dead, &[]).await.unwrap();
    let mut put_aside = BTreeSet::new();
    for row in dead.iter() {
        let msg_id: i64 = row.get(0).unwrap().parse().unwrap();
        let attempts: u32 = row.get(1).unwrap().parse().unwrap();
        assert!(put_aside.insert(msg_id), "{msg_id} was put aside twice");
        assert_eq!(archived.get(&msg_id), Some(&attempts), "{msg_id}");
        assert!(attempts >= ATTEMPTS, "{msg_id} was put aside after {attempts} attempts");
    }
    let attempts = run.attempts.lock().unwrap().clone();
    let mut succeeded = BTreeMap::<i64, u64>::new();
    let mut repeated = Vec::new();
    for (msg_id, of_job) in &attempts {
        // Those that are not in the archive were sent by a transaction whose end was in doubt: none.
        let read_count = archived.get(msg_id).unwrap_or_else(|| panic!("{msg_id} is lost"));
        for attempt in of_job {
            let has_succeeded = attempt.outcome() == Some(Outcome::Succeeded);
            *succeeded.entry(*msg_id).or_default() += u64::from(has_succeeded);
            assert!(
                attempt.number <= *read_count,
                "{msg_id}: {attempt:?}, read {read_count} times"
            );
        }
        for (index, pair) in of_job.windows(2).enumerate() {
            let [first, second] = pair else { unreachable!("windows of two") };
            assert!(first.number <= second.number, "{msg_id}: not in order: {of_job:?}");
            // One that is cancelled has used no attempt.
            let is_dropped = first.outcome() == Some(Outcome::Dropped);
            assert!(
                is_dropped || first.number < second.number,
                "{msg_id}: attempt {} has begun twice: {of_job:?}",
                first.number
            );
            let overlaps = first.ended.is_none_or(|(ended, _)| ended > second.begun);
            if overlaps || first.outcome() == Some(Outcome::Succeeded) {
                repeated.push((*msg_id, index));
            }
        }
    }
    // Runs of which both may succeed. The first one had lapsed: nothing but the timeout has made it visible.
    let of_two = |(msg_id, index): &(i64, usize)| {
        let [first, second] = [&attempts[msg_id][*index], &attempts[msg_id][index + 1]];
        first.worker != second.worker
    };
    let of_two = repeated.iter().filter(|one| of_two(one)).count();
    for (msg_id, index) in &repeated {
        let [first, second] = [&attempts[msg_id][*index], &attempts[msg_id][index + 1]];
        let early = "SELECT count(*) FROM changes WHERE msg_id = $1 AND at BETWEEN to_timestamp($2) AND to_timestamp($3) \
            AND vt < at + interval '1.9 seconds'";
        let seconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64().to_string();
        let parameters = [msg_id.to_string(), seconds(first.begun), seconds(second.begun)];
        let parameters = parameters.each_ref().map(|one| Some(one.as_str()));
        let rows = session.query(early, &parameters).await.unwrap();
        let early = rows.get(0).unwrap().get(0).unwrap();
        assert_eq!(early, "0", "{msg_id} was given back while it ran: {first:?}, {second:?}");
        let passed = second.begun.duration_since(first.begun).unwrap_or_default();
        assert!(
            passed >= VISIBILITY / 3,
            "{msg_id} runs twice within its visibility timeout: {first:?}, {second:?}"
        );
    }
    for (msg_id, read_count) in &archived {
        let has_succeeded = succeeded.get(msg_id).is_some_and(|count| *count > 0);
        assert!(
            has_succeeded || put_aside.contains(msg_id),
            "{msg_id} has ended without an attempt"
        );
        assert!(*msg_id % POISON != 0 || put_aside.contains(msg_id), "{msg_id}: {read_count}");
    }
    let twice = succeeded.values().filter(|count| **count > 1).count();
    let totals = run.totals.lock().unwrap();
    assert_eq!((totals.panics, totals.refused), (0, 0));
    report!(
        "{} jobs, {} attempts, {} put aside, {twice} done more than once, {of_two} times by two workers; {} consumers killed; of the others: {totals:?}",
        archived.len(),
        attempts.values().map(Vec::len).sum::<usize>(),
        put_aside.len(),
        run.crashed.load(Ordering::Relaxed)
    );
}

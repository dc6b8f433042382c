//! Workers that are woken, and poll: the time to the start of work, and the statements that the server executes.

use std::io::Write;
use std::time::{Duration, Instant};

use pgbell::{Wake, WakeTask, WakeWorker, Wakeups};
use pgbell_testkit::{Auth, Cluster};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::arrivals::CHANNEL;
use super::nudges::Nudger;
use super::{PublishingJob, Role, median, sessions, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::{Failure, Outcome};
use crate::queries::HEARTBEAT_SQL;
use crate::tally::{print_line, print_ready};

/// The name of the task, and of the worker's session.
const WORKER: &str = "worker";

/// The session of the wake-ups, and that of the producer.
const WAKEUPS: &str = "wakeups";
const PRODUCER: &str = "producer";

/// A poll: a statement that takes jobs of a queue.
const CLAIM: &str = "WITH taken AS MATERIALIZED (SELECT key FROM jobs LIMIT $1 FOR UPDATE SKIP LOCKED) \
    DELETE FROM jobs USING taken WHERE jobs.key = taken.key RETURNING jobs.key";

/// The statements of the producer.
const INSERT: &str = "INSERT INTO jobs VALUES ($1)";
const NOTIFY: &str = "SELECT pg_notify('jobs', $1)";

/// The pause before each job, in which the system is idle.
const PAUSE: Duration = Duration::from_millis(20);

/// The interval of the polls while statements are counted, and that while wake-ups are timed.
const SHORT_INTERVAL: Duration = Duration::from_millis(250);
const LONG_INTERVAL: Duration = Duration::from_secs(60);

/// The jobs that are added while statements are counted.
const JOBS: u64 = 10;

/// What a process has done while the server logged its statements.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Polled {
    /// Wake-ups by notifications.
    notified: u64,
    took_ms: u64,
}

/// A server that logs each statement, with the name of the session at the beginning of the line.
fn server() -> Result<Cluster, String> {
    let builder = Cluster::builder()
        .auth(Auth::Trust)
        .setting("autovacuum", "off")
        .setting("log_statement", "all")
        .setting("log_line_prefix", "%a ")
        .init_sql("CREATE TABLE jobs (key text NOT NULL)");
    builder.start().map_err(|error| error.to_string())
}

pub(super) fn delays(size: Size) -> Matchup {
    let server = server();
    let roles = [Role::WokenByNotify, Role::WokenByNudge, Role::WokenByAttached];
    let names = ["pg_notify of another session", "nudge", "nudge of an attached notifier"];
    Matchup::contest(Kind::Wake, size.rounds(5), &names, |index| {
        let port = server.as_ref().map_err(Clone::clone)?.port();
        let mut child = start(roles[index], port, size.amount(200, 10), 0)?;
        let median = child.value()?;
        child.finish()?;
        Ok(median)
    })
}

/// Counts the statements in the log of the server.
pub(super) fn statements(size: Size) -> Matchup {
    let server = server();
    // Longer than the interval of the heartbeat.
    let seconds = size.amount(12, 1);
    let names = ["of the worker beyond its polls", "of other sessions", "polls", "heartbeats"];
    Matchup::together(Kind::Statements { seconds }, size.rounds(3), names, || {
        let server = server.as_ref().map_err(Clone::clone)?;
        let mut child = start(Role::Polling, server.port(), JOBS, seconds * 1_000)?;
        child.wait_until_ready()?;
        let begin = server.log().len();
        writeln!(child.input.as_mut().ok_or("a process without input")?, "go")?;
        let Polled { notified, took_ms } = child.value()?;
        let log = server.log();
        child.finish()?;
        let found = Statements::read(log.get(begin..).unwrap_or_default());
        let interval = u64::try_from(SHORT_INTERVAL.as_millis())?;
        let most = notified + took_ms.div_ceil(interval) + 1;
        if notified > JOBS || found.worker < took_ms / interval / 2 || found.producer != 2 * JOBS {
            return Err(format!("{notified} wake-ups, {found:?}").into());
        }
        let beyond = found.worker.saturating_sub(most) + found.worker_others;
        let all = [beyond, found.others, found.worker, found.heartbeats];
        Ok(all.map(|count| count as f64))
    })
}

/// The statements in a part of the log.
#[derive(Debug, Default, PartialEq, Eq)]
struct Statements {
    /// The polls of the worker, and its other statements.
    worker: u64,
    worker_others: u64,
    producer: u64,
    heartbeats: u64,
    /// Those of all other sessions, and those of the listening session that are no heartbeats.
    others: u64,
}

impl Statements {
    fn read(log: &str) -> Self {
        let mut all = Self::default();
        for line in log.lines() {
            let Some((session, rest)) = line.split_once(" LOG:  ") else { continue };
            // `statement: …` for a simple query, `execute name: …` for a prepared one.
            let sql = match rest.split_once(": ") {
                Some(("statement", sql)) => sql,
                Some((how, sql)) if how.starts_with("execute ") => sql,
                _ => continue,
            };
            let count = match session {
                WORKER if sql == CLAIM => &mut all.worker,
                WORKER => &mut all.worker_others,
                PRODUCER => &mut all.producer,
                WAKEUPS if sql == HEARTBEAT_SQL => &mut all.heartbeats,
                _ => &mut all.others,
            };
            *count += 1;
        }
        all
    }
}

async fn wakeups(job: &PublishingJob, interval: Duration) -> Outcome<Wakeups> {
    let task = WakeTask::new(WORKER).channel(CHANNEL).interval(interval);
    Ok(Wakeups::builder(&*job.conninfo(WAKEUPS)).task(task).connect().await?)
}

/// The start of work after a wake-up.
#[derive(Debug)]
struct Start {
    at: Instant,
    is_notified: bool,
    /// The jobs that were found.
    jobs: usize,
}

/// Polls after each wake-up, in a task. Returns what it does.
async fn work(
    job: &PublishingJob,
    worker: WakeWorker,
) -> Outcome<mpsc::UnboundedReceiver<Outcome<Start>>> {
    let client = sessions::open(&job.conninfo(WORKER)).await?;
    let claim = client.prepare(CLAIM).await?;
    let limit = i64::try_from(worker.batch_size())?;
    let (sender, starts) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let started = async {
                let wake = worker.wake().await?;
                let at = Instant::now();
                let jobs = client.query(&claim, &[&limit]).await?.len();
                worker.found(jobs);
                let is_notified = matches!(wake, Wake::Notified { .. });
                Ok::<Start, Failure>(Start { at, is_notified, jobs })
            };
            if sender.send(started.await).is_err() {
                return;
            }
        }
    });
    Ok(starts)
}

/// What wakes the worker.
#[derive(Debug)]
enum Waker {
    /// `pg_notify` of the session of the producer.
    Notify,
    Nudge(Nudger),
}

/// Commits a job and then wakes, again and again. Prints the median time from there to the start of work.
async fn time(job: &PublishingJob, wakeups: &Wakeups, waker: &Waker) -> Outcome<()> {
    let mut starts = work(job, wakeups.worker(WORKER)?).await?;
    let producer = sessions::open(&job.conninfo(PRODUCER)).await?;
    let insert = producer.prepare(INSERT).await?;
    let notify = producer.prepare(NOTIFY).await?;
    let mut delays = Vec::new();
    for number in 0..job.job.count {
        tokio::time::sleep(PAUSE).await;
        let key = number.to_string();
        producer.execute(&insert, &[&key]).await?;
        let begin = Instant::now();
        match waker {
            Waker::Notify => drop(producer.execute(&notify, &[&key]).await?),
            Waker::Nudge(nudger) => nudger.nudge(&key),
        }
        loop {
            let start = starts.recv().await.ok_or("the worker has ended")??;
            if start.is_notified {
                if start.jobs != 1 {
                    return Err(format!("{} jobs were found, 1 expected", start.jobs).into());
                }
                delays.push((start.at - begin).as_secs_f64() * 1e3);
                break;
            }
        }
    }
    print_line(&median(delays)?)
}

/// Wakes by the notification of another session.
pub(super) async fn by_notify(job: &PublishingJob) -> Outcome<()> {
    let wakeups = wakeups(job, LONG_INTERVAL).await?;
    time(job, &wakeups, &Waker::Notify).await
}

/// Wakes by a nudge, whose notification comes from the server.
pub(super) async fn by_nudge(job: &PublishingJob) -> Outcome<()> {
    let wakeups = wakeups(job, LONG_INTERVAL).await?;
    let nudger = Nudger::connect(job).await?;
    time(job, &wakeups, &Waker::Nudge(nudger)).await
}

/// Wakes by a nudge of an attached notifier, without the server.
pub(super) async fn by_attached(job: &PublishingJob) -> Outcome<()> {
    let wakeups = wakeups(job, LONG_INTERVAL).await?;
    let nudger = Nudger::connect(job).await?;
    wakeups.attach(nudger.notifier());
    time(job, &wakeups, &Waker::Nudge(nudger)).await
}

/// Polls while the statements are counted.
pub(super) async fn poll(job: &PublishingJob) -> Outcome<()> {
    let wakeups = wakeups(job, SHORT_INTERVAL).await?;
    let mut starts = work(job, wakeups.worker(WORKER)?).await?;
    let producer = sessions::open(&job.conninfo(PRODUCER)).await?;
    let insert = producer.prepare(INSERT).await?;
    let notify = producer.prepare(NOTIFY).await?;
    print_ready()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    let begin = Instant::now();
    let limit = Duration::from_millis(job.millis);
    for number in 0..job.job.count {
        let key = number.to_string();
        producer.execute(&insert, &[&key]).await?;
        producer.execute(&notify, &[&key]).await?;
        tokio::time::sleep(PAUSE).await;
    }
    tokio::time::sleep(limit.saturating_sub(begin.elapsed())).await;
    let (mut notified, mut jobs) = (0, 0);
    while let Ok(start) = starts.try_recv() {
        let start = start?;
        notified += u64::from(start.is_notified);
        jobs += start.jobs as u64;
    }
    if jobs != job.job.count {
        return Err(format!("{jobs} jobs were found, {} expected", job.job.count).into());
    }
    let took_ms = u64::try_from(begin.elapsed().as_millis())?;
    print_line(&Polled { notified, took_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_by_their_sessions() {
        let log = format!(
            "[unknown] LOG:  database system is ready\n\
             worker LOG:  execute s0: {CLAIM}\n\
             worker DETAIL:  parameters: $1 = '100'\n\
             worker LOG:  statement: BEGIN\n\
             producer LOG:  execute s1: INSERT INTO jobs VALUES ($1)\n\
             wakeups LOG:  statement: {HEARTBEAT_SQL}\n\
             wakeups LOG:  statement: LISTEN jobs\n\
             other LOG:  statement: SELECT 1\n"
        );
        let expected =
            Statements { worker: 1, worker_others: 1, producer: 1, heartbeats: 1, others: 2 };
        assert_eq!(Statements::read(&log), expected);
    }
}

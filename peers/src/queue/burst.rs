//! How often a consumer drains its queue because of a burst of notifications.

use std::time::Duration;

use pgbell::durable::pgmq::Job;
use pgbell::{Connection, WakeTask, Wakeups};
use pgbell_testkit::Cluster;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{INTERVAL, QUEUE, QueueJob, Role, queue, settle, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::tally::print_line;

/// The channel of the notifications.
const CHANNEL: &str = "jobs_channel";

/// The payloads differ, otherwise the server would send one notification.
const NOTIFICATIONS: u64 = 10_000;

/// How often the end of the burst is looked for.
const LOOK: Duration = Duration::from_millis(1);

/// What a process has counted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Counted {
    reads: u64,
    received: u64,
}

pub(super) fn reads(server: &Cluster, size: Size) -> Matchup {
    let kind = Kind::QueueBurst { notifications: NOTIFICATIONS };
    let names = ["drains beyond the first", "notifications received"];
    Matchup::together(kind, size.rounds(5), names, || {
        let mut child = start(Role::Burst, server.port(), &[("count", NOTIFICATIONS)])?;
        let Counted { reads, received } = child.value()?;
        child.finish()?;
        if received != NOTIFICATIONS {
            return Err(format!("{received} notifications were received").into());
        }
        let beyond = reads.checked_sub(1).ok_or("the burst has caused no read")?;
        Ok([beyond, received].map(|count| count as f64))
    })
}

/// Commits a job and a burst in one transaction. Prints how often the consumer has read, and what it has received.
///
/// With fewer jobs than a batch each drain is one read.
pub(super) async fn play(job: &QueueJob) -> Outcome<()> {
    let queue = queue()?;
    let mut session = Connection::connect(&*job.conninfo("writer")).await?;
    queue.purge(&mut session).await?;
    let task = WakeTask::new(QUEUE).channel(CHANNEL).interval(INTERVAL);
    let wakeups = Wakeups::builder(&*job.conninfo("wakeups")).task(task).connect().await?;
    let worker = wakeups.worker(QUEUE)?;
    let builder = queue.consumer(&*job.conninfo("consumer")).woken_by(worker.clone());
    let running = builder.run(|_: Job| async {}).await?;
    settle(&running).await;
    let (reads, finished) = (running.stats().reads, running.stats().finished);
    let burst = format!(
        "BEGIN; SELECT pgmq.send('{QUEUE}', '{{}}'); \
         SELECT count(pg_notify('{CHANNEL}', n::text)) FROM generate_series(1, {}) AS n; COMMIT",
        job.job.count
    );
    session.simple_query(&burst).await?;
    while worker.stats().notifications < job.job.count || running.stats().finished == finished {
        sleep(LOOK).await;
    }
    settle(&running).await;
    let stats = running.stats();
    if stats.finished != finished + 1 {
        return Err(format!("{} jobs were finished", stats.finished - finished).into());
    }
    let received = worker.stats().notifications;
    running.stop(Duration::from_secs(10)).await;
    wakeups.close().await;
    print_line(&Counted { reads: stats.reads - reads, received })
}

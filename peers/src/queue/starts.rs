//! The time from the commit of a job to the start of its handler, on an idle system.

use std::time::{Duration, Instant};

use pgbell::durable::pgmq::{Job, Queue};
use pgbell::{Connection, Notifier};
use pgbell_testkit::Cluster;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{INTERVAL, QUEUE, QueueJob, Role, queue, settle, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::publishing::{median, sessions};
use crate::tally::print_line;

/// The channel of the nudges.
const CHANNEL: &str = "jobs_channel";

/// The throttle of the notifications, the default of pgmq.
const THROTTLE: Duration = Duration::from_millis(250);

/// The pause before each job: pgmq announces each, and the consumer has done its read after the throttle.
const PAUSE: Duration = Duration::from_millis(320);

/// The longest time in which a job must start.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn delays(server: &Cluster, size: Size) -> Matchup {
    let roles = [Role::StartNotified, Role::StartNudged];
    let names = ["pgmq's notification of the insert", "nudge"];
    Matchup::contest(Kind::QueueStart, size.rounds(5), &names, |index| {
        let mut child = start(roles[index], server.port(), &[("count", size.amount(30, 5))])?;
        let median = child.value()?;
        child.finish()?;
        Ok(median)
    })
}

/// Commits a job, again and again. Prints the median time from the return of the commit to the start of its handler.
pub(super) async fn play(role: Role, job: &QueueJob) -> Outcome<()> {
    let queue = queue()?;
    let mut session = Connection::connect(&*job.conninfo("admin")).await?;
    queue.purge(&mut session).await?;
    match role {
        Role::StartNotified => queue.enable_notifications(&mut session, THROTTLE).await?,
        _ => queue.disable_notifications(&mut session).await?,
    }
    let (sender, mut started) = mpsc::unbounded_channel();
    let handler = move |job: Job| {
        let _ = sender.send((job.msg_id(), Instant::now()));
        async {}
    };
    let builder = queue.consumer(&*job.conninfo("consumer")).interval(INTERVAL);
    let running = builder.channel(CHANNEL).run(handler).await?;
    settle(&running).await;
    let notifier = Notifier::connect(&*job.conninfo("notifier")).await?;
    let client = sessions::open(&job.conninfo("writer")).await?;
    let send = client.prepare(Queue::send_sql()).await?;
    let mut delays = Vec::new();
    for _ in 0..job.job.count {
        sleep(PAUSE).await;
        let msg_id: i64 = client.query_one(&send, &[&QUEUE, &"{}", &0]).await?.get(0);
        let committed = Instant::now();
        if role == Role::StartNudged {
            notifier.nudge(CHANNEL, "");
        }
        let found = timeout(LIMIT, started.recv()).await.map_err(|_| "a job does not start")?;
        let (found, at) = found.ok_or("the consumer has ended")?;
        if found != msg_id {
            return Err(format!("the job {msg_id} was expected, found {found}").into());
        }
        // A handler can be faster than the answer to the commit.
        delays.push(at.saturating_duration_since(committed).as_secs_f64() * 1e3);
    }
    queue.disable_notifications(&mut session).await?;
    running.stop(Duration::from_secs(10)).await;
    print_line(&median(delays)?)
}

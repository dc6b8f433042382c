//! The time from a commit to the handler, on an idle system.

use std::time::{Duration, Instant};

use pgbell::{Notifier, WakeTask, Wakeups};

use super::{LogJob, Role, outbox, server, settings, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::publishing::{median, sessions};
use crate::tally::print_line;

const LOG: &str = "outbox";

/// The pause before each record, in which the system is idle.
const PAUSE: Duration = Duration::from_millis(20);

/// The interval of the cursor's poll, so long that only notifications wake it.
const INTERVAL: Duration = Duration::from_secs(60);

pub(super) fn delays(size: Size) -> Matchup {
    let server = server().start().map_err(|error| error.to_string());
    let roles = [Role::HandlerByNudge, Role::HandlerByAttached];
    let names = ["nudge", "nudge of an attached notifier"];
    Matchup::contest(Kind::LogHandler, size.rounds(5), &names, |index| {
        let port = server.as_ref().map_err(Clone::clone)?.port();
        let mut child = start(roles[index], port, &[("count", size.amount(200, 10))])?;
        let median = child.value()?;
        child.finish()?;
        Ok(median)
    })
}

/// Commits a record and then nudges, again and again. Prints the median time from the return of the commit to the handler.
pub(super) async fn play(role: Role, job: &LogJob) -> Outcome<()> {
    let log = outbox(job.job.port, LOG)?;
    log.init(&settings()).await?;
    let notifier = Notifier::connect(&*job.conninfo("notifier")).await?;
    let mut builder = log.cursor("reader").interval(INTERVAL);
    let mut attached = None;
    if role == Role::HandlerByAttached {
        let task = WakeTask::new("reader").channel(log.channel()).interval(INTERVAL);
        let wakeups = Wakeups::builder(&*job.conninfo("wakeups")).task(task).connect().await?;
        wakeups.attach(&notifier);
        builder = builder.woken_by(wakeups.worker("reader")?);
        attached = Some(wakeups);
    }
    let mut cursor = builder.open().await?;
    if cursor.try_next().await?.is_some() {
        return Err("a record is there that was not written".into());
    }
    let client = sessions::open(&job.conninfo("writer")).await?;
    let insert = client.prepare(&log.insert_sql()).await?;
    let mut delays = Vec::new();
    for number in 0..job.job.count {
        tokio::time::sleep(PAUSE).await;
        let payload = number.to_string();
        client.execute(&insert, &[&"key", &payload]).await?;
        let committed = Instant::now();
        notifier.nudge(log.channel(), "");
        let batch = cursor.next().await?;
        delays.push(committed.elapsed().as_secs_f64() * 1e3);
        if batch.len() != 1 || batch.get(0).is_none_or(|record| record.payload() != payload) {
            return Err(format!("the record {payload} was expected, found {batch:?}").into());
        }
        batch.ack().await?;
    }
    cursor.close().await;
    drop(attached);
    print_line(&median(delays)?)
}

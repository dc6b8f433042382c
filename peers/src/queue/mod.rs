//! A queue of pgmq and a mirror of a table: jobs per second, delays, and how often they read.
//!
//! ```text
//! parent --+-- queue consumer, sqlx, start-notified, mirror-refresh-nudged, ...   sends or writes, handles, prints what it measured
//!          +-- a PostgreSQL server with pgmq
//! ```

mod burst;
mod drain;
mod install;
mod mirror;
mod starts;
mod targets;

use std::time::Duration;

use clap::{Args, ValueEnum};
use pgbell::durable::pgmq::{Queue, RunningConsumer};
use tokio::time::sleep;

use crate::child::Child;
use crate::client::Job;
use crate::cores;
use crate::many::Size;
use crate::matchup::Matchup;
use crate::outcome::Outcome;
use crate::publishing;

/// The name of the queue.
const QUEUE: &str = "jobs";

/// The interval of all polls, so long that only something else wakes in time.
const INTERVAL: Duration = Duration::from_secs(600);

/// The time in which a consumer that has nothing to read begins no other read. It is longer than the throttle of pgmq.
const SETTLED: Duration = Duration::from_millis(400);

/// The part of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// A consumer of many jobs.
    Consumer,
    /// The same loop, written with sqlx.
    Sqlx,
    /// A consumer that pgmq's notifications of inserts wake.
    StartNotified,
    /// A consumer that a nudge wakes.
    StartNudged,
    /// A consumer that many notifications wake at once.
    Burst,
    /// A mirror that a notification of the writer's transaction wakes.
    MirrorRefreshNotified,
    /// A mirror that a nudge wakes.
    MirrorRefreshNudged,
    /// A mirror that reads all rows, which have not changed.
    MirrorReload,
    /// A mirror that reads all rows, which have all changed.
    MirrorReloadChanged,
}

/// The job of a process.
#[derive(Debug, Clone, Args)]
pub(crate) struct QueueJob {
    #[command(flatten)]
    pub(crate) job: Job,
    /// The jobs of a read.
    #[arg(long, default_value_t = 10)]
    pub(crate) batch: usize,
    /// The handlers that run at once.
    #[arg(long, default_value_t = 8)]
    pub(crate) concurrency: usize,
}

impl QueueJob {
    /// The parameters of a session of the job, with a name.
    fn conninfo(&self, session: &str) -> String {
        publishing::conninfo(self.job.port, session)
    }
}

/// Waits until a consumer has read for the last time without a cause: it reads at the start and once more when it listens.
async fn settle(running: &RunningConsumer) {
    let mut reads = 0;
    while reads == 0 || reads != running.stats().reads {
        reads = running.stats().reads;
        sleep(SETTLED).await;
    }
}

fn queue() -> Outcome<Queue> {
    Ok(Queue::new(QUEUE)?)
}

/// Plays one part.
pub(crate) fn play(role: Role, job: &QueueJob) -> Outcome<()> {
    cores::pin(&job.job.cores)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        match role {
            Role::Consumer => drain::consumer(job).await,
            Role::Sqlx => drain::sqlx(job).await,
            Role::StartNotified | Role::StartNudged => starts::play(role, job).await,
            Role::Burst => burst::play(job).await,
            Role::MirrorRefreshNotified | Role::MirrorRefreshNudged => {
                mirror::refresh(role, job).await
            }
            Role::MirrorReload | Role::MirrorReloadChanged => mirror::reload(role, job).await,
        }
    })
}

/// Starts a process that plays a part.
fn start(role: Role, port: u16, arguments: &[(&str, u64)]) -> Outcome<Child> {
    let role = role.to_possible_value().map(|value| value.get_name().to_owned());
    let mut all = vec!["queue".to_owned(), role.unwrap_or_default()];
    for (name, value) in [("port", u64::from(port))].iter().chain(arguments) {
        all.extend([format!("--{name}"), value.to_string()]);
    }
    Ok(Child::start(&all)?.watched())
}

/// Measures everything.
pub(crate) fn run(size: Size) -> Outcome<Vec<Matchup>> {
    let server = install::server()?;
    let mut all = Vec::new();
    let mut done = |matchup: Matchup| {
        eprintln!("peers: done: {}", matchup.title());
        all.push(matchup);
    };
    for (batch, concurrency) in drain::SIZES {
        done(drain::contest(&server, size, batch, concurrency));
    }
    done(starts::delays(&server, size));
    done(burst::reads(&server, size));
    mirror::fill(&server)?;
    done(mirror::refreshes(&server, size));
    done(mirror::reloads(&server, size));
    Ok(all)
}

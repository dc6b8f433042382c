//! Many subscribers in one process: those of a hub, and what programs use without a hub.
//!
//! ```text
//! parent --+-- many hub, many connections, ...   subscribes, prints "ready" and what it knows, reads how much to wait for, receives,
//!          |                                     prints what it measured
//!          +-- replay, or a PostgreSQL server
//!          +-- many notifiers                    with a PostgreSQL server: commits for a fixed time
//! ```

mod audience;
mod busy;
mod commits;
mod delivery;
mod idle;
mod server;
mod subscribers;

use clap::{Args, ValueEnum};

pub(crate) use self::commits::{Committed, rate};
use crate::child::Child;
use crate::client::Job;
use crate::cores::{self, Cores};
use crate::matchup::Matchup;
use crate::options::Scenario;
use crate::outcome::Outcome;
use crate::shape::Shape;
use crate::source::options;

/// The part of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Subscriptions of a [`pgbell::Hub`], to topics if the load has any.
    Hub,
    /// A session for each subscriber: [`pgbell::Connection`].
    Connections,
    /// One session, and a receiver of `tokio::sync::broadcast` for each subscriber.
    Broadcast,
    /// One session, and a map with the sender of a `tokio::sync::mpsc` channel for each topic.
    MpscMap,
    /// A task for each subscriber, which is woken by `tokio::sync::Notify` and receives nothing.
    WakeUps,
    /// Sessions that commit a notification each, again and again.
    Notifiers,
    /// Subscriptions of a hub, whose memory is measured.
    Idle,
    /// Subscriptions of a hub to an active channel, of which each is timed.
    Subscribe,
    /// The same, while the hub receives for many subscriptions.
    SubscribeUnderLoad,
}

/// The job of a process with many subscribers.
#[derive(Debug, Clone, Args)]
pub(crate) struct ManyJob {
    #[command(flatten)]
    pub(crate) job: Job,
    #[arg(long, default_value_t = 1)]
    pub(crate) subscribers: usize,
    /// How long notifiers commit.
    #[arg(long, default_value_t = 0)]
    pub(crate) millis: u64,
}

/// Plays one part.
pub(crate) fn play(role: Role, job: &ManyJob) -> Outcome<()> {
    cores::pin(&job.job.cores)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Hub => subscribers::hub(job).await,
            Role::Connections => subscribers::connections(job).await,
            Role::Broadcast => subscribers::broadcast(job).await,
            Role::MpscMap => subscribers::mpsc_map(job).await,
            Role::WakeUps => subscribers::wake_ups(job).await,
            Role::Notifiers => commits::notify(job).await,
            Role::Idle => idle::idle(job).await,
            Role::Subscribe => idle::subscribe(job).await,
            Role::SubscribeUnderLoad => busy::subscribe(job).await,
        }
    })
}

/// Starts a process that plays a part.
fn start(role: Role, load: &Load, port: u16, cores: &[usize], rest: &[String]) -> Outcome<Child> {
    let role = role.to_possible_value().map(|value| value.get_name().to_owned());
    let mut arguments = vec!["many".to_owned(), role.unwrap_or_default()];
    arguments.extend(["--port".to_owned(), port.to_string()]);
    arguments.extend(["--count".to_owned(), load.count.to_string()]);
    arguments.extend(["--subscribers".to_owned(), load.subscribers.to_string()]);
    arguments.extend(options(load.shape, cores));
    arguments.extend_from_slice(rest);
    Ok(Child::start(&arguments)?.watched())
}

/// Subscribers, and the notifications that are sent to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) shape: Shape,
    pub(crate) subscribers: usize,
    pub(crate) count: u64,
}

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rounds: usize,
    pub(crate) is_quick: bool,
}

impl Size {
    /// Returns the amount for this run, if a measurement uses `full`.
    pub(crate) fn amount<T>(self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// Returns the number of rounds of a measurement that takes long.
    pub(crate) fn rounds(self, most: usize) -> usize {
        self.rounds.min(most)
    }
}

/// Measures everything of a scenario.
pub(crate) fn run(scenario: Scenario, size: Size, cores: &Cores) -> Vec<Matchup> {
    let mut all = Vec::new();
    let mut done = |matchup: Matchup| {
        eprintln!("peers: done: {}", matchup.title());
        all.push(matchup);
    };
    match scenario {
        Scenario::Hub => {
            done(delivery::fan_out(64, size, cores));
            done(delivery::fan_out(640, size, cores));
            done(idle::memory(size, cores));
            done(idle::subscribes(size, cores));
            done(busy::subscribes(size, cores));
            done(commits::one_receives(size));
            done(commits::all_receive(size));
        }
        Scenario::Topics => {
            done(delivery::topics(size, cores));
            server::run(size).into_iter().for_each(done);
        }
        _ => {}
    }
    all
}

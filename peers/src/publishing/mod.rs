//! What publishing costs durable writers, what a notifier saves, and how soon workers are woken.
//!
//! ```text
//! parent --+-- publishing writers-nudge, callers, ...   publishes, receives too if it measures delays, prints what it measured
//!          +-- a PostgreSQL server                      and for durable writers its synchronous standby behind a proxy
//! ```

mod arrivals;
mod asleep;
mod calls;
pub(crate) mod durable_server;
mod nudges;
pub(crate) mod sessions;
mod targets;
mod wake;
mod writers;

use clap::{Args, ValueEnum};

use self::durable_server::DurableServer;
use crate::child::Child;
use crate::client::{Job, USER};
use crate::cores;
use crate::many::Size;
use crate::matchup::Matchup;
use crate::options::Scenario;
use crate::outcome::Outcome;
use crate::spread::Spread;

/// The part of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Sessions that commit rows durably.
    WritersAlone,
    /// The same, with a nudge after each commit.
    WritersNudge,
    /// The same, with `pg_notify` in each transaction.
    WritersNotify,
    /// Nudges without a load, each when the one before has arrived.
    Nudges,
    /// Tasks that call [`pgbell::Notifier::notify`].
    Callers,
    /// A session that repeats `SELECT pg_notify`.
    OneSession,
    /// Many such sessions.
    Sessions,
    /// A notifier whose server sleeps, with short payloads.
    AsleepShort,
    /// The same with long payloads.
    AsleepLong,
    /// The same with several notifications in each call.
    AsleepGroups,
    /// The same with nudges.
    AsleepNudges,
    /// A worker that is woken by `pg_notify` of another session.
    WokenByNotify,
    /// A worker that is woken by a nudge, whose notification comes from the server.
    WokenByNudge,
    /// A worker that is woken by a nudge of an attached notifier.
    WokenByAttached,
    /// A worker that mostly polls.
    Polling,
}

/// The job of a process.
#[derive(Debug, Clone, Args)]
pub(crate) struct PublishingJob {
    #[command(flatten)]
    pub(crate) job: Job,
    /// How long it publishes.
    #[arg(long, default_value_t = 0)]
    pub(crate) millis: u64,
}

impl PublishingJob {
    /// The parameters of a session of the job, with a name.
    fn conninfo(&self, session: &str) -> String {
        conninfo(self.job.port, session)
    }
}

/// The parameters of a session of pgbell or tokio-postgres, with a name.
pub(crate) fn conninfo(port: u16, session: &str) -> String {
    format!(
        "host=127.0.0.1 port={port} user={USER} dbname={USER} sslmode=disable application_name={session}"
    )
}

/// Plays one part.
pub(crate) fn play(role: Role, job: &PublishingJob) -> Outcome<()> {
    cores::pin(&job.job.cores)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::WritersAlone | Role::WritersNudge | Role::WritersNotify => {
                writers::write(role, job).await
            }
            Role::Nudges => nudges::idle(job).await,
            Role::Callers => calls::notifier(job).await,
            Role::OneSession => calls::one_session(job).await,
            Role::Sessions => calls::many_sessions(job).await,
            Role::AsleepShort | Role::AsleepLong | Role::AsleepGroups => {
                asleep::call(role, job).await
            }
            Role::AsleepNudges => asleep::nudge(job).await,
            Role::WokenByNotify => wake::by_notify(job).await,
            Role::WokenByNudge => wake::by_nudge(job).await,
            Role::WokenByAttached => wake::by_attached(job).await,
            Role::Polling => wake::poll(job).await,
        }
    })
}

/// Starts a process that plays a part.
fn start(role: Role, port: u16, count: u64, millis: u64) -> Outcome<Child> {
    let role = role.to_possible_value().map(|value| value.get_name().to_owned());
    let mut arguments = vec!["publishing".to_owned(), role.unwrap_or_default()];
    for (name, value) in [("--port", u64::from(port)), ("--count", count), ("--millis", millis)] {
        arguments.extend([name.to_owned(), value.to_string()]);
    }
    Ok(Child::start(&arguments)?.watched())
}

/// Returns the median of a round.
pub(crate) fn median(values: Vec<f64>) -> Outcome<f64> {
    Ok(Spread::of(values).ok_or("nothing was measured")?.median)
}

/// Measures everything of a scenario.
pub(crate) fn run(scenario: Scenario, size: Size) -> Outcome<Vec<Matchup>> {
    let mut all = Vec::new();
    let mut done = |matchup: Matchup| {
        eprintln!("peers: done: {}", matchup.title());
        all.push(matchup);
    };
    match scenario {
        Scenario::Publish => {
            let server = DurableServer::start()?;
            done(server.flushes(size));
            done(writers::contest(&server, size));
            done(writers::delays(&server, size));
            done(calls::contest(&server, size));
            drop(server);
            done(asleep::memory(size));
        }
        Scenario::Wake => {
            done(wake::delays(size));
            done(wake::statements(size));
        }
        _ => {}
    }
    Ok(all)
}

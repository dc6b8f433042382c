//! A log that is read by position: what it costs its writers, how fast it is read, and whether it stays so.
//!
//! ```text
//! parent --+-- log backlog, concurrent, steady, ...   writes and reads, prints what it measured
//!          +-- a PostgreSQL server
//! ```

mod backlog;
mod concurrent;
mod handler;
mod idle;
mod inserts;
mod ledger;
mod steady;
mod targets;
mod transactions;

use std::time::Duration;

use clap::{Args, ValueEnum};
use pgbell::durable::{Outbox, OutboxSettings, PayloadType};
use pgbell_testkit::{Auth, ClusterBuilder};

use crate::child::Child;
use crate::client::Job;
use crate::cores;
use crate::many::Size;
use crate::matchup::Matchup;
use crate::outcome::Outcome;
use crate::publishing;

/// The part of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Writers whose transactions end late, roll back or are prepared, and a reader.
    Concurrent,
    /// A reader of many records that wait.
    Backlog,
    /// A writer that nudges, and a reader.
    HandlerByNudge,
    /// The same, with the notifier of the writer attached to the wake-ups of the reader.
    HandlerByAttached,
    /// A reader without writers.
    Idle,
    /// Writers with a fixed rate, a reader, and rotations.
    Steady,
    /// Sessions that commit records durably.
    InsertsLog,
    /// The same with rows of a plain table.
    InsertsPlain,
}

/// The job of a process.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogJob {
    #[command(flatten)]
    pub(crate) job: Job,
    /// How long it takes.
    #[arg(long, default_value_t = 0)]
    pub(crate) millis: u64,
    /// The records of a page.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) page_size: usize,
    /// The sessions that write.
    #[arg(long, default_value_t = 1)]
    pub(crate) writers: usize,
}

impl LogJob {
    /// The parameters of a session of the job, with a name.
    fn conninfo(&self, session: &str) -> String {
        publishing::conninfo(self.job.port, session)
    }

    fn duration(&self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

/// The settings of all logs: payloads are text.
fn settings() -> OutboxSettings {
    OutboxSettings::new().payload(PayloadType::Text)
}

fn outbox(port: u16, name: &str) -> Outcome<Outbox> {
    Ok(Outbox::new(&*publishing::conninfo(port, name), name)?)
}

/// A server without autovacuum, as in all scenarios.
fn server() -> ClusterBuilder {
    pgbell_testkit::Cluster::builder().auth(Auth::Trust).setting("autovacuum", "off")
}

/// Plays one part.
pub(crate) fn play(role: Role, job: &LogJob) -> Outcome<()> {
    cores::pin(&job.job.cores)?;
    on_runtime(async {
        match role {
            Role::Concurrent => concurrent::play(job).await,
            Role::Backlog => backlog::read(job).await,
            Role::HandlerByNudge | Role::HandlerByAttached => handler::play(role, job).await,
            Role::Idle => idle::play(job).await,
            Role::Steady => steady::play(job).await,
            Role::InsertsLog | Role::InsertsPlain => inserts::write(role, job).await,
        }
    })
}

fn on_runtime<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Starts a process that plays a part.
fn start(role: Role, port: u16, arguments: &[(&str, u64)]) -> Outcome<Child> {
    let role = role.to_possible_value().map(|value| value.get_name().to_owned());
    let mut all = vec!["log".to_owned(), role.unwrap_or_default()];
    let mut limit = Duration::ZERO;
    for (name, value) in [("port", u64::from(port))].iter().chain(arguments) {
        all.extend([format!("--{name}"), value.to_string()]);
        if *name == "millis" {
            limit = Duration::from_millis(*value);
        }
    }
    Ok(Child::start(&all)?.watched_beyond(limit))
}

/// Measures everything. `steady` is how long the writers with a fixed rate write.
pub(crate) fn run(size: Size, steady: Duration) -> Outcome<Vec<Matchup>> {
    let mut all = Vec::new();
    let mut done = |matchup: Matchup| {
        eprintln!("peers: done: {}", matchup.title());
        all.push(matchup);
    };
    concurrent::run(size).into_iter().for_each(&mut done);
    backlog::run(size)?.into_iter().for_each(&mut done);
    done(handler::delays(size));
    done(idle::statements(size));
    done(steady::run(size, steady));
    inserts::run(size)?.into_iter().for_each(&mut done);
    Ok(all)
}

/// Returns the value below which this percentage of the values is.
fn quantile(values: &mut [f64], percentage: usize) -> Outcome<f64> {
    values.sort_by(f64::total_cmp);
    let index = (values.len() * percentage).div_ceil(100).saturating_sub(1);
    Ok(*values.get(index.min(values.len().saturating_sub(1))).ok_or("nothing was measured")?)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(quantile(&mut values, 99).unwrap(), 198.0);
        assert_eq!(quantile(&mut values, 50).unwrap(), 100.0);
        assert_eq!(quantile(&mut [7.0], 99).unwrap(), 7.0);
        assert!(quantile(&mut [], 50).is_err());
    }
}

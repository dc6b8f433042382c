//! Calls that return when their notification is committed: of a notifier, and of sessions with a transaction for each.

use std::time::{Duration, Instant};

use pgbell::Notifier;

use super::durable_server::DurableServer;
use super::{PublishingJob, Role, sessions, start};
use crate::digest::Digest;
use crate::many::{self, Committed, Load, Size};
use crate::matchup::{Kind, Matchup};
use crate::outcome::{Failure, Outcome};
use crate::shape::Shape;
use crate::tally::{nanos, print_line};

/// The tasks that share a notifier.
const TASKS: usize = 256;

/// The sessions of the largest number.
const SESSIONS: usize = 64;

/// The notifications that are sent.
const SHAPE: Shape = Shape::MAIN;

pub(super) fn contest(server: &DurableServer, size: Size) -> Matchup {
    let roles = [Role::Callers, Role::OneSession, Role::Sessions];
    let names = ["Notifier::notify", "one tokio-postgres session", "tokio-postgres sessions"];
    let kind = Kind::Calls { tasks: TASKS, sessions: SESSIONS };
    Matchup::contest(kind, size.rounds(5), &names, |index| {
        // One connection listens, and must receive everything.
        let load = Load { shape: SHAPE, subscribers: 1, count: 0 };
        let notifiers = || start(roles[index], server.port(), 0, size.amount(1_500, 200));
        many::rate(many::Role::Connections, &load, server.port(), notifiers)
    })
}

/// Calls [`Notifier::notify`] with many tasks.
pub(super) async fn notifier(job: &PublishingJob) -> Outcome<()> {
    let notifier = Notifier::connect(&*job.conninfo("notifier")).await?;
    let (limit, begin) = (Duration::from_millis(job.millis), Instant::now());
    let tasks = (0..TASKS).map(|task| {
        let notifier = notifier.clone();
        tokio::spawn(async move {
            let mut own = Own::new(task, TASKS);
            while begin.elapsed() < limit {
                let (channel, payload) = own.next();
                notifier.notify(&channel, &payload).await?;
                own.committed(&channel, &payload);
            }
            Ok::<Digest, Failure>(own.digest)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    finish(tasks, begin).await
}

/// Repeats `SELECT pg_notify`, a transaction each, with this number of sessions.
async fn transactions(job: &PublishingJob, count: usize) -> Outcome<()> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = sessions::open(&job.conninfo("session")).await?;
        let statement = client.prepare("SELECT pg_notify($1, $2)").await?;
        clients.push((client, statement));
    }
    let (limit, begin) = (Duration::from_millis(job.millis), Instant::now());
    let tasks = clients.into_iter().enumerate().map(|(task, (client, statement))| {
        tokio::spawn(async move {
            let mut own = Own::new(task, count);
            while begin.elapsed() < limit {
                let (channel, payload) = own.next();
                client.execute(&statement, &[&channel, &payload]).await?;
                own.committed(&channel, &payload);
            }
            Ok::<Digest, Failure>(own.digest)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    finish(tasks, begin).await
}

pub(super) async fn one_session(job: &PublishingJob) -> Outcome<()> {
    transactions(job, 1).await
}

pub(super) async fn many_sessions(job: &PublishingJob) -> Outcome<()> {
    transactions(job, SESSIONS).await
}

async fn finish(
    tasks: Vec<tokio::task::JoinHandle<Outcome<Digest>>>,
    begin: Instant,
) -> Outcome<()> {
    let mut digest = Digest::default();
    for task in tasks {
        digest = digest.and(&task.await??);
    }
    print_line(&Committed { digest, wall_ns: nanos(begin.elapsed()) })
}

/// The notifications of one task: those of all tasks are different.
#[derive(Debug)]
struct Own {
    number: u64,
    step: u64,
    digest: Digest,
}

impl Own {
    fn new(task: usize, tasks: usize) -> Self {
        Self { number: task as u64, step: tasks as u64, digest: Digest::default() }
    }

    fn next(&self) -> (String, String) {
        let (channel, payload, _) = SHAPE.notification(self.number);
        (channel, payload)
    }

    fn committed(&mut self, channel: &str, payload: &str) {
        self.digest.add(channel.as_bytes(), payload.as_bytes());
        self.number += self.step;
    }
}

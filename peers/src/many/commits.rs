//! Notifying commits per second of a PostgreSQL server, with many subscribers.

use std::time::{Duration, Instant};

use pgbell::Connection;
use pgbell_testkit::{Auth, Cluster};
use serde::{Deserialize, Serialize};

use super::audience::{Received, Subscribed};
use super::delivery::expect;
use super::subscribers::conninfo;
use super::{Load, ManyJob, Role, Size, start};
use crate::child::Child;
use crate::digest::Digest;
use crate::matchup::{Kind, Matchup};
use crate::outcome::{Failure, Outcome};
use crate::shape::Shape;
use crate::tally::{nanos, print_line};

/// The sessions that notify.
const NOTIFIERS: u64 = 4;

/// What the notifiers have committed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) digest: Digest,
    pub(crate) wall_ns: u64,
}

/// Measures subscribers of which one receives each notification: those of a hub have topics of their own, sessions have channels
/// of their own.
pub(super) fn one_receives(size: Size) -> Matchup {
    let subscribers = subscribers(size);
    let own = subscribers as u64;
    let shapes = [Shape { topics: own, ..Shape::MAIN }, Shape { channels: own, ..Shape::MAIN }];
    contest(Kind::CommitsToOne { subscribers }, subscribers, shapes, size)
}

/// Measures subscribers that all receive each notification: all have the same channel.
pub(super) fn all_receive(size: Size) -> Matchup {
    let subscribers = subscribers(size);
    contest(Kind::CommitsToAll { subscribers }, subscribers, [Shape::MAIN; 2], size)
}

fn subscribers(size: Size) -> usize {
    size.amount(1_000, 20)
}

fn contest(kind: Kind, subscribers: usize, shapes: [Shape; 2], size: Size) -> Matchup {
    let names = ["hub", "sessions"];
    let roles = [Role::Hub, Role::Connections];
    let limit = (subscribers + 50).to_string();
    let server = Cluster::builder()
        .auth(Auth::Trust)
        .setting("autovacuum", "off")
        .setting("max_connections", limit)
        .start();
    Matchup::contest(kind, size.rounds(5), &names, |index| {
        let cluster = server.as_ref().map_err(ToString::to_string)?;
        let load = Load { shape: shapes[index], subscribers, count: 0 };
        let millis = ["--millis".to_owned(), size.amount(3_000, 200).to_string()];
        let notifiers = || start(Role::Notifiers, &load, cluster.port(), &[], &millis);
        rate(roles[index], &load, cluster.port(), notifiers)
    })
}

/// Starts subscribers, then notifiers, and returns the notifications that these have committed per second. The subscribers must
/// receive all of them.
pub(crate) fn rate(
    subscribers: Role,
    load: &Load,
    port: u16,
    notifiers: impl FnOnce() -> Outcome<Child>,
) -> Outcome<f64> {
    let mut child = start(subscribers, load, port, &[], &[])?;
    child.wait_until_ready()?;
    let _: Subscribed = child.value()?;
    let mut notifiers = notifiers()?;
    let committed: Committed = notifiers.value()?;
    notifiers.finish()?;
    let all_receive = load.shape.topics == 0 && load.shape.channels == 1;
    let each = if all_receive { load.subscribers as u64 } else { 1 };
    let deliveries = committed.digest.count * each;
    expect(&mut child, deliveries)?;
    let received: Received = child.value()?;
    child.finish()?;
    let is_right = received.digest == committed.digest && received.deliveries == deliveries;
    // The last round of the notifiers is not complete: then some subscribers with own topics receive one less.
    if !is_right || all_receive && !received.is_even {
        let found = received.deliveries;
        return Err(format!("{deliveries} deliveries expected, {found} found, or others").into());
    }
    Ok(committed.digest.count as f64 * 1e9 / committed.wall_ns as f64)
}

/// Commits a notification with each session, again and again.
pub(super) async fn notify(job: &ManyJob) -> Outcome<()> {
    let mut sessions = Vec::new();
    for _ in 0..NOTIFIERS {
        sessions.push(Connection::connect(&*conninfo(job)).await?);
    }
    let (shape, limit) = (job.job.shape, Duration::from_millis(job.millis));
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for (first, mut session) in (0..).zip(sessions) {
        tasks.push(tokio::spawn(async move {
            let (mut digest, mut number) = (Digest::default(), first);
            while begin.elapsed() < limit {
                let (channel, payload, received) = shape.notification(number);
                let sql = format!("SELECT pg_notify('{channel}', '{payload}')");
                session.simple_query(&sql).await?;
                digest.add(channel.as_bytes(), &payload.as_bytes()[received..]);
                number += NOTIFIERS;
            }
            Ok::<Digest, Failure>(digest)
        }));
    }
    let mut digest = Digest::default();
    for task in tasks {
        digest = digest.and(&task.await??);
    }
    print_line(&Committed { digest, wall_ns: nanos(begin.elapsed()) })
}

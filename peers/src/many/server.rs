//! Many topics on few channels of a PostgreSQL server: what they cost the server process that listens.

use pgbell::Connection;
use pgbell_testkit::{Auth, Cluster, Installation};

use super::audience::{Received, Subscribed};
use super::delivery::expect;
use super::{Load, Role, Size, start};
use crate::client::USER;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::shape::Shape;
use crate::usage;

/// The channels of the topics.
const CHANNELS: u64 = 64;

/// Measures the installed server, and the oldest and newest of the matrix if it is there.
pub(super) fn run(size: Size) -> Vec<Matchup> {
    let mut all: Vec<Installation> = Installation::find().into_iter().collect();
    let matrix = Installation::matrix().unwrap_or_default();
    for other in matrix.first().into_iter().chain(matrix.last()) {
        if all.iter().all(|one| one.major() != other.major()) {
            all.push(other.clone());
        }
    }
    all.sort_by_key(Installation::major);
    all.iter().map(|installation| measure(installation, size)).collect()
}

fn measure(installation: &Installation, size: Size) -> Matchup {
    let topics = size.amount(100_000, 1_000);
    let count = 4 * topics as u64;
    let shape = Shape { channels: CHANNELS, topics: topics as u64, ..Shape::MAIN };
    let load = Load { shape, subscribers: topics, count };
    let server = Cluster::builder()
        .installation(installation.clone())
        .auth(Auth::Trust)
        .setting("autovacuum", "off")
        .start();
    let kind = Kind::Server { major: installation.major(), topics, channels: CHANNELS };
    let names = ["server CPU per notification, ns", "all subscribes, ms"];
    Matchup::together(kind, size.rounds(5), names, || {
        let cluster = server.as_ref().map_err(ToString::to_string)?;
        run_one(&load, cluster)
    })
}

fn run_one(load: &Load, cluster: &Cluster) -> Outcome<[f64; 2]> {
    let mut child = start(Role::Hub, load, cluster.port(), &[], &[])?;
    child.wait_until_ready()?;
    let subscribed: Subscribed = child.value()?;
    let process_id = subscribed.process_id.ok_or("a hub without a session")?;
    let before = usage::of_process(process_id);
    notify(load, cluster)?;
    expect(&mut child, load.count)?;
    let received: Received = child.value()?;
    // The session is still there.
    let used = usage::of_process(process_id).saturating_sub(before);
    child.finish()?;
    if received.deliveries != load.count
        || !received.is_even
        || received.digest != load.shape.digest(load.count)
    {
        let found = received.deliveries;
        return Err(
            format!("{} notifications sent, {found} received, or others", load.count).into()
        );
    }
    if used.is_zero() {
        return Err("the processor time of the server process is not known".into());
    }
    let cpu_ns = used.as_nanos() as f64 / load.count as f64;
    Ok([cpu_ns, subscribed.took_ns as f64 / 1e6])
}

/// Sends all notifications, in a transaction for each round of the topics.
fn notify(load: &Load, cluster: &Cluster) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let port = cluster.port();
    runtime.block_on(async {
        let conninfo = format!("host=127.0.0.1 port={port} user={USER} dbname={USER}");
        let mut notifier = Connection::connect(&*conninfo).await?;
        let topics = load.shape.topics;
        for first in (0..load.count).step_by(usize::try_from(topics)?) {
            notifier.simple_query(&load.shape.notify_sql(first, topics)).await?;
        }
        Ok(())
    })
}

//! The processor time of a delivery of what the replay server sends.

use std::io::Write;
use std::time::Duration;

use super::audience::{Received, Subscribed};
use super::{Load, Role, Size, start};
use crate::child::Child;
use crate::cores::Cores;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::replay::{Sent, WRITE_BYTES};
use crate::shape::Shape;
use crate::source::Source;

/// Longer than the slowest client needs for a delivery: so each burst is read alone. Not much longer: in a pause other processes use the
/// caches.
const PAUSE_OF_A_DELIVERY: Duration = Duration::from_nanos(50);

/// Consecutive notifications of a topic.
const RUN: u64 = 16;

/// Measures the subscribers of one channel.
pub(super) fn fan_out(burst: u64, size: Size, cores: &Cores) -> Matchup {
    let subscribers = size.amount(1_000, 20);
    let load = Load { shape: Shape::MAIN, subscribers, count: size.amount(1_000 * 64, 2 * 640) };
    let pause = pause_of(burst, subscribers);
    let roles = [Role::Hub, Role::Broadcast];
    let names = ["hub", "tokio broadcast"];
    Matchup::contest(Kind::FanOut { subscribers, burst }, size.rounds, &names, |index| {
        let source = Source::bursts(load.shape, burst, pause, &cores.server)?;
        cpu_ns(roles[index], &load, source, cores)
    })
}

/// Returns the pause after a burst that every subscriber receives.
pub(super) fn pause_of(burst: u64, subscribers: usize) -> Duration {
    PAUSE_OF_A_DELIVERY * u32::try_from(burst * subscribers as u64).unwrap_or(u32::MAX)
}

/// Measures subscribers that have a topic each.
pub(super) fn topics(size: Size, cores: &Cores) -> Matchup {
    let subscribers = size.amount(1_000, 20);
    let topics = subscribers as u64;
    let shape = Shape { topics, run: RUN, ..Shape::MAIN };
    let load = Load { shape, subscribers, count: topics * RUN * size.amount(200, 3) };
    let roles = [Role::Hub, Role::MpscMap, Role::WakeUps];
    let names = ["hub", "map of tokio mpsc", "wake-ups alone"];
    let kind = Kind::Topics { subscribers, run: RUN };
    Matchup::contest(kind, size.rounds, &names, |index| {
        let source = Source::replay(shape, WRITE_BYTES, &cores.server, None)?;
        cpu_ns(roles[index], &load, source, cores)
    })
}

/// Runs one client, and returns the processor time of a delivery in nanoseconds.
fn cpu_ns(role: Role, load: &Load, mut source: Source, cores: &Cores) -> Outcome<f64> {
    let mut child = start(role, load, source.port(), cores.client(1), &[])?;
    child.wait_until_ready()?;
    let _: Subscribed = child.value()?;
    let each = if load.shape.topics > 0 { 1 } else { load.subscribers as u64 };
    expect(&mut child, load.count * each)?;
    // Wake-ups alone need no server.
    let is_sent = role != Role::WakeUps;
    if is_sent {
        source.go(load.count)?;
    }
    let received: Received = child.value()?;
    let sent = if is_sent { Some(source.sent()?) } else { None };
    child.finish()?;
    check(&received, sent, load.count * each)?;
    Ok(received.cpu_ns as f64 / received.deliveries as f64)
}

/// Says to a process how many deliveries it has to wait for.
pub(super) fn expect(child: &mut Child, deliveries: u64) -> Outcome<()> {
    let input = child.input.as_mut().ok_or("a process without input")?;
    writeln!(input, "{deliveries}")?;
    Ok(input.flush()?)
}

/// Checks that what was sent has arrived: with each subscriber if all receive the same, otherwise with all together.
pub(super) fn check(received: &Received, sent: Option<Sent>, deliveries: u64) -> Outcome<()> {
    if received.deliveries != deliveries || !received.is_even {
        let even = if received.is_even { "" } else { ", not the same by each subscriber" };
        let found = received.deliveries;
        return Err(format!("{deliveries} deliveries expected, {found} found{even}").into());
    }
    let digest = received.digest;
    let is_right = |sent: Sent| {
        (digest.count, digest.bytes, digest.checksum()) == (sent.count, sent.bytes, sent.checksum)
    };
    if !sent.is_none_or(is_right) {
        return Err("other notifications were received than sent".into());
    }
    Ok(())
}

//! The processor time of a delivery: bursts of the replay server, with a pause after each.

use std::io::Write;
use std::time::Duration;

use super::audience::{Received, Subscribed};
use super::{Kind, Load, Matchup, Role, Size, start};
use crate::child::Child;
use crate::cores::Cores;
use crate::outcome::Outcome;
use crate::replay::Sent;
use crate::shape::Shape;
use crate::source::Source;

/// Longer than the slowest client needs for a delivery: so each burst is read alone.
const PAUSE_OF_A_DELIVERY: Duration = Duration::from_nanos(150);

/// Consecutive notifications of a topic.
const RUN: u64 = 16;

/// Measures the subscribers of one channel.
pub(super) fn fan_out(burst: u64, size: Size, cores: &Cores) -> Matchup {
    let subscribers = size.amount(1_000, 20);
    let load = Load { shape: Shape::MAIN, subscribers, count: size.amount(100 * 64, 2 * 640) };
    let deliveries = u32::try_from(burst * subscribers as u64).unwrap_or(u32::MAX);
    let bursts = (burst, PAUSE_OF_A_DELIVERY * deliveries);
    let roles = [Role::Hub, Role::Broadcast];
    let names = ["hub", "tokio broadcast"];
    Matchup::contest(Kind::FanOut { subscribers, burst }, size.rounds, &names, |index| {
        let received = run_one(roles[index], &load, bursts, cores)?;
        Ok(received.cpu_ns as f64 / received.deliveries as f64)
    })
}

/// Measures subscribers that have a topic each.
pub(super) fn topics(size: Size, cores: &Cores) -> Matchup {
    let subscribers = size.amount(1_000, 20);
    let topics = subscribers as u64;
    let shape = Shape { topics, run: RUN, ..Shape::MAIN };
    let burst = topics * RUN;
    let load = Load { shape, subscribers, count: burst * size.amount(100, 3) };
    let deliveries = u32::try_from(burst).unwrap_or(u32::MAX);
    let bursts = (burst, 4 * PAUSE_OF_A_DELIVERY * deliveries);
    let roles = [Role::Hub, Role::MpscMap, Role::WakeUps];
    let names = ["hub", "map of tokio mpsc", "wake-ups alone"];
    let kind = Kind::Topics { subscribers, run: RUN };
    Matchup::contest(kind, size.rounds, &names, |index| {
        let received = run_one(roles[index], &load, bursts, cores)?;
        Ok(received.cpu_ns as f64 / received.deliveries as f64)
    })
}

fn run_one(
    role: Role,
    load: &Load,
    (burst, pause): (u64, Duration),
    cores: &Cores,
) -> Outcome<Received> {
    let mut source = Source::bursts(load.shape, burst, pause, &cores.server)?;
    let mut child = start(role, load, source.port(), cores.client(1), &[])?;
    child.wait_until_ready()?;
    let _: Subscribed = child.value()?;
    let each = if load.shape.topics > 0 { 1 } else { load.subscribers as u64 };
    expect(&mut child, load.count * each)?;
    if role == Role::WakeUps {
        let received: Received = child.value()?;
        child.finish()?;
        return check_count(received, load.count);
    }
    source.go(load.count)?;
    let received: Received = child.value()?;
    let sent = source.sent()?;
    child.finish()?;
    check(received, &sent, each)
}

/// Says to a process how many deliveries it has to wait for.
pub(super) fn expect(child: &mut Child, deliveries: u64) -> Outcome<()> {
    let input = child.input.as_mut().ok_or("a process without input")?;
    writeln!(input, "{deliveries}")?;
    Ok(input.flush()?)
}

/// Checks that each of `each` subscribers has received what was sent, or that all together have.
fn check(received: Received, sent: &Sent, each: u64) -> Outcome<Received> {
    let received = check_count(received, sent.count * each)?;
    if received.digest.checksum() != sent.checksum || received.digest.bytes != sent.bytes {
        return Err("other bytes were received than sent".into());
    }
    Ok(received)
}

fn check_count(received: Received, deliveries: u64) -> Outcome<Received> {
    if received.deliveries != deliveries || !received.is_even {
        let even = if received.is_even { "" } else { ", not the same by each subscriber" };
        let found = received.deliveries;
        return Err(format!("{deliveries} deliveries expected, {found} found{even}").into());
    }
    Ok(received)
}

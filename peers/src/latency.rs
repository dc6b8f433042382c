//! Ping-pong: each notification is sent when the previous one has arrived.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::child::Child;
use crate::client::PING;
use crate::contestant::Contestant;
use crate::cores::Cores;
use crate::outcome::Outcome;
use crate::server::Server;
use crate::shape::Shape;
use crate::source::options;
use crate::spread::Spread;
use crate::tally::nanos;

/// The pings that are not measured, at the beginning.
const WARM_UP: u64 = 200;

/// The measurement of one client.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) pings: u64,
    pub(crate) min_ns: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
    /// The reads that were delayed. `None` for other drivers.
    pub(crate) reads_delayed: Option<u64>,
}

/// One notification that was sent.
#[derive(Debug)]
pub(crate) struct Ping {
    number: u64,
    text: String,
    sent: Instant,
}

impl Ping {
    /// Returns the statement, the same for every contestant.
    pub(crate) fn sql(&self) -> String {
        format!("NOTIFY {PING}, '{}'", self.text)
    }

    /// Checks that this ping arrived.
    pub(crate) fn check(&self, payload: &[u8]) -> Outcome<()> {
        if payload == self.text.as_bytes() {
            return Ok(());
        }
        Err(format!("expected ping {}, found {}", self.text, payload.escape_ascii()).into())
    }
}

/// Creates pings, and measures the time of each from before NOTIFY is sent until it is received.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    pings: u64,
    next: u64,
    histogram: Histogram<u64>,
}

impl Stopwatch {
    pub(crate) fn new(pings: u64) -> Outcome<Self> {
        let longest = nanos(Duration::from_secs(10));
        Ok(Self { pings, next: 0, histogram: Histogram::new_with_bounds(1, longest, 3)? })
    }

    pub(crate) fn next(&mut self) -> Option<Ping> {
        let number = self.next;
        if number >= self.pings + WARM_UP {
            return None;
        }
        self.next += 1;
        Some(Ping { number, text: number.to_string(), sent: Instant::now() })
    }

    pub(crate) fn arrived(&mut self, ping: &Ping) {
        let took = ping.sent.elapsed();
        if ping.number >= WARM_UP {
            self.histogram.saturating_record(nanos(took));
        }
    }

    pub(crate) fn finish(self) -> Outcome<Latency> {
        if self.histogram.len() != self.pings {
            return Err(format!("{} of {} pings arrived", self.histogram.len(), self.pings).into());
        }
        Ok(Latency {
            pings: self.histogram.len(),
            min_ns: self.histogram.min(),
            p50_ns: self.histogram.value_at_quantile(0.5),
            p99_ns: self.histogram.value_at_quantile(0.99),
            max_ns: self.histogram.max(),
            reads_delayed: None,
        })
    }
}

/// The rounds of a contestant.
#[derive(Debug, Serialize)]
pub(crate) struct PingPong {
    pub(crate) contestant: Contestant,
    pub(crate) rounds: Vec<Latency>,
    /// The reasons of the rounds that do not count.
    pub(crate) voids: Vec<String>,
}

impl PingPong {
    /// Returns one value of all rounds, in microseconds.
    pub(crate) fn micros(&self, value: impl Fn(&Latency) -> u64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(|round| value(round) as f64 / 1e3))
    }
}

/// Runs the ping-pong of every contestant: forwards, backwards, forwards and so on.
pub(crate) fn run(
    contestants: &[Contestant],
    (rounds, pings): (usize, u64),
    cores: &Cores,
    server: &mut Server,
) -> Vec<PingPong> {
    let new = |contestant: &Contestant| PingPong {
        contestant: *contestant,
        rounds: Vec::new(),
        voids: Vec::new(),
    };
    let mut contests: Vec<PingPong> = contestants.iter().map(new).collect();
    for round in 0..rounds {
        let play = |contest: &mut PingPong| match run_one(contest.contestant, pings, cores, server)
        {
            Ok(latency) => contest.rounds.push(latency),
            Err(why) => contest.voids.push(format!("{why:#}")),
        };
        if round % 2 == 0 {
            contests.iter_mut().for_each(play);
        } else {
            contests.iter_mut().rev().for_each(play);
        }
    }
    contests
}

fn run_one(
    contestant: Contestant,
    pings: u64,
    cores: &Cores,
    server: &mut Server,
) -> Outcome<Latency> {
    let port = server.cluster(&cores.server)?.port();
    let mut arguments = vec!["ping-pong".to_owned(), contestant.name()];
    arguments.extend(["--port".to_owned(), port.to_string()]);
    arguments.extend(["--count".to_owned(), pings.to_string()]);
    // One core, also for clients with two threads: the placement of threads affects the result more than the client does.
    arguments.extend(options(Shape::MAIN, cores.client(1)));
    let mut child = Child::start(&arguments)?.watched();
    let latency: Latency = child.value()?;
    child.finish()?;
    if latency.pings != pings {
        return Err(format!("{} of {pings} pings arrived", latency.pings).into());
    }
    Ok(latency)
}

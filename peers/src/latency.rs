//! Ping-pong: each notification is sent when the one before has arrived.

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

/// Pings before the first that counts.
const WARM_UP: u64 = 200;

/// What one client measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) pings: u64,
    pub(crate) min_ns: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
}

/// One notification on its way.
#[derive(Debug)]
pub(crate) struct Ping {
    number: u64,
    text: String,
    sent: Instant,
}

impl Ping {
    /// The same statement for everybody.
    pub(crate) fn sql(&self) -> String {
        format!("NOTIFY {PING}, '{}'", self.text)
    }

    /// Whether it is this one that arrived.
    pub(crate) fn check(&self, payload: &[u8]) -> Outcome<()> {
        if payload == self.text.as_bytes() {
            return Ok(());
        }
        Err(format!("ping {} was sent, and {} came", self.text, payload.escape_ascii()).into())
    }
}

/// Hands out pings and notes how long each takes: from before NOTIFY is sent until it is received.
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
        })
    }
}

/// A contestant's rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Rally {
    pub(crate) contestant: Contestant,
    pub(crate) rounds: Vec<Latency>,
    /// Rounds that count for nothing, and why.
    pub(crate) voids: Vec<String>,
}

impl Rally {
    /// One figure of all rounds, in microseconds.
    pub(crate) fn micros(&self, figure: impl Fn(&Latency) -> u64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(|round| figure(round) as f64 / 1e3))
    }
}

/// Ping-pong of everybody: forwards, backwards, forwards and so on.
pub(crate) fn run(
    contestants: &[Contestant],
    (rounds, pings): (usize, u64),
    cores: &Cores,
    server: &mut Server,
) -> Vec<Rally> {
    let new = |contestant: &Contestant| Rally {
        contestant: *contestant,
        rounds: Vec::new(),
        voids: Vec::new(),
    };
    let mut rallies: Vec<Rally> = contestants.iter().map(new).collect();
    for round in 0..rounds {
        let play = |rally: &mut Rally| match run_one(rally.contestant, pings, cores, server) {
            Ok(latency) => rally.rounds.push(latency),
            Err(why) => rally.voids.push(format!("{why:#}")),
        };
        if round % 2 == 0 {
            rallies.iter_mut().for_each(play);
        } else {
            rallies.iter_mut().rev().for_each(play);
        }
    }
    rallies
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
    // One core, for clients with two threads too: where the threads are counts for more than whose they are.
    arguments.extend(options(Shape::MAIN, cores.client(1)));
    let mut child = Child::start(&arguments)?.watched();
    let latency: Latency = child.value()?;
    child.finish()?;
    if latency.pings != pings {
        return Err(format!("{} of {pings} pings arrived", latency.pings).into());
    }
    Ok(latency)
}

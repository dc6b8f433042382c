//! The delay of each notification, from before it is written until it is received, at the pace of a PostgreSQL server.
//!
//! The payload of a notification is the time at which the sender began the write that contains it. Both processes read the same
//! clock of the kernel.

use std::time::Duration;

use bytes::BytesMut;
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};
use pgbell::proto::wire::{BackendMessage, RawNotification};
use serde::{Deserialize, Serialize};

use crate::child::Child;
use crate::contestant::Contestant::{self, *};
use crate::cores::Cores;
use crate::digest::Digest;
use crate::outcome::Outcome;
use crate::replay::{Sent, WRITE_BYTES};
use crate::shape::Shape;
use crate::source::{Source, options};
use crate::spread::Spread;
use crate::stream::Stream;
use crate::tally::{nanos, print_ready};

/// The time from one write to the next: the pace of PostgreSQL 15 that sends notifications of 51 bytes.
const PACE: Duration = Duration::from_micros(27);

/// The time at the beginning that is not measured: the kernel makes the receive buffer of the socket larger.
const WARM_UP: Duration = Duration::from_millis(20);

/// The measurement is divided into windows of this length, each with many delayed reads. The system stops a process for a
/// millisecond or more from time to time, with delayed reads or without: such a window has a long delay in both cases.
const WINDOW: Duration = Duration::from_millis(20);

/// Each contestant with delayed reads, and the same one without.
const PAIRS: [[Contestant; 2]; 2] =
    [[PgbellInline, PgbellInlineUndelayed], [PgbellListener1t, PgbellListener1tUndelayed]];

/// The measurement of one client.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Delays {
    pub(crate) notifications: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
    /// The median of the longest delays of all windows.
    pub(crate) window_max_ns: u64,
    pub(crate) reads_delayed: u64,
}

/// Measures the delays in a client.
#[derive(Debug)]
pub(crate) struct DelayMeter {
    wanted: u64,
    count: u64,
    /// The time stamp of the first notification.
    first: Option<u64>,
    histogram: Histogram<u64>,
    /// The number of the current window, and its longest delay.
    window: (u64, u64),
    /// The longest delays of the windows before.
    window_maxima: Vec<u64>,
}

impl DelayMeter {
    /// Begins when LISTEN is confirmed, and reports that to the parent.
    pub(crate) fn begin(wanted: u64) -> Outcome<Self> {
        let longest = nanos(Duration::from_secs(10));
        let histogram = Histogram::new_with_bounds(1, longest, 3)?;
        print_ready()?;
        let (window, window_maxima) = ((0, 0), Vec::new());
        Ok(Self { wanted, count: 0, first: None, histogram, window, window_maxima })
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.count >= self.wanted
    }

    /// Records notifications that have arrived together.
    pub(crate) fn arrived<'a>(&mut self, payloads: impl Iterator<Item = &'a [u8]>) -> Outcome<()> {
        let now = clock()?;
        let (mut last, mut sent) = (&b""[..], 0);
        for payload in payloads {
            // All notifications of a write have the same time.
            if payload != last {
                sent = std::str::from_utf8(payload)?.parse()?;
                last = payload;
            }
            let first = *self.first.get_or_insert(sent);
            if sent >= first + nanos(WARM_UP) {
                self.record(sent - first, now.saturating_sub(sent));
            }
            self.count += 1;
        }
        Ok(())
    }

    /// Records the delay of a notification that was sent this long after the first one.
    fn record(&mut self, after_first: u64, delay: u64) {
        self.histogram.saturating_record(delay);
        let number = after_first / nanos(WINDOW);
        if number != self.window.0 {
            if self.window.0 > 0 {
                self.window_maxima.push(self.window.1);
            }
            self.window = (number, 0);
        }
        self.window.1 = self.window.1.max(delay);
    }

    pub(crate) fn finish(mut self, reads_delayed: u64) -> Outcome<Delays> {
        self.window_maxima.sort_unstable();
        let median = self.window_maxima.get(self.window_maxima.len() / 2);
        let window_max_ns = *median.ok_or("the measurement is shorter than a window")?;
        Ok(Delays {
            notifications: self.count,
            p50_ns: self.histogram.value_at_quantile(0.5),
            p99_ns: self.histogram.value_at_quantile(0.99),
            max_ns: self.histogram.max(),
            window_max_ns,
            reads_delayed,
        })
    }
}

/// Sends notifications at the pace of PostgreSQL.
pub(crate) fn send(client: &Stream, count: u64, write_bytes: usize) -> Outcome<Sent> {
    let (mut left, mut due) = (count, clock()?);
    let begin = due;
    // A server writes full buffers: the last frame of a write ends in the next one.
    let mut pending = BytesMut::new();
    while left > 0 || !pending.is_empty() {
        while clock()? < due {
            std::hint::spin_loop();
        }
        let now = clock()?;
        let (channel, payload) = (Shape::MAIN.channel(0), Shape::MAIN.payload(now));
        let (channel, payload) = (channel.as_bytes(), payload.as_bytes());
        let raw = RawNotification { process_id: 4_711, channel, payload };
        while left > 0 && pending.len() < write_bytes {
            BackendMessage::NotificationResponse(raw).encode(&mut pending)?;
            left -= 1;
        }
        client.send(&pending.split_to(write_bytes.min(pending.len())))?;
        // A sender that had to wait does not catch up at a higher pace.
        due = now.max(due) + nanos(PACE);
    }
    let digest = Digest::default();
    let wall_ns = clock()?.saturating_sub(begin);
    Ok(Sent { count, bytes: 0, checksum: digest.checksum(), wall_ns, cpu_ns: 0 })
}

/// Returns the time of the monotonic clock, in nanoseconds.
fn clock() -> Outcome<u64> {
    Ok(nanos(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into()))
}

/// The rounds of a contestant with delayed reads, and of the same one without.
#[derive(Debug, Serialize)]
pub(crate) struct DelayedPair {
    pub(crate) contestant: Contestant,
    /// With and without, of each round.
    pub(crate) rounds: Vec<[Delays; 2]>,
}

/// The rounds of all pairs.
#[derive(Debug, Serialize)]
pub(crate) struct DelayedPairs {
    pub(crate) pairs: Vec<DelayedPair>,
    /// The reasons of the rounds that do not count.
    pub(crate) voids: Vec<String>,
}

impl DelayedPairs {
    pub(crate) fn run(
        (rounds, count): (usize, u64),
        admits: impl Fn(Contestant) -> bool,
        cores: &Cores,
    ) -> Self {
        let (mut pairs, mut voids) = (Vec::new(), Vec::new());
        for pair in PAIRS.into_iter().filter(|pair| admits(pair[0])) {
            let mut measured = Vec::new();
            for round in 0..rounds {
                let mut order = [0, 1];
                if round % 2 == 1 {
                    order.reverse();
                }
                let mut both = [None; 2];
                for index in order {
                    match run_one(pair[index], count, cores) {
                        Ok(delays) => both[index] = Some(delays),
                        Err(why) => voids.push(format!("{}: {why:#}", pair[index])),
                    }
                }
                if let [Some(with), Some(without)] = both {
                    measured.push([with, without]);
                }
            }
            pairs.push(DelayedPair { contestant: pair[0], rounds: measured });
        }
        Self { pairs, voids }
    }

    /// Returns how much longer the longest delay of a window is with delayed reads, in milliseconds.
    pub(crate) fn added_ms(&self) -> Vec<(Contestant, Spread)> {
        let added = |pair: &DelayedPair| {
            let rounds = pair.rounds.iter();
            let more = rounds
                .map(|[with, without]| with.window_max_ns as f64 - without.window_max_ns as f64);
            Some((pair.contestant, Spread::of(more.map(|ns| ns / 1e6))?))
        };
        self.pairs.iter().filter_map(added).collect()
    }
}

fn run_one(contestant: Contestant, count: u64, cores: &Cores) -> Outcome<Delays> {
    let mut source = Source::replay(Shape::MAIN, WRITE_BYTES, &cores.server, None)?;
    let mut arguments = vec!["delays".to_owned(), contestant.name()];
    arguments.extend(source.address()?);
    arguments.extend(["--count".to_owned(), count.to_string()]);
    arguments.extend(options(Shape::MAIN, cores.client(1)));
    let mut child = Child::start(&arguments)?.watched();
    child.wait_until_ready()?;
    source.pace(count)?;
    let delays: Delays = child.value()?;
    source.sent()?;
    child.finish()?;
    if delays.notifications != count {
        return Err(format!("{count} sent, {} received", delays.notifications).into());
    }
    Ok(delays)
}

//! The targets of the measurements, and whether they are met.

use serde::Serialize;

use crate::contestant::Contestant::{self, *};
use crate::copies::Copied;
use crate::delays::DelayedPairs;
use crate::latency::PingPong;
use crate::matchup::{Kind, Matchup};
use crate::results::Metric::{self, Cpu, Rate};
use crate::results::Ran;
use crate::shape::Shape;
use crate::sleeper::SleeperRun;
use crate::source::Origin::{self, Memory, Postgres, Replay};
use crate::spread::Spread;

/// A bound and the measured value.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) bound: Bound,
    pub(crate) found: Spread,
    pub(crate) met: bool,
}

/// The kind of bound. The median counts.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// The ratio of two contestants within the rounds of a heat.
struct Ratio {
    what: &'static str,
    origin: Origin,
    size: usize,
    metric: Metric,
    over: Contestant,
    under: Contestant,
    at_least: f64,
}

const fn ratio(
    what: &'static str,
    (origin, size): (Origin, usize),
    metric: Metric,
    over: Contestant,
    under: Contestant,
    at_least: f64,
) -> Ratio {
    Ratio { what, origin, size, metric, over, under, at_least }
}

const VIEWS: (Contestant, Contestant) = (DecodePgbellViews, DecodePostgresProtocolViews);

const RATIOS: [Ratio; 17] = [
    ratio("decode, rate over postgres-protocol", (Memory, 51), Rate, VIEWS.0, VIEWS.1, 7.0),
    ratio(
        "decode and sum every byte, rate over postgres-protocol",
        (Memory, 51),
        Rate,
        DecodePgbell,
        DecodePostgresProtocol,
        7.0,
    ),
    ratio("inline, rate of raw-touch", (Replay, 51), Rate, PgbellInline, RawTouch, 0.80),
    ratio("inline, rate of raw-touch", (Replay, 256), Rate, PgbellInline, RawTouch, 0.90),
    ratio("inline, rate of raw-touch", (Replay, 4_096), Rate, PgbellInline, RawTouch, 0.95),
    ratio(
        "listener, one thread, rate of raw-touch",
        (Replay, 51),
        Rate,
        PgbellListener1t,
        RawTouch,
        0.70,
    ),
    ratio(
        "listener, two threads, rate of raw-touch",
        (Replay, 51),
        Rate,
        PgbellListener2t,
        RawTouch,
        0.60,
    ),
    ratio("CPU of libpq over inline", (Replay, 51), Cpu, Libpq, PgbellInline, 6.0),
    ratio("CPU of sqlx over inline", (Replay, 51), Cpu, Sqlx, PgbellInline, 8.0),
    ratio(
        "CPU of tokio-postgres over inline",
        (Replay, 51),
        Cpu,
        TokioPostgres,
        PgbellInline,
        12.0,
    ),
    ratio(
        "CPU of libpq over listener, one thread",
        (Replay, 51),
        Cpu,
        Libpq,
        PgbellListener1t,
        4.0,
    ),
    ratio(
        "CPU of libpq over listener, two threads",
        (Replay, 51),
        Cpu,
        Libpq,
        PgbellListener2t,
        4.0,
    ),
    ratio("CPU of sqlx over listener, one thread", (Replay, 51), Cpu, Sqlx, PgbellListener1t, 6.0),
    ratio("CPU of sqlx over listener, two threads", (Replay, 51), Cpu, Sqlx, PgbellListener2t, 6.0),
    ratio("CPU of sqlx recv over listener recv", (Replay, 51), Cpu, Sqlx, PgbellRecv, 3.0),
    ratio("CPU of libpq over inline", (Postgres, 51), Cpu, Libpq, PgbellInline, 2.0),
    ratio(
        "CPU of libpq over listener, one thread",
        (Postgres, 51),
        Cpu,
        Libpq,
        PgbellListener1t,
        1.5,
    ),
];

/// The share of the one-channel rate that must remain with 1,000 channels.
const MANY_CHANNELS: f64 = 0.6;

/// The highest number of microseconds above libpq, at p50 of ping-pong.
const PING_PONG_MICROS: f64 = 10.0;

/// The limit for the memory of the sleeper, in MiB.
const SLEEPER_MIB: f64 = 32.0;

impl Target {
    pub(crate) fn new(what: String, bound: Bound, found: Spread) -> Self {
        let met = match bound {
            Bound::AtLeast(least) => found.median >= least,
            Bound::AtMost(most) => found.median <= most,
        };
        Self { what, bound, found, met }
    }

    /// Returns the target of one value of a matchup, if it was measured.
    pub(crate) fn of_value(matchup: &Matchup, index: usize, bound: Bound) -> Option<Self> {
        let what = format!("{}: {}", matchup.title(), matchup.names[index]);
        Some(Self::new(what, bound, matchup.spread(index)?))
    }

    /// Like [`of_value`](Self::of_value), with an upper bound that every round must keep.
    pub(crate) fn of_every_round(matchup: &Matchup, index: usize, most: f64) -> Option<Self> {
        let what = format!("{}: {}", matchup.title(), matchup.names[index]);
        let found = matchup.spread(index)?;
        let found = Spread { median: found.max, ..found };
        Some(Self::new(what, Bound::AtMost(most), found))
    }

    /// Returns the target of the ratio of two values of a matchup, if they were measured.
    pub(crate) fn of_ratio(
        matchup: &Matchup,
        (over, under): (usize, usize),
        bound: Bound,
    ) -> Option<Self> {
        let names = &matchup.names;
        let what = format!("{}: {} over {}", matchup.title(), names[over], names[under]);
        Some(Self::new(what, bound, matchup.ratio(over, under)?))
    }

    /// Returns every target for which this run has a measurement.
    pub(crate) fn all(
        heats: &[Ran],
        latency: &[PingPong],
        sleeper: Option<&SleeperRun>,
    ) -> Vec<Self> {
        let mut all: Vec<Self> = RATIOS.iter().filter_map(|ratio| ratio.evaluate(heats)).collect();
        all.extend([PgbellInline, PgbellListener1t].iter().filter_map(|one| channels(heats, *one)));
        all.extend(ping_pong(latency, &[PgbellInline, PgbellListener1t]));
        if let Some(slept) = sleeper.and_then(|sleeper_run| sleeper_run.slept) {
            let peak = Spread::of([slept.peak_rss_kib as f64 / 1024.0]);
            let what = "peak memory of a listener that sleeps, MiB".to_owned();
            all.extend(peak.map(|peak| Self::new(what, Bound::AtMost(SLEEPER_MIB), peak)));
        }
        all
    }
}

/// The contestants of pgbell for which copies are counted.
const PGBELL: [Contestant; 3] = [PgbellInline, PgbellListener1t, PgbellRecv];

/// The additional copies of each byte over TLS: into the buffer in which rustls collects a record, to its front when the
/// record before it was taken, into an allocation, and to the caller.
const TLS_COPIES: f64 = 4.2;

/// Returns the heat with one channel and PostgreSQL's write size. The first one has the most rounds.
fn find(heats: &[Ran], origin: Origin, shape: Shape) -> Option<&Ran> {
    heats.iter().find(|ran| ran.heat.origin == origin && ran.heat.shape == shape)
}

impl Target {
    /// Returns the targets of the copies: with TLS pgbell copies each byte four times more.
    pub(crate) fn of_copies(copies: &[Copied]) -> Vec<Self> {
        let pgbell = copies.iter().filter(|copied| PGBELL.contains(&copied.contestant));
        let more = pgbell.filter_map(|copied| {
            let (contestant, size) = (copied.contestant, copied.size);
            let what = format!("{contestant}, additional bytes copied per byte over TLS, {size} B");
            Some(Self::new(what, Bound::AtMost(TLS_COPIES), Spread::of([copied.more()?])?))
        });
        more.collect()
    }
}

impl Ratio {
    fn evaluate(&self, heats: &[Ran]) -> Option<Target> {
        let shape = Shape { size: self.size, ..Shape::MAIN };
        let found = find(heats, self.origin, shape)?.ratio(self.metric, self.over, self.under)?;
        let what = match self.origin {
            Memory => format!("{}, {} B", self.what, self.size),
            origin => format!("{}, {} B, {origin}", self.what, self.size),
        };
        Some(Target::new(what, Bound::AtLeast(self.at_least), found))
    }
}

const MODERATION: [Ratio; 8] = [
    ratio(
        "inline, CPU without delayed reads over CPU with them",
        (Postgres, 51),
        Cpu,
        PgbellInlineUndelayed,
        PgbellInline,
        1.0 / 0.6,
    ),
    ratio(
        "listener, one thread, CPU without delayed reads over CPU with them",
        (Postgres, 51),
        Cpu,
        PgbellListener1tUndelayed,
        PgbellListener1t,
        1.0 / 0.6,
    ),
    ratio("CPU of libpq over inline", (Postgres, 51), Cpu, Libpq, PgbellInline, 2.8),
    ratio(
        "CPU of libpq over listener, one thread",
        (Postgres, 51),
        Cpu,
        Libpq,
        PgbellListener1t,
        2.8,
    ),
    ratio(
        "inline, rate of that without delayed reads",
        (Postgres, 51),
        Rate,
        PgbellInline,
        PgbellInlineUndelayed,
        0.98,
    ),
    ratio(
        "listener, one thread, rate of that without delayed reads",
        (Postgres, 51),
        Rate,
        PgbellListener1t,
        PgbellListener1tUndelayed,
        0.98,
    ),
    ratio(
        "listener recv, CPU of an older build over this one",
        (Postgres, 51),
        Cpu,
        PgbellRecvBefore,
        PgbellRecv,
        1.0 / 0.65,
    ),
    ratio("CPU of sqlx recv over listener recv", (Postgres, 51), Cpu, Sqlx, PgbellRecv, 5.0),
];

const BLOCKING: [Ratio; 3] = [
    ratio("CPU of libpq over blocking listener", (Replay, 51), Cpu, Libpq, PgbellBlocking, 4.0),
    ratio(
        "blocking listener, rate of the listener on one thread",
        (Replay, 51),
        Rate,
        PgbellBlocking,
        PgbellListener1t,
        1.0,
    ),
    ratio(
        "blocking listener, recv, rate of recv on one thread",
        (Replay, 51),
        Rate,
        PgbellBlockingRecv,
        PgbellRecv,
        1.0,
    ),
];

impl Target {
    /// Returns the targets of threads without async.
    pub(crate) fn of_blocking(heats: &[Ran], latency: &[PingPong]) -> Vec<Self> {
        let ratios = BLOCKING.iter().filter_map(|ratio| ratio.evaluate(heats));
        ratios.chain(ping_pong(latency, &[PgbellBlocking])).collect()
    }
}

/// The longest time that a delayed read adds to a notification, in milliseconds.
const ADDED_DELAY_MS: f64 = 1.5;

impl Target {
    /// Returns the targets of delayed reads.
    pub(crate) fn of_moderation(
        heats: &[Ran],
        latency: &[PingPong],
        delays: Option<&DelayedPairs>,
    ) -> Vec<Self> {
        let mut all: Vec<Self> =
            MODERATION.iter().filter_map(|ratio| ratio.evaluate(heats)).collect();
        all.extend(latency.iter().filter_map(|contest| {
            let delayed = contest.rounds.iter().filter_map(|round| round.reads_delayed);
            let found = Spread::of(delayed.map(|count| count as f64))?;
            let what = format!("{}, ping-pong, reads that were delayed", contest.contestant);
            // The bound is that of every round.
            Some(Self::new(what, Bound::AtMost(0.0), Spread { median: found.max, ..found }))
        }));
        all.extend(delays.into_iter().flat_map(DelayedPairs::added_ms).map(
            |(contestant, found)| {
                let what = format!(
                    "{contestant}, longest delay in 20 ms above that without delayed reads, ms"
                );
                Self::new(what, Bound::AtMost(ADDED_DELAY_MS), found)
            },
        ));
        all
    }
}

/// The least number of commits with a hub for each commit with a session for each subscriber.
const HUB_COMMITS: f64 = 200.0;

/// The least processor time of a delivery by broadcast, of that by a hub.
const HUB_FAN_OUT: f64 = 4.0;

/// The least processor time of a delivery by a map of senders, of that by a hub.
const HUB_TOPICS: f64 = 2.0;

/// The limit for the memory of an idle subscription.
const SUBSCRIPTION_BYTES: f64 = 1024.0;

/// The limit for a subscribe on an active channel.
const SUBSCRIBE_NS: f64 = 2_000.0;

/// The limit for the processor time of the server for a notification.
const SERVER_NS: f64 = 1_000.0;

/// The limit for all subscribes.
const ALL_SUBSCRIBES_MS: f64 = 2_000.0;

impl Target {
    /// Returns the targets of a hub with many subscribers.
    pub(crate) fn of_many(matchups: &[Matchup]) -> Vec<Self> {
        matchups.iter().flat_map(Self::of_matchup).collect()
    }

    fn of_matchup(matchup: &Matchup) -> Vec<Self> {
        let title = matchup.title();
        let ratio = |over: usize, under: usize, least: f64| {
            let what = format!("{title}: {} over {}", matchup.names[over], matchup.names[under]);
            vec![(what, Bound::AtLeast(least), matchup.ratio(over, under))]
        };
        let limits = |limits: [f64; 2]| {
            let limit = |(index, most): (usize, f64)| {
                let what = format!("{title}: {}", matchup.names[index]);
                (what, Bound::AtMost(most), matchup.spread(index))
            };
            limits.into_iter().enumerate().map(limit).collect()
        };
        let found = match matchup.kind {
            Kind::CommitsToOne { .. } => ratio(0, 1, HUB_COMMITS),
            Kind::CommitsToAll { .. } | Kind::SubscribeUnderLoad { .. } => Vec::new(),
            Kind::FanOut { .. } => ratio(1, 0, HUB_FAN_OUT),
            Kind::Topics { .. } => ratio(1, 0, HUB_TOPICS),
            Kind::Idle { .. } => limits([SUBSCRIPTION_BYTES; 2]),
            Kind::Subscribe { .. } => limits([SUBSCRIBE_NS; 2]),
            Kind::Server { .. } => limits([SERVER_NS, ALL_SUBSCRIBES_MS]),
            // Those of publishing: `of_publishing`.
            _ => Vec::new(),
        };
        let target = |(what, bound, found): (String, Bound, Option<Spread>)| {
            Some(Self::new(what, bound, found?))
        };
        found.into_iter().filter_map(target).collect()
    }
}

/// Returns the ratio of two heats by their medians, because their rounds differ.
fn channels(heats: &[Ran], contestant: Contestant) -> Option<Target> {
    let one = find(heats, Replay, Shape::MAIN)?.spread(Rate, contestant)?;
    let many = Shape { channels: 1_000, ..Shape::MAIN };
    let many = find(heats, Replay, many)?.spread(Rate, contestant)?;
    let found = many.map(|rate| rate / one.median);
    let what = format!("{contestant}, rate with 1,000 channels of that with one");
    Some(Target::new(what, Bound::AtLeast(MANY_CHANNELS), found))
}

fn ping_pong(latency: &[PingPong], pgbell: &[Contestant]) -> Vec<Target> {
    let median = |contestant: Contestant| {
        let contest = latency.iter().find(|contest| contest.contestant == contestant)?;
        contest.micros(|latency| latency.p50_ns)
    };
    let Some(libpq) = median(Libpq) else { return Vec::new() };
    let more = pgbell.iter().filter_map(|one| {
        let found = median(*one)?.map(|micros| micros - libpq.median);
        let what = format!("{one}, p50 of ping-pong above libpq's, µs");
        Some(Target::new(what, Bound::AtMost(PING_PONG_MICROS), found))
    });
    more.collect()
}

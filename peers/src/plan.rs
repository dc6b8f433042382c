//! The heats of a run.

use std::time::Duration;

use crate::contestant::Contestant;
use crate::heat::Heat;
use crate::many::Size;
use crate::options::{Options, Scenario};
use crate::replay::WRITE_BYTES;
use crate::shape::Shape;
use crate::source::Origin;

/// The other sizes: from a very short payload to the longest notification.
const SIZES: [usize; 6] = [19, 127, 256, 1_031, 4_096, 8_073];

/// The other numbers of channels.
const CHANNELS: [u64; 2] = [16, 1_000];

/// The sizes over TLS, where the cost per byte is higher than the cost per notification.
const TLS_SIZES: [usize; 3] = [51, 1_031, 8_073];

/// The bytes of a write, for a server that sends large blocks.
const LARGE_WRITE_BYTES: usize = 64 * 1024;

/// The rounds of a heat that is not a main one.
const SIDE_ROUNDS: usize = 3;

/// The notifications of a sample in a smoke run.
const QUICK_COUNT: u64 = 5_000;

/// How long writers with a fixed rate write in a smoke run.
const QUICK_STEADY: Duration = Duration::from_secs(3);

/// Everything that a run measures.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) heats: Vec<Heat>,
    /// Those that play ping-pong.
    pub(crate) players: Vec<Contestant>,
    /// Rounds, and pings per round.
    pub(crate) ping_pong: Option<(usize, u64)>,
    /// Notifications that arrive while the consumer sleeps.
    pub(crate) sleeper: Option<u64>,
    /// Rounds, and notifications of a round whose delays are measured.
    pub(crate) delays: Option<(usize, u64)>,
    /// A scenario with many subscribers.
    pub(crate) many: Option<(Scenario, Size)>,
    /// A scenario of publishing.
    pub(crate) publishing: Option<(Scenario, Size)>,
    /// The scenario of the log, and how long its writers with a fixed rate write.
    pub(crate) log: Option<(Size, Duration)>,
    /// The scenario of the queue and the mirror.
    pub(crate) queue: Option<Size>,
    /// The sizes for which copies are counted.
    pub(crate) copies: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(options: &Options) -> Self {
        let wants = |scenario| options.scenario.is_none_or(|only| only == scenario);
        // If a load is named, only that load is run.
        let narrow = options.names_a_load() && options.scenario.is_none();
        let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 10 });
        let (pings, asleep) = if options.quick { (50, 100_000) } else { (2_000, 10_000_000) };
        let mut heats = Vec::new();
        if wants(Scenario::Throughput) {
            heats = match (options.names_a_load(), options.quick) {
                (true, _) => named(options, rounds),
                (false, true) => quick(options, rounds),
                (false, false) => full(options, rounds),
            };
        }
        if wants(Scenario::Tls) && !options.names_a_load() {
            heats.extend(tls(options, rounds, &TLS_SIZES));
        } else if options.scenario == Some(Scenario::Tls) {
            heats = named(&Options { source: vec![Origin::Tls], ..options.clone() }, rounds);
        }
        let is_moderation = options.scenario == Some(Scenario::Moderation);
        if is_moderation {
            heats.push(moderation(options, rounds));
        }
        let is_blocking = options.scenario == Some(Scenario::Blocking);
        if is_blocking {
            heats
                .push(Heat { contestants: Contestant::BLOCKING.to_vec(), ..heat(options, rounds) });
        }
        if options.quick {
            heats.iter_mut().for_each(|heat| heat.count = heat.count.or(Some(QUICK_COUNT)));
        }
        for heat in &mut heats {
            heat.contestants.retain(|contestant| options.admits(*contestant));
        }
        heats.retain(|heat| !heat.contestants.is_empty());
        let copies = match (options.scenario, &options.size[..]) {
            (Some(Scenario::Copies), []) => TLS_SIZES.to_vec(),
            (Some(Scenario::Copies), sizes) => sizes.to_vec(),
            _ => Vec::new(),
        };
        // At the pace of the sender the quick ones take 84 ms: the warm-up and some windows.
        let delayed = if options.quick { 500_000 } else { 3_000_000 };
        let size = Size { rounds, is_quick: options.quick };
        let many = options.scenario.filter(|one| matches!(one, Scenario::Hub | Scenario::Topics));
        let publishing =
            options.scenario.filter(|one| matches!(one, Scenario::Publish | Scenario::Wake));
        let steady = match options.quick {
            true => QUICK_STEADY,
            false => Duration::from_secs(60 * options.minutes),
        };
        let is_log = options.scenario == Some(Scenario::Log);
        Self {
            log: is_log.then_some((size, steady)),
            queue: (options.scenario == Some(Scenario::Queue)).then_some(size),
            many: many.map(|scenario| (scenario, size)),
            publishing: publishing.map(|scenario| (scenario, size)),
            copies,
            heats,
            players: match options.scenario {
                Some(Scenario::Moderation) => {
                    vec![Contestant::PgbellInline, Contestant::PgbellListener1t]
                }
                Some(Scenario::Blocking) => vec![
                    Contestant::Libpq,
                    Contestant::PgbellListener1t,
                    Contestant::PgbellBlocking,
                ],
                _ => Contestant::PLAYERS.to_vec(),
            },
            delays: is_moderation.then_some((rounds, options.count.unwrap_or(delayed))),
            ping_pong: (wants(Scenario::Latency) && !narrow || is_moderation || is_blocking)
                .then_some((rounds, options.count.unwrap_or(pings))),
            sleeper: (wants(Scenario::Sleeper) && !narrow)
                .then_some(options.count.unwrap_or(asleep)),
        }
    }

    /// Returns the number of runs, for the progress output.
    pub(crate) fn runs(&self) -> usize {
        self.heats.iter().map(|heat| heat.rounds * heat.contestants.len()).sum()
    }
}

/// Returns the main heat.
fn heat(options: &Options, rounds: usize) -> Heat {
    Heat {
        origin: Origin::Replay,
        shape: Shape::MAIN,
        write_bytes: WRITE_BYTES,
        cores: options.cores,
        rounds,
        contestants: Contestant::CLIENTS.to_vec(),
        before: options.before.clone(),
        count: options.count,
    }
}

/// Returns the heat for delayed reads: a burst of a real server.
fn moderation(options: &Options, rounds: usize) -> Heat {
    let mut contestants = Contestant::MODERATION.to_vec();
    if options.before.is_none() {
        contestants.retain(|one| *one != Contestant::PgbellRecvBefore);
    }
    Heat { origin: Origin::Postgres, contestants, ..heat(options, rounds) }
}

fn decoding(options: &Options, rounds: usize, channels: u64) -> Heat {
    let main = heat(options, rounds);
    Heat {
        origin: Origin::Memory,
        shape: Shape { channels, ..main.shape },
        contestants: Contestant::of(Origin::Memory),
        ..main
    }
}

fn tls(options: &Options, rounds: usize, sizes: &[usize]) -> Vec<Heat> {
    let main = Heat {
        origin: Origin::Tls,
        contestants: Contestant::of(Origin::Tls),
        ..heat(options, rounds)
    };
    let shape = |size: &usize| Shape { size: *size, ..main.shape };
    sizes.iter().map(|size| Heat { shape: shape(size), ..main.clone() }).collect()
}

/// Returns the contestants that are not limited by the sender alone.
fn without_extremes() -> Vec<Contestant> {
    let mut all = Contestant::CLIENTS.to_vec();
    all.retain(|one| !matches!(one, Contestant::Raw | Contestant::TokioPostgresChan));
    all
}

fn full(options: &Options, rounds: usize) -> Vec<Heat> {
    let side = rounds.min(SIDE_ROUNDS);
    let main = heat(options, rounds);
    let postgres =
        Heat { origin: Origin::Postgres, contestants: without_extremes(), ..main.clone() };
    let side_heat = Heat { rounds: side, contestants: without_extremes(), ..main.clone() };
    let mut heats = vec![main, postgres, decoding(options, rounds, 1)];
    heats.extend(CHANNELS.map(|channels| decoding(options, side, channels)));
    let side = side_heat;
    heats.extend(SIZES.map(|size| Heat { shape: Shape { size, ..Shape::MAIN }, ..side.clone() }));
    heats.extend(
        CHANNELS.map(|channels| Heat { shape: Shape { channels, ..side.shape }, ..side.clone() }),
    );
    heats.push(Heat { write_bytes: LARGE_WRITE_BYTES, ..side.clone() });
    if options.cores != 1 {
        heats.push(Heat { cores: 1, ..side });
    }
    heats
}

/// Returns heats with every contestant and both sources, whose shapes differ in every value.
fn quick(options: &Options, rounds: usize) -> Vec<Heat> {
    let main = heat(options, rounds);
    let shapes = [(19, 16), (8_073, 1_000)];
    let mut heats = vec![
        main.clone(),
        Heat { origin: Origin::Postgres, ..main.clone() },
        decoding(options, rounds, 16),
    ];
    heats.extend(shapes.map(|(size, channels)| Heat {
        shape: Shape { size, channels, ..Shape::MAIN },
        ..main.clone()
    }));
    heats
}

/// Returns every combination of the named values.
fn named(options: &Options, rounds: usize) -> Vec<Heat> {
    fn or<T: Clone>(named: &[T], default: T) -> Vec<T> {
        if named.is_empty() { vec![default] } else { named.to_vec() }
    }
    let mut heats = Vec::new();
    for origin in or(&options.source, Origin::Replay) {
        for size in or(&options.size, Shape::MAIN.size) {
            for channels in or(&options.channels, 1) {
                for write_bytes in or(&options.write_bytes, WRITE_BYTES) {
                    let mut heat = heat(options, rounds);
                    heat.origin = origin;
                    heat.shape = Shape { size, channels, ..Shape::MAIN };
                    heat.write_bytes = write_bytes;
                    heat.contestants = Contestant::of(origin);
                    heats.push(heat);
                }
            }
        }
    }
    heats
}

//! The results of a run.

use serde::Serialize;

use crate::contestant::Contestant;
use crate::copies::Copied;
use crate::delays::DelayedPairs;
use crate::heat::{Heat, Sample};
use crate::latency::PingPong;
use crate::machine::Machine;
use crate::matchup::Matchup;
use crate::sleeper::SleeperRun;
use crate::source::Origin;
use crate::spread::Spread;
use crate::target::Target;

/// All results, as `--json` prints them.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) heats: Vec<Ran>,
    pub(crate) latency: Vec<PingPong>,
    pub(crate) sleeper: Option<SleeperRun>,
    pub(crate) delays: Option<DelayedPairs>,
    pub(crate) copies: Vec<Copied>,
    pub(crate) many: Vec<Matchup>,
    pub(crate) publishing: Vec<Matchup>,
    pub(crate) log: Vec<Matchup>,
    pub(crate) queue: Vec<Matchup>,
    pub(crate) targets: Vec<Target>,
}

/// A heat with its samples.
#[derive(Debug, Serialize)]
pub(crate) struct Ran {
    pub(crate) heat: Heat,
    pub(crate) rows: Vec<Row>,
    pub(crate) samples: Vec<Sample>,
}

/// The result of a contestant in a heat.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) contestant: Contestant,
    /// The notifications of a sample.
    pub(crate) count: u64,
    /// Notifications per second.
    pub(crate) rate: Option<Spread>,
    /// The client's processor time per notification in nanoseconds, user and system.
    pub(crate) cpu_ns: Option<Spread>,
    /// The system part of it.
    pub(crate) system_ns: Option<Spread>,
    /// The same for the sender.
    pub(crate) sender_cpu_ns: Option<Spread>,
    /// The rate divided by that of `raw-touch`, in the same round.
    pub(crate) of_raw_touch: Option<Spread>,
    pub(crate) peak_rss_kib: Option<Spread>,
    /// True if the sender was the bottleneck in more than half of the rounds.
    pub(crate) sender_bound: bool,
    /// The number of rounds with the right count and checksum.
    pub(crate) right: usize,
    pub(crate) rounds: usize,
}

/// The value that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Metric {
    /// Notifications per second.
    Rate,
    /// Processor time per notification.
    Cpu,
}

impl Ran {
    pub(crate) fn new(heat: Heat, samples: Vec<Sample>) -> Self {
        let mut ran = Self { heat, rows: Vec::new(), samples };
        ran.rows = ran.heat.contestants.iter().map(|contestant| ran.row(*contestant)).collect();
        ran
    }

    /// Returns `51 B x 1 channel, replay server, writes of 8 KiB, a core each, 10 rounds`.
    pub(crate) fn title(&self) -> String {
        let Heat { origin, shape, write_bytes, cores, rounds, .. } = &self.heat;
        let plural = |n: u64| if n == 1 { "" } else { "s" };
        let mut title =
            format!("{} B, {} channel{}", shape.size, shape.channels, plural(shape.channels));
        title.push_str(&format!(", {origin}"));
        if *origin == Origin::Replay {
            title.push_str(&format!(" in writes of {} KiB", write_bytes / 1024));
        }
        match (cores, origin) {
            (_, Origin::Memory) => {}
            (0, _) => title.push_str(", not pinned"),
            (1, _) => title.push_str(", one core for both"),
            _ => title.push_str(", a core each"),
        }
        let rounds = *rounds as u64;
        title.push_str(&format!(", {rounds} round{}", plural(rounds)));
        title
    }

    /// Returns the value of a contestant in a round, if the run counts.
    fn value(&self, contestant: Contestant, round: usize, metric: Metric) -> Option<f64> {
        let sample = self
            .samples
            .iter()
            .find(|sample| sample.contestant == contestant && sample.round == round)?;
        let report = sample.report.as_ref()?;
        let count = report.notifications as f64;
        Some(match metric {
            Metric::Rate => count * 1e9 / self.heat.wall_ns(report) as f64,
            Metric::Cpu => (report.cpu_user_ns + report.cpu_sys_ns) as f64 / count,
        })
    }

    /// Returns the ratio of two contestants, round by round.
    pub(crate) fn ratio(
        &self,
        metric: Metric,
        over: Contestant,
        under: Contestant,
    ) -> Option<Spread> {
        Spread::of((0..self.heat.rounds).filter_map(|round| {
            Some(self.value(over, round, metric)? / self.value(under, round, metric)?)
        }))
    }

    pub(crate) fn spread(&self, metric: Metric, contestant: Contestant) -> Option<Spread> {
        let rounds = 0..self.heat.rounds;
        Spread::of(rounds.filter_map(|round| self.value(contestant, round, metric)))
    }

    fn row(&self, contestant: Contestant) -> Row {
        let of_one: Vec<&Sample> =
            self.samples.iter().filter(|sample| sample.contestant == contestant).collect();
        let pairs: Vec<_> = of_one
            .iter()
            .filter_map(|sample| Some((sample.report.as_ref()?, sample.sent.as_ref()?)))
            .collect();
        let bound = pairs.iter().filter(|(report, sent)| self.heat.is_sender_bound(report, sent));
        let is_sent = self.heat.origin != Origin::Memory;
        Row {
            contestant,
            count: self.heat.count(contestant),
            rate: self.spread(Metric::Rate, contestant),
            cpu_ns: self.spread(Metric::Cpu, contestant),
            system_ns: Spread::of(
                pairs.iter().map(|(own, _)| own.cpu_sys_ns as f64 / own.notifications as f64),
            ),
            sender_cpu_ns: Spread::of(
                pairs
                    .iter()
                    .filter(|_| is_sent)
                    .map(|(_, sent)| sent.cpu_ns as f64 / sent.count as f64),
            ),
            of_raw_touch: self.ratio(Metric::Rate, contestant, Contestant::RawTouch),
            peak_rss_kib: Spread::of(pairs.iter().map(|(own, _)| own.peak_rss_kib as f64)),
            sender_bound: is_sent && 2 * bound.count() > pairs.len(),
            right: pairs.len(),
            rounds: of_one.len(),
        }
    }
}

impl Results {
    /// Returns every run that does not count, and the reason.
    pub(crate) fn voids(&self) -> Vec<String> {
        let mut voids = Vec::new();
        for ran in &self.heats {
            for sample in &ran.samples {
                if let Some(why) = &sample.void {
                    let (contestant, round) = (sample.contestant, sample.round);
                    voids
                        .push(format!("VOID: {contestant}, {}, round {round}: {why}", ran.title()));
                }
            }
        }
        for contest in &self.latency {
            let contestant = contest.contestant;
            voids.extend(
                contest.voids.iter().map(|why| format!("VOID: {contestant}, ping-pong: {why}")),
            );
        }
        for Copied { contestant, size, void, .. } in &self.copies {
            voids.extend(
                void.iter().map(|why| format!("VOID: {contestant}, copies, {size} B: {why}")),
            );
        }
        if let Some(delays) = &self.delays {
            voids.extend(delays.voids.iter().map(|why| format!("VOID: delays: {why}")));
        }
        let logs = self.log.iter().chain(&self.queue);
        for matchup in self.many.iter().chain(&self.publishing).chain(logs) {
            let title = matchup.title();
            voids.extend(matchup.voids.iter().map(|why| format!("VOID: {title}: {why}")));
        }
        if let Some(SleeperRun { void: Some(why), .. }) = &self.sleeper {
            voids.push(format!("VOID: sleeper: {why}"));
        }
        voids
    }
}

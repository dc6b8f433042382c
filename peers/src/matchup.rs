//! [`Matchup`]: values that are measured in the same rounds and compared.

use serde::Serialize;

use crate::outcome::Outcome;
use crate::spread::Spread;

/// What is measured, and the values that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Notifying commits per second; one subscriber receives each: the subscribers of a hub, and sessions.
    CommitsToOne { subscribers: usize },
    /// The same, and all receive each.
    CommitsToAll { subscribers: usize },
    /// Processor time of a delivery to the subscribers of one channel, with this many notifications in a burst: hub, broadcast.
    FanOut { subscribers: usize, burst: u64 },
    /// Bytes of an idle subscription: that has never received anything, that has received a notification.
    Idle { subscribers: usize },
    /// The time of a subscribe on an active channel: to the channel, to a topic.
    Subscribe { subscribers: usize },
    /// The time of a subscribe to a topic of a channel whose subscriptions receive bursts of this many notifications: median, 99th
    /// percentile.
    SubscribeUnderLoad { subscribers: usize, burst: u64 },
    /// Processor time of a delivery to topics: hub, map of mpsc senders, wake-ups alone.
    Topics { subscribers: usize, run: u64 },
    /// Topics on few channels of a PostgreSQL server: processor time of the server process that listens, time of all subscribes.
    Server { major: u32, topics: usize, channels: u64 },
    /// Milliseconds of a flush of the disk, and of a commit of one session that waits for the synchronous standby.
    Flush,
    /// Commits per second of durable writers: without notifications, with a nudge after each commit, with `pg_notify` in each
    /// transaction.
    Writers { writers: usize },
    /// Milliseconds from a nudge to its consumer, median of a round: idle, and while durable writers nudge.
    NudgeDelay { writers: usize },
    /// Notifications per second of calls that return when theirs is committed: a notifier, one session, many sessions.
    Calls { tasks: usize, sessions: usize },
    /// Memory of a notifier with unanswered calls while the backend is stopped, divided by the documented formula: short calls, long
    /// calls, groups, nudges.
    Asleep { callers: u64, nudges: u64 },
    /// Milliseconds from the call that wakes to the start of work, median of a round: `pg_notify` of another session, a nudge, a nudge
    /// of an attached notifier.
    Wake,
    /// Statements that the server has executed while workers waited: those of the worker beyond its polls, those of the listening
    /// session beyond its heartbeats, the polls, the heartbeats.
    Statements { seconds: u64 },
    /// Records of writers whose transactions end late, roll back or are prepared: missed, reordered within a key, received twice,
    /// milliseconds from the commit to the handler (99th percentile, median), the records, those that a reader by id misses.
    LogWriters { major: u32, writers: u64 },
    /// Records per second that wait and are read in pages: of the smaller log, of the larger one.
    LogBacklog { few: u64, many: u64, page_size: u64 },
    /// Milliseconds from a commit to the handler, median of a round: a nudge, a nudge of an attached notifier.
    LogHandler,
    /// Statements that the server has executed while a cursor waited: those beyond its polls, the polls, the heartbeats.
    LogIdle { seconds: u64 },
    /// A fixed rate while a transaction is open.
    LogSteady { seconds: u64, rate: u64 },
    /// Commits per second of durable writers: a record of a log, a row of a plain table.
    LogInserts { writers: u64 },
    /// Jobs of a queue that wait, with this many in a read and this many handlers at once: jobs per second of a consumer and of a loop with sqlx,
    /// processor time of each per job.
    QueueDrain { jobs: u64, batch: u64, concurrency: u64 },
    /// Milliseconds from a commit to the start of the handler, median of a round: a notification of pgmq, a nudge.
    QueueStart,
    /// Drains of a queue because of a burst, beyond the first one, and the notifications.
    QueueBurst { notifications: u64 },
    /// Milliseconds from a commit to the new value of one row of a mirror, median of a round: a notification, a nudge.
    MirrorRefresh { rows: u64 },
    /// Rows per second of a load of a mirror, median of a round: nothing has changed, everything has.
    MirrorReload { rows: u64 },
}

/// Values that are measured in the same rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Matchup {
    pub(crate) kind: Kind,
    pub(crate) names: Vec<&'static str>,
    /// A value for each name. `None`: that run does not count.
    pub(crate) rounds: Vec<Vec<Option<f64>>>,
    /// The reasons of the runs that do not count.
    pub(crate) voids: Vec<String>,
}

impl Matchup {
    /// Measures a value after the other: forwards, backwards, forwards and so on.
    pub(crate) fn contest(
        kind: Kind,
        rounds: usize,
        names: &[&'static str],
        mut measure: impl FnMut(usize) -> Outcome<f64>,
    ) -> Self {
        let mut matchup = Self::new(kind, names);
        for round in 0..rounds {
            let mut order: Vec<usize> = (0..names.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            let mut values = vec![None; names.len()];
            for index in order {
                match measure(index) {
                    Ok(value) => values[index] = Some(value),
                    Err(why) => matchup.voids.push(format!("{}: {why:#}", names[index])),
                }
            }
            matchup.rounds.push(values);
        }
        matchup
    }

    /// Measures all values of a round at once.
    pub(crate) fn together<const N: usize>(
        kind: Kind,
        rounds: usize,
        names: [&'static str; N],
        mut measure: impl FnMut() -> Outcome<[f64; N]>,
    ) -> Self {
        let mut matchup = Self::new(kind, &names);
        for _ in 0..rounds {
            match measure() {
                Ok(values) => matchup.rounds.push(values.map(Some).to_vec()),
                Err(why) => matchup.voids.push(format!("{why:#}")),
            }
        }
        matchup
    }

    fn new(kind: Kind, names: &[&'static str]) -> Self {
        Self { kind, names: names.to_vec(), rounds: Vec::new(), voids: Vec::new() }
    }

    pub(crate) fn title(&self) -> String {
        match self.kind {
            Kind::CommitsToOne { subscribers } => {
                format!("notifying commits/s, one of {subscribers} subscribers receives each")
            }
            Kind::CommitsToAll { subscribers } => {
                format!("notifying commits/s, each of {subscribers} subscribers receives all")
            }
            Kind::FanOut { subscribers, burst } => {
                format!(
                    "CPU ns per delivery, {subscribers} subscribers of a channel, bursts of {burst}"
                )
            }
            Kind::Idle { subscribers } => {
                format!("bytes of an idle subscription, of {subscribers}")
            }
            Kind::Subscribe { subscribers } => {
                format!("ns of a subscribe on an active channel, median of {subscribers}")
            }
            Kind::SubscribeUnderLoad { subscribers, burst } => {
                format!(
                    "ns of a subscribe while {subscribers} subscriptions receive bursts of {burst}"
                )
            }
            Kind::Topics { subscribers, run } => {
                format!("CPU ns per delivery, {subscribers} topics, runs of {run}")
            }
            Kind::Server { major, topics, channels } => {
                format!("PostgreSQL {major}, {topics} topics on {channels} channels")
            }
            Kind::Flush => "ms of a flush".to_owned(),
            Kind::Writers { writers } => format!("commits/s of {writers} durable writers"),
            Kind::NudgeDelay { writers } => {
                format!("ms from a nudge to its consumer, p50, load of {writers} durable writers")
            }
            Kind::Calls { tasks, sessions } => {
                format!("committed notifications/s, {tasks} tasks or {sessions} sessions")
            }
            Kind::Asleep { callers, nudges } => {
                format!(
                    "memory of a notifier of its formula, {callers} calls or {nudges} nudges, server stopped"
                )
            }
            Kind::Wake => "ms from the call that wakes to the start of work, p50, idle".to_owned(),
            Kind::Statements { seconds } => format!("statements in {seconds} idle seconds"),
            Kind::LogWriters { major, writers } => {
                format!("log, PostgreSQL {major}, {writers} writers with late commits")
            }
            Kind::LogBacklog { few, many, page_size } => {
                format!("log, {few} and {many} rows that wait, pages of {page_size}")
            }
            Kind::LogHandler => "log, ms from a commit to the handler, p50, idle".to_owned(),
            Kind::LogIdle { seconds } => format!("log, statements in {seconds} idle seconds"),
            Kind::LogSteady { seconds, rate } => {
                format!("log, {rate} rows/s for {seconds} s beside an open transaction")
            }
            Kind::LogInserts { writers } => {
                format!("log, commits/s of {writers} durable writers")
            }
            Kind::QueueDrain { jobs, batch, concurrency } => {
                format!("queue, {jobs} jobs that wait, batches of {batch}, {concurrency} handlers")
            }
            Kind::QueueStart => {
                "queue, ms from a commit to the start of its job, p50, idle".to_owned()
            }
            Kind::QueueBurst { notifications } => {
                format!("queue, a burst of {notifications} notifications")
            }
            Kind::MirrorRefresh { rows } => {
                format!("mirror of {rows} rows, ms from a commit to the new value, p50, idle")
            }
            Kind::MirrorReload { rows } => format!("mirror of {rows} rows, load"),
        }
    }

    /// Returns the value of a name in all rounds.
    pub(crate) fn spread(&self, index: usize) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| *round.get(index)?))
    }

    /// Returns the ratio of two values, round by round.
    pub(crate) fn ratio(&self, over: usize, under: usize) -> Option<Spread> {
        let ratio = |round: &Vec<Option<f64>>| Some((*round.get(over)?)? / (*round.get(under)?)?);
        Spread::of(self.rounds.iter().filter_map(ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Matchup};

    #[test]
    fn a_round_without_a_value_is_in_no_ratio_and_is_void() {
        let kind = Kind::Idle { subscribers: 1 };
        let mut order = Vec::new();
        let matchup = Matchup::contest(kind, 3, &["a", "b"], |index| {
            order.push(index);
            match order.len() {
                1 => Err("lost".into()),
                run => Ok(run as f64),
            }
        });
        assert_eq!(order, [0, 1, 1, 0, 0, 1]);
        assert_eq!(matchup.voids, ["a: lost"]);
        let ratio = matchup.ratio(0, 1).unwrap();
        assert_eq!((ratio.min, ratio.max), (5.0 / 6.0, 4.0 / 3.0));
        assert_eq!(matchup.spread(1).unwrap().min, 2.0);
    }
}

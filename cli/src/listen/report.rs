//! [`Report`]: the numbers of `--stats` and of the summary.

use std::time::Instant;

use pgbell::{Listener, Loss};

use crate::numbers::{counted, grouped, per_second, rate, seconds};

#[derive(Debug)]
pub(super) struct Report {
    since: Instant,
    /// All that arrived.
    pub(super) received: u64,
    /// What was printed, or given to a command.
    pub(super) chosen: u64,
    has_choice: bool,
    gaps: u64,
    lagged: u64,
    /// The time and the number of the last line of `--stats`.
    last: (Instant, u64),
}

impl Report {
    /// `has_choice`: not all that arrives is printed.
    pub(super) fn new(has_choice: bool) -> Self {
        let now = Instant::now();
        Self { since: now, received: 0, chosen: 0, has_choice, gaps: 0, lagged: 0, last: (now, 0) }
    }

    pub(super) fn count(&mut self, loss: &Loss) {
        match loss {
            Loss::Lagged(lagged) => self.lagged = self.lagged.saturating_add(lagged.count()),
            _ => self.gaps = self.gaps.saturating_add(1),
        }
    }

    pub(super) fn summary(&self) -> String {
        format!("{} in {}, {}", self.numbers(), seconds(self.since.elapsed()), self.losses())
    }

    /// Returns a line of `--stats`.
    pub(super) fn line(&mut self, listener: &Listener) -> String {
        let (now, stats) = (Instant::now(), listener.stats());
        let (before, received) = std::mem::replace(&mut self.last, (now, self.received));
        let arrived = self.received.saturating_sub(received);
        format!(
            "stats: {}, {}, {}, {} in the queue, {}",
            self.numbers(),
            rate(per_second(arrived, now.duration_since(before))),
            self.losses(),
            grouped(stats.queued),
            listener.state()
        )
    }

    fn numbers(&self) -> String {
        let received = grouped(self.received);
        match self.has_choice {
            true => format!("received {received}, of which {} matched", grouped(self.chosen)),
            false => format!("received {received}"),
        }
    }

    fn losses(&self) -> String {
        format!("{}, {} lagged", counted(self.gaps, "gap", "gaps"), grouped(self.lagged))
    }
}

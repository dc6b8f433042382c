//! Losses that have yet to be told.

use std::time::{Instant, SystemTime};

use super::action::Action;
use super::{Sink, State, Supervisor};
use crate::Error;
use crate::notification::{Gap, Refusals};

/// Most losses that wait; one more is merged into the last. A server that flaps cannot fill memory.
const OUTAGES_MAX: usize = 64;

/// What was lost since the last time that every wanted channel was active. Each loss keeps its place in the
/// stream: the consumer learns of it there, and not before it is over.
#[derive(Debug, Default)]
pub(super) struct Outages {
    waiting: Vec<Outage>,
    /// How many there were since the beginning.
    count: u64,
    /// What all their gaps tell of the channels.
    refusals: Refusals,
}

#[derive(Debug)]
struct Outage {
    position: u64,
    cause: Error,
    lost_at: SystemTime,
    sessions: u32,
    attempts: u32,
    /// Number of the session whose notification stands next in the stream. `None`: nothing was delivered since.
    epoch: Option<u32>,
}

impl Outages {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Something may be missing at `position` of the stream: `sessions` is 1 if a session was lost, 0 if the
    /// server dropped something. Merged with the last one if nothing lies between.
    pub(super) fn add(&mut self, position: u64, cause: Error, lost_at: SystemTime, sessions: u32) {
        self.count = self.count.saturating_add(1);
        let is_full = self.waiting.len() >= OUTAGES_MAX;
        match self.waiting.last_mut() {
            Some(last) if last.position == position || is_full => {
                last.sessions = last.sessions.saturating_add(sessions);
            }
            _ => {
                let cause = cause.brief();
                let (attempts, epoch) = (0, None);
                self.waiting.push(Outage { position, cause, lost_at, sessions, attempts, epoch });
            }
        }
    }

    /// A notification of this session was delivered: it stands behind the last loss.
    pub(super) fn followed_by(&mut self, epoch: u32) {
        if let Some(last) = self.waiting.last_mut() {
            last.epoch.get_or_insert(epoch);
        }
    }

    /// One more attempt to connect.
    pub(super) fn count_attempt(&mut self) {
        if let Some(last) = self.waiting.last_mut() {
            last.attempts = last.attempts.saturating_add(1);
        }
    }

    /// All of them as one, for who wants to read the state again.
    pub(super) fn sum(&self, now: SystemTime, epoch: u32) -> Option<Gap> {
        let mut gaps = self.waiting.iter().map(|outage| outage.gap(now, epoch, &self.refusals));
        let mut sum = gaps.next()?;
        gaps.for_each(|gap| sum.merge(gap));
        Some(sum)
    }

    /// It is over: the gaps, each with its position. `epoch` is the current session.
    pub(super) fn take(&mut self, now: SystemTime, epoch: u32) -> Vec<(u64, Gap)> {
        let outages = std::mem::take(&mut self.waiting);
        let gap = |outage: &Outage| outage.gap(now, epoch, &self.refusals);
        outages.iter().map(|outage| (outage.position, gap(outage))).collect()
    }
}

impl Outage {
    fn gap(&self, restored_at: SystemTime, epoch: u32, refusals: &Refusals) -> Gap {
        Gap::new(self.cause.clone(), self.lost_at, self.sessions).restored(
            // The end comes at the time that was known last.
            restored_at.max(self.lost_at),
            self.attempts,
            self.epoch.unwrap_or(epoch),
            refusals.clone(),
        )
    }
}

impl Supervisor {
    /// Something may be missing here: nothing of what follows is shown before that is over.
    pub(super) fn hold(&mut self, now: Instant, cause: Error, sessions: u32, sink: &mut impl Sink) {
        sink.hold();
        // A release that was not carried out yet would show what follows. Its gaps are reported with this one.
        self.release = None;
        self.outages.add(sink.position(), cause, self.wall.time(now), sessions);
    }

    pub(super) fn sum_of_outages(&self, now: Instant) -> Option<Gap> {
        self.list_refused();
        self.outages.sum(self.wall.time(now), self.epoch())
    }

    /// Everything is delivered from here on: reports what was lost, and shows what has arrived since.
    pub(super) fn let_through(&mut self, now: Instant) {
        // First: a consumer that has read the gap finds this state.
        self.enter(State::Connected);
        self.report_outages(now);
    }

    /// Reports what was lost, and shows what has arrived since, when the shell comes to it.
    pub(super) fn report_outages(&mut self, now: Instant) {
        self.list_refused();
        let gaps = self.outages.take(self.wall.time(now), self.epoch());
        // Their release was withdrawn, and nothing was delivered behind them: another session goes on than was said.
        if let Some((position, first)) = gaps.first() {
            let pending = self.gaps.iter_mut().rev().take_while(|(at, _)| at == position);
            pending.for_each(|(_, gap)| gap.goes_on_with(first.epoch()));
        }
        self.gaps.extend(gaps);
        self.releases = self.releases.wrapping_add(1);
        self.release = Some(self.releases);
        self.actions.push_back(Action::Release { number: self.releases });
    }

    /// Carries out [`Action::Release`]: the gaps to be put into the queue, each with its position. `None` when
    /// something was lost since the action was made: nothing is shown then before that is over, and a later action says so.
    pub fn release(&mut self, number: u64) -> Option<Vec<(u64, Gap)>> {
        self.release.take_if(|release| *release == number)?;
        let gaps = std::mem::take(&mut self.gaps);
        self.figures.gaps = self.figures.gaps.saturating_add(gaps.len() as u64);
        Some(gaps)
    }

    /// The session lives, and its notifications are held back.
    pub(super) fn catch_up(&mut self) {
        if self.state == State::Connected {
            self.enter(State::CatchingUp);
        }
    }

    /// What gaps tell of the channels. At the end nothing is known that would be better than what was.
    fn list_refused(&self) {
        if let Some(link) = self.current.as_ref().filter(|_| !self.outages.is_empty()) {
            let list = link.refused.iter().map(|(channel, error)| (channel.clone(), error.clone()));
            self.outages.refusals.set(list.collect());
        }
    }
}

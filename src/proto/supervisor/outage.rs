//! The outages whose gap is not reported yet.

use std::time::SystemTime;

use crate::error::Error;
use crate::notification::{Gap, Refusals};

/// The highest number of outages that are kept apart. A later one is merged into the last one, so that a server which loses
/// session after session cannot use up the memory.
const OUTAGES_MAX: usize = 64;

/// The outages since every wanted channel was active or refused for the last time. Each keeps its position in the stream,
/// where the consumer finds the gap after the outage is over.
#[derive(Debug, Default)]
pub(super) struct Outages {
    waiting: Vec<Outage>,
    /// The number of outages so far.
    count: u64,
    /// The refused channels, which all gaps share.
    pub(super) refusals: Refusals,
}

#[derive(Debug)]
struct Outage {
    position: u64,
    cause: Error,
    lost_at: SystemTime,
    sessions: u32,
    attempts: u32,
    /// The session of the next notification in the stream. `None`: nothing was delivered since the loss.
    epoch: Option<u32>,
}

impl Outages {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds an outage at `position` in the stream. `sessions` is 1 if a session was lost, and 0 if the server dropped a
    /// notification. It is merged with the last outage if nothing was delivered between them.
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

    /// Sets the session of the first notification that is delivered after the last outage.
    pub(super) fn followed_by(&mut self, epoch: u32) {
        if let Some(last) = self.waiting.last_mut() {
            last.epoch.get_or_insert(epoch);
        }
    }

    /// Counts an attempt to connect.
    pub(super) fn count_attempt(&mut self) {
        if let Some(last) = self.waiting.last_mut() {
            last.attempts = last.attempts.saturating_add(1);
        }
    }

    /// Returns the gap of all outages together, for the hook.
    pub(super) fn sum(&self, now: SystemTime, epoch: u32) -> Option<Gap> {
        let mut gaps = self.waiting.iter().map(|outage| outage.gap(now, epoch, &self.refusals));
        let mut sum = gaps.next()?;
        gaps.for_each(|gap| sum.merge(gap));
        Some(sum)
    }

    /// Ends the outages. Returns their gaps, each with its position. `epoch` is the current session.
    pub(super) fn take(&mut self, now: SystemTime, epoch: u32) -> Vec<(u64, Gap)> {
        let outages = std::mem::take(&mut self.waiting);
        let gap = |outage: &Outage| outage.gap(now, epoch, &self.refusals);
        outages.iter().map(|outage| (outage.position, gap(outage))).collect()
    }
}

impl Outage {
    fn gap(&self, restored_at: SystemTime, epoch: u32, refusals: &Refusals) -> Gap {
        Gap::new(self.cause.clone(), self.lost_at, self.sessions).restored(
            // `restored_at` can be earlier, because the end of a listener has the time of the last read.
            restored_at.max(self.lost_at),
            self.attempts,
            self.epoch.unwrap_or(epoch),
            refusals.clone(),
        )
    }
}

//! Outages: where notifications may be missing, and when the [`Gap`] of each is released.
//!
//! ```text
//!        begin: hold back              end                 release
//! (none) ───────────────▶ waiting ───────────▶ ended ─────────────────▶ in the stream
//!                            ▲  │                ▲ │
//!                            └──┘                └─┘
//!                     begin: one more,      begin: its release is withdrawn,
//!                     or merged             and it is released with the new one
//! ```
//!
//! An outage begins with the loss of a session, or with the report that the server has dropped a notification. It ends when
//! every wanted channel is active or refused, and the hook is done. What follows it in the stream is held back until then,
//! and the gap is put before it.

use std::time::SystemTime;

use super::sink::{PlacedGap, Scope, StreamPosition};
use crate::error::Error;
use crate::notification::{Gap, Refusals};

/// The number of outages that are kept apart. A later one is merged into the last one, so that a server which loses
/// session after session cannot use up the memory.
const OUTAGES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Outages {
    waiting: Vec<Outage>,
    /// The number of outages so far.
    count: u64,
    /// The refused channels, which all gaps share.
    refusals: Refusals,
    /// Gaps of ended outages that are not in the stream yet.
    ended: Vec<PlacedGap>,
    /// The number of the release that is not carried out yet. `None`: there is none, or it was withdrawn because of another
    /// outage.
    release: Option<u64>,
    /// The number of releases so far.
    releases: u64,
}

#[derive(Debug)]
struct Outage {
    position: StreamPosition,
    scope: Scope,
    cause: Error,
    lost_at: SystemTime,
    sessions: u32,
    attempts: u32,
    /// The session of the next notification in the stream. `None`: nothing was delivered since the loss.
    epoch: Option<u32>,
}

impl Outages {
    /// Returns true if no outage waits for its end.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the scope for an outage: all consumers if there are very many outages, so that the next ones can be merged.
    pub(super) fn widened(&self, scope: Scope) -> Scope {
        if self.waiting.len() < OUTAGES_MAX { scope } else { Scope::All }
    }

    /// Begins an outage at this position, for the consumers in `scope`. `sessions` is 1 if a session was lost, and 0 if the server dropped a notification. It is
    /// merged with the last outage if nothing was delivered between them, or if there are very many.
    pub(super) fn begin(
        &mut self,
        (position, scope): (StreamPosition, Scope),
        cause: Error,
        lost_at: SystemTime,
        sessions: u32,
    ) {
        // A release that is not carried out yet would show what follows. Its gaps are released with this one.
        self.release = None;
        self.count = self.count.saturating_add(1);
        let is_full = self.waiting.len() >= OUTAGES_MAX;
        match self.waiting.last_mut() {
            // If there are very many, a loss moves to the earlier position of the last one, if that one holds back all.
            Some(last) if last.position == position || is_full && last.scope == Scope::All => {
                last.sessions = last.sessions.saturating_add(sessions);
                last.scope.add(scope);
            }
            _ => {
                let cause = cause.brief();
                let (attempts, epoch) = (0, None);
                self.waiting.push(Outage {
                    position,
                    scope,
                    cause,
                    lost_at,
                    sessions,
                    attempts,
                    epoch,
                });
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

    /// Sets the refused channels that gaps report.
    pub(super) fn set_refused<'a>(&self, refused: impl Iterator<Item = (&'a String, &'a Error)>) {
        let list = refused.map(|(channel, error)| (channel.clone(), error.clone()));
        self.refusals.set(list.collect());
    }

    /// Returns the gap of all outages together, for the hook.
    pub(super) fn sum(&self, now: SystemTime, epoch: u32) -> Option<Gap> {
        let mut gaps = self.waiting.iter().map(|outage| outage.gap(now, epoch, &self.refusals));
        let mut sum = gaps.next()?;
        gaps.for_each(|gap| sum.merge(gap));
        Some(sum)
    }

    /// Ends the outages. Returns the number of the release that shows what was held back. `epoch` is the current session.
    pub(super) fn end(&mut self, now: SystemTime, epoch: u32) -> u64 {
        let outages = std::mem::take(&mut self.waiting);
        let mut gaps = outages.into_iter().map(|outage| PlacedGap {
            gap: outage.gap(now, epoch, &self.refusals),
            position: outage.position,
            scope: outage.scope,
        });
        if let Some(first) = gaps.next() {
            // Earlier gaps at this position named a session that has delivered nothing. They now name that of this gap.
            let pending =
                self.ended.iter_mut().rev().take_while(|ended| ended.position == first.position);
            pending.for_each(|ended| ended.gap.set_epoch(first.gap.epoch()));
            self.ended.push(first);
        }
        self.ended.extend(gaps);
        self.releases = self.releases.wrapping_add(1);
        self.release = Some(self.releases);
        self.releases
    }

    /// Returns the gaps of a release, unless it was withdrawn.
    pub(super) fn take_release(&mut self, number: u64) -> Option<Vec<PlacedGap>> {
        self.release.take_if(|release| *release == number)?;
        Some(std::mem::take(&mut self.ended))
    }
}

impl Outage {
    fn gap(&self, restored_at: SystemTime, epoch: u32, refusals: &Refusals) -> Gap {
        Gap::new(self.cause.clone(), self.lost_at, self.sessions).restored(
            // `restored_at` can be earlier, because the time of day can be set back.
            restored_at.max(self.lost_at),
            self.attempts,
            self.epoch.unwrap_or(epoch),
            refusals.clone(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// Begins an outage as a supervisor does.
    fn begin(outages: &mut Outages, position: u64, scope: Scope) {
        let scope = outages.widened(scope);
        let cause = Error::new(ErrorKind::Connect, "lost");
        let at = (StreamPosition(position), scope);
        outages.begin(at, cause, SystemTime::UNIX_EPOCH, 1);
    }

    fn end(outages: &mut Outages) -> Vec<PlacedGap> {
        let number = outages.end(SystemTime::UNIX_EPOCH, 1);
        outages.take_release(number).unwrap()
    }

    fn only(channels: &[&str]) -> Scope {
        Scope::Channels(channels.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn outages_at_one_position_concern_the_consumers_of_all_of_them() {
        for (first, second, both) in [
            (Scope::All, Scope::All, Scope::All),
            (Scope::All, only(&["a"]), Scope::All),
            (only(&["a"]), Scope::All, Scope::All),
            (only(&["a"]), only(&["a"]), only(&["a"])),
            (only(&["c", "a"]), only(&["b", "a"]), only(&["a", "b", "c"])),
        ] {
            let mut outages = Outages::default();
            begin(&mut outages, 7, first);
            begin(&mut outages, 7, second);
            let gaps = end(&mut outages);
            assert_eq!(gaps.len(), 1);
            assert_eq!((&gaps[0].scope, gaps[0].gap.sessions()), (&both, 2));
        }
    }

    #[test]
    fn outages_at_different_positions_keep_their_scopes() {
        let mut outages = Outages::default();
        begin(&mut outages, 1, only(&["a"]));
        begin(&mut outages, 2, Scope::All);
        let scopes: Vec<Scope> = end(&mut outages).into_iter().map(|gap| gap.scope).collect();
        assert_eq!(scopes, [only(&["a"]), Scope::All]);
    }

    /// A consumer that was not held back may have seen what is behind the last outage.
    #[test]
    fn very_many_outages_are_merged_and_none_moves_before_what_a_consumer_has_seen() {
        let mut outages = Outages::default();
        for position in 0..1_000 {
            begin(&mut outages, position, only(&["a"]));
        }
        let gaps = end(&mut outages);
        assert_eq!(gaps.len(), OUTAGES_MAX + 1);
        let (last, narrow) = gaps.split_last().unwrap();
        assert!(narrow.iter().all(|gap| gap.scope == only(&["a"]) && gap.gap.sessions() == 1));
        assert_eq!((&last.scope, last.position.0), (&Scope::All, OUTAGES_MAX as u64));
        assert_eq!(last.gap.sessions() as usize, 1_000 - OUTAGES_MAX);
    }
}

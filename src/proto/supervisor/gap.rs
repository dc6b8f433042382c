//! Where a [`Gap`] is placed: what follows a loss is held back until the outage is over, then the gap is put before it.

use std::time::Instant;

use super::action::Action;
use super::{Sink, State, Supervisor};
use crate::error::Error;
use crate::notification::Gap;

impl Supervisor {
    /// Begins an outage: notifications may be missing here. What follows is not shown before the outage is over.
    pub(super) fn hold_back(
        &mut self,
        now: Instant,
        cause: Error,
        sessions: u32,
        sink: &mut impl Sink,
    ) {
        sink.hold();
        // A release that is not carried out yet would show what follows. Its gaps are released with this one.
        self.release = None;
        self.outages.add(sink.position(), cause, self.wall_clock.time(now), sessions);
    }

    /// Returns the gap of all outages together, for the hook.
    pub(super) fn gap_of_outages(&self, now: Instant) -> Option<Gap> {
        self.update_refusals();
        self.outages.sum(self.wall_clock.time(now), self.epoch())
    }

    /// Ends the outages: releases their gaps and everything that is held back.
    pub(super) fn end_outages(&mut self, now: Instant) {
        // First, because a consumer that has read the gap must find this state.
        self.enter(State::Connected);
        self.release_gaps(now);
    }

    /// Makes the action that puts the gaps into the queue and shows what was held back.
    pub(super) fn release_gaps(&mut self, now: Instant) {
        self.update_refusals();
        let gaps = self.outages.take(self.wall_clock.time(now), self.epoch());
        // Gaps at the same position, whose release was withdrawn, name a session of which nothing was delivered.
        if let Some((position, first)) = gaps.first() {
            let pending = self.gaps.iter_mut().rev().take_while(|(at, _)| at == position);
            pending.for_each(|(_, gap)| gap.set_epoch(first.epoch()));
        }
        self.gaps.extend(gaps);
        self.releases = self.releases.wrapping_add(1);
        self.release = Some(self.releases);
        self.actions.push_back(Action::Release { number: self.releases });
    }

    /// Returns the gaps to be put into the queue, each with its position, for [`Action::Release`].
    ///
    /// `None`: the release was withdrawn, because another outage has begun since. Nothing may be shown then. A later action
    /// releases the gaps of both outages.
    pub fn release(&mut self, number: u64) -> Option<Vec<(u64, Gap)>> {
        self.release.take_if(|release| *release == number)?;
        let gaps = std::mem::take(&mut self.gaps);
        self.counters.gaps = self.counters.gaps.saturating_add(gaps.len() as u64);
        Some(gaps)
    }

    /// Enters the state for a live session whose notifications are held back.
    pub(super) fn catch_up(&mut self) {
        if self.state == State::Connected {
            self.enter(State::CatchingUp);
        }
    }

    /// Updates the refused channels that gaps report. Without a session the last list is kept.
    fn update_refusals(&self) {
        if let Some(link) = self.current.as_ref().filter(|_| !self.outages.is_empty()) {
            let list = link.refused.iter().map(|(channel, error)| (channel.clone(), error.clone()));
            self.outages.refusals.set(list.collect());
        }
    }
}

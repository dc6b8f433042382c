//! The check at the end of a run: every missing notification is covered by a gap.

use super::clock::Micros;
use super::recording_sink::SharedSink;
use super::{Simulation, log_line};
use crate::notification::Gap;
use crate::proto::supervisor::{Overflow, Supervisor};

impl Simulation {
    /// Checks that every notification on an active channel was received, or is covered by a gap that is between its
    /// neighbours and was reported after it.
    ///
    /// With `is_over`, the last notifications may be missing, because the listener was closed.
    pub(super) fn check_coverage(&mut self, is_over: bool) {
        let mut missing = None;
        for (index, server) in self.servers.iter().enumerate() {
            for (number, commit) in server.log.iter().enumerate() {
                if commit.is_expected
                    && commit.position.is_none()
                    && !self.is_covered(index, number, commit.at, is_over)
                {
                    missing = Some((index, number, commit.channel, commit.at));
                    break;
                }
            }
        }
        if let Some((server, number, channel, at)) = missing {
            let name = &self.channels.0[channel].name;
            let at = at as f64 / 1e6;
            let text = format!(
                "commit {number} of server {server} on {name:?} at {at:.6} s is missing, \
                 and no gap covers it"
            );
            self.fail(text);
        }
    }

    fn is_covered(&self, server: usize, number: usize, at: Micros, is_over: bool) -> bool {
        let log = &self.servers[server].log;
        // Its neighbours: the gap must be after the previous and before the next one.
        let after = log[..number].iter().rev().find_map(|commit| commit.position);
        let first = after.map_or(0, |position| position + 1);
        let before = log[number + 1..].iter().filter_map(|commit| commit.position).min();
        // Notifications of a connection that was opened after the commit come after it, from every server.
        let later = self
            .sink
            .get()
            .taken
            .iter()
            .position(|taken| self.connections[taken.connection].opened_at > at);
        let mut last = before.into_iter().chain(later.map(|position| position as u64)).min();
        if log[number].may_be_missed {
            last = None;
            // The subscriptions of a hub may have left before the listener has detected it.
            if self.have_left(&log[number].subscribers) {
                return true;
            }
        }
        if last.is_none() && is_over {
            return true;
        }
        // A session listens to its channels one by one, and a channel may be refused. So a notification may be missing although
        // one of another channel was received. The gap of that time covers it, wherever later gaps are: an application
        // that reads its tables at this gap finds it.
        let is_partial = self.channels.0[log[number].channel].is_refusable
            || self.connections.iter().any(|connection| {
                connection.opened_at <= at && connection.live_at.is_none_or(|live_at| at <= live_at)
            });
        let wall = self.clock.wall_at(at);
        let is_within =
            |gap: &Gap| is_partial && gap.lost_at() <= wall && wall <= gap.restored_at();
        self.sink.get().gaps.iter().zip(&self.gaps_at).any(|(recorded, &recorded_at)| {
            let is_before = last.is_none_or(|last| recorded.position <= last);
            recorded_at >= at
                && is_before
                && (recorded.position >= first || is_within(&recorded.gap))
        })
    }

    /// Checks that the listener has recovered: it is connected and has received everything.
    pub(super) fn check_recovered(&mut self, supervisor: Option<&Supervisor<SharedSink>>) {
        if self.is_closing {
            return;
        }
        log_line!(self, "final check: {} commits in all", self.commits);
        if self.done.is_none() {
            let state = self.state;
            if state != crate::proto::supervisor::State::Connected {
                return self.fail(format!("nothing is broken, and the listener is {state:?}"));
            }
            if let Some(id) = self.calls.first() {
                return self.fail(format!("command {id} was not answered"));
            }
            if let Some(supervisor) = supervisor {
                self.check_channels("nothing is broken", supervisor);
            }
            self.check_stats();
            let is_free = self.plan.chaos == 0 && !self.plan.flaps && !self.had_failures;
            if is_free && self.rotations > 0 && self.handovers == 0 {
                return self
                    .fail("a rotation was requested, nothing failed, and there was no handover");
            }
            if self.reported_sessions != self.lost_sessions {
                let (reported, lost) = (self.reported_sessions, self.lost_sessions);
                return self
                    .fail(format!("gaps report {reported} lost sessions, {lost} were lost"));
            }
        }
        self.check_coverage(self.done.is_some());
        let Some(listener) = &self.consumer.listener else { return };
        let stats = listener.stats();
        let all = (self.sink.get().taken.len() as u64, self.sink.get().gaps.len());
        if (self.consumer.next, self.consumer.gaps) != all {
            let seen = (self.consumer.next, self.consumer.gaps);
            self.fail(format!(
                "the consumer has received {seen:?} of {all:?} (notifications, gaps)"
            ));
        } else if self.hub.is_some() {
            // The statistics are those of the hub.
        } else if (stats.delivered, stats.lagged) != (self.consumer.delivered, self.consumer.lagged)
            || stats.received != all.0
        {
            self.fail(format!("the statistics are wrong: {stats:?}"));
        }
    }

    /// Checks the statistics against what has happened.
    fn check_stats(&mut self) {
        let stats = self.shared.stats();
        let counted = [
            (stats.received, self.sink.get().taken.len() as u64),
            (stats.sessions, self.epochs.into()),
            (stats.sessions_lost, self.lost_sessions.into()),
            (stats.attempts, self.connections.len() as u64),
            (stats.handovers, self.handovers.into()),
            (stats.hooks, self.hook.asked),
            (stats.reads_delayed, self.delayed),
        ];
        if counted.iter().any(|(shown, known)| shown != known) {
            self.fail(format!("the statistics are wrong: {stats:?}, and not {counted:?}"));
        }
        let ended = stats.delivered + stats.dropped + stats.queued;
        if self.hub.is_some() {
            return;
        }
        if stats.dropped < stats.lagged
            || self.plan.overflow != Overflow::DropOldest && ended > stats.received
        {
            self.fail(format!("the dropped notifications are wrong: {stats:?}"));
        }
    }
}

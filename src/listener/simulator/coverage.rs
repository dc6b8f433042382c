//! What must hold at the end: nothing is missing that was not told.

use super::clock::Micros;
use super::{World, say};
use crate::notification::Gap;
use crate::supervisor::Supervisor;

impl World {
    /// Every notification that was committed while the user believed to listen was taken in, or lies in a gap
    /// that stands between its neighbours and was told after it.
    ///
    /// With `is_over`, what came last may be missing: the listener was closed.
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
                 and no gap stands in its place"
            );
            self.fail(text);
        }
    }

    fn is_covered(&self, server: usize, number: usize, at: Micros, is_over: bool) -> bool {
        let log = &self.servers[server].log;
        // Its neighbours: a gap stands behind the one and before the other.
        let after = log[..number].iter().rev().find_map(|commit| commit.position);
        let first = after.map_or(0, |position| position + 1);
        let before = log[number + 1..].iter().filter_map(|commit| commit.position).min();
        // What came on a connection that was begun after it comes after it, whatever server it is.
        let later = self
            .sink
            .taken
            .iter()
            .position(|taken| self.connections[taken.connection].opened_at > at);
        let mut last = before.into_iter().chain(later.map(|position| position as u64)).min();
        if log[number].is_unheard {
            last = None;
        }
        if last.is_none() && is_over {
            return true;
        }
        // A session hears again channel by channel, and may be refused one: what was committed on it then may be missing
        // though another one was heard. The gap of that time covers it, wherever later ones stand: who reads the state on
        // it finds it.
        let is_partial = self.channels.0[log[number].channel].is_refusable
            || self.connections.iter().any(|connection| {
                connection.opened_at <= at && connection.live_at.is_none_or(|live_at| at <= live_at)
            });
        let wall = self.clock.wall_at(at);
        let is_within =
            |gap: &Gap| is_partial && gap.lost_at() <= wall && wall <= gap.restored_at();
        self.sink.gaps.iter().zip(&self.gaps_at).any(|(told, &told_at)| {
            let is_before = last.is_none_or(|last| told.position <= last);
            told_at >= at && is_before && (told.position >= first || is_within(&told.gap))
        })
    }

    /// All is well again: the listener is connected, and has everything.
    pub(super) fn judge(&mut self, supervisor: Option<&Supervisor>) {
        if self.is_closing {
            return;
        }
        say!(self, "judgement: {} commits in all", self.commits);
        if self.done.is_none() {
            let state = self.state;
            if state != crate::supervisor::State::Connected {
                return self.fail(format!("everything is well, and the listener is {state:?}"));
            }
            if let Some((id, _)) = self.commands.first_key_value() {
                return self.fail(format!("command {id} was not answered"));
            }
            if let Some(supervisor) = supervisor {
                self.check_channels("everything is well", supervisor);
            }
            self.check_figures();
            let is_free = self.plan.chaos == 0 && !self.plan.flaps && !self.is_hindered;
            if is_free && self.rotations > 0 && self.handovers == 0 {
                return self.fail("it was to rotate, nothing was in the way, and it has not");
            }
            if self.told_sessions != self.lost_sessions {
                let (told, lost) = (self.told_sessions, self.lost_sessions);
                return self.fail(format!("gaps tell of {told} lost sessions, {lost} were lost"));
            }
        }
        self.check_coverage(self.done.is_some());
        let Some(listener) = &self.consumer.listener else { return };
        let stats = listener.stats();
        let all = (self.sink.taken.len() as u64, self.sink.gaps.len());
        if (self.consumer.next, self.consumer.gaps) != all {
            let seen = (self.consumer.next, self.consumer.gaps);
            self.fail(format!("the consumer has seen {seen:?} of {all:?} (notifications, gaps)"));
        } else if (stats.delivered, stats.lagged) != (self.consumer.delivered, self.consumer.lagged)
            || stats.received != all.0
        {
            self.fail(format!("the figures are wrong: {stats:?}"));
        }
    }

    /// What is told of figures is what has happened.
    fn check_figures(&mut self) {
        let figures = self.shared.stats();
        let counted = [
            (figures.received, self.sink.taken.len() as u64),
            (figures.sessions, self.epochs.into()),
            (figures.sessions_lost, self.lost_sessions.into()),
            (figures.attempts, self.connections.len() as u64),
            (figures.handovers, self.handovers.into()),
            (figures.hooks, self.hook.asked),
        ];
        if counted.iter().any(|(told, known)| told != known) {
            self.fail(format!("the figures are wrong: {figures:?}, and not {counted:?}"));
        }
    }
}

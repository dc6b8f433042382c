//! The checks that run during the simulation.

use super::connection::Stage;
use super::recording_sink::{RecordedGap, SharedSink};
use super::server::{Commit, SimulatedServer};
use super::subscriptions::Channel;
use super::{Simulation, log_line};
use crate::proto::supervisor::{ChannelState, Overflow, State, Supervisor};
use crate::queue::{BUFFER_BYTES, buffers_max};

impl Simulation {
    /// Records the first failure, which ends the run.
    pub(super) fn fail(&mut self, why: impl Into<String>) {
        if self.failure.is_none() {
            let why = why.into();
            log_line!(self, "WRONG: {why}");
            self.failure = Some(why);
        }
    }

    // ---- what the listener receives ----

    /// Checks the notifications and gaps since the last call.
    pub(super) fn check_taken(&mut self) {
        let unread = self.sink.get().taken.len() as u64 - self.consumer.next;
        self.most_unread = self.most_unread.max(unread);
        while self.sink.get().checked.0 < self.sink.get().taken.len() {
            let next = self.sink.get().checked.0;
            self.check_notification(next);
            self.sink.get_mut().checked.0 += 1;
        }
        while self.sink.get().checked.1 < self.sink.get().gaps.len() {
            let next = self.sink.get().checked.1;
            self.check_gap(next);
            self.sink.get_mut().checked.1 += 1;
        }
        if let Some(index) = self.unchecked.take() {
            self.check_all_taken(index);
        }
    }

    /// Checks after the end of a session that all notifications that were read from it were put into the queue, so that they
    /// are delivered or reported as lost. This is not checked if the session ended because of a rejected answer.
    fn check_all_taken(&mut self, index: usize) {
        let connection = &self.connections[index];
        if !connection.read.is_ended && !connection.is_closing {
            return;
        }
        // A stray error was taken as the answer to a command, or a proxy has begun a transaction: everything after it is
        // rejected.
        if connection.has_dropped || connection.inside_at.is_some() {
            return;
        }
        // Notifications of a new session before its fence are repetitions. The position of the fence follows from the first
        // notification that was received.
        let first = if connection.is_new_session { connection.first_taken } else { Some(0) };
        let read =
            first.and_then(|first| connection.sent.get(first..connection.read.notifications));
        let log = &self.servers[connection.server].log;
        let mut commits =
            read.into_iter().flatten().filter_map(|&sent| SimulatedServer::number(sent));
        if let Some(lost) = commits.find(|&number| log[number].position.is_none()) {
            self.fail(format!(
                "commit {lost} was read from connection {index}, and was not queued before its end"
            ));
        }
    }

    /// Checks a listener that was closed while a new session had received the fence and the old one had not: notifications that
    /// were read after the fence were delivered by the old session too, or a gap is at the end of the stream.
    pub(super) fn check_left(&mut self) {
        let has_failed = matches!(self.done, Some(Err(_))) && !self.is_dropped;
        let end = self.sink.get().taken.len() as u64;
        // Self-notifications of a session behind a proxy look like a fence.
        if has_failed
            || self.plan.is_proxied
            || self.sink.get().gaps.iter().any(|recorded| recorded.position == end)
        {
            return;
        }
        let left = self.connections.iter().filter(|connection| {
            connection.is_undelivered && !connection.has_dropped && connection.inside_at.is_none()
        });
        let mut commits = left.flat_map(|connection| {
            let log = &self.servers[connection.server].log;
            let numbers =
                connection.behind_fence().iter().filter_map(|&sent| SimulatedServer::number(sent));
            numbers.map(move |number| (number, &log[number]))
        });
        let is_lost = |commit: &Commit| {
            commit.position.is_none() && !self.channels.0[commit.channel].is_refusable
        };
        if let Some((lost, _)) = commits.find(|(_, commit)| is_lost(commit)) {
            self.fail(format!(
                "commit {lost} was read after the fence, was not queued, and no gap covers it"
            ));
        }
    }

    fn check_notification(&mut self, position: usize) {
        let taken = self.sink.get().taken[position];
        let connection = &mut self.connections[taken.connection];
        let (server, process_id) = (connection.server, taken.process_id);
        let Some(number) = SimulatedServer::number(process_id) else {
            return self
                .fail(format!("a notification of the listener itself was delivered: {taken:?}"));
        };
        // No notification of a session is skipped, except the first ones of the new session of a handover.
        let rest = &connection.sent[connection.taken..];
        let skipped = rest.iter().position(|&sent| sent == process_id);
        let missing = rest
            .iter()
            .take(skipped.unwrap_or(0))
            .filter(|&&sent| SimulatedServer::number(sent).is_some());
        let missing = missing.count();
        let may_skip = connection.first_taken.is_none() && connection.is_new_session;
        match skipped {
            Some(skipped) => {
                connection.first_taken.get_or_insert(connection.taken + skipped);
                connection.taken += skipped + 1;
            }
            None => {
                let sent = format!("{:?}", connection.sent);
                return self.fail(format!(
                    "{taken:?} was received, which is not the next one of those that were sent: {sent}"
                ));
            }
        }
        if missing > 0 && !may_skip {
            return self.fail(format!("before {taken:?} {missing} of its session were skipped"));
        }
        let epoch = connection.epoch;
        if taken.epoch != epoch {
            return self.fail(format!("{taken:?} came with session {epoch}"));
        }
        let commit = &mut self.servers[server].log[number];
        if let Some(before) = commit.position.replace(position as u64) {
            return self
                .fail(format!("{taken:?} was received twice: as {before} and as {position}"));
        }
        // The effect of a command that was unanswered at the end is unknown.
        if commit.is_forbidden && !self.is_closing {
            let name = &self.channels.0[commit.channel].name;
            return self
                .fail(format!("{taken:?} on {name:?} was committed after UNLISTEN was confirmed"));
        }
        if self.last_taken[server].is_some_and(|last| last >= number) {
            return self.fail(format!("{taken:?} comes after a later commit of its server"));
        }
        self.last_taken[server] = Some(number);
        log_line!(self, "received as {position}: commit {number} of server {server}");
    }

    fn check_gap(&mut self, index: usize) {
        let recorded = self.sink.get().gaps[index].clone();
        log_line!(self, "gap at {}: {}", recorded.position, recorded.gap);
        self.gaps_at.push(self.clock.now());
        let lost = self.lost_sessions;
        self.reported_sessions += recorded.gap.sessions();
        if self.reported_sessions > lost {
            let reported = self.reported_sessions;
            return self.fail(format!("gaps report {reported} lost sessions, {lost} were lost"));
        }
        self.check_cause(&recorded);
        let refused: Vec<usize> = recorded
            .gap
            .refused()
            .iter()
            .filter_map(|(name, _)| self.channels.find(name))
            .collect();
        if let Some(hub) = &mut self.hub {
            hub.are_refused(&refused, index);
        }
        // When the listener ends, its gaps are reported without a run of the hook.
        if self.is_closing || self.is_dropped || self.done.is_some() {
            return;
        }
        if self.plan.has_hook && !self.hook.has_succeeded {
            return self.fail("a gap was delivered before the hook has succeeded");
        }
        let (lost_at, restored_at) = (recorded.gap.lost_at(), recorded.gap.restored_at());
        if lost_at > restored_at || restored_at > self.clock.wall_time() {
            return self.fail(format!("a gap from {lost_at:?} to {restored_at:?}"));
        }
        if recorded.state != State::Connected || recorded.counted < index as u64 + 1 {
            let RecordedGap { state, counted, .. } = recorded;
            return self.fail(format!(
                "the consumer can take a gap, and a handle shows {state:?} and {counted} gaps"
            ));
        }
        // It is the session of the next notification. If there is none yet, another session may already have replaced the one
        // that the gap was reported with.
        let epoch = recorded.gap.epoch();
        let has_epoch =
            |index: usize| self.connections.get(index).is_some_and(|one| one.epoch == epoch);
        let going_on =
            [self.delivering.unwrap_or(0), self.sink.get().connection, recorded.connection];
        let is_true = match self.sink.get().taken.get(usize::try_from(recorded.position).unwrap()) {
            Some(next) => next.epoch == epoch,
            None => going_on.into_iter().any(has_epoch),
        };
        if !is_true {
            return self.fail(format!("a gap has epoch {epoch}, and that is not the next session"));
        }
        self.check_listening(&refused, "a gap was reported");
        self.channels.restored(&refused);
    }

    /// Checks that the current session listens to every wanted channel.
    fn check_listening(&mut self, refused: &[usize], when: &str) {
        // A drain ends all channels first, and a hook may return after that.
        if self.is_closing {
            return;
        }
        let Some(index) = self.current() else { return };
        let connection = &self.connections[index];
        // If the server's end is closed, the listener will detect it.
        let Some(session) = connection.session else { return };
        let backend = &self.servers[connection.server].backend;
        let active: Vec<&str> = backend.channels(session).collect();
        let missing = self.channels.0.iter().enumerate().find(|(id, channel)| {
            channel.is_wanted
                && channel.is_settled()
                && !refused.contains(id)
                && !connection.has_lost_channels
                && !active.contains(&channel.name.as_str())
        });
        if let Some((_, channel)) = missing {
            let name = channel.name.clone();
            self.fail(format!(
                "{when} before the server listens to {name:?} for connection {index}"
            ));
        }
    }

    /// Returns the open connection that delivers notifications.
    pub(super) fn current(&self) -> Option<usize> {
        self.delivering.filter(|&index| matches!(self.connections[index].stage, Stage::Open))
    }

    // ---- what the supervisor reports ----

    pub(super) fn entered(&mut self, state: State, supervisor: &Supervisor<SharedSink>) {
        log_line!(self, "state {state:?}");
        let legal = matches!(
            (self.state, state),
            (
                State::Connecting | State::Reconnecting,
                State::CatchingUp | State::Connected | State::Closed
            ) | (State::CatchingUp, State::Connected | State::Reconnecting | State::Closed)
                | (State::Connected, State::CatchingUp | State::Reconnecting | State::Closed)
        );
        if !legal {
            let from = self.state;
            self.fail(format!("from {from:?} to {state:?}"));
        }
        let was_live = matches!(self.state, State::CatchingUp | State::Connected);
        self.state = state;
        self.entered[state as usize] += 1;
        // When this action is performed, the session may be lost again.
        if matches!(state, State::CatchingUp | State::Connected) && supervisor.state() == state {
            // A drain gives its channels up. A notification that is dropped meanwhile is a gap all the same.
            if !self.is_closing {
                self.check_channels("it is connected", supervisor);
            }
            if !was_live {
                self.is_live();
            }
        }
    }

    /// Checks the state of each channel: it agrees with the commands of the user and with the server.
    pub(super) fn check_channels(&mut self, when: &str, supervisor: &Supervisor<SharedSink>) {
        let states: Vec<(String, ChannelState)> =
            supervisor.channels().map(|(name, state)| (name.to_owned(), state)).collect();
        let mut refused = Vec::new();
        let mut wanted = vec![false; self.channels.0.len()];
        for (name, state) in states {
            let Some(id) = self.channels.find(&name) else {
                return self.fail(format!("{when}, and {name:?} is an unknown wanted channel"));
            };
            wanted[id] = true;
            match state {
                ChannelState::Refused(_) if self.channels.0[id].is_refusable => refused.push(id),
                ChannelState::Active => {}
                state => return self.fail(format!("{when}, and {name:?} is {state:?}")),
            }
        }
        let is_wrong = |(channel, &wanted): (&Channel, &bool)| {
            channel.is_settled() && channel.is_wanted != wanted
        };
        if let Some(wrong) = self.channels.0.iter().zip(&wanted).position(is_wrong) {
            let channel = format!("{:?}", self.channels.0[wrong]);
            return self.fail(format!("{when}, and the state of {channel} is wrong"));
        }
        self.check_listening(&refused, when);
        self.channels.restored(&refused);
    }

    /// Checks the limits of memory.
    pub(super) fn check_memory(&mut self) {
        // One buffer is for notifications that are dropped.
        let bytes = self.sink.get().ring.buffer_bytes();
        let most = (buffers_max(self.plan.bytes, 0) + 1) * BUFFER_BYTES;
        if bytes > most {
            self.fail(format!("the receive buffers have {bytes} bytes, {most} are the limit"));
        }
        let unread = self.sink.get().ring.outlet.producer.unread_bytes();
        let bytes = self.plan.bytes as u64;
        if unread > bytes {
            self.fail(format!("{unread} bytes are queued, {bytes} are the limit"));
        }
        let unread = self.sink.get().ring.outlet.producer.unread();
        // With `DropOldest`, an item across the limit stays in the queue, and the consumer skips its older part.
        let is_exact = self.plan.overflow != Overflow::DropOldest && !self.sink.get().had_surplus;
        if unread > self.plan.capacity && is_exact {
            let capacity = self.plan.capacity;
            self.fail(format!("{unread} are queued, {capacity} is the capacity"));
        }
    }
}

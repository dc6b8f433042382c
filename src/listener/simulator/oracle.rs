//! What must hold, checked while it happens.

use super::connection::Stage;
use super::server::{Commit, Server};
use super::subscriptions::Channel;
use super::witness::Told;
use super::{World, say};
use crate::listener::sink::buffers_max;
use crate::supervisor::{ChannelState, Overflow, State, Supervisor};

impl World {
    /// The first thing that is wrong ends the run.
    pub(super) fn fail(&mut self, why: impl Into<String>) {
        if self.failure.is_none() {
            let why = why.into();
            say!(self, "WRONG: {why}");
            self.failure = Some(why);
        }
    }

    // ---- what the listener takes in ----

    /// Looks at what was taken in since the last time.
    pub(super) fn check_taken(&mut self) {
        let unread = self.sink.taken.len() as u64 - self.consumer.next;
        self.most_unread = self.most_unread.max(unread);
        while self.sink.checked.0 < self.sink.taken.len() {
            self.check_notification(self.sink.checked.0);
            self.sink.checked.0 += 1;
        }
        while self.sink.checked.1 < self.sink.gaps.len() {
            self.check_gap(self.sink.checked.1);
            self.sink.checked.1 += 1;
        }
        if let Some(index) = self.unchecked.take() {
            self.check_all_taken(index);
        }
    }

    /// However a session has ended, unless by an answer that cannot be believed: all that was read from it was taken
    /// in, and so it is delivered or told as lost.
    fn check_all_taken(&mut self, index: usize) {
        let connection = &self.connections[index];
        if !connection.read.is_ended && !connection.is_closing {
            return;
        }
        // An error that crossed a command was taken for its answer, or a proxy has begun a transaction: nothing behind it
        // is believed.
        if connection.has_dropped || connection.inside_at.is_some() {
            return;
        }
        // What comes before its fence are repetitions: where that stands is only known from what follows.
        let first = if connection.is_successor { connection.first_taken } else { Some(0) };
        let read =
            first.and_then(|first| connection.sent.get(first..connection.read.notifications));
        let log = &self.servers[connection.server].log;
        let mut commits = read.into_iter().flatten().filter_map(|&sent| Server::number(sent));
        if let Some(lost) = commits.find(|&number| log[number].position.is_none()) {
            self.fail(format!(
                "commit {lost} was read from connection {index}, and was not taken in before its end"
            ));
        }
    }

    /// The listener was closed while a successor waited at the fence for the old session: what was read behind the fence was
    /// delivered by the old session too, or a gap is at the end of the stream.
    pub(super) fn check_left(&mut self) {
        let is_cause_told = matches!(self.done, Some(Err(_))) && !self.is_dropped;
        let end = self.sink.taken.len() as u64;
        // The notifications that a session sends itself through a proxy look like a fence.
        if is_cause_told
            || self.plan.is_proxied
            || self.sink.gaps.iter().any(|told| told.position == end)
        {
            return;
        }
        let left = self.connections.iter().filter(|connection| {
            connection.is_left && !connection.has_dropped && connection.inside_at.is_none()
        });
        let mut commits = left.flat_map(|connection| {
            let log = &self.servers[connection.server].log;
            let numbers = connection.behind_fence().iter().filter_map(|&sent| Server::number(sent));
            numbers.map(move |number| (number, &log[number]))
        });
        let is_lost = |commit: &Commit| {
            commit.position.is_none() && !self.channels.0[commit.channel].is_refusable
        };
        if let Some((lost, _)) = commits.find(|(_, commit)| is_lost(commit)) {
            self.fail(format!(
                "commit {lost} was read behind the fence, was not taken in, and no gap tells of it"
            ));
        }
    }

    fn check_notification(&mut self, position: usize) {
        let taken = self.sink.taken[position];
        let connection = &mut self.connections[taken.connection];
        let (server, process_id) = (connection.server, taken.process_id);
        let Some(number) = Server::number(process_id) else {
            return self.fail(format!("a notification of our own was delivered: {taken:?}"));
        };
        // Each session is delivered without holes: only the first of a successor may come late.
        let rest = &connection.sent[connection.taken..];
        let skipped = rest.iter().position(|&sent| sent == process_id);
        let holes =
            rest.iter().take(skipped.unwrap_or(0)).filter(|&&sent| Server::number(sent).is_some());
        let holes = holes.count();
        let may_skip = connection.first_taken.is_none() && connection.is_successor;
        match skipped {
            Some(skipped) => {
                connection.first_taken.get_or_insert(connection.taken + skipped);
                connection.taken += skipped + 1;
            }
            None => {
                let sent = format!("{:?}", connection.sent);
                return self.fail(format!(
                    "{taken:?} was taken, which is not what comes next of what was sent: {sent}"
                ));
            }
        }
        if holes > 0 && !may_skip {
            return self.fail(format!("before {taken:?} {holes} of its session were passed over"));
        }
        let epoch = connection.epoch;
        if taken.epoch != epoch {
            return self.fail(format!("{taken:?} came with session {epoch}"));
        }
        let commit = &mut self.servers[server].log[number];
        if let Some(before) = commit.position.replace(position as u64) {
            return self.fail(format!("{taken:?} was taken twice: as {before} and as {position}"));
        }
        // What a command did that was under way at the end is not known: it is answered with the end.
        if commit.is_forbidden && !self.is_closing {
            let name = &self.channels.0[commit.channel].name;
            return self.fail(format!(
                "{taken:?} on {name:?} was committed after the channel was given up"
            ));
        }
        if self.last_taken[server].is_some_and(|last| last >= number) {
            return self.fail(format!("{taken:?} comes after a later commit of its server"));
        }
        self.last_taken[server] = Some(number);
        say!(self, "taken as {position}: commit {number} of server {server}");
    }

    fn check_gap(&mut self, index: usize) {
        let told = self.sink.gaps[index].clone();
        say!(self, "gap at {}: {}", told.position, told.gap);
        self.gaps_at.push(self.clock.now());
        let lost = self.lost_sessions;
        self.told_sessions += told.gap.sessions();
        if self.told_sessions > lost {
            let told = self.told_sessions;
            return self.fail(format!("gaps tell of {told} lost sessions, {lost} were lost"));
        }
        self.check_cause(&told);
        let refused: Vec<usize> =
            told.gap.refused().iter().filter_map(|(name, _)| self.channels.find(name)).collect();
        // When the listener ends, its gaps are reported without a run of the hook.
        if self.is_closing || self.is_dropped || self.done.is_some() {
            return;
        }
        if self.plan.has_hook && !self.hook.has_succeeded {
            return self.fail("a gap was told before the hook has read the state");
        }
        let (lost_at, restored_at) = (told.gap.lost_at(), told.gap.restored_at());
        if lost_at > restored_at || restored_at > self.clock.wall() {
            return self.fail(format!("a gap from {lost_at:?} to {restored_at:?}"));
        }
        if told.state != State::Connected || told.counted < index as u64 + 1 {
            let Told { state, counted, .. } = told;
            return self.fail(format!(
                "the consumer finds a gap, and from outside the state is {state:?}, gaps counted are {counted}"
            ));
        }
        // The session of the next notification. If there is none yet: by now, another session may have taken the
        // place of the one that had what it was told with.
        let epoch = told.gap.epoch();
        let has_epoch =
            |index: usize| self.connections.get(index).is_some_and(|one| one.epoch == epoch);
        let going_on = [self.delivering.unwrap_or(0), self.sink.connection, told.connection];
        let is_true = match self.sink.taken.get(usize::try_from(told.position).unwrap()) {
            Some(next) => next.epoch == epoch,
            None => going_on.into_iter().any(has_epoch),
        };
        if !is_true {
            return self.fail(format!("a gap names session {epoch} as the one that goes on"));
        }
        self.check_listening(&refused, "a gap was told");
        self.channels.restored(&refused);
    }

    /// Whether the server knows of all that is wanted on the session that goes on.
    fn check_listening(&mut self, refused: &[usize], when: &str) {
        // A drain ends all of them first, and a hook may return after that.
        if self.is_closing {
            return;
        }
        let Some(index) = self.current() else { return };
        let connection = &self.connections[index];
        // When the server's end is gone, our end will know.
        let Some(session) = connection.session else { return };
        let backend = &self.servers[connection.server].backend;
        let active: Vec<&str> = backend.channels(session).collect();
        let missing = self.channels.0.iter().enumerate().find(|(id, channel)| {
            channel.is_wanted
                && channel.is_settled()
                && !refused.contains(id)
                && !connection.is_deaf
                && !active.contains(&channel.name.as_str())
        });
        if let Some((_, channel)) = missing {
            let name = channel.name.clone();
            self.fail(format!(
                "{when} before the server listens to {name:?} for connection {index}"
            ));
        }
    }

    /// The open connection that notifications are taken from.
    pub(super) fn current(&self) -> Option<usize> {
        self.delivering.filter(|&index| matches!(self.connections[index].stage, Stage::Open))
    }

    // ---- what the supervisor says ----

    pub(super) fn entered(&mut self, state: State, supervisor: &Supervisor) {
        say!(self, "state {state:?}");
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
        // By the time this is carried out the session may be lost again.
        if matches!(state, State::CatchingUp | State::Connected) && supervisor.state() == state {
            self.check_channels("it is connected", supervisor);
            if !was_live {
                self.is_live();
            }
        }
    }

    /// What it says of each channel is what the user asked for and what the server knows.
    pub(super) fn check_channels(&mut self, when: &str, supervisor: &Supervisor) {
        let states: Vec<(String, ChannelState)> =
            supervisor.channels().map(|(name, state)| (name.to_owned(), state)).collect();
        let mut refused = Vec::new();
        let mut wanted = vec![false; self.channels.0.len()];
        for (name, state) in states {
            let Some(id) = self.channels.find(&name) else {
                return self.fail(format!("{when}, and it wants {name:?}"));
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
            return self.fail(format!("{when}, and it is mistaken about {channel}"));
        }
        self.check_listening(&refused, when);
        self.channels.restored(&refused);
    }

    /// The bounds that are said of memory.
    pub(super) fn check_memory(&mut self) {
        // One is for what is dropped.
        let buffers = self.sink.ring.buffers_alive();
        let most = buffers_max(self.plan.bytes, 0) + 1;
        if buffers > most {
            self.fail(format!("{buffers} receive buffers are alive, {most} are the limit"));
        }
        let unread = self.sink.ring.producer.unread_bytes();
        let bytes = self.plan.bytes as u64;
        if unread > bytes {
            self.fail(format!("{unread} bytes are queued, {bytes} are the limit"));
        }
        let unread = self.sink.ring.producer.unread();
        // An item that lies across the limit is kept whole by DropOldest: the consumer skips its lower part.
        let is_exact = self.plan.overflow != Overflow::DropOldest && !self.sink.had_surplus;
        if unread > self.plan.capacity && is_exact {
            let capacity = self.plan.capacity;
            self.fail(format!("{unread} are queued, {capacity} is the capacity"));
        }
    }
}

//! Checks of every event that the consumer receives.

use super::server::SimulatedServer;
use super::{Simulation, log_line};
use crate::notification::Gap;

impl Simulation {
    pub(super) fn delivered(
        &mut self,
        sequence: u64,
        process_id: i32,
        epoch: u32,
        channel: &[u8],
        text: &[u8],
    ) {
        let expected = self.consumer.next;
        let position = usize::try_from(sequence).unwrap();
        if position >= self.sink.get().shown.0 {
            return self
                .fail(format!("notification {sequence} was delivered while it was held back"));
        }
        if sequence != expected {
            return self
                .fail(format!("notification {sequence} was delivered instead of {expected}"));
        }
        self.check_gaps_before(sequence + 1);
        if epoch < self.consumer.gap_epoch {
            let named = self.consumer.gap_epoch;
            return self.fail(format!(
                "notification {sequence} of session {epoch} comes after a gap that names session {named}"
            ));
        }
        let Some(taken) = self.sink.get().taken.get(position).copied() else {
            return self.fail(format!("notification {sequence} was delivered and never received"));
        };
        if (taken.process_id, taken.epoch) != (process_id, epoch) {
            return self
                .fail(format!("{taken:?} was delivered as {process_id} of session {epoch}"));
        }
        let server = self.connections[taken.connection].server;
        if let Some(number) = SimulatedServer::number(process_id) {
            let commit = &self.servers[server].log[number];
            let name = &self.channels.0[commit.channel].name;
            if name.as_bytes() != channel || self.payload(server, number).as_bytes() != text {
                let text = String::from_utf8_lossy(text).into_owned();
                return self
                    .fail(format!("commit {number} was delivered with other text: {text:?}"));
            }
        }
        self.consumer.next += 1;
        self.consumer.delivered += 1;
    }

    pub(super) fn lagged(&mut self, first: u64, count: u64) {
        log_line!(self, "consumer: {count} lost from {first}");
        let expected = self.consumer.next;
        if first != expected || count == 0 {
            return self
                .fail(format!("{count} from {first} are reported as lost, {expected} comes next"));
        }
        self.consumer.next += count;
        self.consumer.lagged += count;
        let taken = self.sink.get().taken.len() as u64;
        if self.consumer.next > taken {
            return self
                .fail(format!("{count} from {first} are reported as lost, {taken} were received"));
        }
        self.check_gaps_before(self.consumer.next);
        // Nothing is lost unless the queue was full.
        let capacity = self.plan.capacity;
        let bytes = self.plan.bytes as u64;
        if self.most_unread <= capacity && self.sink.get().most_unread_bytes <= bytes {
            let most = self.most_unread;
            self.fail(format!(
                "{count} were lost, and never more than {most} of {capacity} were queued"
            ));
        }
    }

    /// Checks that every gap before `position` was delivered.
    fn check_gaps_before(&mut self, position: u64) {
        let at = self.sink.get().gaps.get(self.consumer.gaps).map(|recorded| recorded.position);
        if let Some(at) = at.filter(|at| *at < position) {
            self.fail(format!(
                "the gap at {at} was not delivered before notification {}",
                position - 1
            ));
        }
    }

    pub(super) fn received_gap(&mut self, gap: &Gap) {
        let next = self.consumer.next;
        log_line!(self, "consumer: gap before {next}: {gap}");
        let sink = self.sink.clone();
        let gaps = &sink.get().gaps[self.consumer.gaps..];
        let here = gaps.iter().take_while(|recorded| recorded.position == next);
        let (mut count, mut sessions) = (0, 0);
        for recorded in here {
            count += 1;
            sessions += recorded.gap.sessions();
        }
        if count == 0 {
            return self.fail(format!("a gap is delivered before {next}, and there is none"));
        }
        self.consumer.gaps += count;
        self.consumer.gap_epoch = gap.epoch();
        if gap.sessions() != sessions {
            let reported = gap.sessions();
            self.fail(format!("a gap reports {reported} lost sessions, {sessions} belong to it"));
        }
    }
}

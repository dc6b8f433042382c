//! Dense flows, the delays of reads, and the rules for them.

use std::time::Instant;

use super::clock::{Micros, SECOND, SimulatorEvent};
use super::{Simulation, log_line};
use crate::proto::session::READ_DELAY_MAX;

/// The number of writes of a dense flow.
const WRITES: u32 = 6;

impl Simulation {
    /// Commits so many notifications that most of these writes have at least 8 KiB. The next write follows soon.
    pub(super) fn write_densely(&mut self, number: u32) {
        if self.has_all || self.is_calm {
            return;
        }
        let confirmed: Vec<usize> =
            (0..self.channels.0.len()).filter(|&id| self.channels.0[id].is_confirmed).collect();
        if !confirmed.is_empty() {
            let channel = self.proxy.pick(&confirmed);
            let count = self.proxy.range(120, 260);
            self.commit_on((0..count).map(|_| channel));
        }
        if self.proxy.chance(5) {
            // Its answer must not wait for a delay.
            let delay = self.proxy.range(1, 1_000);
            self.clock.after(delay, SimulatorEvent::ExtraCommand, &mut self.random);
        }
        let (next, delay) = match number {
            WRITES.. => (0, self.proxy.range(SECOND, 4 * SECOND)),
            _ => (number + 1, self.proxy.range(1, 300)),
        };
        self.clock.after(delay, SimulatorEvent::Dense(next), &mut self.random);
    }

    /// Records that the next read of a connection is delayed.
    pub(super) fn delay_read(&mut self, index: usize, until: Instant) {
        let until = self.clock.micros(until);
        log_line!(self, "connection {index}: the next read waits until {until}");
        let connection = &mut self.connections[index];
        connection.reader = None;
        connection.waits_until = Some(until);
    }

    /// Returns what is wrong about the delays of reads while the task sleeps.
    pub(super) fn wrong_delay(&self) -> Option<String> {
        let limit = Micros::try_from(READ_DELAY_MAX.as_micros()).unwrap();
        self.links.values().find_map(|&index| {
            let connection = &self.connections[index];
            let until = connection.waits_until?;
            let wrong = if !self.alarms.iter().any(|alarm| alarm.at == Some(until)) {
                "waits for a read, and no timer is set"
            } else if !connection.socket.is_empty() && connection.unread_at + limit < until {
                "has data that is read too late"
            } else if connection.readies > connection.read.readies && !connection.has_dropped {
                "waits for a read, and an answer is on its way"
            } else if connection.is_closing
                || connection.is_new_session && !connection.was_delivered
            {
                "waits for a read, and is not the one that delivers"
            } else {
                return None;
            };
            Some(format!("connection {index} {wrong}"))
        })
    }
}

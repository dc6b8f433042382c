//! Failures of servers: they stop, start, and change their roles.

use super::chaos::KERNEL_TIMEOUT;
use super::clock::{MILLI, SECOND, SimulatorEvent};
use super::server::Status;
use super::{Simulation, log_line};
use crate::proto::wire::Severity;

impl Simulation {
    pub(super) fn restart(&mut self, server: usize) {
        let way = self.random.below(3);
        log_line!(self, "server {server}: restart ({way})");
        self.servers[server].status = Status::Down;
        for index in 0..self.connections.len() {
            if self.connections[index].server == server {
                match way {
                    0 => {
                        let text = "terminating connection due to administrator command";
                        self.kill(index, Some((Severity::Fatal, "57P01", text)), false);
                    }
                    1 => {
                        let text = "terminating connection due to immediate shutdown command";
                        self.kill(index, Some((Severity::Warning, "57P01", text)), false);
                    }
                    _ => self.kill(index, None, true),
                }
            }
        }
        let delay = self.random.range(10 * MILLI, 8 * SECOND);
        self.clock.after(delay, SimulatorEvent::Up(server), &mut self.random);
    }

    /// Makes another server the primary. The old one stops, or its connections become half-open for ever.
    pub(super) fn fail_over(&mut self) {
        let old = self.primary;
        let next = (old + 1 + self.random.index(self.servers.len())) % self.servers.len();
        if next == old || self.servers[next].status != Status::Up {
            return;
        }
        log_line!(self, "failover from server {old} to server {next}");
        self.primary = next;
        // Connections from before would not report what was committed while it was not the primary.
        for index in 0..self.connections.len() {
            if self.connections[index].server == next {
                self.kill(index, None, true);
            }
        }
        match self.random.below(3) {
            0 => return self.restart(old),
            1 => {
                // It continues for a while, but nothing is committed on it: its connections receive nothing.
                for connection in self.connections.iter_mut().filter(|c| c.server == old) {
                    connection.is_faulty = true;
                }
                let delay = self.random.range(MILLI, 10 * SECOND);
                return self.clock.after(delay, SimulatorEvent::Stop(old), &mut self.random);
            }
            _ => {}
        }
        let now = self.clock.now();
        for (index, connection) in self.connections.iter_mut().enumerate() {
            if connection.server != old || connection.is_closed() {
                continue;
            }
            self.clock.after(KERNEL_TIMEOUT, SimulatorEvent::Overdue(index), &mut self.random);
            connection.is_faulty = true;
            connection.to_server.cut(now);
            connection.to_client.cut(now);
        }
    }

    /// Stops a former primary, unless it is the primary again.
    pub(super) fn stop(&mut self, server: usize) {
        if server != self.primary {
            self.restart(server);
        }
    }

    /// Starts a server. At first it may refuse connections because it is starting.
    pub(super) fn come_up(&mut self, server: usize) {
        let status = &mut self.servers[server].status;
        if *status == Status::Down && self.random.chance(40) && !self.is_calm {
            *status = Status::Starting;
            let delay = self.random.range(10 * MILLI, 2 * SECOND);
            self.clock.after(delay, SimulatorEvent::Up(server), &mut self.random);
        } else {
            *status = Status::Up;
        }
        log_line!(self, "server {server}: {:?}", self.servers[server].status);
    }
}

//! What every part of a supervisor uses: the time, the links, the counters, and the actions for the driver.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

use super::action::{Action, Close, CommandNumber, LinkId, LogEvent, Reply};
use super::counters::SupervisorCounters;
use super::links::Links;
use super::nonces::Nonces;
use super::owner::Owner;
use crate::error::Error;

#[derive(Debug)]
pub(super) struct Common {
    /// For the texts of errors.
    pub(super) owner: Owner,
    /// The time of the input. The driver sets it, because a supervisor reads no clock.
    pub(super) now: Instant,
    /// The time of day at one instant, from which later times are computed.
    wall_clock: (Instant, SystemTime),
    pub(super) links: Links,
    pub(super) counters: SupervisorCounters,
    /// Secret random values: for the fence notification of a handover, the name of its channel, and self-notifications.
    pub(super) nonces: Nonces,
    actions: VecDeque<Action>,
}

impl Common {
    pub(super) fn new(owner: Owner, now: Instant, time: SystemTime, nonces: Nonces) -> Self {
        Self {
            owner,
            now,
            wall_clock: (now, time),
            links: Links::default(),
            counters: SupervisorCounters::default(),
            nonces,
            actions: VecDeque::new(),
        }
    }

    /// Sets the time, and the time of day at it.
    pub(super) fn set_time(&mut self, now: Instant, time: SystemTime) {
        (self.now, self.wall_clock) = (now, (now, time));
    }

    /// Returns the time of day.
    pub(super) fn time_of_day(&self) -> SystemTime {
        let (set_at, time) = self.wall_clock;
        let passed = self.now.saturating_duration_since(set_at);
        time.checked_add(passed).unwrap_or(time)
    }

    /// Adds an action for the driver.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn log(&mut self, event: LogEvent) {
        self.act(Action::Log(event));
    }

    pub(super) fn reply(&mut self, id: CommandNumber, result: Result<Reply, Error>) {
        self.act(Action::Reply { id, result });
    }

    pub(super) fn close(&mut self, link: LinkId, how: Close) {
        self.act(Action::Close { link, how });
    }

    /// Makes the driver deliver the current session.
    pub(super) fn deliver_current(&mut self) {
        let now = self.now;
        if let Some(link) = &mut self.links.current {
            // It may have waited for the old session without being read.
            link.restart_timeouts(now);
            let link = link.id;
            self.act(Action::Deliver { link });
            self.act(Action::Read { link, on: true });
        }
    }
}

//! What every part of a supervisor uses: the time, the links, the counters, and the actions for the driver.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

use super::action::{Action, Close, CommandNumber, LogEvent, Reply};
use super::links::Links;
use super::nonces::Nonces;
use super::{LinkId, SupervisorCounters};
use crate::error::Error;

#[derive(Debug)]
pub(super) struct Common {
    pub(super) clock: Clock,
    pub(super) links: Links,
    pub(super) counters: SupervisorCounters,
    /// Secret random values: for the fence notification of a handover, the name of its channel, and self-notifications.
    pub(super) nonces: Nonces,
    actions: VecDeque<Action>,
}

impl Common {
    pub(super) fn new(clock: Clock, nonces: Nonces) -> Self {
        Self {
            clock,
            links: Links::default(),
            counters: SupervisorCounters::default(),
            nonces,
            actions: VecDeque::new(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now
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
        let now = self.now();
        if let Some(link) = &mut self.links.current {
            // It may have waited for the old session without being read.
            link.restart_timeouts(now);
            let link = link.id;
            self.act(Action::Deliver { link });
            self.act(Action::Read { link, on: true });
        }
    }
}

/// The time, which the driver sets before its inputs, because a supervisor reads no clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    now: Instant,
    /// The time of day at one instant, from which later times are computed.
    set_at: Instant,
    time: SystemTime,
}

impl Clock {
    pub(super) fn new(now: Instant, time: SystemTime) -> Self {
        Self { now, set_at: now, time }
    }

    pub(super) fn advance(&mut self, now: Instant) {
        self.now = now;
    }

    /// Returns the time of day.
    pub(super) fn time(&self) -> SystemTime {
        let passed = self.now.saturating_duration_since(self.set_at);
        self.time.checked_add(passed).unwrap_or(self.time)
    }
}

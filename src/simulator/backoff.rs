//! Checks of the delays before attempts: they grow, and they are random.

use std::time::Duration;

use super::clock::{MILLI, Micros, SimulatorEvent};
use super::{Simulation, log_line};
use crate::error::{Error, ErrorKind};
use crate::proto::supervisor::LogEvent;
use crate::proto::wire::{DbError, Severity};

#[derive(Debug, Default)]
pub(super) struct BackoffCheck {
    /// Failures since the delay was reset, at least and at most.
    failures: (u32, u32),
    /// The time of the next attempt.
    due: Option<Micros>,
    /// The relative positions of delays between the shortest and a long limit: 0 to 1.
    pub(super) spread: Vec<f64>,
    has_attempted: bool,
}

impl BackoffCheck {
    /// Records that a session was live for `time`: a stable session resets the delays.
    pub(super) fn was_live(
        &mut self,
        time: Micros,
        is_certain: bool,
        delays: Option<(Micros, Micros)>,
    ) {
        let Some((_, max)) = delays else { return };
        // It is unknown from which time the new session of a handover counts as live.
        if time >= max {
            self.failures.0 = 0;
            if is_certain {
                self.failures.1 = 0;
            }
        } else if !is_certain {
            self.failures.0 = 0;
        }
    }

    /// Returns whether most of the delays were too short.
    pub(super) fn is_too_short(&self) -> bool {
        let sum: f64 = self.spread.iter().sum();
        self.spread.len() >= 16 && sum / (self.spread.len() as f64) < 0.15
    }
}

impl Simulation {
    pub(super) fn record_log_event(&mut self, event: &LogEvent) {
        log_line!(self, "log event: {event:?}");
        match event {
            LogEvent::Reconnecting { delay, .. } => self.waits(*delay),
            // Notifications after an answer that ends the session belong to the gap.
            LogEvent::Lost { error } if is_of_an_answer(error) => self.unchecked = None,
            LogEvent::HandedOver { .. } => {
                self.handovers += 1;
                self.is_live();
            }
            _ => {}
        }
    }

    /// Records that the session which delivers listens to every wanted channel.
    pub(super) fn is_live(&mut self) {
        let now = self.clock.now();
        let Some(index) = self.delivering else { return };
        self.connections[index].live_at = Some(now);
        if self.plan.flaps && !self.is_calm {
            let delay = self.random.range(1, 50) * MILLI;
            self.clock.after(delay, SimulatorEvent::Flap(index), &mut self.random);
        }
    }

    fn waits(&mut self, delay: Duration) {
        let Some((min, max)) = self.plan.delays else {
            return self.fail("it reconnects, although that is disabled");
        };
        let failures = &mut self.backoff.failures;
        *failures = (failures.0 + 1, failures.1 + 1);
        let limit = |failures: u32| min.saturating_mul(1 << failures.min(30)).min(max.max(min));
        let (low, high) = (limit(failures.0), limit(failures.1));
        let delay = u64::try_from(delay.as_micros()).unwrap();
        if delay < min || delay > high {
            return self.fail(format!("a delay of {delay} µs, it must be from {min} to {high}"));
        }
        if low == high && low >= 8 * min {
            self.backoff.spread.push((delay - min) as f64 / (low - min) as f64);
            if self.backoff.is_too_short() {
                return self.fail("the delays are too short for so many failures");
            }
        }
        self.backoff.due = Some(self.clock.now() + delay);
    }

    /// Checks the time of an attempt to connect when it begins.
    pub(super) fn attempted(&mut self, is_new_session: bool) {
        if self.done.is_some() || self.is_end_known {
            return self.fail("a connection is opened after the end");
        }
        let is_first = !std::mem::replace(&mut self.backoff.has_attempted, true);
        if is_new_session {
            self.begin_burst();
        }
        if is_first || is_new_session {
            return;
        }
        let now = self.clock.now();
        match self.backoff.due.take() {
            Some(due) if due <= now + 1 => {}
            due => self.fail(format!("an attempt at {now} µs, and the next one is due at {due:?}")),
        }
    }
}

/// Returns whether the listener has ended the session because of an answer of the server.
fn is_of_an_answer(error: &Error) -> bool {
    let is_fatal = |error: &DbError| error.is_fatal() || error.severity() == Severity::Warning;
    error.kind() == ErrorKind::Pooler || error.db_error().is_some_and(|error| !is_fatal(error))
}

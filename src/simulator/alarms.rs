//! The simulated timers of the task.

use std::task::{Context, Waker};
use std::time::Instant;

use super::Simulation;
use super::clock::{MILLI, Micros, SimulatorEvent};

/// A timer that the task owns: the index of its [`AlarmState`].
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<usize>);

/// The state of a timer.
#[derive(Debug, Default)]
pub(super) struct AlarmState {
    /// The deadline. `None` if it has passed, or is not set.
    pub(super) at: Option<Micros>,
    /// Changes when the timer is set: events with an older number are ignored.
    turn: u64,
    waker: Option<Waker>,
}

impl Simulation {
    pub(super) fn poll_alarm(
        &mut self,
        cx: &mut Context<'_>,
        alarm: &mut Alarm,
        deadline: Option<Instant>,
    ) -> bool {
        let number = *alarm.0.get_or_insert_with(|| {
            self.alarms.push(AlarmState::default());
            self.alarms.len() - 1
        });
        let set = &mut self.alarms[number];
        let Some(deadline) = deadline else {
            set.at = None;
            return false;
        };
        if deadline <= self.clock.instant() {
            return true;
        }
        set.waker = Some(cx.waker().clone());
        let due = self.clock.micros(deadline);
        if set.at != Some(due) {
            set.at = Some(due);
            set.turn += 1;
            let event = SimulatorEvent::Alarm(number, set.turn);
            let late = if self.random.chance(2) { self.random.range(0, 50 * MILLI) } else { 0 };
            let late = late + self.plan.lateness;
            self.clock.at(due.saturating_add(late), event, &mut self.random);
        }
        false
    }

    pub(super) fn fire_alarm(&mut self, number: usize, turn: u64) {
        let set = &mut self.alarms[number];
        if set.at.is_some() && set.turn == turn {
            set.at = None;
            if let Some(waker) = set.waker.take() {
                waker.wake();
            }
        }
    }
}

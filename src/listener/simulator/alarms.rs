//! Deadlines that the task waits for.

use std::task::{Context, Waker};
use std::time::Instant;

use super::World;
use super::clock::{Event, MILLI, Micros};

/// A deadline, in the hands of the task: the number of its [`Set`].
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<usize>);

#[derive(Debug, Default)]
pub(super) struct Set {
    /// When it rings. `None`: it has rung, or is not to.
    pub(super) at: Option<Micros>,
    /// Which of all the times it was set is meant: others are out of date.
    turn: u64,
    waker: Option<Waker>,
}

impl World {
    pub(super) fn look_at_alarm(
        &mut self,
        cx: &mut Context<'_>,
        alarm: &mut Alarm,
        deadline: Option<Instant>,
    ) -> bool {
        let number = *alarm.0.get_or_insert_with(|| {
            self.alarms.push(Set::default());
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
            let event = Event::Alarm(number, set.turn);
            let late = if self.random.chance(2) { self.random.range(0, 50 * MILLI) } else { 0 };
            let late = late + self.plan.lateness;
            self.clock.at(due.saturating_add(late), event, &mut self.random);
        }
        false
    }

    pub(super) fn ring(&mut self, number: usize, turn: u64) {
        let set = &mut self.alarms[number];
        if set.at.is_some() && set.turn == turn {
            set.at = None;
            if let Some(waker) = set.waker.take() {
                waker.wake();
            }
        }
    }
}

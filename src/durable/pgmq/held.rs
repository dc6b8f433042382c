//! [`HeldJobs`]: the jobs that a consumer has read and not finished, and what is due for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::Claim;

/// The delay before the first statement that repeats one for a job.
const DEFER_MIN: Duration = Duration::from_millis(50);

/// The longest such delay.
const DEFER_MAX: Duration = Duration::from_secs(1);

/// What is left to do for a job that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Running,
    Ended(Ending),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    Retry(Duration),
    Dead(Arc<str>),
    /// It was not started, or it was cancelled.
    Released,
}

/// A job that was read, and is not finished.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) attempt: u32,
    /// Until when at least no other read returns it.
    pub(super) visible_at: Instant,
    /// The time for which its handler wants it.
    pub(super) wanted: Option<Duration>,
    pub(super) state: State,
    /// A statement that stores its end may have been executed.
    pub(super) is_in_doubt: bool,
    /// It is counted as lapsed.
    pub(super) has_lapsed: bool,
    /// The last statement has found it locked: as long as it is, no other reader can take it.
    pub(super) is_locked: bool,
    /// Another reader has it.
    pub(super) is_taken: bool,
    /// It is not in the queue any more. Its handler may have removed it.
    pub(super) is_removed: bool,
    /// Its handler has run for a third of the visibility timeout.
    pub(super) was_extended: bool,
    /// Its handler was cancelled, which is counted.
    pub(super) is_cancelled: bool,
    /// Its end will not be stored, because the consumer ends with an error.
    pub(super) is_abandoned: bool,
    /// No statement has it before, because one has failed.
    deferred_until: Option<Instant>,
    /// The statements that have failed for it, one after the other.
    failures: u32,
}

/// The jobs whose ends are stored next, by the kind of their end.
#[derive(Debug, Default)]
pub(super) struct Endings {
    pub(super) done: Vec<Claim>,
    pub(super) moved: Vec<(Claim, Duration)>,
    pub(super) dead: Vec<(Claim, Arc<str>)>,
    pub(super) released: Vec<Claim>,
}

/// An extension of the visibility timeout of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) claim: Claim,
    pub(super) time: Duration,
    /// Its handler has asked for it.
    pub(super) is_wanted: bool,
}

/// The jobs that were read and are not finished, by their ids.
#[derive(Debug)]
pub(super) struct HeldJobs {
    pub(super) jobs: BTreeMap<i64, Held>,
    visibility: Duration,
}

impl Held {
    pub(super) fn new(attempt: u32, visible_at: Instant, state: State) -> Self {
        Self {
            attempt,
            visible_at,
            wanted: None,
            state,
            is_in_doubt: false,
            has_lapsed: false,
            is_locked: false,
            is_taken: false,
            is_removed: false,
            was_extended: false,
            is_cancelled: false,
            is_abandoned: false,
            deferred_until: None,
            failures: 0,
        }
    }

    pub(super) fn claim(&self, msg_id: i64) -> Claim {
        Claim { msg_id, attempt: self.attempt }
    }

    /// Takes the place of an earlier read of the same job.
    pub(super) fn read_again(&mut self, attempt: u32, visible_at: Instant) {
        (self.attempt, self.visible_at) = (attempt, visible_at);
        (self.has_lapsed, self.is_taken, self.is_removed) = (false, false, false);
        self.is_in_doubt = false;
        self.succeeded();
    }

    /// Returns whether its visibility timeout is extended.
    pub(super) fn is_extended(&self) -> bool {
        !self.is_taken && !self.is_removed && matches!(self.state, State::Waiting | State::Running)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Returns whether its end waits because a statement for it has failed.
    pub(super) fn is_deferred(&self) -> bool {
        self.deferred_until.is_some() && matches!(self.state, State::Ended(_))
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.deferred_until.is_none_or(|until| until <= now)
    }

    /// Counts the timeout that has passed. Returns true if it is counted now.
    pub(super) fn has_just_lapsed(&mut self, now: Instant) -> bool {
        let has_just_lapsed = self.visible_at <= now && !self.has_lapsed && !self.is_locked;
        self.has_lapsed |= has_just_lapsed;
        has_just_lapsed
    }

    /// A statement for it has succeeded.
    pub(super) fn succeeded(&mut self) {
        self.end_deferral();
        self.is_locked = false;
    }

    pub(super) fn end_deferral(&mut self) {
        (self.deferred_until, self.failures) = (None, 0);
    }
}

impl HeldJobs {
    pub(super) fn new(visibility: Duration) -> Self {
        Self { jobs: BTreeMap::new(), visibility }
    }

    /// Lets the next statement for a job wait, the longer the more have failed. A lock is rarely held for long. A twelfth of the visibility
    /// timeout: there are several attempts before it passes.
    fn defer(&mut self, msg_id: i64, now: Instant) {
        let longest = DEFER_MAX.min(self.visibility / 12);
        if let Some(held) = self.jobs.get_mut(&msg_id) {
            let factor = 2_u32.saturating_pow(held.failures.min(16));
            held.failures = held.failures.saturating_add(1);
            held.deferred_until = now.checked_add(DEFER_MIN.saturating_mul(factor).min(longest));
        }
    }

    /// Lets all jobs that are to be put aside wait, because that has failed for some of them: the cause is rarely a job. Jobs that wait at different
    /// times would leave no time for other statements.
    pub(super) fn defer_dead(&mut self, now: Instant) {
        let until = now.checked_add(DEFER_MAX.min(self.visibility / 12));
        let is_dead = |held: &&mut Held| matches!(held.state, State::Ended(Ending::Dead(_)));
        for held in self.jobs.values_mut().filter(is_dead) {
            held.deferred_until = held.deferred_until.max(until);
        }
    }

    /// Handles that a statement has found a job locked.
    pub(super) fn handle_locked(&mut self, msg_id: i64, now: Instant) {
        self.defer(msg_id, now);
        self.jobs.entry(msg_id).and_modify(|held| held.is_locked = true);
    }

    /// Handles that a statement with a job has failed. The first time it is only repeated: the cause may be gone, and the consumer pauses
    /// anyway. After that other statements go before it.
    pub(super) fn defer_repeated(&mut self, msg_id: i64, now: Instant) {
        match self.jobs.get_mut(&msg_id) {
            Some(held) if held.failures == 0 => held.failures = 1,
            _ => self.defer(msg_id, now),
        }
    }

    /// Returns how many have ends that wait, because statements for them have failed.
    pub(super) fn deferred(&self) -> usize {
        self.jobs.values().filter(|held| held.is_deferred()).count()
    }

    /// Returns whether the ends of all jobs can be stored by a finish now, except those that wait because statements for them have failed.
    pub(super) fn are_all_done_or_deferred(&self, now: Instant) -> bool {
        self.jobs.values().all(|held| match held.is_ready(now) {
            true => held.state == State::Ended(Ending::Done),
            false => held.is_deferred(),
        })
    }

    /// Returns whether the visibility timeout of a job has less than a third left, so its handler is not started before it is extended.
    pub(super) fn is_short(&self, held: &Held, now: Instant) -> bool {
        held.visible_at < now + self.visibility / 3
    }

    /// Returns when the visibility timeout of a job is extended: when a third of it has passed.
    fn extended_at(&self, held: &Held) -> Instant {
        let left = self.visibility * 2 / 3;
        held.visible_at.checked_sub(left).unwrap_or(held.visible_at)
    }

    fn is_due(&self, held: &Held, now: Instant) -> bool {
        let is_time = held.wanted.is_some() || self.extended_at(held) <= now;
        held.is_extended() && held.is_ready(now) && is_time
    }

    /// Returns whether a job that waits is to be extended.
    pub(super) fn is_a_waiting_one_due(&self, now: Instant) -> bool {
        self.jobs.values().any(|held| held.is_waiting() && self.is_due(held, now))
    }

    /// Returns the jobs whose visibility timeout is extended now, none if it is due for none.
    pub(super) fn take_extensions(&mut self, now: Instant) -> Vec<Extension> {
        if !self.jobs.values().any(|held| self.is_due(held, now)) {
            return Vec::new();
        }
        let visibility = self.visibility;
        // The others too, unless they have most of their time.
        let enough = now + visibility * 5 / 6;
        let mut extensions = Vec::new();
        for (msg_id, held) in &mut self.jobs {
            let has_enough = held.wanted.is_none() && held.visible_at > enough;
            if !held.is_extended() || !held.is_ready(now) || has_enough {
                continue;
            }
            let wanted = held.wanted.take();
            let time = wanted.unwrap_or_default().max(visibility);
            let (claim, is_wanted) = (held.claim(*msg_id), wanted.is_some());
            extensions.push(Extension { claim, time, is_wanted });
        }
        extensions
    }

    /// Returns when an extension, or a statement that was deferred, is due.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let time = |held: &Held| match held.state {
            State::Ended(_) => held.deferred_until,
            _ if !held.is_extended() => None,
            _ if held.wanted.is_some() => held.deferred_until,
            _ => Some(self.extended_at(held)).max(held.deferred_until),
        };
        self.jobs.values().filter_map(time).min()
    }

    /// Returns whether a job has ended whose end no failed statement delays.
    pub(super) fn has_ended(&self) -> bool {
        let has_ended = |held: &Held| matches!(held.state, State::Ended(_)) && !held.is_deferred();
        self.jobs.values().any(has_ended)
    }

    /// Returns the ends that can be stored now, of each kind at most `max`.
    pub(super) fn endings(&self, now: Instant, max: usize) -> Endings {
        let mut endings = Endings::default();
        let ready = self.jobs.iter().filter(|(_, held)| held.is_ready(now));
        for (msg_id, held) in ready {
            let State::Ended(ending) = &held.state else { continue };
            let claim = held.claim(*msg_id);
            match ending {
                Ending::Done => endings.done.push(claim),
                Ending::Retry(delay) => endings.moved.push((claim, *delay)),
                Ending::Released => endings.released.push(claim),
                Ending::Dead(reason) => endings.dead.push((claim, reason.clone())),
            }
        }
        endings.done.truncate(max);
        endings.moved.truncate(max);
        endings.dead.truncate(max);
        endings.released.truncate(max);
        endings
    }
}

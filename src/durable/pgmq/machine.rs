//! [`ConsumerMachine`]: the decisions of a consumer, without I/O and without a clock.
//!
//! ```text
//!              ┌────────── Read ◀── woken, poll, throttle, retry is due, full batch. With a finish it is one statement: FinishAndRead
//!              ▼
//! Waiting ─▶ Running ─▶ Ended ─┬─ Finish          archive or delete
//!    │                         ├─ SetVisibility   a later attempt
//!    │                         ├─ Bury            the last attempt has failed
//!    └── stop, timeout ──────▶ └─ Release         given back without an attempt
//!
//! Waiting, Running ── a third of the visibility timeout ─▶ SetVisibility
//! ```
//! A job is named by its id and by how often it was read, which a read increments. A statement changes only rows that have both, so what this consumer
//! decides has no effect after another reader has taken the job. One statement runs at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::Message;
use super::settings::{ConsumerSettings, TIME_MAX};
use super::stats::ConsumerStats;
use crate::proto::route::PseudoRandom;

/// The highest number of times at which a retry is due that are kept. The poll finds what is due at others.
const DUE_MAX: usize = 10_000;

/// A read of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) msg_id: i64,
    /// How often it was read, this time included.
    pub(super) attempt: u32,
}

/// What must be done on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Reads at most this number of messages.
    Read(usize),
    /// Makes messages visible after a time from now.
    SetVisibility(Vec<(Claim, Duration)>),
    /// Makes messages visible now, and takes back that they were read.
    Release(Vec<Claim>),
    /// Archives or deletes.
    Finish(Vec<Claim>),
    /// Archives or deletes, and then reads at most this number of messages: both or neither.
    FinishAndRead(Vec<Claim>, usize),
    /// Puts aside, with a reason.
    Bury(Vec<(Claim, Arc<str>)>),
    /// Returns which of these messages are in the queue, whichever reader has them.
    Find(Vec<i64>),
}

/// The answer to a command.
#[derive(Debug)]
pub(super) enum Answer {
    Read {
        messages: Vec<Message>,
        /// There may be more.
        is_full: bool,
    },
    /// The ids of the messages that were changed, or found.
    Changed(Vec<i64>),
    FinishedAndRead {
        changed: Vec<i64>,
        messages: Vec<Message>,
        /// There may be more.
        is_full: bool,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nothing was changed.
    Undone,
    /// The server may have done it.
    InDoubt,
    /// The server refuses the data of one of the jobs.
    Refused,
}

/// How a run of the handler has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed(String),
    Cancelled,
}

/// What the machine reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The visibility timeout of a job was extended, or another reader has the job.
    Extended {
        msg_id: i64,
        is_held: bool,
    },
    Dead {
        msg_id: i64,
        attempts: u32,
        reason: Arc<str>,
    },
    Overtaken {
        msg_id: i64,
    },
}

/// What is left to do for a job that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Ended(Ending),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    Done,
    Retry(Duration),
    Dead(Arc<str>),
    /// It was not started.
    Released,
}

/// A job that was read, and is not finished.
#[derive(Debug)]
struct Held {
    attempt: u32,
    /// Until when at least no other read returns it.
    visible_at: Instant,
    /// The time for which its handler wants it.
    wanted: Option<Duration>,
    state: State,
    /// A statement that stores its end may have been executed.
    is_in_doubt: bool,
    /// A second one has changed nothing: either the first one was executed, or another reader has the job.
    is_unknown: bool,
    /// It is counted as lapsed.
    has_lapsed: bool,
    /// Another reader has it.
    is_taken: bool,
}

/// The command that is being executed.
#[derive(Debug)]
enum InFlight {
    Read { sent: Instant },
    Extend { sent: Instant, jobs: Vec<(i64, Duration)> },
    Store { jobs: Vec<i64> },
    FinishAndRead { sent: Instant, jobs: Vec<i64> },
    Find { jobs: Vec<i64> },
}

#[derive(Debug)]
pub(super) struct ConsumerMachine {
    settings: ConsumerSettings,
    random: PseudoRandom,
    /// The throttle of the notifications: a message that was sent within it may have none.
    throttle: Option<Duration>,
    held: BTreeMap<i64, Held>,
    /// The messages of the jobs that are waiting, in their order.
    waiting: VecDeque<Message>,
    running: usize,
    must_read: bool,
    /// When the throttle of the last notification has passed.
    read_again_at: Option<Instant>,
    /// When retries are due.
    due: BTreeSet<Instant>,
    in_flight: Option<InFlight>,
    /// The highest number of jobs whose ends one statement stores.
    store_max: usize,
    is_stopping: bool,
    stats: ConsumerStats,
}

impl ConsumerMachine {
    pub(super) fn new(settings: ConsumerSettings, seed: u64) -> Self {
        Self {
            settings,
            random: PseudoRandom::new(seed),
            throttle: None,
            held: BTreeMap::new(),
            waiting: VecDeque::new(),
            running: 0,
            must_read: true,
            read_again_at: None,
            due: BTreeSet::new(),
            in_flight: None,
            store_max: usize::MAX,
            is_stopping: false,
            stats: ConsumerStats::default(),
        }
    }

    // ---- inputs ----

    /// Sets the throttle of the notifications of the queue, `None` if there are none.
    pub(super) fn set_throttle(&mut self, throttle: Option<Duration>) {
        self.throttle = throttle;
    }

    /// Handles a wake-up.
    pub(super) fn handle_woken(&mut self, now: Instant) {
        self.must_read = true;
        // A later notification replaces the time: it is followed by a read of its own.
        self.read_again_at = self.throttle.and_then(|throttle| now.checked_add(throttle));
    }

    /// Handles the end of a run.
    pub(super) fn handle_ended(&mut self, msg_id: i64, end: End) {
        let Some(held) = self.held.get_mut(&msg_id) else { return };
        if held.state != State::Running {
            return;
        }
        self.running = self.running.saturating_sub(1);
        held.wanted = None;
        let attempt = held.attempt;
        if matches!(end, End::Failed(_)) {
            self.stats.failures += 1;
        }
        if held.is_taken {
            // Its end is that of the other reader.
            self.held.remove(&msg_id);
            return;
        }
        let ending = match end {
            End::Done => Ending::Done,
            End::Cancelled => Ending::Retry(Duration::ZERO),
            End::Failed(reason) if attempt >= self.settings.max_attempts => {
                Ending::Dead(reason.into())
            }
            End::Failed(_) => Ending::Retry(self.delay_after(attempt)),
        };
        if let Some(held) = self.held.get_mut(&msg_id) {
            held.state = State::Ended(ending);
        }
    }

    /// Handles a panic of a handler, which is the end of its run too.
    pub(super) fn count_panic(&mut self) {
        self.stats.panics += 1;
    }

    /// Handles that a handler asks for more time. Returns true if the job has it already, false if a command follows, and `None` if the job is not
    /// this consumer's.
    pub(super) fn handle_wanted(
        &mut self,
        msg_id: i64,
        time: Duration,
        now: Instant,
    ) -> Option<bool> {
        let held = self.held.get_mut(&msg_id).filter(|held| !held.is_taken)?;
        if held.state != State::Running {
            return None;
        }
        // As much as is sent. An instant far in the future may not exist.
        let time = time.min(TIME_MAX);
        if now.checked_add(time).is_some_and(|until| until <= held.visible_at) {
            return Some(true);
        }
        held.wanted = held.wanted.max(Some(time));
        Some(false)
    }

    /// Begins the end: jobs that were not started are given back, and nothing more is read.
    pub(super) fn handle_stop(&mut self) {
        self.is_stopping = true;
        self.waiting.clear();
        for held in self.held.values_mut().filter(|held| held.state == State::Waiting) {
            held.state = State::Ended(Ending::Released);
        }
    }

    /// Forgets all jobs. Returns the number of those whose end is not stored.
    pub(super) fn handle_abandoned(&mut self) -> usize {
        self.handle_stop();
        let ended = self.held.values().filter(|held| held.state != State::Running).count();
        self.held.retain(|_, held| held.state == State::Running);
        self.held.values_mut().for_each(|held| held.is_taken = true);
        self.in_flight = None;
        ended
    }

    pub(super) fn handle_answer(&mut self, now: Instant, answer: Answer) -> Vec<Effect> {
        let mut effects = Vec::new();
        match (self.in_flight.take(), answer) {
            (Some(InFlight::Read { sent }), Answer::Read { messages, is_full }) => {
                self.handle_read(sent, messages, is_full);
            }
            (
                Some(InFlight::FinishAndRead { sent, jobs }),
                Answer::FinishedAndRead { changed, messages, is_full },
            ) => {
                self.handle_all_stored(now, &jobs, changed, &mut effects);
                self.handle_read(sent, messages, is_full);
            }
            (Some(InFlight::Extend { sent, jobs }), Answer::Changed(mut changed)) => {
                changed.sort_unstable();
                for (msg_id, time) in jobs {
                    let is_held = changed.binary_search(&msg_id).is_ok();
                    self.handle_extended(now, msg_id, is_held.then_some(sent + time), &mut effects);
                }
            }
            (Some(InFlight::Store { jobs }), Answer::Changed(changed)) => {
                self.handle_all_stored(now, &jobs, changed, &mut effects);
            }
            (Some(InFlight::Find { jobs }), Answer::Changed(mut found)) => {
                found.sort_unstable();
                for msg_id in jobs {
                    let is_there = found.binary_search(&msg_id).is_ok();
                    self.handle_end(now, msg_id, !is_there, &mut effects);
                }
            }
            // The driver answers what was asked.
            _ => {}
        }
        effects
    }

    pub(super) fn handle_failed(&mut self, failed: Failed) {
        self.stats.retries += 1;
        let in_flight = self.in_flight.take();
        if matches!(in_flight, Some(InFlight::Read { .. } | InFlight::FinishAndRead { .. })) {
            self.must_read = true;
        }
        match in_flight {
            Some(InFlight::Store { jobs } | InFlight::FinishAndRead { jobs, .. }) => {
                if failed == Failed::InDoubt {
                    for msg_id in &jobs {
                        self.held.entry(*msg_id).and_modify(|held| held.is_in_doubt = true);
                    }
                    // A second release could be one of the next read, which has the same number.
                    self.held.retain(|_, held| {
                        !held.is_in_doubt || held.state != State::Ended(Ending::Released)
                    });
                } else if failed == Failed::Refused {
                    // One by one, until it is known which of them is refused.
                    self.store_max = 1;
                    if let [msg_id] = jobs[..] {
                        self.held.remove(&msg_id);
                        self.stats.refused += 1;
                    }
                }
            }
            Some(InFlight::Read { .. } | InFlight::Extend { .. } | InFlight::Find { .. })
            | None => {}
        }
    }

    // ---- outputs ----

    /// Returns the next job to start.
    pub(super) fn poll_start(&mut self, now: Instant) -> Option<Message> {
        while self.running < self.settings.concurrency {
            let message = self.waiting.pop_front()?;
            let Some(held) = self.held.get_mut(&message.msg_id) else { continue };
            if held.visible_at <= now {
                // Another reader may have it. If not, the next read returns it.
                held.state = State::Ended(Ending::Released);
                self.stats.lapsed += u64::from(!held.has_lapsed);
                held.has_lapsed = true;
                continue;
            }
            held.state = State::Running;
            self.running += 1;
            return Some(message);
        }
        None
    }

    /// Returns the next command, if none is being executed.
    pub(super) fn poll_command(&mut self, now: Instant) -> Option<Command> {
        if self.in_flight.is_some() {
            return None;
        }
        self.handle_time(now);
        // First what has a deadline, then what makes room.
        self.extend(now).or_else(|| self.store(now)).or_else(|| self.read(now))
    }

    /// Returns when the next command may be due without another input.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let reads = self.read_again_at.into_iter().chain(self.due.first().copied());
        let reads = reads.filter(|_| !self.is_stopping);
        let extensions = self
            .held
            .values()
            .filter(|held| held.is_extended() && self.in_flight.is_none())
            .map(|held| self.extended_at(held));
        reads.chain(extensions).min()
    }

    /// Returns whether there is nothing left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.in_flight.is_none()
    }

    pub(super) fn stats(&self) -> ConsumerStats {
        let (waiting, running) = (self.waiting.len() as u64, self.running as u64);
        ConsumerStats { waiting, running, ..self.stats }
    }

    // ---- parts ----

    fn handle_time(&mut self, now: Instant) {
        if self.read_again_at.is_some_and(|at| at <= now) {
            self.read_again_at = None;
            self.must_read = true;
        }
        while self.due.first().is_some_and(|at| *at <= now) {
            self.due.pop_first();
            self.must_read = true;
        }
    }

    /// Takes a message that was read.
    fn take(&mut self, message: Message, visible_at: Instant) {
        self.stats.jobs += 1;
        let (msg_id, attempt) = (message.msg_id, message.read_count);
        if let Some(held) = self.held.get_mut(&msg_id) {
            // Its timeout had passed, and this consumer has read it again: the run that it has goes on, as this attempt.
            self.stats.lapsed += u64::from(!held.has_lapsed);
            (held.attempt, held.visible_at) = (attempt, visible_at);
            (held.has_lapsed, held.is_taken) = (false, false);
            (held.is_in_doubt, held.is_unknown) = (false, false);
            if let Some(old) = self.waiting.iter_mut().find(|one| one.msg_id == msg_id) {
                *old = message;
            }
            return;
        }
        let state = if self.is_stopping {
            State::Ended(Ending::Released)
        } else if attempt > self.settings.max_attempts {
            // The process ended in each attempt, or the reader did not store an end.
            let reads = attempt - 1;
            State::Ended(Ending::Dead(format!("it was read {reads} times and did not end").into()))
        } else {
            self.waiting.push_back(message);
            State::Waiting
        };
        let held = Held {
            attempt,
            visible_at,
            wanted: None,
            state,
            is_in_doubt: false,
            is_unknown: false,
            has_lapsed: false,
            is_taken: false,
        };
        self.held.insert(msg_id, held);
    }

    /// Returns when the visibility timeout of a job is extended: when a third of it has passed.
    fn extended_at(&self, held: &Held) -> Instant {
        let left = self.settings.visibility * 2 / 3;
        held.visible_at.checked_sub(left).unwrap_or(held.visible_at)
    }

    fn extend(&mut self, now: Instant) -> Option<Command> {
        let is_due = |held: &Held| {
            held.is_extended() && (held.wanted.is_some() || self.extended_at(held) <= now)
        };
        if !self.held.values().any(is_due) {
            return None;
        }
        let visibility = self.settings.visibility;
        // The others too, unless they have most of their time.
        let enough = now + visibility * 5 / 6;
        let (mut jobs, mut claims) = (Vec::new(), Vec::new());
        for (msg_id, held) in &mut self.held {
            if !held.is_extended() || held.wanted.is_none() && held.visible_at > enough {
                continue;
            }
            if held.visible_at <= now && !held.has_lapsed {
                held.has_lapsed = true;
                self.stats.lapsed += 1;
            }
            let time = held.wanted.take().unwrap_or_default().max(visibility);
            jobs.push((*msg_id, time));
            claims.push((held.claim(*msg_id), time));
        }
        self.in_flight = Some(InFlight::Extend { sent: now, jobs });
        Some(Command::SetVisibility(claims))
    }

    fn handle_extended(
        &mut self,
        now: Instant,
        msg_id: i64,
        visible_at: Option<Instant>,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Extended { msg_id, is_held: visible_at.is_some() });
        let Some(held) = self.held.get_mut(&msg_id) else { return };
        match visible_at {
            Some(visible_at) => {
                self.stats.extended += 1;
                held.visible_at = visible_at;
                held.has_lapsed &= visible_at <= now;
            }
            None => {
                effects.push(Effect::Overtaken { msg_id });
                self.stats.overtaken += 1;
                if held.state == State::Running {
                    held.is_taken = true;
                } else {
                    self.held.remove(&msg_id);
                    self.waiting.retain(|one| one.msg_id != msg_id);
                }
            }
        }
    }

    fn ended(&self) -> impl Iterator<Item = (i64, &Held, &Ending)> {
        self.held.iter().filter_map(|(msg_id, held)| match &held.state {
            State::Ended(ending) => Some((*msg_id, held, ending)),
            _ => None,
        })
    }

    /// Stores the ends of jobs, those of one kind in one command.
    fn store(&mut self, now: Instant) -> Option<Command> {
        let unknown: Vec<_> = self
            .ended()
            .filter(|(_, held, _)| held.is_unknown)
            .map(|(msg_id, ..)| msg_id)
            .collect();
        if !unknown.is_empty() {
            self.in_flight = Some(InFlight::Find { jobs: unknown.clone() });
            return Some(Command::Find(unknown));
        }
        let (mut done, mut moved, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        let mut released = Vec::new();
        for (msg_id, held, ending) in self.ended() {
            let claim = held.claim(msg_id);
            match ending {
                Ending::Done => done.push(claim),
                Ending::Retry(delay) => moved.push((claim, *delay)),
                Ending::Released => released.push(claim),
                Ending::Dead(reason) => dead.push((claim, reason.clone())),
            }
        }
        done.truncate(self.store_max);
        moved.truncate(self.store_max);
        dead.truncate(self.store_max);
        released.truncate(self.store_max);
        let has_read = self.reads_with(&done);
        let (claims, command): (Vec<Claim>, _) = if has_read {
            (done.clone(), Command::FinishAndRead(done, self.settings.batch_size))
        } else if !done.is_empty() {
            (done.clone(), Command::Finish(done))
        } else if !moved.is_empty() {
            (moved.iter().map(|one| one.0).collect(), Command::SetVisibility(moved))
        } else if !dead.is_empty() {
            (dead.iter().map(|one| one.0).collect(), Command::Bury(dead))
        } else if !released.is_empty() {
            (released.clone(), Command::Release(released))
        } else {
            return None;
        };
        let jobs: Vec<_> = claims.into_iter().map(|claim| claim.msg_id).collect();
        for msg_id in &jobs {
            if let Some(held) = self.held.get_mut(msg_id)
                && held.visible_at <= now
                && !held.has_lapsed
            {
                held.has_lapsed = true;
                self.stats.lapsed += 1;
            }
        }
        self.in_flight = Some(match has_read {
            true => {
                self.must_read = false;
                InFlight::FinishAndRead { sent: now, jobs }
            }
            false => InFlight::Store { jobs },
        });
        Some(command)
    }

    /// Returns whether the statement that finishes these jobs also reads the next ones: these are all that it has.
    fn reads_with(&self, done: &[Claim]) -> bool {
        let is_in_doubt =
            |claim: &Claim| self.held.get(&claim.msg_id).is_none_or(|held| held.is_in_doubt);
        // With a refused finish, the read would be undone too.
        let is_refused = self.store_max < usize::MAX;
        let is_all = self.held.len() == done.len();
        self.must_read
            && is_all
            && !self.is_stopping
            && !is_refused
            && !done.is_empty()
            && !done.iter().any(is_in_doubt)
    }

    fn handle_read(&mut self, sent: Instant, messages: Vec<Message>, is_full: bool) {
        self.stats.reads += 1;
        self.must_read |= is_full;
        let visible_at = sent + self.settings.visibility;
        messages.into_iter().for_each(|one| self.take(one, visible_at));
    }

    fn handle_all_stored(
        &mut self,
        now: Instant,
        jobs: &[i64],
        mut changed: Vec<i64>,
        effects: &mut Vec<Effect>,
    ) {
        changed.sort_unstable();
        for msg_id in jobs {
            let is_changed = changed.binary_search(msg_id).is_ok();
            self.handle_stored(now, *msg_id, is_changed, effects);
        }
        if self.ended().next().is_none() {
            self.store_max = usize::MAX;
        }
    }

    fn handle_stored(
        &mut self,
        now: Instant,
        msg_id: i64,
        is_changed: bool,
        effects: &mut Vec<Effect>,
    ) {
        match self.held.get_mut(&msg_id) {
            Some(held) if !is_changed && held.is_in_doubt => held.is_unknown = true,
            _ => self.handle_end(now, msg_id, is_changed, effects),
        }
    }

    /// Forgets a job. `is_stored`: its end is, and not that of another reader.
    fn handle_end(
        &mut self,
        now: Instant,
        msg_id: i64,
        is_stored: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(held) = self.held.remove(&msg_id) else { return };
        let State::Ended(ending) = held.state else { return };
        if !is_stored {
            self.stats.overtaken += 1;
            effects.push(Effect::Overtaken { msg_id });
            return;
        }
        match ending {
            Ending::Done => self.stats.finished += 1,
            Ending::Released => {
                self.stats.released += 1;
                self.must_read = true;
            }
            Ending::Dead(reason) => {
                self.stats.dead += 1;
                effects.push(Effect::Dead { msg_id, attempts: held.attempt, reason });
            }
            Ending::Retry(delay) => {
                // Not from when the statement was sent: the server has counted from a later time.
                if let Some(at) = now.checked_add(delay)
                    && self.due.len() < DUE_MAX
                {
                    self.due.insert(at);
                }
            }
        }
    }

    fn read(&mut self, now: Instant) -> Option<Command> {
        let has_room = self.waiting.is_empty() && self.held.len() <= self.settings.concurrency;
        if !self.must_read || !has_room || self.is_stopping {
            return None;
        }
        self.must_read = false;
        self.in_flight = Some(InFlight::Read { sent: now });
        Some(Command::Read(self.settings.batch_size))
    }

    /// Returns the delay after this number of attempts: half of a time that doubles with each attempt, and a random part of the other half.
    fn delay_after(&mut self, attempt: u32) -> Duration {
        let (min, max) = self.settings.backoff;
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let limit = min.saturating_mul(factor).min(max);
        let half = u64::try_from(limit.as_nanos() / 2).unwrap_or(u64::MAX);
        let jitter = self.random.number() % half.saturating_add(1).max(1);
        limit.saturating_sub(Duration::from_nanos(half - jitter))
    }
}

impl Held {
    fn claim(&self, msg_id: i64) -> Claim {
        Claim { msg_id, attempt: self.attempt }
    }

    /// Returns whether its visibility timeout is extended.
    fn is_extended(&self) -> bool {
        !self.is_taken && matches!(self.state, State::Waiting | State::Running)
    }
}

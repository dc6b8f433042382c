//! [`ConsumerMachine`]: the decisions of a consumer, without I/O and without a clock.
//!
//! ```text
//!              ┌────────── Read ◀── woken, poll, throttle, retry is due, full batch. With a finish it is one statement: FinishAndRead
//!              │                 ◀── a message is visible again ◀── LookAhead ◀── a read that was not full
//!              ▼
//! Waiting ─▶ Running ─▶ Ended ─┬─ Finish          archive or delete
//!    │                         ├─ SetVisibility   a later attempt
//!    │                         ├─ Bury            the last attempt has failed
//!    └── stop, timeout ──────▶ └─ Release         given back without an attempt
//!
//! Running ── a third of the visibility timeout ─▶ SetVisibility
//! Waiting ── the same, and no handler is free ───▶ Release
//! ```
//! A job is named by its id and by how often it was read, which a read increments. A statement changes only rows that have both, so what this consumer
//! decides has no effect after another reader has taken the job. One statement runs at a time. None waits for the lock of a row: a job that is locked
//! is left to a later statement, so it does not let the others lapse.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use super::command::{Answer, Claim, Command, Effect, End, Failed};
use super::fate::{Fate, Fates};
use super::found::Found;
use super::held::{Ending, Endings, Extension, Held, HeldJobs, State};
use super::lookahead::Lookahead;
use super::message::Message;
use super::settings::{ConsumerSettings, TIME_MAX};
use super::stats::ConsumerStats;
use crate::proto::route::PseudoRandom;

/// The time in which the server cancels a statement that was given up, and so the latest time at which that can read messages.
const CANCELLED_AFTER: Duration = Duration::from_secs(1);

/// The highest number of times at which a retry is due that are kept. The poll finds what is due at others.
const DUE_MAX: usize = 10_000;

/// The highest number of jobs whose end waits because a statement for it has failed. While there are more, nothing is read.
const DEFERRED_MAX: usize = 1_000;

/// The highest number of reasons that are kept for jobs that could not be put aside.
const REASONS_MAX: usize = 1_000;

/// The command that is being executed.
#[derive(Debug)]
enum InFlight {
    Read { sent: Instant },
    Extend { sent: Instant, jobs: Vec<Extension> },
    Store { jobs: Vec<i64>, is_bury: bool },
    FinishAndRead { sent: Instant, jobs: Vec<i64> },
    LookAhead { sent: Instant },
}

#[derive(Debug)]
pub(super) struct ConsumerMachine {
    settings: ConsumerSettings,
    random: PseudoRandom,
    /// The throttle of the notifications: a message that was sent within it may have none.
    throttle: Option<Duration>,
    held: HeldJobs,
    /// The messages of the jobs that are waiting, in their order.
    waiting: VecDeque<Message>,
    running: usize,
    /// Handlers run for longer than a third of the visibility timeout: no more is read than can be started.
    is_slow: bool,
    must_read: bool,
    /// When the throttle of the last notification has passed.
    read_again_at: Option<Instant>,
    /// When retries are due.
    due: BTreeSet<Instant>,
    lookahead: Lookahead,
    in_flight: Option<InFlight>,
    /// The highest number of jobs whose ends one statement stores.
    store_max: usize,
    /// Why jobs were to be put aside for which the server has refused it.
    reasons: BTreeMap<i64, Arc<str>>,
    is_stopping: bool,
    /// Jobs that the end has left without a stored end.
    unstored: u64,
    stats: ConsumerStats,
}

impl ConsumerMachine {
    pub(super) fn new(settings: ConsumerSettings, seed: u64) -> Self {
        Self {
            held: HeldJobs::new(settings.visibility),
            settings,
            random: PseudoRandom::new(seed),
            throttle: None,
            waiting: VecDeque::new(),
            running: 0,
            is_slow: false,
            must_read: true,
            read_again_at: None,
            due: BTreeSet::new(),
            lookahead: Lookahead::default(),
            in_flight: None,
            store_max: usize::MAX,
            reasons: BTreeMap::new(),
            is_stopping: false,
            unstored: 0,
            stats: ConsumerStats::default(),
        }
    }

    // ---- inputs ----

    /// Sets the throttle of the notifications of the queue, `None` if there are none.
    pub(super) fn set_throttle(&mut self, now: Instant, throttle: Option<Duration>) {
        let is_new = self.throttle.is_none() && throttle.is_some();
        self.throttle = throttle;
        if is_new {
            // The last notification was one of its.
            self.read_again_at = throttle.and_then(|throttle| now.checked_add(throttle));
        }
    }

    pub(super) fn has_throttle(&self) -> bool {
        self.throttle.is_some()
    }

    /// Handles a wake-up.
    pub(super) fn handle_woken(&mut self, now: Instant) {
        self.must_read = true;
        // A later notification replaces the time: it is followed by a read of its own.
        self.read_again_at = self.throttle.and_then(|throttle| now.checked_add(throttle));
    }

    /// Handles the end of a run.
    pub(super) fn handle_ended(&mut self, msg_id: i64, end: End) {
        let Some(held) = self.held.jobs.get_mut(&msg_id) else { return };
        if held.state != State::Running {
            return;
        }
        self.running = self.running.saturating_sub(1);
        held.wanted = None;
        let attempt = held.attempt;
        if matches!(end, End::Failed(_)) {
            self.stats.failures += 1;
        }
        // Its run was short: jobs that wait for a handler do not wait for long.
        self.is_slow &= held.was_extended;
        held.is_cancelled = end == End::Cancelled;
        if held.is_taken {
            // Its end is that of the other reader.
            self.unstored += u64::from(held.is_abandoned && !held.is_cancelled);
            self.held.jobs.remove(&msg_id);
            return;
        }
        let ending = match end {
            End::Done => Ending::Done,
            // It has not failed: it is given back as one that was not started.
            End::Cancelled | End::NotStarted => Ending::Released,
            End::Failed(reason) if attempt >= self.settings.max_attempts => {
                Ending::Dead(reason.into())
            }
            End::Failed(_) => Ending::Retry(self.delay_after(attempt)),
        };
        if let Some(held) = self.held.jobs.get_mut(&msg_id) {
            held.state = State::Ended(ending);
            // What has failed was an extension. A lock may still be there.
            held.end_deferral();
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
        let held = self.held.jobs.get_mut(&msg_id).filter(|held| !held.is_taken)?;
        if held.state != State::Running {
            return None;
        }
        if held.is_removed {
            // A handler that has finished its job itself does not ask for it.
            held.is_taken = true;
            self.stats.overtaken += 1;
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
        self.release_waiting();
    }

    /// Forgets all jobs. Those that have ended or were not started are counted as unstored, unless they were cancelled.
    pub(super) fn handle_abandoned(&mut self) {
        self.handle_stop();
        for held in self.held.jobs.values_mut() {
            match held.state {
                State::Running => {
                    held.is_abandoned = !held.is_taken;
                    held.is_taken = true;
                }
                _ => self.unstored += u64::from(!held.is_cancelled),
            }
        }
        self.held.jobs.retain(|_, held| held.state == State::Running);
        self.in_flight = None;
    }

    pub(super) fn handle_answer(&mut self, now: Instant, answer: Answer) -> Vec<Effect> {
        let mut effects = Vec::new();
        match (self.in_flight.take(), answer) {
            (Some(InFlight::Read { sent }), Answer::Read(found)) => self.handle_read(sent, found),
            (
                Some(InFlight::FinishAndRead { sent, jobs }),
                Answer::FinishedAndRead(fates, found),
            ) => {
                self.handle_all_stored(now, &jobs, &fates, &mut effects);
                self.handle_read(sent, found);
            }
            (Some(InFlight::Extend { sent, jobs }), Answer::Changed(fates)) => {
                for extension in jobs {
                    let fate = fates.of(extension.claim.msg_id);
                    self.handle_extended((sent, now), extension, fate, &mut effects);
                }
            }
            (Some(InFlight::Store { jobs, .. }), Answer::Changed(fates)) => {
                self.handle_all_stored(now, &jobs, &fates, &mut effects);
            }
            (Some(InFlight::LookAhead { sent }), Answer::VisibleIn(left)) => {
                self.lookahead.handle_answer(sent, now, left);
            }
            // The driver answers what was asked.
            _ => {}
        }
        effects
    }

    pub(super) fn handle_failed(&mut self, now: Instant, failed: Failed) -> Vec<Effect> {
        self.stats.retries += 1;
        match self.in_flight.take() {
            Some(InFlight::Read { .. }) => self.handle_not_read(now, failed),
            // After the loss of a session, what has a deadline comes first again.
            Some(InFlight::Extend { jobs, .. }) if failed != Failed::InDoubt => {
                for extension in jobs {
                    self.held.defer_repeated(extension.claim.msg_id, now);
                }
            }
            Some(InFlight::Store { jobs, is_bury }) => {
                let effects = self.handle_not_stored(now, &jobs, failed);
                // A refusal is that of one of them: they are tried one by one.
                if is_bury && failed != Failed::Refused {
                    self.held.defer_dead(now);
                }
                return effects;
            }
            Some(InFlight::FinishAndRead { jobs, .. }) => {
                self.handle_not_read(now, failed);
                if failed == Failed::Refused {
                    // It may be the read that is refused: the jobs are finished alone.
                    self.store_max = 1;
                    return Vec::new();
                }
                return self.handle_not_stored(now, &jobs, failed);
            }
            // The next read asks again.
            Some(InFlight::LookAhead { sent }) => self.lookahead.handle_asked(sent, now),
            Some(InFlight::Extend { .. }) | None => {}
        }
        Vec::new()
    }

    // ---- outputs ----

    /// Returns the next job to start.
    pub(super) fn poll_start(&mut self, now: Instant) -> Option<Message> {
        while self.running < self.settings.concurrency {
            let msg_id = self.waiting.front()?.msg_id;
            let is_short = self.held.jobs.get(&msg_id).map(|held| self.held.is_short(held, now));
            let Some(held) = self.held.jobs.get_mut(&msg_id) else {
                self.waiting.pop_front();
                continue;
            };
            if held.visible_at <= now {
                // Another reader may have it. If not, the next read returns it.
                held.state = State::Ended(Ending::Released);
                self.stats.lapsed += u64::from(held.has_just_lapsed(now));
                self.waiting.pop_front();
                continue;
            }
            if is_short == Some(true) {
                // It is extended first, and the others wait for it, because they start in order.
                return None;
            }
            held.state = State::Running;
            self.running += 1;
            return self.waiting.pop_front();
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
        let command = self.extend(now).or_else(|| self.store(now)).or_else(|| self.read(now));
        command.or_else(|| self.look_ahead(now))
    }

    /// Returns when the next command may be due without another input.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let reads = self.read_again_at.into_iter().chain(self.due.first().copied());
        let reads = reads.chain(self.lookahead.next_time());
        let reads = reads.filter(|_| !self.is_stopping);
        reads.chain(self.held.next_time().filter(|_| self.in_flight.is_none())).min()
    }

    /// Returns whether the command that is being executed stores ends of jobs.
    pub(super) fn is_storing(&self) -> bool {
        matches!(self.in_flight, Some(InFlight::Store { .. } | InFlight::FinishAndRead { .. }))
    }

    /// Returns whether the command that is being executed puts jobs aside.
    pub(super) fn is_burying(&self) -> bool {
        matches!(self.in_flight, Some(InFlight::Store { is_bury: true, .. }))
    }

    /// Returns whether there are jobs whose visibility timeout can pass.
    pub(super) fn has_jobs(&self) -> bool {
        !self.held.jobs.is_empty()
    }

    /// Returns how many jobs the end has left without a stored end.
    pub(super) fn unstored(&self) -> u64 {
        self.unstored
    }

    /// Returns whether there is nothing left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.held.jobs.is_empty() && self.in_flight.is_none()
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
        self.must_read |= self.lookahead.take_visible(now);
    }

    /// Takes a job that was read. Returns false if this consumer has it already.
    fn take(&mut self, claim: Claim, visible_at: Instant, state: State) -> bool {
        self.stats.jobs += 1;
        let Claim { msg_id, attempt } = claim;
        if let Some(held) = self.held.jobs.get_mut(&msg_id) {
            // Its timeout had passed, and this consumer has read it again: the run that it has goes on, as this attempt.
            self.stats.lapsed += u64::from(!held.has_lapsed);
            held.read_again(attempt, visible_at);
            if let Some(old) = self.waiting.iter_mut().find(|one| one.msg_id == msg_id) {
                old.read_count = attempt;
            }
            return false;
        }
        let state = if self.is_stopping { State::Ended(Ending::Released) } else { state };
        self.held.jobs.insert(msg_id, Held::new(attempt, visible_at, state));
        true
    }

    fn take_message(&mut self, message: Message, visible_at: Instant) {
        let claim = Claim { msg_id: message.msg_id, attempt: message.read_count };
        let state = if claim.attempt > self.settings.max_attempts {
            State::Ended(Ending::Dead(self.reason_of(claim)))
        } else {
            State::Waiting
        };
        let is_new = self.take(claim, visible_at, state.clone());
        if is_new && state == State::Waiting && !self.is_stopping {
            self.waiting.push_back(message);
        }
    }

    /// Returns why a job is put aside that was read too often.
    fn reason_of(&self, claim: Claim) -> Arc<str> {
        if let Some(reason) = self.reasons.get(&claim.msg_id) {
            return reason.clone();
        }
        // The process ended in each attempt, or the reader did not store an end.
        format!("it was read {} times and did not end", claim.attempt - 1).into()
    }

    /// Gives back what waits.
    fn release_waiting(&mut self) {
        self.waiting.clear();
        for held in self.held.jobs.values_mut().filter(|held| held.is_waiting()) {
            held.state = State::Ended(Ending::Released);
        }
    }

    fn extend(&mut self, now: Instant) -> Option<Command> {
        // A job that has waited for a third of its timeout, while all handlers run, is given back: another consumer may have a free one. Until a run
        // is short again, no more is read than can be started. As long as runs are short, a whole batch is read, although it waits: that is what keeps
        // the handlers busy between two reads. The order stays that of the ids, because the next read returns the lowest ones.
        if self.running >= self.settings.concurrency && self.held.is_a_waiting_one_due(now) {
            self.release_waiting();
            self.is_slow = true;
        }
        let jobs = self.held.take_extensions(now);
        if jobs.is_empty() {
            return None;
        }
        for extension in &jobs {
            self.count_lapsed(extension.claim.msg_id, now);
        }
        let command = jobs.iter().map(|one| (one.claim, one.time)).collect();
        self.in_flight = Some(InFlight::Extend { sent: now, jobs });
        Some(Command::SetVisibility(command))
    }

    fn count_lapsed(&mut self, msg_id: i64, now: Instant) {
        let held = self.held.jobs.get_mut(&msg_id);
        self.stats.lapsed += u64::from(held.is_some_and(|held| held.has_just_lapsed(now)));
    }

    fn handle_extended(
        &mut self,
        (sent, now): (Instant, Instant),
        extension: Extension,
        fate: Fate,
        effects: &mut Vec<Effect>,
    ) {
        let msg_id = extension.claim.msg_id;
        effects.push(match fate {
            Fate::Locked => Effect::Locked { msg_id },
            _ => Effect::Extended { msg_id, is_held: fate == Fate::Changed },
        });
        let Some(held) = self.held.jobs.get_mut(&msg_id) else { return };
        match fate {
            Fate::Changed => {
                self.stats.extended += 1;
                held.visible_at = sent + extension.time;
                held.has_lapsed &= held.visible_at <= now;
                held.was_extended |= held.state == State::Running;
                held.succeeded();
            }
            Fate::Locked => {
                self.stats.locked += 1;
                self.held.handle_locked(msg_id, now);
            }
            // Its handler may have finished it. Its end decides that.
            Fate::Removed if held.state == State::Running && !extension.is_wanted => {
                held.is_removed = true;
            }
            Fate::Removed if matches!(held.state, State::Ended(_)) => held.is_removed = true,
            Fate::Removed | Fate::Taken => {
                effects.push(Effect::Overtaken { msg_id });
                self.stats.overtaken += 1;
                if held.state == State::Running {
                    held.is_taken = true;
                } else {
                    self.held.jobs.remove(&msg_id);
                    self.waiting.retain(|one| one.msg_id != msg_id);
                }
            }
        }
    }

    /// Stores the ends of jobs, those of one kind in one command.
    fn store(&mut self, now: Instant) -> Option<Command> {
        let Endings { done, moved, dead, released } = self.held.endings(now, self.store_max);
        let has_read = self.reads_with(now, &done);
        let (claims, command): (Vec<Claim>, _) = if has_read {
            (done.clone(), Command::FinishAndRead(done, self.quantity()))
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
            self.count_lapsed(*msg_id, now);
        }
        self.in_flight = Some(match has_read {
            true => {
                self.must_read = false;
                InFlight::FinishAndRead { sent: now, jobs }
            }
            false => InFlight::Store { jobs, is_bury: matches!(command, Command::Bury(_)) },
        });
        Some(command)
    }

    /// Returns whether the statement that finishes these jobs also reads the next ones: nothing else is left to do for those that it has.
    fn reads_with(&self, now: Instant, done: &[Claim]) -> bool {
        let is_in_doubt =
            |claim: &Claim| self.held.jobs.get(&claim.msg_id).is_none_or(|held| held.is_in_doubt);
        // With a refused finish, the read would be undone too.
        let is_refused = self.store_max < usize::MAX;
        self.must_read
            && self.has_capacity()
            && self.held.are_all_done_or_deferred(now)
            && !is_refused
            && !done.is_empty()
            && !done.iter().any(is_in_doubt)
    }

    /// Returns whether it can have more jobs.
    fn has_capacity(&self) -> bool {
        !self.is_stopping && self.quantity() > 0 && self.held.deferred() <= DEFERRED_MAX
    }

    fn handle_read(&mut self, sent: Instant, found: Found) {
        self.stats.reads += 1;
        self.must_read |= found.is_full;
        if !found.is_full {
            self.lookahead.handle_read(sent);
        }
        let visible_at = sent + self.settings.visibility;
        found.messages.into_iter().for_each(|one| self.take_message(one, visible_at));
        for claim in found.left_out {
            self.take(claim, visible_at, State::Ended(Ending::Released));
        }
        for (claim, reason) in found.too_large {
            self.take(claim, visible_at, State::Ended(Ending::Dead(reason)));
        }
    }

    /// Handles that a read has failed. If its answer was lost, what it has taken is visible after its timeout, which may begin later.
    fn handle_not_read(&mut self, now: Instant, failed: Failed) {
        self.must_read = true;
        if failed == Failed::InDoubt {
            self.read_after(now, self.settings.visibility + CANCELLED_AFTER);
        }
    }

    /// Reads again after a delay.
    fn read_after(&mut self, now: Instant, delay: Duration) {
        if let Some(at) = now.checked_add(delay)
            && self.due.len() < DUE_MAX
        {
            self.due.insert(at);
        }
    }

    fn handle_all_stored(
        &mut self,
        now: Instant,
        jobs: &[i64],
        fates: &Fates,
        effects: &mut Vec<Effect>,
    ) {
        for msg_id in jobs {
            self.handle_stored(now, *msg_id, fates.of(*msg_id), effects);
        }
        if !self.held.has_ended() {
            self.store_max = usize::MAX;
        }
    }

    /// Handles that the ends of these jobs are not stored.
    fn handle_not_stored(&mut self, now: Instant, jobs: &[i64], failed: Failed) -> Vec<Effect> {
        match (failed, jobs) {
            (Failed::InDoubt, _) => {
                for msg_id in jobs {
                    self.held.jobs.entry(*msg_id).and_modify(|held| held.is_in_doubt = true);
                    // A statement that always takes too long must not keep the others from being executed.
                    self.held.defer_repeated(*msg_id, now);
                }
                // A second release could be one of the next read, which has the same number.
                let (is_stopping, unstored) = (self.is_stopping, &mut self.unstored);
                self.held.jobs.retain(|_, held| {
                    let is_lost = held.is_in_doubt && held.state == State::Ended(Ending::Released);
                    *unstored += u64::from(is_lost && is_stopping && !held.is_cancelled);
                    !is_lost
                });
            }
            (Failed::Refused, [msg_id]) => {
                self.stats.refused += 1;
                let held = self.held.jobs.remove(msg_id);
                let is_cancelled = held.as_ref().is_none_or(|held| held.is_cancelled);
                self.unstored += u64::from(self.is_stopping && !is_cancelled);
                if let Some(held) = held
                    && let State::Ended(Ending::Dead(reason)) = held.state
                {
                    // It is read once more, without an attempt.
                    self.reasons.insert(*msg_id, reason);
                    if self.reasons.len() > REASONS_MAX {
                        self.reasons.pop_first();
                    }
                }
                if !self.held.has_ended() {
                    self.store_max = usize::MAX;
                }
                return vec![Effect::Refused { msg_id: *msg_id }];
            }
            // One by one, until it is known which of them is refused.
            (Failed::Refused, _) => self.store_max = 1,
            (Failed::Undone, _) => {
                for msg_id in jobs {
                    self.held.defer_repeated(*msg_id, now);
                }
            }
        }
        Vec::new()
    }

    fn handle_stored(&mut self, now: Instant, msg_id: i64, fate: Fate, effects: &mut Vec<Effect>) {
        let Some(held) = self.held.jobs.get(&msg_id) else { return };
        match fate {
            Fate::Locked => {
                self.stats.locked += 1;
                self.held.handle_locked(msg_id, now);
            }
            Fate::Changed => self.handle_end(now, msg_id, true, effects),
            // The first statement was executed.
            Fate::Removed if held.is_in_doubt => self.handle_end(now, msg_id, true, effects),
            Fate::Removed if held.state == State::Ended(Ending::Done) && !held.has_lapsed => {
                // No other reader could have it: its handler has finished it itself.
                self.held.jobs.remove(&msg_id);
                self.stats.removed += 1;
            }
            Fate::Removed | Fate::Taken => self.handle_end(now, msg_id, false, effects),
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
        let Some(held) = self.held.jobs.remove(&msg_id) else { return };
        let State::Ended(ending) = held.state else { return };
        self.reasons.remove(&msg_id);
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
            // Not from when the statement was sent: the server has counted from a later time.
            Ending::Retry(delay) => self.read_after(now, delay),
        }
    }

    /// Returns how many messages one read returns at most.
    fn quantity(&self) -> usize {
        let free = self.settings.concurrency.saturating_sub(self.running);
        if self.is_slow { self.settings.batch_size.min(free) } else { self.settings.batch_size }
    }

    fn read(&mut self, now: Instant) -> Option<Command> {
        let held = self.held.jobs.len() - self.held.deferred();
        let has_room = self.waiting.is_empty() && held <= self.settings.concurrency;
        if !self.must_read || !has_room || !self.has_capacity() {
            return None;
        }
        self.must_read = false;
        self.in_flight = Some(InFlight::Read { sent: now });
        Some(Command::Read(self.quantity()))
    }

    /// Asks when the next message that this consumer does not have becomes visible.
    fn look_ahead(&mut self, now: Instant) -> Option<Command> {
        if self.is_stopping {
            return None;
        }
        let since = self.lookahead.poll(now)?;
        self.in_flight = Some(InFlight::LookAhead { sent: now });
        Some(Command::LookAhead { held: self.held.jobs.keys().copied().collect(), since })
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

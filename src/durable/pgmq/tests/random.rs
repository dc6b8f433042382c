//! Random runs of a consumer beside another reader of the same queue, with lost sessions and answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::fate::{Fate, Fates};
use super::super::found::Found;
use super::super::machine::{Answer, Claim, Command, ConsumerMachine, Effect, End, Failed};
use super::{VISIBILITY, message, settings};

/// A row of the queue.
#[derive(Debug)]
struct Row {
    read_count: u32,
    visible_at: Instant,
    is_locked: bool,
    /// Its data does not fit into a result.
    is_large: bool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Send(bool),
    Wake,
    Start,
    /// Executes a command.
    Execute,
    /// The statement is executed, and its answer is lost.
    LoseAnswer,
    /// The statement is lost.
    LoseStatement,
    End(u8, bool),
    Pass(u8),
    /// Another reader reads, and finishes what it has read before.
    Other(bool),
    /// A transaction locks a row, for example that of a handler.
    Lock(u8),
    /// The transactions end. Have they removed their rows?
    Unlock(bool),
    /// The server refuses the next statement, because of one of its jobs or with an error that passes.
    Refuse(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..8_u8).prop_map(|one| Step::Send(one == 0)),
        1 => Just(Step::Wake),
        4 => Just(Step::Start),
        6 => Just(Step::Execute),
        1 => Just(Step::LoseAnswer),
        1 => Just(Step::LoseStatement),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(which, is_done)| Step::End(which, is_done)),
        2 => (0..40_u8).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Other),
        1 => any::<u8>().prop_map(Step::Lock),
        1 => any::<bool>().prop_map(Step::Unlock),
        1 => any::<bool>().prop_map(Step::Refuse),
    ]
}

struct World {
    now: Instant,
    rows: BTreeMap<i64, Row>,
    sent: i64,
    machine: ConsumerMachine,
    running: BTreeSet<i64>,
    /// Finished or put aside, by this consumer or by the other reader, each with its attempt.
    ended: BTreeMap<i64, u32>,
    other: Vec<Claim>,
    dead: BTreeSet<i64>,
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            rows: BTreeMap::new(),
            sent: 0,
            machine: ConsumerMachine::new(settings(), 1),
            running: BTreeSet::new(),
            ended: BTreeMap::new(),
            other: Vec::new(),
            dead: BTreeSet::new(),
        }
    }

    fn read(&mut self, limit: usize) -> Vec<Claim> {
        let now = self.now;
        let is_visible = |row: &Row| row.visible_at <= now && !row.is_locked;
        let visible = self.rows.iter_mut().filter(|(_, row)| is_visible(row)).take(limit);
        let read = |(msg_id, row): (&i64, &mut Row)| {
            row.read_count += 1;
            row.visible_at = now + VISIBILITY;
            Claim { msg_id: *msg_id, attempt: row.read_count }
        };
        visible.map(read).collect()
    }

    fn remove(&mut self, claim: Claim) -> Option<i64> {
        let row = self.rows.get(&claim.msg_id)?;
        (row.read_count == claim.attempt && !row.is_locked).then(|| {
            self.rows.remove(&claim.msg_id);
            let before = self.ended.insert(claim.msg_id, claim.attempt);
            assert_eq!(before, None, "{} has ended twice", claim.msg_id);
            claim.msg_id
        })
    }

    /// Reads as the server does for the consumer: one message that is large fits into no result, and of the others two.
    fn find(&mut self, limit: usize) -> Found {
        let claims = self.read(limit);
        let mut found = Found { is_full: claims.len() >= limit, ..Found::default() };
        for claim in claims {
            if self.rows[&claim.msg_id].is_large {
                found.too_large.push((claim, "large".into()));
            } else if found.messages.len() < 2 {
                found.messages.push(message(claim.msg_id, claim.attempt));
            } else {
                found.left_out.push(claim);
            }
        }
        found
    }

    /// Returns what a statement does with a job.
    fn fate(&self, claim: Claim) -> Fate {
        match self.rows.get(&claim.msg_id) {
            None => Fate::Removed,
            Some(row) if row.read_count != claim.attempt => Fate::Taken,
            Some(row) if row.is_locked => Fate::Locked,
            Some(_) => Fate::Changed,
        }
    }

    /// Changes the rows that can be changed.
    fn change(&mut self, claims: &[Claim], change: impl Fn(&mut Row, usize)) -> Fates {
        let fates: Vec<_> = claims.iter().map(|one| (one.msg_id, self.fate(*one))).collect();
        for (index, (msg_id, fate)) in fates.iter().enumerate() {
            if *fate == Fate::Changed
                && let Some(row) = self.rows.get_mut(msg_id)
            {
                change(row, index);
            }
        }
        Fates::new(fates)
    }

    fn finish(&mut self, claims: &[Claim]) -> Fates {
        let fates = Fates::new(claims.iter().map(|one| (one.msg_id, self.fate(*one))));
        for claim in claims {
            self.remove(*claim);
        }
        fates
    }

    /// Does what the server does.
    fn execute(&mut self, command: &Command) -> Answer {
        let now = self.now;
        match command {
            Command::Read(limit) => Answer::Read(self.find(*limit)),
            Command::SetVisibility(jobs) => {
                let claims: Vec<_> = jobs.iter().map(|(claim, _)| *claim).collect();
                Answer::Changed(self.change(&claims, |row, job| row.visible_at = now + jobs[job].1))
            }
            Command::Release(claims) => Answer::Changed(self.change(claims, |row, _| {
                (row.visible_at, row.read_count) = (now, row.read_count - 1);
            })),
            Command::Finish(claims) => Answer::Changed(self.finish(claims)),
            Command::FinishAndRead(claims, limit) => {
                let fates = self.finish(claims);
                Answer::FinishedAndRead(fates, self.find(*limit))
            }
            Command::Bury(jobs) => {
                let claims: Vec<_> = jobs.iter().map(|(claim, _)| *claim).collect();
                Answer::Changed(self.finish(&claims))
            }
            Command::LookAhead { held, since } => {
                let seen = now.checked_sub(*since).unwrap_or(now);
                let hidden = self.rows.iter().filter(|(msg_id, _)| !held.contains(msg_id));
                let hidden = hidden.map(|(_, row)| row.visible_at).filter(|at| *at >= seen);
                Answer::VisibleIn(hidden.min().map(|at| at.saturating_duration_since(now)))
            }
        }
    }

    fn start(&mut self) {
        while let Some(message) = self.machine.poll_start(self.now) {
            assert!(self.running.insert(message.msg_id), "{} runs twice", message.msg_id);
            let held = self.rows.get(&message.msg_id);
            assert!(
                held.is_none_or(|row| row.read_count >= message.read_count),
                "a job that was given back runs"
            );
        }
        assert!(self.running.len() <= 2, "more run than may");
    }

    fn command(&mut self) -> Option<Command> {
        let command = self.machine.poll_command(self.now);
        if let Some(Command::Read(limit) | Command::FinishAndRead(_, limit)) = command {
            let stats = self.machine.stats();
            let claimed = usize::try_from(stats.waiting + stats.running).unwrap() + limit;
            assert!(claimed <= 2 + 3, "{claimed} are claimed");
        }
        command
    }

    fn answer(&mut self, answer: Answer) {
        for effect in self.machine.handle_answer(self.now, answer) {
            if let Effect::Dead { msg_id, .. } = effect {
                assert!(self.dead.insert(msg_id), "{msg_id} is reported twice");
                assert!(self.ended.contains_key(&msg_id), "{msg_id} is not put aside");
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(is_large) => {
                self.sent += 1;
                let row = Row { read_count: 0, visible_at: self.now, is_locked: false, is_large };
                self.rows.insert(self.sent, row);
                self.machine.handle_woken(self.now);
            }
            Step::Wake => self.machine.handle_woken(self.now),
            Step::Start => self.start(),
            Step::Execute => {
                if let Some(command) = self.command() {
                    let answer = self.execute(&command);
                    self.answer(answer);
                }
            }
            Step::LoseAnswer => {
                if let Some(command) = self.command() {
                    self.execute(&command);
                    self.machine.handle_failed(self.now, Failed::InDoubt);
                }
            }
            Step::LoseStatement => {
                if self.command().is_some() {
                    self.machine.handle_failed(self.now, Failed::InDoubt);
                }
            }
            Step::End(which, is_done) => {
                let index = usize::from(which) % self.running.len().max(1);
                if let Some(msg_id) = self.running.iter().nth(index).copied() {
                    self.running.remove(&msg_id);
                    let end = if is_done { End::Done } else { End::Failed("no".to_owned()) };
                    self.machine.handle_ended(msg_id, end);
                }
            }
            Step::Lock(which) => {
                let index = usize::from(which) % self.rows.len().max(1);
                if let Some(row) = self.rows.values_mut().nth(index) {
                    row.is_locked = true;
                }
            }
            Step::Unlock(is_removed) => {
                let locked = self.rows.iter_mut().filter(|(_, row)| row.is_locked);
                let claims: Vec<_> = locked
                    .map(|(msg_id, row)| {
                        row.is_locked = false;
                        Claim { msg_id: *msg_id, attempt: row.read_count }
                    })
                    .collect();
                if is_removed {
                    self.finish(&claims);
                }
            }
            Step::Refuse(is_for_good) => {
                if self.command().is_some() {
                    let is_refused = is_for_good && self.machine.is_storing();
                    let failed = if is_refused { Failed::Refused } else { Failed::Undone };
                    self.machine.handle_failed(self.now, failed);
                }
            }
            Step::Pass(seconds) => self.now += Duration::from_secs(u64::from(seconds)),
            Step::Other(reads) => {
                for claim in std::mem::take(&mut self.other) {
                    self.remove(claim);
                }
                if reads {
                    self.other = self.read(2);
                }
            }
        }
    }

    /// Nothing fails any more.
    fn calm(&mut self) {
        for _ in 0..1_000 {
            self.step(Step::Unlock(false));
            self.step(Step::Other(false));
            self.start();
            while let Some(msg_id) = self.running.pop_first() {
                self.machine.handle_ended(msg_id, End::Done);
            }
            for _ in 0..4 {
                self.step(Step::Execute);
            }
            if self.rows.is_empty() && self.machine.is_idle() {
                return;
            }
            self.step(Step::Pass(10));
            self.step(Step::Wake);
        }
        panic!("not ended: {:?}", self.rows);
    }
}

proptest! {
    /// No job is lost, none ends twice, none runs twice at once here, and no more are read than may be.
    #[test]
    fn every_job_ends_once_whatever_is_lost(steps in vec(step(), 0..200)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.calm();
        let all: BTreeSet<i64> = (1..=world.sent).collect();
        let ended: BTreeSet<i64> = world.ended.keys().copied().collect();
        prop_assert_eq!(ended, all);
    }

    /// No notification is sent when a message becomes visible, and no poll comes.
    #[test]
    fn a_message_is_read_when_it_becomes_visible(
        steps in vec((0..4_u8, 0..50_u64), 1..40),
    ) {
        let mut world = World::new();
        for (kind, seconds) in steps {
            match kind {
                // A message with a delay: its insert is notified.
                0 | 1 => {
                    world.step(Step::Send(false));
                    if let Some(row) = world.rows.get_mut(&world.sent) {
                        row.visible_at = world.now + Duration::from_secs(seconds);
                    }
                }
                // Another consumer reads, and crashes.
                2 => drop(world.read(2)),
                _ => {}
            }
            for _ in 0..8 {
                world.step(Step::Execute);
                world.start();
                while let Some(msg_id) = world.running.pop_first() {
                    world.machine.handle_ended(msg_id, End::Done);
                }
            }
            // The server is asked again after a second.
            world.step(Step::Pass(1));
        }
        for _ in 0..2_000 {
            for _ in 0..8 {
                world.step(Step::Execute);
                world.start();
                while let Some(msg_id) = world.running.pop_first() {
                    world.machine.handle_ended(msg_id, End::Done);
                }
            }
            let late = world.rows.values().any(|row| row.visible_at + Duration::from_secs(2) < world.now);
            prop_assert!(!late, "{:?}", world.rows);
            let Some(next) = world.machine.next_time() else { break };
            world.now = world.now.max(next);
        }
        prop_assert!(world.rows.is_empty(), "{:?}", world.rows);
    }

    /// While the session is there, no timeout passes, however long handlers run.
    #[test]
    fn no_timeout_passes_while_statements_succeed(seconds in vec(0..9_u8, 1..100)) {
        let mut world = World::new();
        for _ in 0..6 {
            world.step(Step::Send(false));
        }
        for pass in seconds {
            world.start();
            for _ in 0..3 {
                world.step(Step::Execute);
            }
            world.start();
            world.step(Step::Pass(pass));
        }
        let stats = world.machine.stats();
        prop_assert_eq!((stats.lapsed, stats.overtaken, stats.running), (0, 0, 2));
    }
}

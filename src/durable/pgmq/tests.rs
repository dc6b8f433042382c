//! The machine: single decisions about reading and storing, and random runs beside another reader.

mod random;
mod reading;
mod runs;
mod storing;

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::fate::{Fate, Fates};
use super::found::Found;
use super::machine::{Answer, Claim, Command, ConsumerMachine, Effect, End};
use super::message::Message;
use super::settings::ConsumerSettings;

const SECOND: Duration = Duration::from_secs(1);

const VISIBILITY: Duration = Duration::from_secs(30);

fn settings() -> ConsumerSettings {
    ConsumerSettings {
        concurrency: 2,
        batch_size: 3,
        visibility: VISIBILITY,
        max_attempts: 3,
        backoff: (Duration::from_secs(1), Duration::from_secs(8)),
    }
}

fn machine() -> ConsumerMachine {
    ConsumerMachine::new(settings(), 7)
}

fn message(msg_id: i64, read_count: u32) -> Message {
    Message {
        msg_id,
        read_count,
        enqueued_at: UNIX_EPOCH,
        visible_at: UNIX_EPOCH,
        message: "{}".to_owned(),
        headers: None,
    }
}

fn claim(msg_id: i64, attempt: u32) -> Claim {
    Claim { msg_id, attempt }
}

/// Answers the read that the machine must ask for.
fn read(machine: &mut ConsumerMachine, now: Instant, messages: Vec<Message>) {
    assert_eq!(poll(machine, now), Some(Command::Read(3)));
    let is_full = messages.len() >= 3;
    machine.handle_answer(now, found(messages, is_full));
}

/// The answer to a read.
fn found(messages: Vec<Message>, is_full: bool) -> Answer {
    Answer::Read(Found { messages, is_full, ..Found::default() })
}

/// These were changed, and the others are with another reader.
fn fates(changed: &[i64]) -> Fates {
    Fates::new(changed.iter().map(|msg_id| (*msg_id, Fate::Changed)))
}

/// Starts what may run. Returns the ids.
fn start(machine: &mut ConsumerMachine, now: Instant) -> Vec<i64> {
    std::iter::from_fn(|| machine.poll_start(now)).map(|one| one.msg_id).collect()
}

fn failed(reason: &str) -> End {
    End::Failed(reason.to_owned())
}

/// Answers the command that is being executed: these were changed.
fn changed(machine: &mut ConsumerMachine, now: Instant, ids: &[i64]) -> Vec<Effect> {
    machine.handle_answer(now, Answer::Changed(fates(ids)))
}

/// Answers the command that is being executed: this is what it has done with the jobs.
fn fated(machine: &mut ConsumerMachine, now: Instant, fates: &[(i64, Fate)]) -> Vec<Effect> {
    machine.handle_answer(now, Answer::Changed(Fates::new(fates.iter().copied())))
}

fn machine_with_a_run(now: Instant) -> ConsumerMachine {
    let mut machine = machine();
    read(&mut machine, now, vec![message(1, 1)]);
    assert_eq!(start(&mut machine, now), [1]);
    machine
}

fn locked_but_the_first((index, claim): (usize, &Claim)) -> (i64, Fate) {
    (claim.msg_id, if index == 0 { Fate::Changed } else { Fate::Locked })
}

/// Returns the next command. The server has no message that is hidden.
fn poll(machine: &mut ConsumerMachine, now: Instant) -> Option<Command> {
    let command = machine.poll_command(now)?;
    if !matches!(command, Command::LookAhead { .. }) {
        return Some(command);
    }
    machine.handle_answer(now, Answer::VisibleIn(None));
    machine.poll_command(now)
}

/// Returns the time of the next command that needs no other input, and the command.
fn next_command(machine: &mut ConsumerMachine) -> (Instant, Command) {
    loop {
        let time = machine.next_time().expect("nothing is due");
        if let Some(command) = poll(machine, time) {
            return (time, command);
        }
    }
}

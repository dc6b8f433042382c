//! The machine: single decisions, and random runs beside another reader.

mod decisions;
mod random;
mod runs;

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::fate::{Fate, Fates};
use super::found::Found;
use super::machine::{Answer, Claim, Command, ConsumerMachine};
use super::message::Message;
use super::settings::ConsumerSettings;

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
    assert_eq!(machine.poll_command(now), Some(Command::Read(3)));
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

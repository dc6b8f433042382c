//! Decoding alone, of bytes that are already in memory.
//!
//! The measured time begins with a buffer of whole frames and ends after the last of them was read.
//! Filling the buffer is not measured: postgres-protocol consumes its buffer, pgbell borrows it, and in a client the
//! kernel fills both.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nix::time::{ClockId, clock_gettime};
use pgbell::proto::wire;
use postgres_protocol::message::backend::Message;

use super::Job;
use crate::digest::Digest;
use crate::outcome::Outcome;
use crate::shape::Block;
use crate::tally::{Report, print_line};
use crate::usage::Usage;

/// The number of bytes of the buffer: the highest number that one read returns.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// The treatment of a decoded notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Every byte is summed, as in all other contestants.
    Sum,
    /// Channel and payload are returned and not read: only decoding is measured. The bytes are
    /// summed once more, outside the measured part.
    Views,
}

/// A decoder of notifications in a buffer.
trait Decoder {
    /// The buffer to decode.
    type Input;

    fn fill(&self, bytes: &[u8]) -> Self::Input;

    fn decode(&self, input: &mut Self::Input, found: impl FnMut(&[u8], &[u8])) -> Outcome<()>;
}

/// The path of pgbell's reader and consumer: a scan when the bytes arrive, views when they are delivered.
struct Pgbell;

impl Decoder for Pgbell {
    type Input = Vec<u8>;

    fn fill(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    #[inline]
    fn decode(&self, input: &mut Vec<u8>, mut found: impl FnMut(&[u8], &[u8])) -> Outcome<()> {
        let (run, _) = wire::scan(input);
        for n in wire::frames(input.get(..run.bytes).ok_or("a run longer than its buffer")?) {
            found(n.channel, n.payload);
        }
        Ok(())
    }
}

struct PostgresProtocol;

impl Decoder for PostgresProtocol {
    type Input = BytesMut;

    fn fill(&self, bytes: &[u8]) -> BytesMut {
        BytesMut::from(bytes)
    }

    #[inline]
    fn decode(&self, input: &mut BytesMut, mut found: impl FnMut(&[u8], &[u8])) -> Outcome<()> {
        while let Some(message) = Message::parse(input)? {
            if let Message::NotificationResponse(n) = message {
                found(n.channel()?.as_bytes(), n.message()?.as_bytes());
            }
        }
        Ok(())
    }
}

pub(super) fn pgbell(job: &Job, reading: Reading) -> Outcome<()> {
    run(&Pgbell, job, reading)
}

pub(super) fn postgres_protocol(job: &Job, reading: Reading) -> Outcome<()> {
    run(&PostgresProtocol, job, reading)
}

fn run<D: Decoder>(decoder: &D, job: &Job, reading: Reading) -> Outcome<()> {
    let block = Block::new(job.shape.checked()?, BUFFER_BYTES)?;
    let mut digest = Digest::default();
    let (mut wall, mut user) = (Duration::ZERO, Duration::ZERO);
    for slice in block.slices(job.count) {
        let mut input = decoder.fill(slice);
        if reading == Reading::Views {
            let mut again = decoder.fill(slice);
            decoder.decode(&mut again, |channel, payload| digest.add(channel, payload))?;
        }
        let (cpu, begin) = (thread_time()?, Instant::now());
        let decoded = match reading {
            Reading::Sum => {
                decoder.decode(&mut input, |channel, payload| digest.add(channel, payload))
            }
            Reading::Views => decoder.decode(&mut input, |channel, payload| {
                black_box((channel, payload));
            }),
        };
        wall += begin.elapsed();
        user += thread_time()?.saturating_sub(cpu);
        decoded?;
    }
    print_line(&Report::of(&digest, wall, Usage { user, system: Duration::ZERO })?)
}

fn thread_time() -> Outcome<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

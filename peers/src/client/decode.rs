//! Decoding alone, of bytes that are in memory already.
//!
//! Measured is the time between having a buffer of whole frames and having looked at the last of them.
//! Filling the buffer is not: postgres-protocol consumes its own, pgbell's lends, and in a client the kernel
//! fills both.

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
use crate::tally::{Report, say};
use crate::usage::Usage;

/// Bytes in the buffer: what a read brings at most.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// What is done to a decoded notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Every byte is summed, as everywhere.
    Sum,
    /// Channel and payload are handed out and nobody reads them: decoding and nothing else. The bytes are
    /// summed once more, outside the measured section.
    Views,
}

/// Takes the notifications out of a buffer.
trait Decoder {
    /// What is decoded from.
    type Input;

    fn fill(&self, bytes: &[u8]) -> Self::Input;

    fn decode(&self, input: &mut Self::Input, found: impl FnMut(&[u8], &[u8])) -> Outcome<()>;
}

/// The path of pgbell's reader and consumer: a scan when the bytes arrive, views when they are taken.
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
    say(&Report::of(&digest, wall, Usage { user, system: Duration::ZERO })?)
}

fn thread_time() -> Outcome<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

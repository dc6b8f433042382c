//! The whole path of a listener: from the receive buffer through a queue to a consumer that reads every byte.

use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pgbell::proto::wire::{Run, frames, scan};

use super::{Limits, Queue, Receiver, Sender, Taken};

/// A visitor of notifications.
pub trait Visitor {
    fn notification(&mut self, sequence: u64, channel: &[u8], payload: &[u8]);

    fn lost(&mut self, first: u64, count: u64);
}

/// The result of a check of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Found {
    /// A run or a loss was visited.
    Some,
    Empty,
    Closed,
}

/// A design from reads to a visitor.
pub trait Path: 'static {
    const NAME: &'static str;

    type Reader: Reader;
    type Consumer: Consumer;

    /// `channels` has all channels of the load.
    fn open(limits: Limits, channels: &[&str]) -> (Self::Reader, Self::Consumer);
}

/// The side of the socket.
pub trait Reader: Send + 'static {
    /// Takes everything in `input`, which has whole notifications. What has room goes into the queue. The
    /// rest is dropped and counts as lost. Then the consumer can see it.
    fn read(&mut self, input: &mut BytesMut);

    fn has_room(&mut self, count: u64, bytes: u64) -> bool;

    fn poll_room(&mut self, cx: &mut Context<'_>, count: u64, bytes: u64) -> Poll<()>;
}

pub trait Consumer: Send + 'static {
    fn try_take(&mut self, visitor: &mut impl Visitor) -> Found;

    /// Never `Ready(Found::Empty)`.
    fn poll_take(&mut self, cx: &mut Context<'_>, visitor: &mut impl Visitor) -> Poll<Found>;
}

/// One item per read: the run of frames, which the consumer scans again.
pub struct RunPath<Q>(PhantomData<Q>);

impl<Q: Queue> Path for RunPath<Q> {
    const NAME: &'static str = Q::NAME;

    type Reader = RunReader<Q>;
    type Consumer = RunConsumer<Q>;

    fn open(limits: Limits, _channels: &[&str]) -> (RunReader<Q>, RunConsumer<Q>) {
        let (sender, receiver) = Q::channel(limits.notifications);
        (RunReader { sender, limits }, RunConsumer { receiver })
    }
}

/// As large as the listener's.
pub struct Chunk {
    frames: Bytes,
    _count: usize,
    _stamp: (Duration, u32),
    _buffer: Option<NonZeroU64>,
}

pub struct RunReader<Q: Queue> {
    sender: Q::Sender<Chunk>,
    limits: Limits,
}

impl<Q: Queue> RunReader<Q> {
    fn fits(&mut self, run: Run, frames: &[u8]) -> Run {
        if self.sender.has_room(self.limits, run.count as u64, run.bytes as u64) {
            return run;
        }
        let room = |limit: u64, used: u64| {
            usize::try_from(limit.saturating_sub(used)).expect("a limit is a size in memory")
        };
        let count = room(self.limits.notifications, self.sender.unread());
        let bytes = room(self.limits.bytes, self.sender.unread_bytes());
        let run = if run.count > count { Run::first(count, frames) } else { run };
        if run.bytes > bytes { Run::within(bytes, frames) } else { run }
    }
}

impl<Q: Queue> Reader for RunReader<Q> {
    fn read(&mut self, input: &mut BytesMut) {
        let (run, _) = scan(input);
        let fits = self.fits(run, input);
        if fits.count > 0 {
            let frames = input.split_to(fits.bytes).freeze();
            let chunk = Chunk {
                frames,
                _count: fits.count,
                _stamp: (Duration::ZERO, 1),
                _buffer: NonZeroU64::new(1),
            };
            self.sender.push(chunk, fits.count as u64, fits.bytes as u64);
        }
        if fits.count < run.count {
            self.sender.skip((run.count - fits.count) as u64);
            discard(input, run.bytes - fits.bytes);
        }
        self.sender.publish();
    }

    fn has_room(&mut self, count: u64, bytes: u64) -> bool {
        self.sender.has_room(self.limits, count, bytes)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, count: u64, bytes: u64) -> Poll<()> {
        self.sender.poll_room(cx, self.limits, count, bytes)
    }
}

pub struct RunConsumer<Q: Queue> {
    receiver: Q::Receiver<Chunk>,
}

fn visit(taken: Taken<Chunk>, visitor: &mut impl Visitor) -> Found {
    match taken {
        Taken::Item { value, first, skip } => {
            assert_eq!(skip, 0, "nothing is dropped after it was put in");
            for (n, sequence) in frames(&value.frames).zip(first..) {
                visitor.notification(sequence, n.channel, n.payload);
            }
        }
        Taken::Lost { first, count } => visitor.lost(first, count),
        Taken::Mark(()) => unreachable!("nobody makes marks"),
        Taken::Empty => return Found::Empty,
        Taken::Closed => return Found::Closed,
    }
    Found::Some
}

impl<Q: Queue> Consumer for RunConsumer<Q> {
    fn try_take(&mut self, visitor: &mut impl Visitor) -> Found {
        visit(self.receiver.try_take(), visitor)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, visitor: &mut impl Visitor) -> Poll<Found> {
        Poll::Ready(visit(ready!(self.receiver.poll_take(cx)), visitor))
    }
}

/// Removes bytes from the front so that they use up no buffer, as the listener does.
pub fn discard(input: &mut BytesMut, bytes: usize) {
    let left = input.len().saturating_sub(bytes);
    if left > bytes {
        return input.advance(bytes);
    }
    input.copy_within(bytes.., 0);
    input.truncate(left);
}

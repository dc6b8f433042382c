//! One descriptor of eight bytes per notification, beside a queue with one handle of a receive segment
//! per read.
//!
//! The reader scans the frames once and records where each is; the consumer reads descriptors instead
//! of scanning again. A handle is published after its descriptors, so that they need no index of their own:
//! they are relaxed words, ordered by the handle's queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use pgbell::proto::wire::frames;

use super::fifo::Rtrb;
use super::path::{Consumer, Found, Path, Reader, Visitor, discard};
use super::positioned::{Positioned, PositionedReceiver, PositionedSender};
use super::{Limits, Queue, Receiver, Sender, Taken};

/// Bytes of a frame before its channel: type, length, process id.
const TEXT_AT: usize = 9;

/// Bytes of the shortest frame: a channel of one byte, no payload.
pub const FRAME_BYTES_MIN: usize = TEXT_AT + 3;

/// `channel:20 | bytes of the frame:20 | offset in its segment:24`.
#[derive(Clone, Copy)]
pub struct Descriptor(u64);

impl Descriptor {
    /// In place of a descriptor that follows.
    pub const NONE: Self = Self(0);

    #[inline]
    pub fn new(channel: usize, offset: usize, bytes: usize) -> Self {
        assert!(channel < 1 << 20 && bytes < 1 << 20 && offset < 1 << 24);
        Self((channel as u64) << 44 | (bytes as u64) << 24 | offset as u64)
    }

    #[inline]
    pub fn channel(self) -> usize {
        part(self.0 >> 44)
    }

    #[inline]
    fn offset(self) -> usize {
        part(self.0 & 0xff_ffff)
    }

    #[inline]
    fn bytes(self) -> usize {
        part(self.0 >> 24 & 0xf_ffff)
    }

    /// The payload, in the segment that the offset counts from.
    #[inline]
    pub fn payload<'a>(self, segment: &'a [u8], channel: &[u8]) -> &'a [u8] {
        let start = self.offset() + TEXT_AT + channel.len() + 1;
        &segment[start..self.offset() + self.bytes() - 1]
    }
}

#[inline]
fn part(bits: u64) -> usize {
    usize::try_from(bits).expect("some of a word's bits")
}

/// The words with the descriptors, twice as many as may be unread: those of the run that the
/// consumer reads count as taken.
#[derive(Clone)]
pub struct Table(Arc<[AtomicU64]>);

impl Table {
    pub fn new(unread_max: u64) -> Self {
        let words = (2 * unread_max).next_power_of_two();
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn slot(&self, position: u64) -> &AtomicU64 {
        // A power of two, so the mask gives an index.
        &self.0[part(position & (self.0.len() as u64 - 1))]
    }

    pub fn set(&self, position: u64, descriptor: Descriptor) {
        self.slot(position).store(descriptor.0, Ordering::Relaxed);
    }

    pub fn get(&self, position: u64) -> Descriptor {
        Descriptor(self.slot(position).load(Ordering::Relaxed))
    }
}

/// What the handle of a segment contains about its descriptors.
pub struct Handle {
    pub segment: Bytes,
    /// Position of the first descriptor.
    pub at: u64,
    pub count: u64,
}

/// Names by number, known beforehand: the best case.
pub type Names = Arc<[Box<[u8]>]>;

/// Channel to number. The last one is recognised without a search.
struct Numbers {
    by_name: HashMap<Box<[u8]>, usize>,
    last: (Box<[u8]>, usize),
}

impl Numbers {
    fn find(&mut self, channel: &[u8]) -> usize {
        if *self.last.0 != *channel {
            let number = *self.by_name.get(channel).expect("a channel that was announced");
            self.last = (channel.into(), number);
        }
        self.last.1
    }
}

pub struct DescriptorPath;

impl Path for DescriptorPath {
    const NAME: &'static str = "descriptors";

    type Reader = DescriptorReader;
    type Consumer = DescriptorConsumer;

    fn open(limits: Limits, channels: &[&str]) -> (DescriptorReader, DescriptorConsumer) {
        let (handles, receiver) = Positioned::<Rtrb>::channel(limits.notifications);
        let names: Names = channels.iter().map(|name| name.as_bytes().into()).collect();
        let by_name = names.iter().cloned().zip(0..).collect();
        let numbers = Numbers { by_name, last: (Box::default(), 0) };
        let table = Table::new(limits.notifications);
        let reader = DescriptorReader { handles, table: table.clone(), next: 0, numbers, limits };
        (reader, DescriptorConsumer { handles: receiver, table, names })
    }
}

pub struct DescriptorReader {
    handles: PositionedSender<Rtrb, Handle>,
    table: Table,
    /// Position of the next descriptor.
    next: u64,
    numbers: Numbers,
    limits: Limits,
}

impl DescriptorReader {
    /// Returns how much has room. A bound decides this, before any frame is read.
    fn room(&mut self, input: &[u8]) -> (u64, u64) {
        let (most, bytes) = ((input.len() / FRAME_BYTES_MIN) as u64, input.len() as u64);
        if self.handles.has_room(self.limits, most, bytes) {
            return (most, bytes);
        }
        let room = |limit: u64, used: u64| limit.saturating_sub(used);
        let count = room(self.limits.notifications, self.handles.unread());
        (count, room(self.limits.bytes, self.handles.unread_bytes()))
    }
}

impl Reader for DescriptorReader {
    fn read(&mut self, input: &mut BytesMut) {
        let (count_max, bytes_max) = self.room(input);
        let (mut count, mut bytes, mut dropped, mut end) = (0, 0, 0, 0);
        let mut found = frames(input);
        while let Some(n) = found.next() {
            let start = std::mem::replace(&mut end, input.len() - found.remaining().len());
            if dropped > 0 || count == count_max || end as u64 > bytes_max {
                dropped += 1;
                continue;
            }
            let channel = self.numbers.find(n.channel);
            let descriptor = Descriptor::new(channel, start, end - start);
            self.table.set(self.next + count, descriptor);
            count += 1;
            bytes = end;
        }
        if count > 0 {
            let segment = input.split_to(bytes).freeze();
            let handle = Handle { segment, at: self.next, count };
            self.next += count;
            self.handles.push(handle, count, bytes as u64);
        }
        if dropped > 0 {
            self.handles.skip(dropped);
            discard(input, end - bytes);
        }
        self.handles.publish();
    }

    fn has_room(&mut self, count: u64, bytes: u64) -> bool {
        self.handles.has_room(self.limits, count, bytes)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, count: u64, bytes: u64) -> Poll<()> {
        self.handles.poll_room(cx, self.limits, count, bytes)
    }
}

pub struct DescriptorConsumer {
    handles: PositionedReceiver<Rtrb, Handle>,
    table: Table,
    names: Names,
}

impl DescriptorConsumer {
    /// For a hub, which makes the reader's side itself.
    pub fn new(handles: PositionedReceiver<Rtrb, Handle>, table: Table, names: Names) -> Self {
        Self { handles, table, names }
    }

    fn visit(&self, taken: Taken<Handle>, visitor: &mut impl Visitor) -> Found {
        match taken {
            Taken::Item { value: Handle { segment, at, count }, first, .. } => {
                for (position, sequence) in (at..at + count).zip(first..) {
                    let descriptor = self.table.get(position);
                    let channel = &self.names[descriptor.channel()];
                    let payload = descriptor.payload(&segment, channel);
                    visitor.notification(sequence, channel, payload);
                }
            }
            Taken::Lost { first, count } => visitor.lost(first, count),
            Taken::Mark(()) => unreachable!("nobody makes marks"),
            Taken::Empty => return Found::Empty,
            Taken::Closed => return Found::Closed,
        }
        Found::Some
    }
}

impl Consumer for DescriptorConsumer {
    fn try_take(&mut self, visitor: &mut impl Visitor) -> Found {
        let taken = self.handles.try_take();
        self.visit(taken, visitor)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, visitor: &mut impl Visitor) -> Poll<Found> {
        let taken = ready!(self.handles.poll_take(cx));
        Poll::Ready(self.visit(taken, visitor))
    }
}

//! Many subscribers on one reader, a queue each: the notifications of a read are sorted by subscriber, and
//! each subscriber that has some gets one item over the read's bytes.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use pgbell::proto::wire::frames;

use super::descriptors::Descriptor;
use super::path::{Consumer, Found, Visitor, discard};
use super::{Limits, Queue, Receiver, Sender, Taken};

/// A queue design from a reader to its subscribers.
pub trait FanOut: 'static {
    const NAME: &'static str;
    /// Whether the reader can evict notifications that a subscriber has not read.
    const EVICTS: bool;

    type Hub: Hub;
    type Consumer: Consumer;

    /// Makes a subscriber for each channel. Each may have `unread_max` unread notifications.
    fn open(unread_max: u64, channels: &[Box<[u8]>]) -> (Self::Hub, Vec<Self::Consumer>);
}

pub trait Hub: Send + 'static {
    /// As [`Reader::read`](super::path::Reader::read), for the subscriber of each notification.
    fn read(&mut self, input: &mut BytesMut);

    /// Returns the subscribers of the last read.
    fn touched(&self) -> &[usize];

    fn poll_room(&mut self, cx: &mut Context<'_>, subscriber: usize, count: u64) -> Poll<()>;

    /// Evicts the oldest item of the subscriber with the most unread notifications.
    fn evict(&mut self) -> bool;
}

/// Returns the subscriber's number, which is at the end of the channel's name. There is no hash, because routing is not
/// compared.
pub fn number(channel: &[u8]) -> usize {
    let digits = channel.last_chunk::<4>().expect("four digits");
    digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

/// The notifications of one read, sorted by subscriber.
#[derive(Default)]
struct Chunk {
    frames: Bytes,
    index: Vec<Descriptor>,
}

/// A subscriber's part of a chunk.
pub struct Part {
    chunk: Arc<Chunk>,
    start: u32,
    count: u32,
}

/// Chunks whose parts are perhaps all dropped, oldest first. If one is still in use when it is checked, a subscriber is far
/// behind, and the chunk is left to it.
#[derive(Default)]
struct Chunks(VecDeque<Arc<Chunk>>);

impl Chunks {
    /// How many reads pass before a chunk is used again.
    const RESTING: usize = 16;

    fn take(&mut self) -> Arc<Chunk> {
        if self.0.len() >= Self::RESTING
            && let Some(mut oldest) = self.0.pop_front()
            && Arc::get_mut(&mut oldest).is_some()
        {
            return oldest;
        }
        Arc::default()
    }

    fn rest(&mut self, chunk: Arc<Chunk>) {
        self.0.push_back(chunk);
    }
}

/// Sorted runs in a [`Queue`].
pub struct RunFanOut<Q>(PhantomData<Q>);

impl<Q: Queue> FanOut for RunFanOut<Q> {
    const NAME: &'static str = Q::NAME;
    const EVICTS: bool = Q::EVICTS;

    type Hub = RunHub<Q>;
    type Consumer = PartConsumer<Q>;

    fn open(unread_max: u64, channels: &[Box<[u8]>]) -> (RunHub<Q>, Vec<PartConsumer<Q>>) {
        let (subscribers, consumers) = channels
            .iter()
            .map(|channel| {
                let (sender, receiver) = Q::channel(unread_max);
                let consumer = PartConsumer { receiver, channel: channel.clone() };
                (Subscriber { sender, found: 0, bytes: 0, start: 0, next: 0, end: 0 }, consumer)
            })
            .unzip();
        let hub = RunHub {
            subscribers,
            limits: Limits { notifications: unread_max, bytes: u64::MAX / 2 },
            found: Vec::new(),
            touched: Vec::new(),
            chunks: Chunks::default(),
        };
        (hub, consumers)
    }
}

struct Subscriber<S> {
    sender: S,
    /// In the present read: notifications and their bytes.
    found: u64,
    bytes: u64,
    /// The part of the index that is this subscriber's, and the next free place in it.
    start: usize,
    next: usize,
    end: usize,
}

pub struct RunHub<Q: Queue> {
    subscribers: Vec<Subscriber<Q::Sender<Part>>>,
    limits: Limits,
    /// The notifications of a read, in order. Their channel is the subscriber.
    found: Vec<Descriptor>,
    touched: Vec<usize>,
    chunks: Chunks,
}

impl<Q: Queue> RunHub<Q> {
    /// Finds all notifications and their subscribers. Returns their bytes.
    fn route(&mut self, input: &[u8]) -> usize {
        self.found.clear();
        self.touched.clear();
        let (mut frames, mut end) = (frames(input), 0);
        while let Some(n) = frames.next() {
            let start = mem::replace(&mut end, input.len() - frames.remaining().len());
            let number = number(n.channel);
            let subscriber = &mut self.subscribers[number];
            if subscriber.found == 0 {
                self.touched.push(number);
            }
            subscriber.found += 1;
            subscriber.bytes += (end - start) as u64;
            self.found.push(Descriptor::new(number, start, end - start));
        }
        end
    }

    /// Gives each subscriber its part of the index, as much as has room. Returns the length of the index.
    fn allot(&mut self) -> usize {
        let mut len = 0;
        for &number in &self.touched {
            let subscriber = &mut self.subscribers[number];
            let sender = &mut subscriber.sender;
            let fits = if sender.has_room(self.limits, subscriber.found, subscriber.bytes) {
                subscriber.found
            } else {
                self.limits.notifications.saturating_sub(sender.unread()).min(subscriber.found)
            };
            (subscriber.start, subscriber.next) = (len, len);
            len += usize::try_from(fits).expect("not more than were found");
            subscriber.end = len;
        }
        len
    }

    /// Sorts the notifications that have room. The order of the notifications of one subscriber stays.
    fn sort(&mut self, index: &mut Vec<Descriptor>, len: usize) {
        index.clear();
        index.resize(len, Descriptor::NONE);
        for &descriptor in &self.found {
            let subscriber = &mut self.subscribers[descriptor.channel()];
            if subscriber.next < subscriber.end {
                index[subscriber.next] = descriptor;
                subscriber.next += 1;
            }
        }
    }
}

impl<Q: Queue> Hub for RunHub<Q> {
    fn read(&mut self, input: &mut BytesMut) {
        let bytes = self.route(input);
        let len = self.allot();
        let chunk = if len == 0 {
            discard(input, bytes);
            None
        } else {
            let mut chunk = self.chunks.take();
            let content = Arc::get_mut(&mut chunk).expect("nobody else's");
            content.frames = input.split_to(bytes).freeze();
            self.sort(&mut content.index, len);
            Some(chunk)
        };
        for &number in &self.touched {
            let subscriber = &mut self.subscribers[number];
            let (start, count) = (subscriber.start, subscriber.end - subscriber.start);
            if let (Some(chunk), 1..) = (&chunk, count) {
                let part = Part { chunk: chunk.clone(), start: small(start), count: small(count) };
                subscriber.sender.push(part, count as u64, subscriber.bytes);
            }
            subscriber.sender.skip(subscriber.found - count as u64);
            subscriber.sender.publish();
            (subscriber.found, subscriber.bytes) = (0, 0);
        }
        if let Some(chunk) = chunk {
            self.chunks.rest(chunk);
        }
    }

    fn touched(&self) -> &[usize] {
        &self.touched
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, subscriber: usize, count: u64) -> Poll<()> {
        self.subscribers[subscriber].sender.poll_room(cx, self.limits, count, 0)
    }

    fn evict(&mut self) -> bool {
        let behind = self.subscribers.iter_mut().max_by_key(|one| one.sender.unread());
        behind.is_some_and(|one| one.sender.evict())
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("an index of one read")
}

pub struct PartConsumer<Q: Queue> {
    receiver: Q::Receiver<Part>,
    channel: Box<[u8]>,
}

impl<Q: Queue> PartConsumer<Q> {
    fn visit(&self, taken: Taken<Part>, visitor: &mut impl Visitor) -> Found {
        match taken {
            Taken::Item { value: Part { chunk, start, count }, first, .. } => {
                let start = start as usize;
                let part = &chunk.index[start..start + count as usize];
                for (descriptor, sequence) in part.iter().zip(first..) {
                    let payload = descriptor.payload(&chunk.frames, &self.channel);
                    visitor.notification(sequence, &self.channel, payload);
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

impl<Q: Queue> Consumer for PartConsumer<Q> {
    fn try_take(&mut self, visitor: &mut impl Visitor) -> Found {
        let taken = self.receiver.try_take();
        self.visit(taken, visitor)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, visitor: &mut impl Visitor) -> Poll<Found> {
        let taken = ready!(self.receiver.poll_take(cx));
        Poll::Ready(self.visit(taken, visitor))
    }
}

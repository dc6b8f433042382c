//! Many subscribers on one reader. One of them sleeps until the end.

use std::future::poll_fn;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread;

use bytes::BytesMut;
use pgbell::proto::ring::Buffers;
use tokio::runtime::{Builder, Runtime};

use super::digest::Digest;
use super::hop::block_on;
use super::traffic::Traffic;
use super::{Begin, Sample, machine};
use crate::rivals::hub::{FanOut, Hub};
use crate::rivals::path::{Consumer, Found};

/// The largest number of unread notifications of a subscriber that is measured.
pub const UNREAD_MAX: u64 = 1_024;

/// The largest number of unread notifications of a subscriber that the reader waits for.
const BEHIND_MAX: u64 = 32;

/// The number of the subscriber that sleeps.
pub const SLEEPER: usize = 7;

const BUFFER_BYTES: usize = 256 * 1024;
const READ_BYTES_MIN: usize = 16 * 1024;

/// Receive buffers that may be in use if the reader can evict: 8 MiB of notifications, as in a listener.
/// A design that cannot evict would then lose notifications of all subscribers, so it has no limit.
const BUFFERS_MAX: usize = 37;

/// How reader and subscribers share the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One thread: a read, then all subscribers with notifications in it receive.
    Alternate,
    /// One task for each, on a runtime of one thread.
    Tasks,
    /// The reader on a core of its own, a task for each subscriber on another.
    Threads,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The sleeper's notifications are not delivered within the section.
    pub sample: Sample,
    /// Per subscriber. That of the sleeper is what it receives at the end.
    pub digests: Vec<Digest>,
    pub evicted: u64,
    pub buffers: usize,
    /// The highest number of bytes in use at the end of a read, minus those before the queues were made.
    pub held_bytes: usize,
    /// The largest number of unread notifications of a subscriber.
    pub unread_max: u64,
}

struct Socket<H> {
    hub: H,
    unread_max: u64,
    input: BytesMut,
    buffers: Buffers,
    traffic: Arc<Traffic>,
    next: u64,
    evicted: u64,
    held: fn() -> usize,
    held_max: usize,
}

impl<H: Hub> Socket<H> {
    fn new<F: FanOut<Hub = H>>(
        hub: H,
        unread_max: u64,
        traffic: &Arc<Traffic>,
        held: fn() -> usize,
    ) -> Self {
        let max = if F::EVICTS { BUFFERS_MAX } else { usize::MAX };
        let mut buffers = Buffers::new(BUFFER_BYTES, max);
        let input = buffers.first();
        let traffic = traffic.clone();
        Self {
            hub,
            unread_max,
            input,
            buffers,
            traffic,
            next: 0,
            evicted: 0,
            held,
            held_max: held(),
        }
    }

    fn read(&mut self) {
        while !self.buffers.exchange(&mut self.input, READ_BYTES_MIN) {
            // The others are never far behind: only the sleeper uses so many buffers.
            assert!(self.hub.evict(), "somebody has something unread");
            self.evicted += 1;
        }
        self.input.extend_from_slice(self.traffic.read(self.next));
        self.next += 1;
        self.hub.read(&mut self.input);
        assert!(self.input.is_empty(), "reads bring whole frames");
        if self.next.is_multiple_of(8) {
            self.held_max = self.held_max.max((self.held)());
        }
    }

    /// Waits until no subscriber of the last read is far behind, except the sleeper. So the others lose
    /// nothing, and the measurement does not depend on how far a reader gets ahead.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let count = self.unread_max - BEHIND_MAX;
        for nth in 0..self.hub.touched().len() {
            let subscriber = self.hub.touched()[nth];
            if subscriber != SLEEPER && self.hub.poll_room(cx, subscriber, count).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn outcome(&self, before: usize) -> Outcome {
        Outcome {
            evicted: self.evicted,
            buffers: self.buffers.alive(),
            held_bytes: self.held_max.saturating_sub(before),
            unread_max: self.unread_max,
            ..Outcome::default()
        }
    }
}

/// Sends this number of reads. `held` returns the number of allocated bytes.
pub fn run<F: FanOut>(
    layout: Layout,
    traffic: &Arc<Traffic>,
    unread_max: u64,
    reads: u64,
    held: fn() -> usize,
) -> Outcome {
    let before = held();
    let (hub, consumers) = F::open(unread_max, traffic.names());
    let socket = Socket::new::<F>(hub, unread_max, traffic, held);
    machine::pin(1);
    match layout {
        Layout::Alternate => alternate(socket, consumers, reads, before),
        Layout::Tasks => tasks(socket, consumers, reads, before),
        Layout::Threads => threads(socket, consumers, reads, before),
    }
}

fn alternate<H: Hub, C: Consumer>(
    mut socket: Socket<H>,
    mut consumers: Vec<C>,
    reads: u64,
    before: usize,
) -> Outcome {
    let mut digests = vec![Digest::default(); consumers.len()];
    let begin = Begin::now();
    for _ in 0..reads {
        socket.read();
        for &subscriber in socket.hub.touched() {
            if subscriber != SLEEPER {
                let digest = &mut digests[subscriber];
                while consumers[subscriber].try_take(digest) == Found::Some {}
            }
        }
    }
    let sample = begin.end(delivered(&digests));
    let outcome = socket.outcome(before);
    drop(socket);
    let mut sleeper = consumers.swap_remove(SLEEPER);
    while sleeper.try_take(&mut digests[SLEEPER]) == Found::Some {}
    Outcome { sample, digests, ..outcome }
}

fn delivered(digests: &[Digest]) -> u64 {
    digests.iter().map(|digest| digest.delivered).sum()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

/// Receives until the queue is empty.
async fn receive(mut consumer: impl Consumer) -> Digest {
    let mut digest = Digest::default();
    while poll_fn(|cx| consumer.poll_take(cx, &mut digest)).await != Found::Closed {}
    digest
}

/// Starts a task for each subscriber except the sleeper, on `runtime`.
fn subscribe<C: Consumer>(runtime: &Runtime, mut consumers: Vec<C>) -> (Subscribed, C) {
    let last = consumers.len() - 1;
    let sleeper = consumers.swap_remove(SLEEPER);
    let mut tasks: Vec<_> =
        consumers.into_iter().map(|consumer| Some(runtime.spawn(receive(consumer)))).collect();
    // Restores the order of the numbers: the last one was moved to the index of the sleeper.
    if SLEEPER < last {
        let moved = tasks.get_mut(SLEEPER).and_then(Option::take);
        tasks.push(moved);
    }
    (tasks, sleeper)
}

type Subscribed = Vec<Option<tokio::task::JoinHandle<Digest>>>;

async fn finish(tasks: Subscribed) -> Vec<Digest> {
    let mut digests = Vec::with_capacity(tasks.len());
    for task in tasks {
        digests.push(match task {
            Some(task) => task.await.expect("a subscriber ends"),
            None => Digest::default(),
        });
    }
    digests
}

fn tasks<H: Hub, C: Consumer>(
    mut socket: Socket<H>,
    consumers: Vec<C>,
    reads: u64,
    before: usize,
) -> Outcome {
    let runtime = runtime();
    let (tasks, mut sleeper) = subscribe(&runtime, consumers);
    let begin = Begin::now();
    let (mut digests, outcome) = runtime.block_on(async {
        let reader = tokio::spawn(async move {
            for _ in 0..reads {
                socket.read();
                // Every subscriber of this read runs before the next read.
                tokio::task::yield_now().await;
                poll_fn(|cx| socket.poll_room(cx)).await;
            }
            socket.outcome(before)
        });
        let outcome = reader.await.expect("the reader ends");
        (finish(tasks).await, outcome)
    });
    let sample = begin.end(delivered(&digests));
    while sleeper.try_take(&mut digests[SLEEPER]) == Found::Some {}
    Outcome { sample, digests, ..outcome }
}

fn threads<H: Hub, C: Consumer>(
    mut socket: Socket<H>,
    consumers: Vec<C>,
    reads: u64,
    before: usize,
) -> Outcome {
    let runtime = runtime();
    let (tasks, mut sleeper) = subscribe(&runtime, consumers);
    let (go, start) = mpsc::channel::<()>();
    let reader = thread::spawn(move || {
        machine::pin(0);
        let _ = start.recv();
        for _ in 0..reads {
            socket.read();
            block_on(|cx| socket.poll_room(cx));
        }
        socket.outcome(before)
    });
    let begin = Begin::now();
    let _ = go.send(());
    let mut digests = runtime.block_on(finish(tasks));
    let outcome = reader.join().expect("the reader ends");
    let sample = begin.end(delivered(&digests));
    while sleeper.try_take(&mut digests[SLEEPER]) == Found::Some {}
    Outcome { sample, digests, ..outcome }
}

/// Compares a result with what was sent: every subscriber got everything, and every notification of the sleeper
/// was delivered or reported as lost, the oldest first.
///
/// # Panics
/// If the result is wrong.
pub fn check(outcome: &Outcome, expected: &[Digest]) {
    for (number, (digest, expected)) in outcome.digests.iter().zip(expected).enumerate() {
        if number == SLEEPER {
            assert!(digest.is_unbroken(), "the sleeper's sequence");
            assert_eq!(digest.next(), expected.next(), "the sleeper's sum of delivered and lost");
            assert!(digest.delivered <= outcome.unread_max, "more than may be unread");
            if outcome.evicted == 0 {
                assert_eq!(digest.delivered, expected.delivered.min(outcome.unread_max));
            }
        } else {
            assert_eq!(digest, expected, "subscriber {number}");
        }
    }
    assert_eq!(outcome.digests.len(), expected.len());
}

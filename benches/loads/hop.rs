//! One reader and one consumer.

use std::future::poll_fn;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use bytes::BytesMut;
use pgbell::proto::ring::Buffers;

use super::digest::Digest;
use super::traffic::Traffic;
use super::{Begin, Sample, machine};
use crate::rivals::Limits;
use crate::rivals::path::{Consumer, Found, Path, Reader};

/// The listener's own limits.
pub const LIMITS: Limits = Limits { notifications: 16_384, bytes: 8 * 1024 * 1024 };

/// The listener's receive buffers.
const BUFFER_BYTES: usize = 256 * 1024;
const READ_BYTES_MIN: usize = 16 * 1024;
const BUFFERS_MAX: usize = 37;

/// The side of the socket: a buffer that is read into, and the reader that takes the bytes from it.
pub struct Socket<R> {
    pub reader: R,
    input: BytesMut,
    buffers: Buffers,
    traffic: Arc<Traffic>,
    next: u64,
}

impl<R: Reader> Socket<R> {
    pub fn new(reader: R, traffic: &Arc<Traffic>) -> Self {
        let mut buffers = Buffers::new(BUFFER_BYTES, BUFFERS_MAX);
        Self { reader, input: buffers.first(), buffers, traffic: traffic.clone(), next: 0 }
    }

    /// Copies bytes into the buffer, as the kernel does. Then the reader takes them.
    #[inline]
    pub fn read(&mut self) {
        let may_split = self.buffers.exchange(&mut self.input, READ_BYTES_MIN);
        assert!(may_split, "the limits of the queue leave buffers free");
        self.input.extend_from_slice(self.traffic.read(self.next));
        self.next += 1;
        self.reader.read(&mut self.input);
        assert!(self.input.is_empty(), "reads bring whole frames");
    }

    fn has_room(&mut self) -> bool {
        let (count, bytes) = self.amount();
        self.reader.has_room(count, bytes)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (count, bytes) = self.amount();
        self.reader.poll_room(cx, count, bytes)
    }

    /// Notifications and bytes of one read.
    fn amount(&self) -> (u64, u64) {
        (self.traffic.per_read as u64, self.traffic.read_bytes() as u64)
    }
}

/// How reader and consumer share the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One thread: a read, then all of it is taken.
    Alternate,
    /// Two tasks of a runtime of one thread. The reader yields after each read, as in a listener.
    Tasks,
    /// Two threads on a core each, which spin while they wait.
    Spin,
    /// Two threads on a core each, which sleep while they wait.
    Park,
}

fn open<P: Path>(traffic: &Arc<Traffic>) -> (Socket<P::Reader>, P::Consumer) {
    let (reader, consumer) = P::open(LIMITS, &["sub_0000"]);
    (Socket::new(reader, traffic), consumer)
}

/// Moves this number of reads. Nothing may be lost: the reader waits for room.
pub fn run<P: Path>(layout: Layout, traffic: &Arc<Traffic>, reads: u64) -> (Sample, Digest) {
    match layout {
        Layout::Alternate => alternate::<P>(traffic, reads),
        Layout::Tasks => tasks::<P>(traffic, reads),
        Layout::Spin => threads::<P>(traffic, reads, false),
        Layout::Park => threads::<P>(traffic, reads, true),
    }
}

fn alternate<P: Path>(traffic: &Arc<Traffic>, reads: u64) -> (Sample, Digest) {
    machine::pin(1);
    let (mut socket, mut consumer) = open::<P>(traffic);
    let mut digest = Digest::default();
    let begin = Begin::now();
    for _ in 0..reads {
        socket.read();
        while consumer.try_take(&mut digest) == Found::Some {}
    }
    (begin.end(digest.delivered), digest)
}

fn tasks<P: Path>(traffic: &Arc<Traffic>, reads: u64) -> (Sample, Digest) {
    machine::pin(1);
    let (mut socket, mut consumer) = open::<P>(traffic);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let begin = Begin::now();
    let digest = runtime.block_on(async {
        let reader = tokio::spawn(async move {
            for _ in 0..reads {
                poll_fn(|cx| socket.poll_room(cx)).await;
                socket.read();
                tokio::task::yield_now().await;
            }
        });
        let taken = tokio::spawn(async move {
            let mut digest = Digest::default();
            while poll_fn(|cx| consumer.poll_take(cx, &mut digest)).await != Found::Closed {}
            digest
        });
        reader.await.expect("the reader ends");
        taken.await.expect("the consumer ends")
    });
    (begin.end(digest.delivered), digest)
}

fn threads<P: Path>(traffic: &Arc<Traffic>, reads: u64, park: bool) -> (Sample, Digest) {
    let (mut socket, mut consumer) = open::<P>(traffic);
    let start = &Barrier::new(2);
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            machine::pin(0);
            start.wait();
            for _ in 0..reads {
                if park {
                    block_on(|cx| socket.poll_room(cx));
                } else {
                    while !socket.has_room() {
                        std::hint::spin_loop();
                    }
                }
                socket.read();
            }
        });
        machine::pin(1);
        start.wait();
        let begin = Begin::now();
        let mut digest = Digest::default();
        loop {
            let found = if park {
                block_on(|cx| consumer.poll_take(cx, &mut digest))
            } else {
                consumer.try_take(&mut digest)
            };
            match found {
                Found::Some => {}
                Found::Empty => std::hint::spin_loop(),
                Found::Closed => break,
            }
        }
        let sample = begin.end(digest.delivered);
        reader.join().expect("the reader ends");
        (sample, digest)
    })
}

/// The result of a consumer that slept.
#[derive(Debug)]
pub struct Slept {
    /// What it receives when it wakes up at the end.
    pub digest: Digest,
    /// The number of bytes in use before the first read, and the highest number later.
    pub empty_bytes: usize,
    pub held_bytes: usize,
    pub buffers: usize,
}

/// Sends this number of reads to a consumer that sleeps. Notifications without room are dropped. `held` returns the number
/// of allocated bytes.
pub fn sleep<P: Path>(traffic: &Arc<Traffic>, reads: u64, held: fn() -> usize) -> Slept {
    let before = held();
    let (reader, mut consumer) = P::open(LIMITS, &["sub_0000"]);
    let empty_bytes = held().saturating_sub(before);
    let mut socket = Socket::new(reader, traffic);
    let mut most = 0;
    for _ in 0..reads {
        socket.read();
        most = most.max(held());
    }
    let buffers = socket.buffers.alive();
    drop(socket);
    let mut digest = Digest::default();
    while consumer.try_take(&mut digest) == Found::Some {}
    Slept { digest, empty_bytes, held_bytes: most.saturating_sub(before), buffers }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls on this thread, which sleeps in between.
pub fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    thread_local! {
        static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
    }
    WAKER.with(|waker| {
        let mut cx = Context::from_waker(waker);
        loop {
            if let Poll::Ready(value) = poll(&mut cx) {
                return value;
            }
            thread::park();
        }
    })
}

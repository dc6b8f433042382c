//! A server that sends messages that were encoded beforehand, and allocates nothing meanwhile.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use bytes::BytesMut;
use pgbell::proto::wire::{
    Authentication, BackendKeyData, BackendMessage, RawNotification, TransactionStatus,
};
use pgbell::testing::Script;

/// Bytes of one notification: 8 of channel, 32 of payload.
pub(crate) const FRAME_BYTES: usize = 51;

/// More than an eighth of a receive buffer, which is copied if the consumer is behind.
pub(crate) const APART_GROUP: u64 = 700;

/// The process id is the one in `Script::FACTS`, so the client assumes no pooler.
const KEY: BackendKeyData<'static> = BackendKeyData { process_id: 7, secret_key: &[0; 4] };

/// How notifications are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// As fast as the socket accepts them, in writes of 64 KiB.
    Dense,
    /// This many in each write. The next write begins when all were received, so each is one read.
    Lockstep(u64),
}

impl Flow {
    /// Its reads are too small for large receive buffers.
    fn is_sparse(self) -> bool {
        matches!(self, Self::Lockstep(count) if count < 80)
    }

    /// Notifications in one write.
    pub(crate) fn per_write(self) -> u64 {
        match self {
            Self::Dense => (64 * 1024 / FRAME_BYTES) as u64,
            Self::Lockstep(count) => count,
        }
    }
}

/// The notifications that a server sends, in this order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The number of notifications in groups of [`APART_GROUP`], with more than a receive buffer of notices behind each group, so that
    /// each group has another buffer.
    pub(crate) apart: u64,
    pub(crate) flow: Flow,
    /// The number of all notifications.
    pub(crate) total: u64,
}

/// Sparse writes before the consumer sleeps: enough for small receive buffers.
const SPARSE_WRITES: u64 = 100;

/// Bytes that arrive while the consumer sleeps: more than a small receive buffer, and less than two.
const ASLEEP_BYTES: usize = 20 * 1024;

impl Plan {
    /// The consumer sleeps once after this many notifications.
    pub(crate) fn asleep_at(&self) -> u64 {
        self.apart + SPARSE_WRITES * self.flow.per_write()
    }

    /// The consumer receives again when this many have arrived. In a dense flow it does not sleep.
    pub(crate) fn awake_at(&self) -> u64 {
        let bytes = if self.flow.is_sparse() { ASLEEP_BYTES } else { 0 };
        self.asleep_at() + (bytes / FRAME_BYTES) as u64
    }
}

/// A server for one client. Its thread runs until [`end`](Self::end).
pub(crate) struct Replay {
    port: u16,
    signals: Arc<Signals>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Signals {
    received: AtomicU64,
    ended: AtomicBool,
}

impl Replay {
    pub(crate) fn start(plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let signals = Arc::new(Signals::default());
        let seen = signals.clone();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut sending = Sending::new(plan);
            log_in(&mut stream);
            sending.send(&mut stream, &seen);
            // The thread and its memory are not freed while a test counts.
            while !seen.ended.load(Ordering::Acquire) {
                thread::park();
            }
        });
        Self { port, signals, thread }
    }

    pub(crate) fn url(&self) -> String {
        format!("host=127.0.0.1 port={} user=test sslmode=disable", self.port)
    }

    /// Confirms that this many were received. Allocates nothing.
    pub(crate) fn set_received(&self, count: u64) {
        self.signals.received.store(count, Ordering::Release);
        self.thread.thread().unpark();
    }

    /// Ends the server, after the client has disconnected.
    pub(crate) fn end(self) {
        self.signals.received.store(u64::MAX, Ordering::Release);
        self.signals.ended.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap();
    }
}

fn log_in(stream: &mut TcpStream) {
    let mut out = BytesMut::new();
    let mut scratch = [0; 4_096];
    let _ = stream.read(&mut scratch).unwrap();
    let (name, value) = (&b"client_encoding"[..], &b"UTF8"[..]);
    let ready = BackendMessage::ReadyForQuery { status: TransactionStatus::Idle };
    BackendMessage::Authentication(Authentication::Ok).encode(&mut out).unwrap();
    BackendMessage::ParameterStatus { name, value }.encode(&mut out).unwrap();
    BackendMessage::BackendKeyData(KEY).encode(&mut out).unwrap();
    ready.encode(&mut out).unwrap();
    stream.write_all(&out).unwrap();
    let _ = stream.read(&mut scratch).unwrap();
    stream.write_all(Script::FACTS).unwrap();
    let _ = stream.read(&mut scratch).unwrap();
    out.clear();
    BackendMessage::CommandComplete { tag: b"LISTEN" }.encode(&mut out).unwrap();
    ready.encode(&mut out).unwrap();
    stream.write_all(&out).unwrap();
}

struct Sending {
    plan: Plan,
    /// Frames of one length. Each one is overwritten with its number.
    frames: Vec<u8>,
    /// A notice, three of which are longer than a receive buffer.
    notice: Vec<u8>,
    next: u64,
}

impl Sending {
    fn new(plan: Plan) -> Self {
        let mut frame = BytesMut::new();
        let raw = RawNotification { process_id: 1, channel: b"channel1", payload: &[b'0'; 32] };
        BackendMessage::NotificationResponse(raw).encode(&mut frame).unwrap();
        assert_eq!(frame.len(), FRAME_BYTES);
        let most = plan.flow.per_write().max(APART_GROUP);
        let frames = frame.repeat(usize::try_from(most).unwrap());
        let text = vec![b'n'; 90 * 1024];
        let length = u32::try_from(text.len() + 7).unwrap().to_be_bytes();
        let notice = [b"N", &length[..], b"M", &text, b"\0\0"].concat();
        Self { plan, frames, notice, next: 0 }
    }

    /// Stops when the client disconnects.
    fn send(&mut self, stream: &mut TcpStream, signals: &Signals) {
        for _ in 0..self.plan.apart / APART_GROUP {
            if !self.write(stream, APART_GROUP) {
                return;
            }
            for _ in 0..3 {
                if stream.write_all(&self.notice).is_err() {
                    return;
                }
            }
        }
        while self.next < self.plan.total {
            let count = self.plan.flow.per_write().min(self.plan.total - self.next);
            // The earlier write must be received first, or one read would return both.
            while self.plan.flow != Flow::Dense
                && signals.received.load(Ordering::Acquire) < self.next
            {
                thread::park();
            }
            if !self.write(stream, count) {
                return;
            }
        }
    }

    fn write(&mut self, stream: &mut TcpStream, count: u64) -> bool {
        let bytes = usize::try_from(count).unwrap() * FRAME_BYTES;
        for frame in self.frames[..bytes].chunks_exact_mut(FRAME_BYTES) {
            let end = frame.len() - 1;
            let mut rest = self.next;
            for digit in frame[end - 32..end].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap();
                rest /= 10;
            }
            self.next += 1;
        }
        stream.write_all(&self.frames[..bytes]).is_ok()
    }
}

/// Returns the number in a payload of 32 digits.
pub(crate) fn number(payload: &[u8]) -> u64 {
    payload.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))
}

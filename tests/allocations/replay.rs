//! A server that sends what was encoded beforehand, and allocates nothing while it does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytes::BytesMut;
use pgbell::wire::{Authentication, BackendMessage, RawNotification, TransactionStatus};

/// How notifications come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// As fast as the socket takes them, in writes of 64 KiB.
    Dense,
    /// One by one, each after the one before was received.
    Sparse,
}

impl Flow {
    /// Notifications until every buffer has been made and filled.
    pub(crate) fn warm_up(self) -> u64 {
        match self {
            Self::Dense => 400_000,
            Self::Sparse => 12_000,
        }
    }

    pub(crate) fn total(self) -> u64 {
        match self {
            Self::Dense => 1_400_000,
            Self::Sparse => 24_000,
        }
    }
}

pub(crate) struct Replay {
    port: u16,
    received: Arc<AtomicU64>,
}

impl Replay {
    pub(crate) fn start(flow: Flow) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(AtomicU64::new(0));
        let seen = received.clone();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            log_in(&mut stream);
            send(&mut stream, flow, &seen);
            // Until the client goes.
            let _ = stream.read(&mut [0; 64]);
        });
        Self { port, received }
    }

    pub(crate) fn url(&self) -> String {
        format!("host=127.0.0.1 port={} user=test", self.port)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    pub(crate) fn set_received(&self, next: u64) {
        self.received.store(next, Ordering::Release);
    }
}

/// The payload is the number, 32 digits.
pub(crate) fn number(payload: &[u8]) -> u64 {
    payload.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))
}

fn log_in(stream: &mut TcpStream) {
    let mut out = BytesMut::new();
    let mut scratch = [0; 4_096];
    let _ = stream.read(&mut scratch).unwrap();
    let (name, value) = (&b"client_encoding"[..], &b"UTF8"[..]);
    let ready = BackendMessage::ReadyForQuery { status: TransactionStatus::Idle };
    BackendMessage::Authentication(Authentication::Ok).encode(&mut out).unwrap();
    BackendMessage::ParameterStatus { name, value }.encode(&mut out).unwrap();
    ready.encode(&mut out).unwrap();
    stream.write_all(&out).unwrap();
    let _ = stream.read(&mut scratch).unwrap();
    out.clear();
    BackendMessage::CommandComplete { tag: b"LISTEN" }.encode(&mut out).unwrap();
    ready.encode(&mut out).unwrap();
    stream.write_all(&out).unwrap();
}

/// All frames have one length, so each can be rewritten in place with the next number.
fn send(stream: &mut TcpStream, flow: Flow, received: &AtomicU64) {
    let mut frame = BytesMut::new();
    let raw = RawNotification { process_id: 1, channel: b"channel1", payload: &[b'0'; 32] };
    BackendMessage::NotificationResponse(raw).encode(&mut frame).unwrap();
    let per_write = match flow {
        Flow::Dense => 64 * 1024 / frame.len(),
        Flow::Sparse => 1,
    };
    let mut out = frame.repeat(per_write);
    let mut next = 0;
    while next < flow.total() {
        let count = per_write.min(usize::try_from(flow.total() - next).unwrap());
        for frame in out.chunks_exact_mut(frame.len()).take(count) {
            let end = frame.len() - 1;
            let mut rest = next;
            for digit in frame[end - 32..end].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap();
                rest /= 10;
            }
            next += 1;
        }
        if stream.write_all(&out[..count * frame.len()]).is_err() {
            return;
        }
        while flow == Flow::Sparse && received.load(Ordering::Acquire) < next {
            thread::yield_now();
        }
    }
}

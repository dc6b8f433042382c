//! A client, from its first byte on its socket to the last.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::super::SessionId;
use super::shared::Shared;

/// Bytes that are read from a client at once.
const READ_BYTES: usize = 64 * 1024;

/// Bytes that are taken out of a session's output at once: these stand outside of its bound.
const WRITE_BYTES: usize = 64 * 1024;

/// How long the socket of a session that is over waits for its client to read what is left.
const LINGER: Duration = Duration::from_secs(5);

/// What the task of a session waits for besides its socket.
#[derive(Debug, Default)]
pub(super) struct Signals {
    output: Notify,
    over: Notify,
    /// The client has sent its last byte.
    ended: AtomicBool,
}

impl Signals {
    pub(super) fn raise(&self, over: bool) {
        self.output.notify_one();
        if over {
            self.over.notify_one();
        }
    }

    /// No more input will come.
    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.raise(true);
    }
}

/// A session that is forgotten when its task ends, whatever the reason.
pub(super) struct Visit {
    shared: Arc<Shared>,
    id: SessionId,
    signals: Arc<Signals>,
}

impl Visit {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let id = shared.backend().connect();
        shared.wake_waiting();
        let signals = Arc::new(Signals::default());
        shared.signals().insert(id, Arc::clone(&signals));
        Self { shared, id, signals }
    }

    fn handle(&self, input: &mut BytesMut) {
        let mut backend = self.shared.backend();
        backend.handle_input(self.id, input);
        self.signals.raise(backend.is_closed(self.id));
        self.shared.wake(&mut backend);
    }

    /// Takes out what is to be written next; `None` when nothing will ever follow.
    fn take_output(&self) -> Option<BytesMut> {
        let mut backend = self.shared.backend();
        let output = backend.transmit(self.id);
        let bytes = output.len().min(WRITE_BYTES);
        let output = output.split_to(bytes);
        let last = backend.is_closed(self.id) || self.signals.ended.load(Ordering::Relaxed);
        (!output.is_empty() || !last).then_some(output)
    }

    /// Reads while it writes. Ends when both directions have ended, or [`LINGER`] after the session.
    pub(super) async fn run(self, stream: impl AsyncRead + AsyncWrite) {
        let (read, write) = tokio::io::split(stream);
        let mut reading = pin!(self.read(read));
        let mut writing = pin!(self.write(write));
        let mut lingering = pin!(async {
            self.signals.over.notified().await;
            tokio::time::sleep(LINGER).await;
        });
        let (mut read, mut written) = (false, false);
        poll_fn(|cx| {
            read = read || reading.as_mut().poll(cx).is_ready();
            written = written || writing.as_mut().poll(cx).is_ready();
            if read && written {
                return Poll::Ready(());
            }
            lingering.as_mut().poll(cx)
        })
        .await;
    }

    /// To the end of the stream. What comes after the end of the session is read and dropped: to
    /// close a socket with unread bytes would take the last words back.
    async fn read(&self, mut stream: impl AsyncRead + Unpin) {
        let mut input = BytesMut::with_capacity(READ_BYTES);
        while let Ok(1..) = stream.read_buf(&mut input).await {
            self.handle(&mut input);
            input.reserve(READ_BYTES);
        }
        self.signals.end();
    }

    async fn write(&self, mut stream: impl AsyncWrite + Unpin) {
        while let Some(output) = self.take_output() {
            if output.is_empty() {
                self.signals.output.notified().await;
            } else if stream.write_all(&output).await.is_err() {
                break;
            }
        }
        self.signals.over.notify_one();
        // If the client is gone there is nothing to shut down.
        let _ = stream.shutdown().await;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.shared.signals().remove(&self.id);
        self.shared.backend().disconnect(self.id);
        self.shared.wake_waiting();
    }
}

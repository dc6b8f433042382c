//! The task of one client of the server.

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

/// Bytes that are read from a client in one call.
const READ_BYTES: usize = 64 * 1024;

/// Bytes that are taken out of a session's output in one call. They no longer count against its limit.
const WRITE_BYTES: usize = 64 * 1024;

/// The time that a client has, after the end of its session, to read the rest of the output.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// The events that the task of a session waits for, besides its socket.
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

    /// Reports that no more input will arrive.
    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.raise(true);
    }
}

/// A session that is removed from the backend when its task ends, for any reason.
pub(super) struct ClientTask {
    shared: Arc<Shared>,
    id: SessionId,
    signals: Arc<Signals>,
}

impl ClientTask {
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

    /// Takes the bytes that are to be written next. `None` if no bytes will follow.
    fn take_output(&self) -> Option<BytesMut> {
        let mut backend = self.shared.backend();
        let output = backend.transmit(self.id);
        let bytes = output.len().min(WRITE_BYTES);
        let output = output.split_to(bytes);
        let last = backend.is_closed(self.id) || self.signals.ended.load(Ordering::Relaxed);
        (!output.is_empty() || !last).then_some(output)
    }

    /// Reads and writes concurrently. Ends when both directions have ended, or [`LINGER_TIMEOUT`] after the session.
    pub(super) async fn run(self, stream: impl AsyncRead + AsyncWrite) {
        let (read, write) = tokio::io::split(stream);
        let mut reading = pin!(self.read(read));
        let mut writing = pin!(self.write(write));
        let mut lingering = pin!(async {
            self.signals.over.notified().await;
            tokio::time::sleep(LINGER_TIMEOUT).await;
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

    /// Reads to the end of the stream. Bytes after the end of the session are discarded: if a socket is closed with
    /// unread bytes, the client may lose the last message.
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
        // An error means that the client is gone.
        let _ = stream.shutdown().await;
    }
}

impl Drop for ClientTask {
    fn drop(&mut self) {
        self.shared.signals().remove(&self.id);
        self.shared.backend().disconnect(self.id);
        self.shared.wake_waiting();
    }
}

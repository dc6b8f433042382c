//! The calls that go through the queue.

use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::{Error, contain};

/// A call that was accepted.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) message: Message,
    pub(super) called_at: Instant,
    /// The bytes that it takes of the queue. `None` in tests, for a request that takes none.
    pub(super) room: Option<Room>,
    pub(super) reply: Reply,
}

/// Bytes of the queue, which are released on drop. Always `Some` before the drop.
#[derive(Debug)]
pub(super) struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Some(permit))
    }
}

impl Drop for Room {
    /// Wakes the calls that wait for room. Their wakers are the user's code: if one panics, the other calls are still answered.
    fn drop(&mut self) {
        let permit = self.0.take();
        let _ = contain(|| drop(permit));
    }
}

/// The way to answer a call. If it is dropped without an answer, nothing was sent. Always `Some` before the answer.
#[derive(Debug)]
pub(super) struct Reply<T = Result<(), Error>>(Option<oneshot::Sender<T>>);

impl<T> Reply<T> {
    pub(super) fn new(sender: oneshot::Sender<T>) -> Self {
        Self(Some(sender))
    }

    /// Answers the call. Its waker is the user's code: if it panics, the other calls are still answered.
    pub(super) fn send(mut self, answer: T) {
        if let Some(sender) = self.0.take() {
            // The answer is stored before the waker is called.
            let _ = contain(|| sender.send(answer));
        }
    }
}

impl<T> Drop for Reply<T> {
    /// A drop without an answer wakes the call, too.
    fn drop(&mut self) {
        let sender = self.0.take();
        let _ = contain(|| drop(sender));
    }
}

/// The notifications to send. `Debug` shows no payload.
pub(super) enum Message {
    Notify {
        channel: String,
        payload: String,
    },
    /// The notifications of one call, as two array literals.
    Many {
        channels: String,
        payloads: String,
    },
    /// It was written, and is not needed again.
    Written,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, bytes) = match self {
            Self::Notify { channel, payload } => ("Notify", channel.len() + payload.len()),
            Self::Many { channels, payloads } => ("Many", channels.len() + payloads.len()),
            Self::Written => ("Written", 0),
        };
        write!(f, "{name}({bytes} bytes)")
    }
}

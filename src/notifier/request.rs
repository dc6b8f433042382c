//! The calls that go through the queue.

use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::{Error, contain};

/// A call that was accepted.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) message: Message,
    pub(super) called_at: Instant,
    /// The bytes that it takes of the queue.
    pub(super) room: Room,
    pub(super) reply: Reply,
}

/// Bytes of the queue, which are released on drop. `None` in tests, for a request that takes none.
pub(super) type Room = Option<OwnedSemaphorePermit>;

/// The way to answer a call. If it is dropped without an answer, nothing was sent.
#[derive(Debug)]
pub(super) struct Reply(pub(super) oneshot::Sender<Result<(), Error>>);

impl Reply {
    /// Answers the call. Its waker is the user's code: if it panics, the other calls are still answered.
    pub(super) fn send(self, answer: Result<(), Error>) {
        // The answer is stored before the waker is called.
        let _ = contain(|| self.0.send(answer));
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

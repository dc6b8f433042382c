//! The calls that go through the queue.

use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::{Error, contain};
use crate::proto::session::{CommandId, Session};

/// Object id of the type `text[]` in `pg_type`.
const TEXT_ARRAY_OID: u32 = 1009;

/// One statement, so one transaction. `unnest` returns its rows in the order of the arrays, and the server keeps that
/// order. The names are qualified because of the user's `search_path`, except `unnest`: with several arguments it is syntax
/// of the server, which must not be qualified.
// N51.
const NOTIFY_MANY: &str = "SELECT pg_catalog.count(pg_catalog.pg_notify(c, p)) \
                           FROM unnest($1, $2) AS t(c, p)";

/// The largest answer of the server, in bytes. It has one row with one number, or with one empty text.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

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
    /// A group, as two array literals.
    Many {
        channels: String,
        payloads: String,
    },
}

impl Message {
    /// Encodes the command into the output of a session.
    pub(super) fn send(self, now: Instant, session: &mut Session) -> Result<CommandId, Error> {
        let id = match self {
            Self::Notify { channel, payload } => session.notify(now, &channel, &payload)?,
            Self::Many { channels, payloads } => {
                // A buffer that grows by doubling could take twice as much.
                session.transmit().reserve(channels.len() + payloads.len() + 1_024);
                let parameters =
                    [(TEXT_ARRAY_OID, Some(&*channels)), (TEXT_ARRAY_OID, Some(&*payloads))];
                session.query(now, NOTIFY_MANY, &parameters)?
            }
        };
        session.require_commit(id);
        session.limit_answer(id, ANSWER_BYTES_MAX);
        session.limit_rows(id, 1);
        Ok(id)
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, bytes) = match self {
            Self::Notify { channel, payload } => ("Notify", channel.len() + payload.len()),
            Self::Many { channels, payloads } => ("Many", channels.len() + payloads.len()),
        };
        write!(f, "{name}({bytes} bytes)")
    }
}

//! The way into the queue: one call after the other, and no more bytes than there is room for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError, mpsc, oneshot,
};

use super::pipeline::{late, unsent};
use super::request::{Message, Request};
use crate::{Error, ErrorKind, net};

/// What a call takes of the queue besides its texts, in bytes: the messages around them, and its place in
/// the queue.
const CALL_BYTES: usize = 512;

/// The senders' side of a notifier. All clones share one queue.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    requests: mpsc::UnboundedSender<Request>,
    closes: mpsc::UnboundedSender<oneshot::Sender<()>>,
    shared: Arc<Shared>,
}

/// What the clones share with the task.
#[derive(Debug)]
pub(super) struct Shared {
    process_id: Option<i32>,
    answer_timeout: Duration,
    /// Where the task runs, and the clock: a call may be made in any runtime, or in none.
    runtime: Handle,
    /// Why the connection is over.
    cause: OnceLock<Error>,
    /// For one call: it waits for room, the others wait for their turn. So none overtakes another one.
    turn: Semaphore,
    /// In bytes.
    room: Arc<Semaphore>,
    room_bytes: usize,
}

impl Shared {
    /// For a task of the current runtime.
    pub(super) fn new(
        process_id: Option<i32>,
        answer_timeout: Duration,
        room_bytes: usize,
    ) -> Self {
        Self {
            process_id,
            answer_timeout,
            runtime: Handle::current(),
            cause: OnceLock::new(),
            turn: Semaphore::new(1),
            room: Arc::new(Semaphore::new(room_bytes)),
            room_bytes,
        }
    }

    /// Nothing more is accepted: calls that wait for room are refused.
    pub(super) fn shut(&self) {
        self.turn.close();
        self.room.close();
    }

    /// Why the connection is over, if the notifier was not closed.
    pub(super) fn end(&self, cause: Error) {
        let _ = self.cause.set(cause);
    }

    /// The answer to a call of which nothing was sent.
    fn refusal(&self) -> Error {
        match self.cause.get() {
            Some(cause) => unsent(cause),
            None => Error::new(
                ErrorKind::Closed,
                "the notifier is closed, the notification was not sent",
            ),
        }
    }
}

impl Gate {
    pub(super) fn new(
        requests: mpsc::UnboundedSender<Request>,
        closes: mpsc::UnboundedSender<oneshot::Sender<()>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { requests, closes, shared }
    }

    pub(super) fn process_id(&self) -> Option<i32> {
        self.shared.process_id
    }

    /// Has a message of `bytes` bytes sent, and waits for its commit.
    pub(super) async fn ask(
        &self,
        bytes: usize,
        message: impl FnOnce() -> Message,
    ) -> Result<(), Error> {
        let called_at = net::now();
        let (turn, room) = self.enter(bytes).await?;
        let (reply, answer) = oneshot::channel();
        let request = Request { message: message(), called_at, room: Some(room), reply };
        // When the task is gone, the reply goes with the request.
        let _ = self.requests.send(request);
        drop(turn);
        answer.await.unwrap_or_else(|_| Err(self.shared.refusal()))
    }

    /// Waits for room, at most for one answer timeout.
    async fn enter(
        &self,
        bytes: usize,
    ) -> Result<(SemaphorePermit<'_>, OwnedSemaphorePermit), Error> {
        let Shared { turn, room, room_bytes, answer_timeout, runtime, .. } = &*self.shared;
        // What is larger than all of the room has it for itself.
        let bytes = bytes.saturating_add(CALL_BYTES).min(*room_bytes);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let closed = |_| self.shared.refusal();
        let my_turn = match turn.try_acquire() {
            Ok(my_turn) => Some(my_turn),
            Err(TryAcquireError::NoPermits) => None,
            Err(TryAcquireError::Closed) => return Err(self.shared.refusal()),
        };
        let my_turn = match my_turn {
            Some(my_turn) => match room.clone().try_acquire_many_owned(bytes) {
                Ok(room) => return Ok((my_turn, room)),
                Err(_) => Some(my_turn),
            },
            None => None,
        };
        let waiting = async {
            let my_turn = match my_turn {
                Some(my_turn) => my_turn,
                None => turn.acquire().await.map_err(closed)?,
            };
            let room = room.clone().acquire_many_owned(bytes).await.map_err(closed)?;
            Ok((my_turn, room))
        };
        let limited = {
            let _inside = runtime.enter();
            tokio::time::timeout(*answer_timeout, waiting)
        };
        match limited.await {
            Ok(entered) => entered,
            Err(_) => Err(late(*answer_timeout)),
        }
    }

    /// Asks for the end, and waits for it.
    pub(super) async fn close(self) {
        let (reply, closed) = oneshot::channel();
        if self.closes.send(reply).is_ok() {
            // If it is dropped, the task has ended as well.
            let _ = closed.await;
        }
    }
}

//! The way into the queue. It has room for so many bytes, and calls get room in the order in which they were made.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};

use super::pipeline::{abandoned, late, unsent};
use super::request::{Message, Reply, Request};
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
    /// In bytes. Calls that wait get it in their order, and a later call gets none before them. A call that waits holds
    /// nothing else: if its future is kept and not polled, it must not stop the others.
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
            room: Arc::new(Semaphore::new(room_bytes)),
            room_bytes,
        }
    }

    /// Nothing more is accepted: calls that wait for room are refused.
    pub(super) fn shut(&self) {
        // The wakers of those calls are code of the user and may panic. Each is called at most once, so this ends.
        while catch_unwind(AssertUnwindSafe(|| self.room.close())).is_err() {}
    }

    /// The connection is over for this reason.
    pub(super) fn end(&self, cause: Error) {
        let _ = self.cause.set(cause);
        self.shut();
    }

    /// The task is dropped. If it has not ended by itself, its runtime has ended.
    pub(super) fn abandon(&self) {
        if !self.room.is_closed() {
            self.end(abandoned());
        }
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
        let room = self.enter(bytes).await?;
        let (reply, answer) = oneshot::channel();
        let reply = Reply(reply);
        let request = Request { message: message(), called_at, room: Some(room), reply };
        // When the task is gone, the reply goes with the request.
        let _ = self.requests.send(request);
        answer.await.unwrap_or_else(|_| Err(self.shared.refusal()))
    }

    /// Waits for room, at most for one answer timeout.
    async fn enter(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let Shared { room, room_bytes, answer_timeout, runtime, .. } = &*self.shared;
        // What is larger than all of the room has it for itself.
        let bytes = bytes.saturating_add(CALL_BYTES).min(*room_bytes);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match room.clone().try_acquire_many_owned(bytes) {
            Ok(room) => return Ok(room),
            Err(TryAcquireError::Closed) => return Err(self.shared.refusal()),
            Err(TryAcquireError::NoPermits) => {}
        }
        let limited = {
            let _inside = runtime.enter();
            tokio::time::timeout(*answer_timeout, room.clone().acquire_many_owned(bytes))
        };
        match limited.await {
            Ok(entered) => entered.map_err(|_| self.shared.refusal()),
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

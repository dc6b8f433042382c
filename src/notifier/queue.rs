//! The queue from the clones of a notifier to its task. It is bounded in bytes, and calls get room in the order in which
//! they were made.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};

use super::pipeline::{abandoned, late, unsent};
use super::request::{Message, Reply, Request};
use crate::error::{Error, ErrorKind, contain};
use crate::net::{self, SessionProcessId};

/// The bytes that a call takes of the queue in addition to its channels and payloads: for the protocol messages and the
/// entry of the queue.
const CALL_BYTES: usize = 512;

/// The sending end of the queue. All clones of a notifier share one queue.
#[derive(Debug, Clone)]
pub(super) struct RequestQueue {
    requests: mpsc::UnboundedSender<Request>,
    closes: mpsc::UnboundedSender<oneshot::Sender<()>>,
    shared: Arc<NotifierShared>,
}

/// The state that the clones of a notifier share with its task.
#[derive(Debug)]
pub(super) struct NotifierShared {
    /// The process id of the session, also after its end.
    process_id: Option<i32>,
    /// That of the session while there is one.
    session: SessionProcessId,
    answer_timeout: Duration,
    /// The runtime of the task, for its timers: a call may be made in another runtime, or in none.
    runtime: Handle,
    /// Why the connection ended.
    cause: OnceLock<Error>,
    /// One permit per byte. Waiting calls get permits in their order, and no later call gets one before them. A waiting
    /// call must hold nothing else: otherwise a future that is kept and not polled would block the other calls.
    room: Arc<Semaphore>,
    room_bytes: usize,
}

impl NotifierShared {
    /// Creates the state for a task of the current runtime.
    pub(super) fn new(
        process_id: Option<i32>,
        answer_timeout: Duration,
        room_bytes: usize,
    ) -> Self {
        Self {
            process_id,
            session: SessionProcessId::new(process_id),
            answer_timeout,
            runtime: Handle::current(),
            cause: OnceLock::new(),
            room: Arc::new(Semaphore::new(room_bytes)),
            room_bytes,
        }
    }

    /// Refuses all further calls, and those that wait for room.
    pub(super) fn shut(&self) {
        // The wakers of those calls are the user's code and may panic. Each is called at most once, so the loop ends.
        while contain(|| self.room.close()).is_err() {}
    }

    /// Records why the connection ended, and refuses all further calls.
    pub(super) fn end(&self, cause: Error) {
        let _ = self.cause.set(cause);
        self.shut();
    }

    /// Handles the drop of the task. If the task has not ended by itself, its runtime has ended.
    pub(super) fn abandon(&self) {
        // Another session of the server may get the process id.
        self.session.set(None);
        if !self.room.is_closed() {
            self.end(abandoned());
        }
    }

    /// Returns the answer to a call that was not sent.
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

impl RequestQueue {
    pub(super) fn new(
        requests: mpsc::UnboundedSender<Request>,
        closes: mpsc::UnboundedSender<oneshot::Sender<()>>,
        shared: Arc<NotifierShared>,
    ) -> Self {
        Self { requests, closes, shared }
    }

    pub(super) fn process_id(&self) -> Option<i32> {
        self.shared.process_id
    }

    pub(super) fn session(&self) -> &SessionProcessId {
        &self.shared.session
    }

    /// Sends a message of `bytes` bytes to the task, and waits until it is committed.
    pub(super) async fn send(
        &self,
        bytes: usize,
        message: impl FnOnce() -> Message,
    ) -> Result<(), Error> {
        let called_at = net::now();
        let room = self.acquire_room(bytes).await?;
        let (reply, answer) = oneshot::channel();
        let reply = Reply(reply);
        let request = Request { message: message(), called_at, room: Some(room), reply };
        // If the task has ended, the reply is dropped with the request.
        let _ = self.requests.send(request);
        answer.await.unwrap_or_else(|_| Err(self.shared.refusal()))
    }

    /// Waits for room, at most one answer timeout.
    async fn acquire_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let NotifierShared { room, room_bytes, answer_timeout, runtime, .. } = &*self.shared;
        // A message that is larger than the queue takes all of it.
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
            Ok(acquired) => acquired.map_err(|_| self.shared.refusal()),
            Err(_) => Err(late(*answer_timeout)),
        }
    }

    /// Asks the task to end, and waits for its end.
    pub(super) async fn close(self) {
        let (reply, closed) = oneshot::channel();
        if self.closes.send(reply).is_ok() {
            // If the reply is dropped, the task has ended too.
            let _ = closed.await;
        }
    }
}

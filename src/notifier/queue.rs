//! The queue from the clones of a notifier to its task. It is bounded in bytes, and calls get room in the order in which
//! they were made.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, TryAcquireError, mpsc, oneshot};

use super::outcome;
use super::request::{Message, Reply, Request, Room};
use super::stats::NotifierStats;
use crate::error::{Error, contain};
use crate::net::{self, SessionProcessId};
use crate::proto::supervisor::State;
use crate::queue::StateWatch;

/// The bytes that a call takes of the queue in addition to its channels and payloads: for the protocol messages and the
/// entry of the queue.
const CALL_BYTES: usize = 512;

/// The sending end of the queue. All clones of a notifier share one queue.
#[derive(Debug, Clone)]
pub(super) struct RequestQueue {
    requests: mpsc::UnboundedSender<Request>,
    closes: mpsc::UnboundedSender<Reply<()>>,
    shared: Arc<NotifierShared>,
}

/// The state that the clones of a notifier share with its task.
#[derive(Debug)]
pub(super) struct NotifierShared {
    state: StateWatch,
    stats: Mutex<NotifierStats>,
    /// The error of the last lost session or failed attempt.
    last_error: Mutex<Option<Error>>,
    /// The process id of the current session, or of the last one.
    process_id: SessionProcessId,
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
            state: StateWatch::new(State::Connected),
            stats: Mutex::default(),
            last_error: Mutex::default(),
            process_id: SessionProcessId::new(process_id),
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

    /// Sets the process id of a new session. `None`: the session was lost, and another session of the server may get its process
    /// id.
    pub(super) fn set_session(&self, process_id: Option<i32>) {
        if process_id.is_some() {
            self.process_id.set(process_id);
        }
        self.session.set(process_id);
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.set(state);
    }

    pub(super) fn set_stats(&self, stats: NotifierStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    pub(super) fn set_last_error(&self, error: Error) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.brief());
    }

    /// Handles the drop of the task. If the task has not ended by itself, its runtime has ended.
    pub(super) fn abandon(&self) {
        self.set_session(None);
        if !self.room.is_closed() {
            self.end(outcome::abandoned());
        }
        self.state.set(State::Closed);
    }

    /// Returns the answer to a call that got no room in time.
    fn late(&self) -> Error {
        let outage = match self.state.get() {
            State::Connected => None,
            _ => self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        outcome::late(self.answer_timeout, outage.as_ref())
    }

    /// Returns the answer to a call that was not sent.
    fn refusal(&self) -> Error {
        self.cause.get().map_or_else(outcome::closed, outcome::unsent)
    }
}

impl RequestQueue {
    pub(super) fn new(
        requests: mpsc::UnboundedSender<Request>,
        closes: mpsc::UnboundedSender<Reply<()>>,
        shared: Arc<NotifierShared>,
    ) -> Self {
        Self { requests, closes, shared }
    }

    pub(super) fn process_id(&self) -> Option<i32> {
        self.shared.process_id.get()
    }

    pub(super) fn session(&self) -> &SessionProcessId {
        &self.shared.session
    }

    pub(super) fn state(&self) -> State {
        self.shared.state.get()
    }

    /// Waits until the notifier is in this state, or was in it since the call.
    pub(super) fn wait_state(&self, state: State) -> impl Future<Output = Result<(), Error>> {
        let entered = self.shared.state.wait(state);
        async move { if entered.await { Ok(()) } else { Err(self.shared.refusal()) } }
    }

    pub(super) fn stats(&self) -> NotifierStats {
        *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn last_error(&self) -> Option<Error> {
        self.shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        let reply = Reply::new(reply);
        let request = Request { message: message(), called_at, room: Some(room), reply };
        // If the task has ended, the reply is dropped with the request.
        let _ = self.requests.send(request);
        answer.await.unwrap_or_else(|_| Err(self.shared.refusal()))
    }

    /// Waits for room, at most one answer timeout.
    async fn acquire_room(&self, bytes: usize) -> Result<Room, Error> {
        let NotifierShared { room, room_bytes, answer_timeout, runtime, .. } = &*self.shared;
        // A message that is larger than the queue takes all of it.
        let bytes = bytes.saturating_add(CALL_BYTES).min(*room_bytes);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match room.clone().try_acquire_many_owned(bytes) {
            Ok(room) => return Ok(Room::new(room)),
            Err(TryAcquireError::Closed) => return Err(self.shared.refusal()),
            Err(TryAcquireError::NoPermits) => {}
        }
        let limited = {
            let _inside = runtime.enter();
            tokio::time::timeout(*answer_timeout, room.clone().acquire_many_owned(bytes))
        };
        match limited.await {
            Ok(acquired) => acquired.map(Room::new).map_err(|_| self.shared.refusal()),
            Err(_) => Err(self.shared.late()),
        }
    }

    /// Asks the task to end. The future waits for its end.
    pub(super) fn close(self) -> impl Future<Output = ()> {
        let (reply, closed) = oneshot::channel();
        // If the task has ended, the reply is dropped.
        let _ = self.closes.send(Reply::new(reply));
        async move {
            let _ = closed.await;
        }
    }
}

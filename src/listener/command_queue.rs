//! [`CommandQueue`]: the queue from a listener and its handles to the task. It is bounded in bytes, and calls wait for room
//! in the order in which they were made.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::shared::ListenerShared;
use crate::error::{Error, contain};
#[cfg(test)]
use crate::proto::ring::Pins;
#[cfg(test)]
use crate::proto::supervisor::Owner;
use crate::proto::supervisor::{ChannelState, Command, Reply};

/// The room for unanswered requests, in bytes: 1 MiB.
const QUEUE_BYTES: usize = 1024 * 1024;

/// The bytes that a request takes in addition to what follows: for its entry and its messages.
const REQUEST_BYTES: usize = 512;

/// The bytes that a channel takes in addition to its name.
const CHANNEL_BYTES: usize = 64;

/// Sends the answer to a command.
pub(crate) type ReplySender = oneshot::Sender<Result<Reply, Error>>;

/// A request to the task.
#[derive(Debug)]
pub(crate) struct QueuedCall {
    pub(crate) call: HandleCall,
    /// The room that it takes until it is answered. `None`: it takes none, because it must not wait for room.
    pub(crate) room: Option<CallRoom>,
}

/// The content of a request.
#[derive(Debug)]
pub(crate) enum HandleCall {
    /// A command for the supervisor.
    Command(Command, Option<ReplySender>),
    /// Asks for the wanted channels and their states.
    Channels(oneshot::Sender<Vec<(String, ChannelState)>>),
}

impl HandleCall {
    fn bytes(&self) -> usize {
        let channels = |names: &[String]| {
            names.iter().map(|name| name.len().saturating_add(CHANNEL_BYTES)).sum::<usize>()
        };
        let content = match self {
            Self::Command(Command::Listen(names) | Command::Unlisten(names), _) => channels(names),
            Self::Command(Command::SimpleQuery(sql), _) => sql.len(),
            Self::Command(_, _) | Self::Channels(_) => 0,
        };
        content.saturating_add(REQUEST_BYTES)
    }

    /// Answers a call that was not sent to the server. The waker of the call is the user's code: if it panics, the other calls
    /// are still answered.
    pub(crate) fn refuse(self, error: Error) {
        let _ = contain(|| match self {
            Self::Command(_, Some(reply)) => drop(reply.send(Err(error))),
            Self::Command(_, None) => {}
            // The drop of the sender is the answer, and calls the waker too.
            Self::Channels(reply) => drop(reply),
        });
    }
}

/// The room of the queue, which the listener, its handles and its task share.
pub(crate) struct CommandRoom {
    limit_bytes: usize,
    state: Mutex<QueueState>,
    /// The calls that were sent to the task: see [`take_sent`](Self::take_sent).
    #[cfg(test)]
    sent: Mutex<Vec<Option<u64>>>,
    /// See [`take_made`](Self::take_made).
    #[cfg(test)]
    made: Mutex<Vec<MadeCall>>,
}

/// A LISTEN or UNLISTEN of a handle.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct MadeCall {
    pub(crate) number: u64,
    pub(crate) is_listen: bool,
    pub(crate) channels: Vec<String>,
}

#[derive(Default)]
struct QueueState {
    used_bytes: usize,
    /// The calls that wait for room, by their numbers.
    waiting: BTreeMap<u64, WaitingCall>,
    /// The number of the next call that waits.
    next_number: u64,
    /// The answer to every further command. It is set when the listener drains or is ending.
    refusal: Option<Error>,
    /// The task has ended, so that no call can be answered.
    has_ended: bool,
    was_close_sent: bool,
    was_drain_sent: bool,
}

struct WaitingCall {
    call: HandleCall,
    bytes: usize,
    requests: mpsc::UnboundedSender<QueuedCall>,
}

impl Default for CommandRoom {
    fn default() -> Self {
        Self {
            limit_bytes: QUEUE_BYTES,
            state: Mutex::default(),
            #[cfg(test)]
            sent: Mutex::default(),
            #[cfg(test)]
            made: Mutex::default(),
        }
    }
}

impl CommandRoom {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends waiting calls, in their order, while there is room.
    fn admit(self: &Arc<Self>, state: &mut QueueState) {
        while let Some(first) = state.waiting.first_entry()
            && first.get().bytes <= self.limit_bytes.saturating_sub(state.used_bytes)
        {
            let (number, WaitingCall { call, bytes, requests }) = first.remove_entry();
            let room = Some(CallRoom { queue: self.clone(), bytes });
            // Before the call is sent, because that wakes the task.
            state.used_bytes += bytes;
            if let Err(mpsc::error::SendError(request)) = requests.send(QueuedCall { call, room }) {
                // The task has ended, and takes no room. The call stays here until it is withdrawn or answered.
                state.used_bytes = state.used_bytes.saturating_sub(bytes);
                request.room.into_iter().for_each(CallRoom::forget);
                state.waiting.insert(number, WaitingCall { call: request.call, bytes, requests });
                return;
            }
            #[cfg(test)]
            self.was_sent(Some(number));
        }
    }

    /// Answers all commands that wait for room, and all further commands, with `refusal`: the listener drains or is ending.
    pub(crate) fn refuse_commands(self: &Arc<Self>, refusal: &Error) {
        let mut state = self.lock();
        state.refusal = Some(refusal.clone());
        let (commands, others) = mem::take(&mut state.waiting)
            .into_iter()
            .partition(|(_, waiting)| matches!(waiting.call, HandleCall::Command(_, _)));
        state.waiting = others;
        self.admit(&mut state);
        drop(state);
        refuse(commands, refusal);
    }

    /// Answers everything that waits for room, and all further calls: the task has ended.
    pub(crate) fn end(&self, refusal: &Error) {
        let mut state = self.lock();
        (state.refusal, state.has_ended) = (Some(refusal.clone()), true);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        refuse(waiting, refusal);
    }
}

/// Does not show the waiting calls.
impl fmt::Debug for CommandRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used_bytes, waiting) = {
            let state = self.lock();
            (state.used_bytes, state.waiting.len())
        };
        f.debug_struct("CommandRoom")
            .field("used_bytes", &used_bytes)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

/// Answers calls, without the lock of the queue.
fn refuse(calls: BTreeMap<u64, WaitingCall>, refusal: &Error) {
    for waiting in calls.into_values() {
        waiting.call.refuse(refusal.clone());
    }
}

/// Bytes of the queue, which are released on drop.
#[derive(Debug)]
pub(crate) struct CallRoom {
    queue: Arc<CommandRoom>,
    bytes: usize,
}

impl CallRoom {
    /// Drops it without the release of its bytes.
    fn forget(mut self) {
        self.bytes = 0;
    }
}

impl Drop for CallRoom {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut state = self.queue.lock();
        state.used_bytes = state.used_bytes.saturating_sub(self.bytes);
        self.queue.admit(&mut state);
    }
}

/// A call that may wait for room. If it is dropped while it waits, the call is withdrawn.
#[derive(Debug)]
pub(crate) struct WaitsForRoom<'a> {
    queue: &'a Arc<CommandRoom>,
    number: u64,
}

impl Drop for WaitsForRoom<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        let withdrawn = state.waiting.remove(&self.number);
        // Smaller calls may have waited behind it.
        self.queue.admit(&mut state);
        drop(state);
        drop(withdrawn);
    }
}

/// The sending end of the queue.
#[derive(Debug, Clone)]
pub(crate) struct CommandQueue {
    requests: mpsc::UnboundedSender<QueuedCall>,
    shared: Arc<ListenerShared>,
}

impl CommandQueue {
    pub(crate) fn new(
        requests: mpsc::UnboundedSender<QueuedCall>,
        shared: Arc<ListenerShared>,
    ) -> Self {
        Self { requests, shared }
    }

    pub(crate) fn shared(&self) -> &ListenerShared {
        &self.shared
    }

    #[cfg(test)]
    pub(crate) fn room(&self) -> &CommandRoom {
        &self.shared.room
    }

    /// Sends a call to the task, or lets it wait for room. The caller keeps what this returns until the call is answered.
    pub(crate) fn send(&self, call: HandleCall) -> Result<Option<WaitsForRoom<'_>>, Error> {
        let queue = &self.shared.room;
        // A call that is larger than the queue takes all of it.
        let bytes = call.bytes().min(queue.limit_bytes);
        let mut state = queue.lock();
        let is_refused = state.has_ended || matches!(call, HandleCall::Command(_, _));
        if let Some(refusal) = state.refusal.as_ref().filter(|_| is_refused) {
            return Err(refusal.clone());
        }
        let number = state.next_number;
        state.next_number += 1;
        #[cfg(test)]
        queue.was_made(number, &call);
        state.waiting.insert(number, WaitingCall { call, bytes, requests: self.requests.clone() });
        queue.admit(&mut state);
        let waits = state.waiting.contains_key(&number);
        drop(state);
        Ok(if waits { Some(WaitsForRoom { queue, number }) } else { None })
    }

    /// Requests the end, even if there is no room. Returns whether there is a task. Further calls send nothing.
    pub(crate) fn close(&self) -> bool {
        let mut state = self.shared.room.lock();
        if mem::replace(&mut state.was_close_sent, true) {
            return !self.requests.is_closed();
        }
        self.send_without_room(HandleCall::Command(Command::Close, None)).is_ok()
    }

    /// Sends a drain, even if there is no room. Further drains are refused: the first one ends the listener.
    pub(crate) fn drain(&self, command: Command, reply: ReplySender) -> Result<(), Error> {
        let mut state = self.shared.room.lock();
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        if mem::replace(&mut state.was_drain_sent, true) {
            return Err(self.shared.draining());
        }
        self.send_without_room(HandleCall::Command(command, Some(reply)))
    }

    /// Sends UNLISTEN, even if there is no room: the drop of a scope cannot wait. It overtakes the calls that wait for room. A listener has at
    /// most one such command that is unanswered.
    pub(crate) fn leave(&self, channels: Vec<String>, reply: ReplySender) {
        let state = self.shared.room.lock();
        // A listener that drains or is ending leaves all channels.
        if state.refusal.is_none() {
            let unlisten = Command::Unlisten(channels);
            let _ = self.send_without_room(HandleCall::Command(unlisten, Some(reply)));
        }
    }

    fn send_without_room(&self, call: HandleCall) -> Result<(), Error> {
        self.requests.send(QueuedCall { call, room: None }).map_err(|_| self.shared.closed())?;
        #[cfg(test)]
        self.shared.room.was_sent(None);
        Ok(())
    }
}

/// What the simulator uses besides: a limit, and a view of the queue.
#[cfg(test)]
impl CommandRoom {
    pub(crate) fn with_limit(limit_bytes: usize) -> Self {
        Self { limit_bytes, ..Self::default() }
    }

    fn was_sent(&self, number: Option<u64>) {
        self.sent.lock().unwrap().push(number);
    }

    fn was_made(&self, number: u64, call: &HandleCall) {
        let (is_listen, channels) = match call {
            HandleCall::Command(Command::Listen(channels), _) => (true, channels.clone()),
            HandleCall::Command(Command::Unlisten(channels), _) => (false, channels.clone()),
            _ => return,
        };
        self.made.lock().unwrap().push(MadeCall { number, is_listen, channels });
    }

    /// Returns each LISTEN and UNLISTEN that was sent or waits for room, since the last time.
    pub(crate) fn take_made(&self) -> Vec<MadeCall> {
        mem::take(&mut self.made.lock().unwrap())
    }

    /// Returns the calls that were sent to the task since the last time, in their order: the number of each one, or `None`
    /// if it cannot wait for room.
    pub(crate) fn take_sent(&self) -> Vec<Option<u64>> {
        mem::take(&mut self.sent.lock().unwrap())
    }

    /// Returns the number of the next call.
    pub(crate) fn next_number(&self) -> u64 {
        self.lock().next_number
    }

    /// Returns the bytes in use, and the numbers of the calls that wait.
    pub(crate) fn used(&self) -> (usize, Vec<u64>) {
        let state = self.lock();
        (state.used_bytes, state.waiting.keys().copied().collect())
    }
}

#[cfg(test)]
impl ListenerShared {
    /// Creates it with another limit of the command queue.
    pub(crate) fn with_queue_limit(pins: Pins, limit_bytes: usize) -> Self {
        let mut shared = Self::new(Owner::Listener, pins);
        shared.room = Arc::new(CommandRoom::with_limit(limit_bytes));
        shared
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Wake, Waker};
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;
    use crate::listener::handle::ListenerHandle;

    /// A call, whose output is the kind of its error.
    type PolledCall<'a> = Pin<Box<dyn Future<Output = Option<ErrorKind>> + 'a>>;

    fn queue() -> (ListenerHandle, mpsc::UnboundedReceiver<QueuedCall>, Arc<CommandRoom>) {
        let (requests, inbox) = mpsc::unbounded_channel();
        let shared = Arc::new(ListenerShared::new(Owner::Listener, Pins::new(0)));
        let room = shared.room.clone();
        (ListenerHandle::new(requests, shared), inbox, room)
    }

    fn call<'a, T>(call: impl Future<Output = Result<T, Error>> + 'a) -> PolledCall<'a> {
        Box::pin(async { call.await.err().map(|error| error.kind()) })
    }

    /// Polls a call once. It must wait.
    fn pending<'a, T>(it: impl Future<Output = Result<T, Error>> + 'a) -> PolledCall<'a> {
        let mut call = call(it);
        assert_eq!(poll(&mut call), None);
        call
    }

    fn poll(call: &mut PolledCall<'_>) -> Option<Option<ErrorKind>> {
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(kind) => Some(kind),
            Poll::Pending => None,
        }
    }

    /// Receives LISTENs. Returns the channels, and the room that is still taken.
    fn received(inbox: &mut mpsc::UnboundedReceiver<QueuedCall>) -> (Vec<String>, Vec<CallRoom>) {
        let (mut names, mut rooms) = (Vec::new(), Vec::new());
        while let Ok(QueuedCall { call, room }) = inbox.try_recv() {
            match call {
                HandleCall::Command(Command::Listen(channels), _) => names.extend(channels),
                call => panic!("{call:?}"),
            }
            rooms.extend(room);
        }
        (names, rooms)
    }

    /// A command is sent even if its future is dropped, so the number of futures does not bound the queue.
    #[test]
    fn calls_that_are_dropped_at_once_do_not_fill_the_queue_beyond_its_limit() {
        let (handle, inbox, room) = queue();
        for number in 0..20_000 {
            drop(pending(handle.listen(number.to_string())));
            drop(pending(handle.channels()));
            let _ = poll(&mut call(handle.drain(Duration::from_secs(1))));
            drop(pending(async {
                handle.close().await;
                Ok(())
            }));
        }
        assert!(inbox.len() <= QUEUE_BYTES / REQUEST_BYTES + 2, "{}", inbox.len());
        let state = room.lock();
        assert!(
            state.used_bytes <= QUEUE_BYTES && state.waiting.is_empty(),
            "{}",
            state.used_bytes
        );
    }

    #[test]
    fn waiting_calls_are_sent_in_their_order_when_there_is_room() {
        let (handle, mut inbox, queue) = queue();
        let large = pending(handle.simple_query("x".repeat(QUEUE_BYTES)));
        let mut waiting = vec![pending(handle.listen("a"))];
        waiting.push(pending(handle.simple_query("y".repeat(QUEUE_BYTES))));
        waiting.push(pending(handle.listen("b")));
        waiting.push(pending(handle.listen("c")));
        let QueuedCall { call: HandleCall::Command(Command::SimpleQuery(_), _), room: first } =
            inbox.try_recv().unwrap()
        else {
            panic!("not the query")
        };
        assert!(inbox.is_empty());
        drop(first);
        // The second query takes all of the queue, so `b` and `c` wait behind it.
        let (names, room) = received(&mut inbox);
        assert_eq!(names, ["a"]);
        drop(waiting.remove(1));
        let (names, rooms) = received(&mut inbox);
        assert_eq!(names, ["b", "c"]);
        drop((room, rooms));
        drop((large, waiting));
        assert_eq!(queue.lock().used_bytes, 0);
    }

    /// A waker is code of the user, which may drop other calls.
    struct DropsCall(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

    impl Wake for DropsCall {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }

    #[test]
    fn a_waker_may_drop_a_call_that_waits_while_another_one_is_refused_or_sent() {
        for is_end in [true, false] {
            let (handle, mut inbox, room) = queue();
            let _large = pending(handle.simple_query("x".repeat(QUEUE_BYTES)));
            let mut refused = call(handle.channels());
            let other = handle.clone();
            let mut dropped = Box::pin(async move { drop(other.channels().await) });
            let waker = Arc::new(DropsCall(Mutex::default()));
            let woken = Waker::from(waker.clone());
            assert!(refused.as_mut().poll(&mut Context::from_waker(&woken)).is_pending());
            assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            *waker.0.lock().unwrap() = Some(dropped);
            if is_end {
                room.end(&Error::new(ErrorKind::Closed, "the listener is closed"));
            } else {
                drop(inbox.try_recv().unwrap());
                drop(inbox.try_recv().unwrap());
                assert_eq!(room.used(), (REQUEST_BYTES, Vec::new()));
                drop(inbox.try_recv().unwrap());
                assert_eq!(room.used(), (0, Vec::new()));
            }
            assert!(waker.0.lock().unwrap().is_none());
            assert_eq!(poll(&mut refused), Some(Some(ErrorKind::Closed)));
        }
    }

    /// A command that was not sent is not in doubt.
    #[test]
    fn the_end_refuses_calls_that_wait_and_further_ones() {
        let (handle, inbox, room) = queue();
        let mut sent = pending(handle.simple_query("x".repeat(QUEUE_BYTES)));
        let mut waiting = pending(handle.simple_query("DELETE FROM t"));
        room.end(&Error::new(ErrorKind::Closed, "the listener is closed"));
        assert_eq!(poll(&mut waiting), Some(Some(ErrorKind::Closed)));
        assert_eq!(poll(&mut sent), None);
        drop(inbox);
        assert_eq!(poll(&mut sent), Some(Some(ErrorKind::InDoubt)));
        assert_eq!(poll(&mut call(handle.channels())), Some(Some(ErrorKind::Closed)));
        assert_eq!(poll(&mut call(handle.listen("a"))), Some(Some(ErrorKind::Closed)));
    }
}

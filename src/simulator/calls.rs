//! [`Calls`]: the calls of the user. They go through the real command queue and wait for room, as those of a handle do. Some of
//! them are dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use super::call_future::{CallEnd, CallFuture, send_channels, send_command, send_drain};
use super::clock::{Micros, SimulatorEvent};
use super::plan::QUEUE_BYTES;
use super::random::SimulatorRandom;
use super::user::Request;
use super::{Simulation, log_line};
use crate::error::ErrorKind;
use crate::listener::command_queue::CommandQueue;
use crate::proto::supervisor::Command;

/// The calls of the user, which are numbered in the order in which they are made.
pub(super) struct Calls {
    pub(super) queue: CommandQueue,
    random: SimulatorRandom,
    /// Calls often wait for room.
    is_small: bool,
    /// The number of calls that were made.
    made: u64,
    /// The calls that are not answered.
    pub(super) open: BTreeMap<u64, OpenCall>,
    /// Calls that have ended, with the end that the user must find.
    pub(super) ended: Vec<(u64, CallEnd, Option<CallFuture>)>,
    /// A close or drain that is being sent.
    pub(super) overtaking: Option<u64>,
    /// The number of calls that were sent to the task, and of those that it has received.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The position of the close or drain among the calls that were sent.
    pub(super) end_position: Option<u64>,
    /// The last call that was sent and that could wait.
    pub(super) last_sent: Option<u64>,
    /// The commands that were sent. The task numbers them in this order.
    pub(super) commands: Vec<u64>,
    /// The listener drains or ends, so that further commands are refused.
    pub(super) is_refusing: bool,
    was_drain_sent: bool,
    pub(super) counts: CallCounts,
}

/// How many calls have waited for room, and how those have ended that were not sent.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct CallCounts {
    pub(super) waited: u64,
    pub(super) withdrawn: u64,
    pub(super) refused: u64,
    /// Those of the refused ones whose listener ended without a request of the user.
    pub(super) refused_by_failure: u64,
    /// Calls whose futures were dropped after they were sent.
    pub(super) dropped: u64,
}

impl CallCounts {
    pub(super) fn add(&mut self, other: Self) {
        self.waited += other.waited;
        self.withdrawn += other.withdrawn;
        self.refused += other.refused;
        self.refused_by_failure += other.refused_by_failure;
        self.dropped += other.dropped;
    }
}

/// A call that is not answered.
pub(super) struct OpenCall {
    pub(super) request: Request,
    /// Its number in the queue, and the bytes that it takes. `None` for a drain, which does not wait.
    pub(super) queued: Option<(u64, usize)>,
    /// Its position among the calls that were sent. `None` while it waits.
    pub(super) position: Option<u64>,
    /// `None` after it was dropped.
    pub(super) future: Option<CallFuture>,
}

impl OpenCall {
    pub(super) fn waits(&self) -> bool {
        self.position.is_none()
    }

    pub(super) fn is_command(&self) -> bool {
        !matches!(self.request, Request::Channels)
    }
}

/// Returns the room that a command takes, as the documentation of the handle says.
fn bytes(command: &Command) -> usize {
    512 + match command {
        Command::Listen(names) | Command::Unlisten(names) => {
            names.iter().map(|name| 64 + name.len()).sum()
        }
        Command::SimpleQuery(sql) => sql.len(),
        _ => 0,
    }
}

impl Calls {
    pub(super) fn new(queue: CommandQueue, limit: usize, random: SimulatorRandom) -> Self {
        Self {
            queue,
            random,
            is_small: limit < QUEUE_BYTES,
            made: 0,
            open: BTreeMap::new(),
            ended: Vec::new(),
            overtaking: None,
            sent: 0,
            received: 0,
            end_position: None,
            last_sent: None,
            commands: Vec::new(),
            is_refusing: false,
            was_drain_sent: false,
            counts: CallCounts::default(),
        }
    }

    pub(super) fn are_answered(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the first call that is not answered.
    pub(super) fn first(&self) -> Option<u64> {
        self.open.first_key_value().map(|(&id, _)| id)
    }

    pub(super) fn has_sent_query(&self) -> bool {
        self.open.values().any(|call| !call.waits() && matches!(call.request, Request::Query))
    }

    /// Removes open calls.
    pub(super) fn take(&mut self, is_taken: impl Fn(&OpenCall) -> bool) -> BTreeMap<u64, OpenCall> {
        let (taken, left) =
            std::mem::take(&mut self.open).into_iter().partition(|(_, call)| is_taken(call));
        self.open = left;
        taken
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.made += 1;
        self.made - 1
    }
}

impl Simulation {
    /// Returns how many calls the user makes at once besides. If the queue is small, most of them wait.
    pub(super) fn crowd(&mut self) -> u64 {
        let is_crowd = self.calls.is_small && self.calls.random.chance(25);
        if is_crowd { self.calls.random.range(1, 8) } else { 0 }
    }

    pub(super) fn asks_for_channels(&mut self) -> bool {
        self.calls.is_small && self.calls.random.chance(15)
    }

    /// Sends a command as a handle does.
    pub(super) fn command(&mut self, request: Request, command: Command) {
        let id = self.calls.next_id();
        log_line!(self, "command {id}: {command:?}");
        let bytes = bytes(&command);
        let future = CallFuture::new(send_command(self.calls.queue.clone(), command));
        self.begin_call(id, request, Some(bytes), future);
    }

    pub(super) fn ask_for_channels(&mut self) {
        let id = self.calls.next_id();
        log_line!(self, "call {id}: the channels");
        let future = CallFuture::new(send_channels(self.calls.queue.clone()));
        self.begin_call(id, Request::Channels, Some(512), future);
    }

    /// While the listener drains, the user sometimes calls `drain` and `close`.
    pub(super) fn schedule_another_end(&mut self, within: Micros) {
        if self.calls.is_small && self.calls.random.chance(20) {
            // Also before the task has received the drain.
            let latest = self.calls.random.pick(&[10, within]);
            let at = self.calls.random.size(latest);
            self.clock.after(at, SimulatorEvent::EndAgain, &mut self.calls.random);
        }
    }

    pub(super) fn send_drain(&mut self, timeout: Duration) {
        let id = self.calls.next_id();
        log_line!(self, "command {id}: drain");
        self.calls.overtaking = Some(id);
        let future = match &self.hub {
            Some(hub) => hub.drain(timeout),
            None => CallFuture::new(send_drain(self.calls.queue.clone(), timeout)),
        };
        self.begin_call(id, Request::Drain, None, future);
        self.keep_drain_of_hub(id);
        let was_refused = self.calls.is_refusing || self.calls.was_drain_sent;
        self.calls.was_drain_sent = true;
        if self.calls.overtaking.take().is_some() && !was_refused {
            self.fail("a drain was not sent at once");
        }
    }

    /// Does what sends a close.
    pub(super) fn overtake(&mut self, close: impl FnOnce(&mut Self)) {
        let id = self.calls.next_id();
        self.calls.overtaking = Some(id);
        close(self);
        self.record_sent_calls();
        if self.calls.overtaking.take().is_some() && !self.has_task_ended {
            self.fail("a close was not sent at once");
        }
    }

    /// Polls the future of a call for the first time, which sends the call or lets it wait.
    fn begin_call(
        &mut self,
        id: u64,
        request: Request,
        bytes: Option<usize>,
        mut future: CallFuture,
    ) {
        let number = self.calls.queue.room().next_number();
        let is_refused = match request {
            Request::Channels => self.has_task_ended,
            Request::Drain if self.calls.was_drain_sent => true,
            _ => self.calls.is_refusing || self.has_task_ended,
        };
        let end = future.poll();
        if end != is_refused.then_some(CallEnd::Failed(ErrorKind::Closed)) {
            return self.fail(format!("call {id} ends with {end:?} at once"));
        }
        if is_refused {
            log_line!(self, "command {id}: refused");
            return;
        }
        let queued = bytes.map(|bytes| (number, bytes.min(self.plan.queue_bytes)));
        let call = OpenCall { request, queued, position: None, future: Some(future) };
        self.calls.open.insert(id, call);
        self.record_sent_calls();
        if self.calls.open.get(&id).is_some_and(OpenCall::waits) {
            log_line!(self, "command {id}: waits for room");
            self.calls.counts.waited += 1;
        }
        if self.calls.is_small && self.calls.random.chance(30) {
            let patience = self.calls.random.size(20 * self.plan.delay);
            let event = SimulatorEvent::DropCall(id);
            self.clock.after(patience, event, &mut self.calls.random);
        }
    }

    /// Drops the future of a call. While the call waits, that withdraws it.
    pub(super) fn drop_call(&mut self, id: u64) {
        let Some(call) = self.calls.open.get_mut(&id) else { return };
        let waits = call.waits();
        let Some(future) = call.future.take() else { return };
        log_line!(self, "command {id}: the future is dropped, and the call waits: {waits}");
        if waits {
            self.calls.open.remove(&id);
            self.calls.counts.withdrawn += 1;
        } else {
            self.calls.counts.dropped += 1;
        }
        drop(future);
        self.record_sent_calls();
    }
}

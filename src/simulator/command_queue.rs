//! The checks of the command queue: which calls are sent, in which order, how each one ends, and the room that they take.
//!
//! The task numbers the commands in the order in which it receives them. The queue records the calls that it sends. Both orders
//! are the same, so the record shows which call of the user has which number.

use super::call_future::{CallEnd, CallFuture};
use super::calls::OpenCall;
use super::recording_sink::SharedSink;
use super::user::Request;
use super::{Simulation, log_line};
use crate::error::{Error, ErrorKind};
use crate::proto::supervisor::{CommandNumber, Reply, Supervisor};

impl Simulation {
    /// Records the calls that the queue has sent to the task since the last time. From here on they may have an effect.
    pub(super) fn record_sent_calls(&mut self) {
        for number in self.calls.queue.room().take_sent() {
            let position = self.calls.sent;
            self.calls.sent += 1;
            let Some(number) = number else {
                self.record_overtaking(position);
                continue;
            };
            if self.calls.last_sent.is_some_and(|last| number <= last) {
                return self.fail(format!("call {number} of the queue is sent after a later one"));
            }
            self.calls.last_sent = Some(number);
            let mut open = self.calls.open.iter_mut();
            let is_it = |(_, call): &(_, &mut OpenCall)| {
                call.queued.is_some_and(|(of_it, _)| of_it == number)
            };
            let Some((&id, call)) = open.find(is_it) else {
                return self.fail("a call was sent that was withdrawn or refused while it waited");
            };
            call.position = Some(position);
            match &call.request {
                Request::Listen(channels) => self.channels.listens(id, channels),
                Request::Unlisten(channels) => self.channels.unlistens(id, channels),
                _ => {}
            }
            if call.is_command() {
                self.calls.commands.push(id);
            }
            log_line!(self, "command {id}: sent");
        }
    }

    fn record_overtaking(&mut self, position: u64) {
        let Some(id) = self.calls.overtaking.take() else {
            return self.fail("a close or drain is sent that the user did not ask for");
        };
        self.calls.commands.push(id);
        self.calls.end_position = Some(position);
        if let Some(drain) = self.calls.open.get_mut(&id) {
            drain.position = Some(position);
        }
    }

    /// Records after a poll how many calls the task has received.
    pub(super) fn record_received_calls(&mut self, left: usize) {
        self.calls.received = self.calls.sent - left as u64;
        self.is_end_known = self.calls.end_position.is_some_and(|end| end < self.calls.received);
    }

    /// Records an answer before the task sends it.
    pub(super) fn is_answered(
        &mut self,
        number: CommandNumber,
        result: Result<Reply, Error>,
        supervisor: &Supervisor<SharedSink>,
    ) {
        let id = usize::try_from(number.0).ok().and_then(|at| self.calls.commands.get(at)).copied();
        let Some((id, call)) = id.and_then(|id| Some((id, self.calls.open.remove(&id)?))) else {
            return self.fail(format!("{number:?} was answered, and is not open: {result:?}"));
        };
        let end = match &result {
            Ok(_) => CallEnd::Done,
            Err(error) => CallEnd::Failed(error.kind()),
        };
        self.calls.ended.push((id, end, call.future));
        self.replied(id, call.request, result, supervisor);
    }

    /// Records before the queue refuses its commands that those that wait have no effect.
    pub(super) fn commands_are_refused(&mut self) {
        self.calls.is_refusing = true;
        for (id, call) in self.calls.take(|call| call.waits() && call.is_command()) {
            log_line!(self, "command {id}: refused while it waits");
            self.calls.counts.refused += 1;
            self.calls.counts.refused_by_failure += u64::from(!self.is_closing);
            self.calls.ended.push((id, CallEnd::Failed(ErrorKind::Closed), call.future));
        }
    }

    /// Checks that the user finds the end of every call that has ended, and of no other one.
    pub(super) fn check_answers(&mut self) {
        let received = self.calls.received;
        let listed = self.calls.take(|call| {
            !call.is_command() && call.position.is_some_and(|position| position < received)
        });
        let listed = listed.into_iter().map(|(id, call)| (id, CallEnd::Done, call.future));
        self.calls.ended.extend(listed);
        // Before the futures are dropped, which would let calls in that wait without a reason.
        self.check_room();
        for (id, end, future) in std::mem::take(&mut self.calls.ended) {
            // `None` if the future was dropped.
            let Some(mut future) = future else { continue };
            let found = future.end();
            if found != Some(end) {
                self.fail(format!("call {id} has ended with {end:?}, and the user got {found:?}"));
            }
        }
        let mut wrong = None;
        for (id, call) in &mut self.calls.open {
            if let Some(end) = call.future.as_mut().and_then(CallFuture::end) {
                wrong = Some(format!("call {id} is not answered, and the user got {end:?}"));
            }
        }
        wrong.into_iter().for_each(|wrong| self.fail(wrong));
        self.record_sent_calls();
    }

    /// Checks the room of the queue: it holds the calls that were sent and not answered, and no call waits while
    /// there is room for it.
    pub(super) fn check_room(&mut self) {
        let limit = self.plan.queue_bytes;
        let (used, waiting) = self.calls.queue.room().used();
        let queued = self.calls.open.values().filter_map(|call| {
            let (number, bytes) = call.queued?;
            Some((number, bytes, call.waits()))
        });
        let (mut known, mut first, mut count) = (0, None, 0);
        let mut is_same = true;
        for (number, bytes, waits) in queued {
            if waits {
                first = first.or(Some(bytes));
                is_same &= waiting.get(count) == Some(&number);
                count += 1;
            } else {
                known += bytes;
            }
        }
        if used != known || used > limit {
            self.fail(format!(
                "{used} of {limit} bytes are used, and unanswered calls take {known}"
            ));
        } else if !is_same || count != waiting.len() {
            self.fail(format!("the calls {waiting:?} of the queue wait, and {count} should wait"));
        } else if first.is_some_and(|bytes| bytes <= limit - used) {
            self.fail(format!("a call waits, although {used} of {limit} bytes are used"));
        }
    }

    /// Checks the calls at the end of the task: those that it did not receive are refused.
    pub(super) fn end_calls(&mut self) {
        self.record_sent_calls();
        for (id, call) in std::mem::take(&mut self.calls.open) {
            match call.position {
                Some(position) if position < self.calls.received => {
                    return self.fail(format!("command {id} was never answered"));
                }
                Some(_) => self.replied_at_the_end(id, &call.request),
                None if call.is_command() => {
                    return self.fail(format!("command {id} waited until the end of the task"));
                }
                None => {}
            }
            let end = match call.request {
                Request::Channels => CallEnd::NoAnswer,
                _ => CallEnd::Failed(ErrorKind::Closed),
            };
            self.calls.ended.push((id, end, call.future));
        }
        self.check_answers();
        self.check_room();
    }
}

//! [`WaitingCalls`]: the calls that were not sent yet, and which of them are sent together.

use std::collections::{HashSet, VecDeque};

use super::call::Call;
use crate::proto::wire::buffer;

/// The limits of a group: of the calls that are sent in one transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupLimits {
    pub(super) calls: usize,
    /// The sum of the channels and payloads.
    pub(super) bytes: usize,
}

impl Default for GroupLimits {
    /// At these sizes the costs of a transaction are small beside those of its notifications, and the server holds the lock on
    /// its queue for a few milliseconds at most.
    fn default() -> Self {
        Self { calls: 1_000, bytes: 256 * 1024 }
    }
}

/// The capacity that an empty queue keeps, in calls.
const KEPT_CALLS: usize = 256;

/// The calls that were not sent, by their numbers. The first ones are the current flush: they are sent as soon as the pipeline has
/// room, and the others when the current groups are answered.
#[derive(Debug)]
pub(super) struct WaitingCalls {
    calls: VecDeque<Call>,
    /// How many of them belong to the current flush.
    flush: usize,
    limits: GroupLimits,
}

impl WaitingCalls {
    pub(super) fn new(limits: GroupLimits) -> Self {
        Self { calls: VecDeque::new(), flush: 0, limits }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn front(&self) -> Option<&Call> {
        self.calls.front()
    }

    pub(super) fn push(&mut self, call: Call) {
        // A transaction of several notifications waits for no group, and neither do the calls before it: the order is kept.
        let is_many = call.pair().is_none();
        self.calls.push_back(call);
        if is_many {
            self.flush = self.calls.len();
        }
    }

    /// Inserts calls at the places that their numbers give them. They belong to the current flush.
    pub(super) fn put_back(&mut self, calls: impl IntoIterator<Item = Call>) {
        for call in calls {
            let at = self.calls.partition_point(|waiting| waiting.number < call.number);
            self.calls.insert(at, call);
            self.flush = (self.flush + 1).max(at + 1);
        }
    }

    /// Begins with a new session: all calls belong to its first flush.
    pub(super) fn begin(&mut self) {
        self.flush = self.calls.len();
    }

    pub(super) fn pop_front(&mut self) -> Option<Call> {
        self.flush = self.flush.saturating_sub(1);
        self.calls.pop_front()
    }

    /// Returns the calls of the next transaction. While a group is unanswered, only the current flush is sent.
    pub(super) fn next_transaction(&mut self, is_group_unanswered: bool) -> Option<Vec<Call>> {
        buffer::release_queue(&mut self.calls, KEPT_CALLS);
        if self.flush == 0 && !is_group_unanswered {
            self.flush = self.calls.len();
        }
        let count = self.count_of_next()?;
        self.flush = self.flush.saturating_sub(count);
        let calls = self.calls.drain(..count).collect();
        Some(calls)
    }

    /// Returns how many calls of the current flush go into the next transaction: those of one part, without two equal pairs, up to
    /// the limits; or one call with its own transaction. The server delivers only one of two equal notifications of a transaction.
    fn count_of_next(&self) -> Option<usize> {
        if self.flush == 0 {
            return None;
        }
        let first = self.calls.front()?;
        let (mut pairs, mut bytes) = (HashSet::new(), 0_usize);
        let fitting =
            self.calls.iter().take(self.flush.min(self.limits.calls)).take_while(|call| {
                let Some((channel, payload)) = call.pair() else { return false };
                bytes = bytes.saturating_add(channel.len() + payload.len());
                bytes <= self.limits.bytes
                    && call.part == first.part
                    && pairs.insert((channel, payload))
            });
        Some(fitting.count().max(1))
    }
}

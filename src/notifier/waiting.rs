//! [`WaitingCalls`]: the calls that were not sent yet, and which of them are sent together.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Instant;

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
    /// The latest `called_at` of all calls so far.
    latest: Option<Instant>,
    /// The waiting calls that may be older than a call before them, because they have waited for room. No other call is older
    /// than one before it, so the oldest call is the first one of these, or the front.
    early: BTreeSet<(Instant, u64)>,
    limits: GroupLimits,
}

impl WaitingCalls {
    pub(super) fn new(limits: GroupLimits) -> Self {
        Self { calls: VecDeque::new(), flush: 0, latest: None, early: BTreeSet::new(), limits }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns when the oldest call was made.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let front = self.calls.front()?.called_at;
        Some(self.early.first().map_or(front, |(early, _)| front.min(*early)))
    }

    pub(super) fn push(&mut self, call: Call) {
        // A transaction of several notifications waits for no group, and neither do the calls before it: the order is kept.
        let is_many = call.pair().is_none();
        if self.latest.is_some_and(|latest| call.called_at < latest) {
            self.early.insert((call.called_at, call.number));
        }
        self.latest = self.latest.max(Some(call.called_at));
        self.calls.push_back(call);
        if is_many {
            self.flush = self.calls.len();
        }
    }

    /// Inserts calls at the places that their numbers give them. They belong to the current flush.
    pub(super) fn put_back(&mut self, calls: Vec<Call>) {
        let Some(last) = calls.iter().map(|call| call.number).max() else { return };
        self.early.extend(calls.iter().map(|call| (call.called_at, call.number)));
        let flush = self.flush + calls.len();
        // Only the calls before the last one are moved, and each of them once.
        let before = self.calls.partition_point(|waiting| waiting.number < last);
        let mut merged: Vec<Call> = self.calls.drain(..before).chain(calls).collect();
        merged.sort_by_key(|call| call.number);
        self.flush = flush.max(merged.len());
        for call in merged.into_iter().rev() {
            self.calls.push_front(call);
        }
    }

    /// Begins with a new session: all calls belong to its first flush.
    pub(super) fn begin(&mut self) {
        self.flush = self.calls.len();
    }

    pub(super) fn pop_front(&mut self) -> Option<Call> {
        let call = self.calls.pop_front()?;
        self.flush = self.flush.saturating_sub(1);
        self.early.remove(&(call.called_at, call.number));
        Some(call)
    }

    /// Removes the oldest call.
    pub(super) fn pop_oldest(&mut self) -> Option<Call> {
        let front = self.calls.front()?.called_at;
        let Some((called_at, number)) = self.early.first().copied() else {
            return self.pop_front();
        };
        if front <= called_at {
            return self.pop_front();
        }
        self.early.pop_first();
        let at = self.calls.partition_point(|call| call.number < number);
        self.flush -= usize::from(at < self.flush);
        self.calls.remove(at)
    }

    /// Returns the calls of the next transaction. While a group is unanswered, only the current flush is sent.
    pub(super) fn next_transaction(&mut self, is_group_unanswered: bool) -> Option<Vec<Call>> {
        buffer::release_queue(&mut self.calls, KEPT_CALLS);
        if self.flush == 0 && !is_group_unanswered {
            self.flush = self.calls.len();
        }
        let count = self.count_of_next()?;
        self.flush = self.flush.saturating_sub(count);
        let calls: Vec<Call> = self.calls.drain(..count).collect();
        if !self.early.is_empty() {
            for call in &calls {
                self.early.remove(&(call.called_at, call.number));
            }
        }
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

//! [`Model`]: what a subscription must receive, from the record of the stream.

use std::collections::VecDeque;

use super::super::recording_sink::RecordingSink;
use super::super::subscriptions::ChannelId;
use super::payloads::split;
use crate::proto::supervisor::Scope;

/// The number of unread gaps that are kept apart.
const GAPS_MAX: usize = 16;

/// What a subscription receives from, and its limits.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) channels: Vec<ChannelId>,
    pub(super) names: Vec<String>,
    pub(super) topic: Option<String>,
    pub(super) prefix: &'static str,
    pub(super) ignored: Option<i32>,
    pub(super) capacity: usize,
    pub(super) bytes: usize,
    pub(super) drops_oldest: bool,
}

impl Choice {
    /// Returns whether a loss concerns it.
    pub(super) fn is_concerned(&self, scope: &Scope) -> bool {
        match scope {
            Scope::All => true,
            Scope::Channels(channels) => self.names.iter().any(|name| channels.contains(name)),
        }
    }

    /// Returns the number of notifications in the stream of the hub that it can see.
    pub(super) fn shown(&self, sink: &RecordingSink) -> usize {
        sink.shown_to(self.names.iter().map(String::as_str))
    }

    /// Returns the payload that it receives of a notification.
    pub(super) fn receives<'a>(
        &self,
        channel: ChannelId,
        process_id: i32,
        payload: &'a str,
    ) -> Option<&'a str> {
        let is_wanted = self.channels.contains(&channel) && self.ignored != Some(process_id);
        let payload = match &self.topic {
            _ if !is_wanted => return None,
            None => payload,
            Some(topic) => split(channel, payload).filter(|(found, _)| found == topic)?.1,
        };
        payload.starts_with(self.prefix).then_some(payload)
    }
}

/// An event that must be received.
#[derive(Debug, Clone)]
pub(super) enum Expected {
    Notification {
        /// Its position in the stream of the hub.
        position: usize,
        channel: ChannelId,
        process_id: i32,
        epoch: u32,
        payload: String,
    },
    Gap {
        sessions: u32,
        /// The subscription can take it.
        is_shown: bool,
    },
}

/// What a subscription that has joined must still receive, in this order.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) expected: VecDeque<Expected>,
    /// The sequence number of the next notification.
    pub(super) next: u64,
    /// The number of notifications that were for it.
    pub(super) matched: u64,
    /// The highest number of unread notifications and of their bytes.
    most_unread: u64,
    most_bytes: u64,
    unread_bytes: u64,
    /// The epoch of the last gap.
    gap_epoch: u32,
}

/// The bytes that a notification takes in a queue.
fn bytes(payload: &str) -> u64 {
    // The name of a channel of a run is never longer.
    payload.len() as u64 + 11 + 63
}

impl Model {
    pub(super) fn notified(
        &mut self,
        position: usize,
        (channel, process_id, epoch): (ChannelId, i32, u32),
        payload: &str,
    ) {
        self.matched += 1;
        self.unread_bytes += bytes(payload);
        self.most_unread = self.most_unread.max(self.matched - self.next);
        self.most_bytes = self.most_bytes.max(self.unread_bytes);
        let payload = payload.to_owned();
        self.expected.push_back(Expected::Notification {
            position,
            channel,
            process_id,
            epoch,
            payload,
        });
    }

    /// Puts a gap at a position of the stream of the hub.
    pub(super) fn lost(&mut self, position: usize, sessions: u32, is_shown: bool) {
        let is_behind = |event: &Expected| matches!(event, Expected::Notification { position: at, .. } if *at >= position);
        let at = self.expected.iter().position(is_behind).unwrap_or(self.expected.len());
        let mut gaps: Vec<&mut Expected> = self
            .expected
            .range_mut(..at)
            .filter(|event| matches!(event, Expected::Gap { .. }))
            .collect();
        let is_full = gaps.len() + 1 >= GAPS_MAX;
        if is_full && let Some(Expected::Gap { sessions: before, .. }) = gaps.pop() {
            *before += sessions;
            return;
        }
        match at.checked_sub(1).and_then(|before| self.expected.get_mut(before)) {
            Some(Expected::Gap { sessions: before, is_shown: was_shown }) => {
                *before += sessions;
                *was_shown |= is_shown;
            }
            _ => self.expected.insert(at, Expected::Gap { sessions, is_shown }),
        }
    }

    /// Shows every gap.
    pub(super) fn show(&mut self) {
        for event in &mut self.expected {
            if let Expected::Gap { is_shown, .. } = event {
                *is_shown = true;
            }
        }
    }

    /// Returns true if the next event can be taken, when notifications up to `shown` can.
    pub(super) fn has_visible(&self, shown: usize) -> bool {
        match self.expected.front() {
            None => false,
            Some(Expected::Notification { position, .. }) => *position < shown,
            Some(Expected::Gap { is_shown, .. }) => *is_shown,
        }
    }

    fn next_notification(&mut self) -> Option<Expected> {
        let is_next = matches!(self.expected.front(), Some(Expected::Notification { .. }));
        if is_next { self.expected.pop_front() } else { None }
    }

    fn next_gap(&mut self) -> Option<Expected> {
        let is_next = matches!(self.expected.front(), Some(Expected::Gap { .. }));
        if is_next { self.expected.pop_front() } else { None }
    }

    /// Handles a received notification. The result says what is wrong.
    pub(super) fn receive(
        &mut self,
        sequence: u64,
        found: (ChannelId, i32, u32),
        text: &str,
        shown: usize,
    ) -> Result<(), String> {
        let next = self.next;
        let Some(Expected::Notification { position, channel, process_id, epoch, payload }) =
            self.next_notification()
        else {
            return Err(format!(
                "a notification was received before a gap, or none is left: {found:?}"
            ));
        };
        if sequence != next || found != (channel, process_id, epoch) || text != payload {
            return Err(format!(
                "{found:?} was received as {sequence} with {text:?}, and next is {next}: \
                 {:?} with {payload:?}",
                (channel, process_id, epoch)
            ));
        }
        if position >= shown {
            return Err(format!(
                "the notification at {position} was received while it was held back"
            ));
        }
        if epoch < self.gap_epoch {
            return Err(format!(
                "a notification of session {epoch} follows a gap that names session {}",
                self.gap_epoch
            ));
        }
        self.next += 1;
        self.unread_bytes -= bytes(&payload);
        Ok(())
    }

    /// Handles a report that the queue was full.
    pub(super) fn lag(&mut self, first: u64, count: u64, choice: &Choice) -> Result<(), String> {
        if first != self.next || count == 0 {
            return Err(format!(
                "{count} from {first} are reported as lost, {} is next",
                self.next
            ));
        }
        for _ in 0..count {
            let Some(Expected::Notification { payload, .. }) = self.next_notification() else {
                return Err(format!(
                    "{count} from {first} are reported as lost, and there are fewer"
                ));
            };
            self.next += 1;
            self.unread_bytes -= bytes(&payload);
        }
        if self.most_unread <= choice.capacity as u64 && self.most_bytes <= choice.bytes as u64 {
            return Err(format!("{count} were lost, and the queue was never full"));
        }
        Ok(())
    }

    /// Handles a gap.
    pub(super) fn miss(&mut self, sessions: u32, epoch: u32) -> Result<(), String> {
        match self.next_gap() {
            Some(Expected::Gap { sessions: expected, .. }) if expected == sessions => {
                self.gap_epoch = epoch;
                Ok(())
            }
            other => {
                Err(format!("a gap of {sessions} sessions was received, and next is {other:?}"))
            }
        }
    }
}

//! [`Call`]: an accepted call, until it has its answer.

use std::time::Instant;

use super::request::{Message, Reply, Request, Room};

/// An accepted call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) message: Message,
    /// Calls are numbered in the order in which they are accepted.
    pub(super) number: u64,
    pub(super) called_at: Instant,
    /// `None` when the call has returned before the answer.
    pub(super) reply: Option<Reply>,
    /// The part of a refused group that it belongs to. 0: none. Calls of different parts are never sent together.
    pub(super) part: u64,
    _room: Option<Room>,
}

impl Call {
    pub(super) fn new(number: u64, request: Request) -> Self {
        let Request { message, called_at, room, reply } = request;
        Self { message, number, called_at, reply: Some(reply), part: 0, _room: room }
    }

    /// Returns the channel and the payload of a single notification.
    pub(super) fn pair(&self) -> Option<(&str, &str)> {
        match &self.message {
            Message::Notify { channel, payload } => Some((channel, payload)),
            Message::Many { .. } | Message::Written => None,
        }
    }
}

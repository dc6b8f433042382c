//! A socket of a listener, as its task sees it.

use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::BytesMut;

use super::outside::Outside;
use crate::supervisor::{LinkEvent, LinkId};

pub(super) struct Link<O: Outside> {
    pub(super) id: LinkId,
    pub(super) socket: O::Socket,
    /// What was read and not yet handled, unless it is delivered: then it lies in the queue's buffer.
    pub(super) rest: BytesMut,
    /// Of the last read.
    pub(super) received_at: SystemTime,
    pub(super) reading: bool,
    /// Our direction is to be ended when everything is written.
    closing: bool,
    shut: bool,
}

impl<O: Outside> Link<O> {
    /// `rest` was received by then.
    pub(super) fn new(
        id: LinkId,
        socket: O::Socket,
        rest: BytesMut,
        received_at: SystemTime,
    ) -> Self {
        Self { id, socket, rest, received_at, reading: true, closing: false, shut: false }
    }

    /// From now on: write what is left, end our direction, read to the end.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.reading = true;
    }

    /// Writes what is left in `out`.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, outside: &mut O, out: &mut BytesMut) {
        let is_written = outside.poll_write(cx, &mut self.socket, out).is_ready();
        if is_written && self.closing && !self.shut {
            self.shut = outside.poll_shutdown(cx, &mut self.socket).is_ready();
        }
    }

    /// Reads once, into `input`. How many bytes, or how it ended.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        outside: &mut O,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, LinkEvent>> {
        outside.poll_read(cx, &mut self.socket, input).map(|read| match read {
            Ok(0) => Err(LinkEvent::Eof),
            Ok(bytes) => {
                self.received_at = outside.time();
                Ok(bytes)
            }
            Err(error) => Err(LinkEvent::Failed(error)),
        })
    }
}

//! [`ReceiveBuffers`]: what the code that reads the socket needs of a queue.

use std::task::{Context, Poll};

use bytes::BytesMut;

use super::outlet::Outlet;
use super::sink::OutletSink;
use crate::net::SessionPlace;

/// The receive buffers of a queue, and the wait for room in it.
pub(crate) trait ReceiveBuffers {
    /// Records where the session is whose notifications follow. `None`: that is not known.
    fn delivers_from(&mut self, _place: Option<&SessionPlace>) {}

    /// Returns the first receive buffer.
    fn first_buffer(&mut self) -> BytesMut;

    /// Makes room in `input` for the next read.
    fn prepare(&mut self, input: &mut BytesMut);

    /// Handles a read of this many bytes into the prepared `input`.
    fn handle_read(&mut self, bytes: usize);

    /// Makes room in `input` for `bytes` more bytes that were read before.
    fn make_room(&mut self, input: &mut BytesMut, bytes: usize);

    /// Waits until a notification has room, or the consumer is dropped.
    fn poll_room(&mut self, cx: &mut Context<'_>, input: &mut BytesMut) -> Poll<()>;
}

impl<O: Outlet> ReceiveBuffers for OutletSink<O> {
    fn first_buffer(&mut self) -> BytesMut {
        self.first_buffer()
    }

    fn prepare(&mut self, input: &mut BytesMut) {
        self.prepare(input);
    }

    fn handle_read(&mut self, bytes: usize) {
        self.handle_read(bytes);
    }

    fn make_room(&mut self, input: &mut BytesMut, bytes: usize) {
        self.make_room(input, bytes);
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, input: &mut BytesMut) -> Poll<()> {
        self.poll_room(cx, input)
    }
}

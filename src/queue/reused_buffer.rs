//! [`ReusedBuffer`]: a receive buffer out of which everything is copied, so that it is used again for each read.

use bytes::BytesMut;

use super::intake::{BUFFER_BYTES, FIRST_BUFFER_BYTES, READ_BYTES_MIN, discard};
use crate::proto::ring::Buffers;

/// The receive buffer of a hub. Its size follows the flow.
#[derive(Debug)]
pub(crate) struct ReusedBuffer(Buffers);

impl Default for ReusedBuffer {
    fn default() -> Self {
        Self(Buffers::new(BUFFER_BYTES, 2).starting_at(FIRST_BUFFER_BYTES))
    }
}

impl ReusedBuffer {
    pub(crate) fn first(&mut self) -> BytesMut {
        self.0.first()
    }

    /// Makes room in `input` for the next read. There is always a buffer, because none has views.
    pub(crate) fn prepare(&mut self, input: &mut BytesMut) {
        let _ = self.0.prepare(input, READ_BYTES_MIN);
    }

    pub(crate) fn handle_read(&mut self, bytes: usize) {
        self.0.handle_read(bytes);
    }

    /// Makes room in `input` for `bytes` more bytes that were read before.
    pub(crate) fn make_room(&mut self, input: &mut BytesMut, bytes: usize) {
        let _ = self.0.exchange(input, bytes);
    }

    /// Removes `bytes` bytes from the front, which were copied.
    pub(crate) fn discard(input: &mut BytesMut, bytes: usize) {
        discard(input, bytes);
    }
}

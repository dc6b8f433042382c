//! The receive buffer of the record layer, in which records are decrypted in place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::record::RECORD_BYTES_MAX;

/// The initial size: a record of the largest size and most of another one.
const BUFFER_BYTES_MIN: usize = 32 * 1024;

/// The largest size, reached by doubling while reads fill the buffer: as much as one read of the session
/// takes, and one more record.
pub(super) const BUFFER_BYTES_MAX: usize = 256 * 1024 + RECORD_BYTES_MAX;

/// A contiguous receive buffer.
pub(super) struct Buffer {
    /// Initialised once.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled all spare room.
    was_filled: bool,
}

impl Buffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BUFFER_BYTES_MIN], start: 0, end: 0, was_filled: false }
    }

    /// Returns the bytes that were received and not consumed.
    pub(super) fn received(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Returns the same bytes, to be decrypted in place.
    pub(super) fn received_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Consumes bytes at the front.
    pub(super) fn advance(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// Discards all bytes.
    pub(super) fn clear(&mut self) {
        self.start = self.end;
    }

    /// Reads once. Ready with 0 at the end of the stream.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut S,
    ) -> Poll<io::Result<usize>> {
        let spare = self.make_room();
        let room = spare.len();
        let mut spare = ReadBuf::new(spare);
        ready!(Pin::new(io).poll_read(cx, &mut spare))?;
        let count = spare.filled().len();
        self.end = self.end.saturating_add(count).min(self.bytes.len());
        self.was_filled = count == room;
        Poll::Ready(Ok(count))
    }

    /// Returns room for a read. It is empty only if the buffer is full and has its largest size.
    ///
    /// Bytes move only here: the rest of a record near the end of the buffer. That is at most
    /// one record for all the records of a buffer.
    fn make_room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.bytes.len() - self.end < RECORD_BYTES_MAX && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let full = self.end == self.bytes.len();
        if (self.was_filled || full) && self.bytes.len() < BUFFER_BYTES_MAX {
            let mut larger = vec![0; self.bytes.len().saturating_mul(2).min(BUFFER_BYTES_MAX)];
            let (front, _) = larger.split_at_mut(self.end - self.start);
            front.copy_from_slice(self.received());
            (self.start, self.end) = (0, front.len());
            self.bytes = larger;
        }
        self.was_filled = false;
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn read(buffer: &mut Buffer, mut source: &[u8]) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        match buffer.poll_read(&mut cx, &mut source) {
            Poll::Ready(Ok(count)) => count,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_buffer_grows_while_reads_fill_it_up_to_its_limit() {
        let mut buffer = Buffer::new();
        let source = vec![7; 1024 * 1024];
        assert_eq!(read(&mut buffer, &source), BUFFER_BYTES_MIN);
        for _ in 0..20 {
            buffer.advance(20_000);
            assert!(read(&mut buffer, &source) > 0);
        }
        assert_eq!(buffer.capacity(), BUFFER_BYTES_MAX);
        assert!(buffer.received().iter().all(|&byte| byte == 7));
    }

    #[test]
    fn a_buffer_does_not_grow_with_small_reads() {
        let mut buffer = Buffer::new();
        for _ in 0..1_000 {
            assert_eq!(read(&mut buffer, b"a notification"), 14);
            assert_eq!(buffer.received(), b"a notification");
            buffer.advance(14);
        }
        assert_eq!(buffer.capacity(), BUFFER_BYTES_MIN);
    }

    #[test]
    fn the_rest_at_the_end_of_a_buffer_moves_to_the_front() {
        let mut buffer = Buffer::new();
        let source: Vec<u8> =
            (0..BUFFER_BYTES_MIN - 1).map(|at| u8::try_from(at % 251).unwrap()).collect();
        assert_eq!(read(&mut buffer, &source), source.len());
        buffer.advance(source.len() - 3);
        assert_eq!(read(&mut buffer, b"next"), 4);
        assert_eq!(buffer.received(), [&source[source.len() - 3..], b"next"].concat());
        assert_eq!(buffer.capacity(), BUFFER_BYTES_MIN);
        buffer.clear();
        assert_eq!(buffer.received(), b"");
    }
}

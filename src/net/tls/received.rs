//! Encrypted bytes, from a socket to rustls.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{ClientConnection, Error, InvalidMessage};
use tokio::io::{AsyncRead, ReadBuf};

/// The initial size.
const BUFFER_BYTES_MIN: usize = 32 * 1024;

/// The largest size, reached by doubling while reads fill the buffer: as much as one read of the session takes.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// The encrypted bytes that were received and not processed.
///
/// rustls itself would read at most 4 KiB at once from a socket.
pub(super) struct Received {
    /// Initialised once.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled all spare room.
    was_filled: bool,
}

impl Received {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES_MIN], start: 0, end: 0, was_filled: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Gives the first bytes to rustls, as many as it takes at once, and lets it process them.
    ///
    /// # Errors
    /// Those of rustls. There may be data before the error.
    pub(super) fn process(&mut self, connection: &mut ClientConnection) -> Result<(), Error> {
        let mut bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
        // rustls has read all data before, so that only a message of the handshake can be too long for it.
        let too_long = |_| Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge);
        match connection.read_tls(&mut bytes).map_err(too_long)? {
            // Bytes after close_notify are ignored: RFC 8446 §6.1.
            0 => self.start = self.end,
            count => self.start = self.start.saturating_add(count).min(self.end),
        }
        connection.process_new_packets()?;
        Ok(())
    }

    /// Reads from the socket once. Ready with 0 at the end of the stream.
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
        self.end = self.end.saturating_add(count).min(self.buffer.len());
        self.was_filled = count == room;
        Poll::Ready(Ok(count))
    }

    /// Returns room for a read. It is empty only if the buffer is full and has its largest size.
    fn make_room(&mut self) -> &mut [u8] {
        if self.end == self.buffer.len() || self.is_empty() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.was_filled && self.buffer.len() < BUFFER_BYTES_MAX {
            let larger = self.buffer.len().saturating_mul(2).min(BUFFER_BYTES_MAX);
            self.buffer.resize(larger, 0);
        }
        self.was_filled = false;
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn read(received: &mut Received, mut source: &[u8]) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        match received.poll_read(&mut cx, &mut source) {
            Poll::Ready(Ok(count)) => count,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_buffer_grows_while_reads_fill_it_up_to_its_limit() {
        let mut received = Received::new();
        let source = vec![7; 1024 * 1024];
        assert_eq!(read(&mut received, &source), BUFFER_BYTES_MIN);
        for _ in 0..20 {
            received.start += 20_000;
            assert!(read(&mut received, &source) > 0);
        }
        assert_eq!(received.buffer.len(), BUFFER_BYTES_MAX);
        assert!(received.buffer[received.start..received.end].iter().all(|&byte| byte == 7));
    }

    #[test]
    fn the_buffer_does_not_grow_with_small_reads() {
        let mut received = Received::new();
        for _ in 0..5_000 {
            assert_eq!(read(&mut received, b"a notification"), 14);
            assert_eq!(&received.buffer[received.start..received.end], b"a notification");
            received.start = received.end;
        }
        assert_eq!(received.buffer.len(), BUFFER_BYTES_MIN);
    }

    #[test]
    fn unprocessed_bytes_stay_in_order() {
        let mut received = Received::new();
        let source: Vec<u8> =
            (0..BUFFER_BYTES_MIN).map(|at| u8::try_from(at % 251).unwrap()).collect();
        assert_eq!(read(&mut received, &source), source.len());
        received.start = source.len() - 3;
        assert_eq!(read(&mut received, b"next"), 4);
        let bytes = &received.buffer[received.start..received.end];
        assert_eq!(bytes, [&source[source.len() - 3..], b"next"].concat());
    }
}

//! Frees the memory of buffers that a long message has made large.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Replaces a receive buffer that is larger than `standard` bytes by one of this size, if its content has at most half of
/// the size.
///
/// It costs a comparison, and a copy of the content. A buffer that never was larger causes no allocation.
#[allow(dead_code, reason = "only drivers receive, and a build may have no driver")]
pub(crate) fn shrink(buffer: &mut BytesMut, standard: usize) {
    let length = buffer.len();
    if length <= standard / 2 && buffer.try_reclaim(standard - length + 1) {
        let mut small = BytesMut::with_capacity(standard);
        small.extend_from_slice(buffer);
        *buffer = small;
    }
}

/// Frees a send buffer that is empty and has more than `kept` bytes of memory.
pub(crate) fn release(buffer: &mut BytesMut, kept: usize) {
    if buffer.is_empty() && buffer.try_reclaim(kept + 1) {
        *buffer = BytesMut::new();
    }
}

/// Frees a queue that is empty and has capacity for more than `kept` elements.
pub(crate) fn release_queue<T>(queue: &mut VecDeque<T>, kept: usize) {
    if queue.is_empty() && queue.capacity() > kept {
        *queue = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    /// Returns the size of the memory of a buffer.
    fn size(buffer: &mut BytesMut) -> usize {
        let mut bytes = buffer.len();
        while buffer.try_reclaim(bytes - buffer.len() + 1) {
            bytes += 1;
        }
        bytes
    }

    #[test]
    fn a_buffer_of_the_standard_size_is_not_replaced() {
        let mut buffer = BytesMut::with_capacity(1_024);
        let address = buffer.as_ptr();
        for _ in 0..10 {
            buffer.extend_from_slice(&[1; 1_024]);
            shrink(&mut buffer, 1_024);
            buffer.advance(1_000);
            shrink(&mut buffer, 1_024);
            buffer.advance(24);
            shrink(&mut buffer, 1_024);
            buffer.reserve(1_024);
            assert_eq!((buffer.as_ptr(), size(&mut buffer)), (address, 1_024));
        }
    }

    #[test]
    fn a_large_buffer_shrinks_when_its_content_is_short_and_keeps_the_content() {
        let mut buffer = BytesMut::with_capacity(1_024);
        buffer.extend_from_slice(&[1; 5_000]);
        buffer.extend_from_slice(&[2; 500]);
        shrink(&mut buffer, 1_024);
        assert_eq!(buffer.len(), 5_500);
        buffer.advance(5_000);
        shrink(&mut buffer, 1_024);
        assert_eq!(buffer, [2; 500][..]);
        assert_eq!(size(&mut buffer), 1_024);
    }

    #[test]
    fn an_empty_large_buffer_or_queue_is_freed() {
        let mut buffer = BytesMut::from(&[1; 5_000][..]);
        release(&mut buffer, 1_024);
        assert_eq!(buffer.len(), 5_000);
        buffer.advance(5_000);
        release(&mut buffer, 1_024);
        assert_eq!(size(&mut buffer), 0);
        buffer.extend_from_slice(&[1; 500]);
        buffer.clear();
        release(&mut buffer, 1_024);
        assert!(size(&mut buffer) >= 500);

        let mut queue: VecDeque<u8> = (0..200).collect();
        release_queue(&mut queue, 64);
        assert_eq!(queue.len(), 200);
        queue.clear();
        release_queue(&mut queue, 64);
        assert_eq!(queue.capacity(), 0);
    }
}

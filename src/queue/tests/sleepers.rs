//! Tests of consumers that sleep: a few unread bytes do not keep whole receive buffers.

use bytes::Buf;

use super::*;
use crate::queue::outlet::Outlet;
use crate::queue::sink::OutletSink;

const SLEEPERS: usize = 1_000;

/// Receive buffers, and unread bytes of which there may be copies.
fn memory(queue: &Queue) -> usize {
    queue.sink.buffer_bytes() + usize::try_from(queue.sink.outlet.producer.unread_bytes()).unwrap()
}

/// Reads messages that are not notifications, in reads of `at_once` bytes.
fn read_others(queue: &mut Queue, bytes: usize, at_once: usize) {
    for _ in 0..bytes / at_once {
        queue.sink.prepare(&mut queue.input);
        queue.input.extend_from_slice(&vec![0; at_once]);
        queue.sink.handle_read(at_once);
        queue.input.advance(at_once);
    }
}

/// The formulas in the documentation of `ListenerBuilder`.
fn formula(unread: u64) -> usize {
    3 * BUFFER_BYTES + 9 * usize::try_from(unread).unwrap()
}

#[test]
fn a_thousand_consumers_that_sleep_with_a_few_unread_bytes_keep_16_kib_each() {
    let mut queues: Vec<_> =
        (0..SLEEPERS).map(|_| Queue::new(16, 1 << 20, Overflow::DropNewest)).collect();
    let mut buffers = 0;
    for (index, queue) in queues.iter_mut().enumerate() {
        for _ in 0..1 + index % 4 {
            queue.read(1, 50);
        }
        buffers += queue.sink.buffer_bytes();
    }
    assert_eq!(buffers, SLEEPERS * 16 * 1024);
}

/// As after an hour of heartbeats and parameter changes between notifications. Neither the memory is used up, nor is
/// anything lost while the queue has room.
#[test]
fn a_thousand_consumers_that_sleep_with_a_byte_of_each_buffer_keep_64_kib_each() {
    let mut kept = Vec::new();
    let mut total = 0;
    for _ in 0..SLEEPERS {
        let mut queue = Queue::new(100, 1 << 20, Overflow::DropNewest);
        for _ in 0..50 {
            queue.read(1, 8);
            read_others(&mut queue, 64 * 1024, 2_000);
        }
        total += queue.sink.buffer_bytes();
        kept.push(queue);
    }
    assert!(total <= SLEEPERS * 64 * 1024, "{total}");
    for mut queue in kept {
        let mut next = 0;
        queue.drain(&mut next);
        assert_eq!((next, queue.consumer.lost()), (50, 0));
    }
}

/// The consumer kept up with a dense flow before.
#[test]
fn a_consumer_that_falls_asleep_in_a_dense_flow_keeps_three_buffers() {
    let mut queue = Queue::new(1_000, 1 << 20, Overflow::DropNewest);
    let mut next = 0;
    for _ in 0..50 {
        queue.read(10, 5_000);
        queue.drain(&mut next);
    }
    for _ in 0..200 {
        queue.read(1, 8);
        read_others(&mut queue, BUFFER_BYTES, 16 * 1024);
    }
    let unread = queue.sink.outlet.producer.unread_bytes();
    assert!(memory(&queue) <= formula(unread), "{} for {unread}", memory(&queue));
    queue.drain(&mut next);
    assert_eq!((next, queue.consumer.lost()), (queue.sent, 0));
}

/// A burst leaves no memory behind: as soon as the flow is sparse, the buffers of the burst are freed.
#[test]
fn the_buffers_of_a_burst_are_freed_when_the_flow_is_sparse_again() {
    let mut queue = Queue::new(10_000, 1 << 20, Overflow::DropNewest);
    queue.read(100, 8_000);
    assert!(queue.sink.buffer_bytes() >= 800_000);
    let mut next = 0;
    for _ in 0..40 {
        queue.drain(&mut next);
        queue.read(1, 50);
    }
    assert_eq!(queue.sink.buffer_bytes(), 16 * 1024);
    assert_eq!(queue.consumer.lost(), 0);
}

/// The frames of an item are where they were read, in sparse and in dense flow.
#[test]
fn nothing_is_copied_for_a_consumer_that_keeps_up() {
    for (count, payload_bytes) in [(1, 50), (160, 50), (10, 1_500), (2, 7_000)] {
        let mut queue = Queue::new(100_000, 8 << 20, Overflow::DropNewest);
        for _ in 0..3_000 {
            queue.write(count, payload_bytes);
            let run = queue.fill();
            let place = queue.input.as_ptr();
            queue.sink.notifications(&mut queue.input, run, INFO, false);
            queue.sink.publish();
            let Taken::Item { value, .. } = queue.consumer.try_take() else { panic!("no item") };
            assert_eq!((value.frames.as_ptr(), value.frames.len()), (place, run.bytes));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn memory_is_bounded_by_what_is_unread(
        steps in prop::collection::vec((0_u64..40, 8_usize..4_000, 60_000_usize..600_000, 0_usize..20), 1..60),
    ) {
        let mut queue = Queue::new(100_000, 8 << 20, Overflow::DropNewest);
        let mut next = 0;
        for (count, payload_bytes, others, takes) in steps {
            queue.read(count, payload_bytes);
            read_others(&mut queue, others, 3_000);
            let unread = queue.sink.outlet.producer.unread_bytes();
            prop_assert!(memory(&queue) <= formula(unread), "{} for {unread}", memory(&queue));
            for _ in 0..takes {
                queue.take(&mut next);
            }
        }
        queue.drain(&mut next);
        prop_assert_eq!((next, queue.consumer.lost()), (queue.sent, 0));
    }
}

/// Reads a dense flow into a sink, as the task does. Returns the number of reads.
fn read_densely<O: Outlet>(sink: &mut OutletSink<O>, input: &mut BytesMut) -> usize {
    let raw = RawNotification { process_id: 1, channel: b"c", payload: &[b'p'; 40] };
    let mut socket = BytesMut::new();
    for _ in 0..100_000 {
        BackendMessage::NotificationResponse(raw).encode(&mut socket).unwrap();
    }
    let mut reads = 0;
    while !socket.is_empty() {
        sink.prepare(input);
        let room = input.capacity() - input.len();
        let bytes = socket.split_to(room.min(socket.len()));
        input.extend_from_slice(&bytes);
        sink.handle_read(bytes.len());
        let (run, _) = wire::scan(input);
        sink.notifications(input, run, INFO, false);
        sink.publish();
        reads += 1;
    }
    reads
}

/// An earlier version computed the size of a read from the room in the buffer, and what is dropped gives room back. So it read
/// 16 KiB at a time while it had to read most.
#[test]
fn a_dense_flow_that_is_dropped_is_read_into_large_buffers() {
    // The consumer sleeps, or is dropped.
    let mut asleep = Queue::new(16, 8 << 20, Overflow::DropNewest);
    let Queue { sink: mut abandoned, consumer, mut input, .. } =
        Queue::new(100_000, 8 << 20, Overflow::DropNewest);
    drop(consumer);
    for reads in [
        read_densely(&mut asleep.sink, &mut asleep.input),
        read_densely(&mut abandoned, &mut input),
    ] {
        assert!(reads < 60, "{reads} reads for 5 MB");
    }
}

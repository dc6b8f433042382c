//! Queues of other crates, reduced to what the counting needs.

use std::sync::Arc;

use crossbeam_queue::{ArrayQueue, SegQueue};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A queue of values from one thread to one other.
pub trait Fifo: 'static {
    const NAME: &'static str;
    /// Whether the sending side can pop too.
    const EVICTS: bool;

    type In<T: Send + 'static>: Send + 'static;
    type Out<T: Send + 'static>: Send + 'static;

    fn make<T: Send + 'static>(slots: usize) -> (Self::In<T>, Self::Out<T>);

    /// The caller must have checked that there is room.
    fn push<T: Send + 'static>(queue: &mut Self::In<T>, value: T) -> bool;

    fn pop<T: Send + 'static>(queue: &mut Self::Out<T>) -> Option<T>;

    fn take_back<T: Send + 'static>(_queue: &mut Self::In<T>) -> Option<T> {
        None
    }
}

/// Preallocated slots, one index for each side, each side with its copy of the other's.
pub struct Rtrb;

impl Fifo for Rtrb {
    const NAME: &'static str = "rtrb";
    const EVICTS: bool = false;

    type In<T: Send + 'static> = rtrb::Producer<T>;
    type Out<T: Send + 'static> = rtrb::Consumer<T>;

    fn make<T: Send + 'static>(slots: usize) -> (Self::In<T>, Self::Out<T>) {
        rtrb::RingBuffer::new(slots)
    }

    fn push<T: Send + 'static>(queue: &mut Self::In<T>, value: T) -> bool {
        queue.push(value).is_ok()
    }

    fn pop<T: Send + 'static>(queue: &mut Self::Out<T>) -> Option<T> {
        queue.pop().ok()
    }
}

/// Preallocated slots, for many senders and receivers, so the sender can evict.
pub struct Array;

impl Fifo for Array {
    const NAME: &'static str = "ArrayQueue";
    const EVICTS: bool = true;

    type In<T: Send + 'static> = Arc<ArrayQueue<T>>;
    type Out<T: Send + 'static> = Arc<ArrayQueue<T>>;

    fn make<T: Send + 'static>(slots: usize) -> (Self::In<T>, Self::Out<T>) {
        let queue = Arc::new(ArrayQueue::new(slots));
        (queue.clone(), queue)
    }

    fn push<T: Send + 'static>(queue: &mut Self::In<T>, value: T) -> bool {
        queue.push(value).is_ok()
    }

    fn pop<T: Send + 'static>(queue: &mut Self::Out<T>) -> Option<T> {
        queue.pop()
    }

    fn take_back<T: Send + 'static>(queue: &mut Self::In<T>) -> Option<T> {
        queue.pop()
    }
}

/// Blocks of 31 slots, allocated when they are needed: memory depends on what is unread.
pub struct Seg;

impl Fifo for Seg {
    const NAME: &'static str = "SegQueue";
    const EVICTS: bool = true;

    type In<T: Send + 'static> = Arc<SegQueue<T>>;
    type Out<T: Send + 'static> = Arc<SegQueue<T>>;

    fn make<T: Send + 'static>(_slots: usize) -> (Self::In<T>, Self::Out<T>) {
        let queue = Arc::new(SegQueue::new());
        (queue.clone(), queue)
    }

    fn push<T: Send + 'static>(queue: &mut Self::In<T>, value: T) -> bool {
        queue.push(value);
        true
    }

    fn pop<T: Send + 'static>(queue: &mut Self::Out<T>) -> Option<T> {
        queue.pop()
    }

    fn take_back<T: Send + 'static>(queue: &mut Self::In<T>) -> Option<T> {
        queue.pop()
    }
}

/// tokio's channel, without a capacity of its own: positions bound it, and its semaphore costs nothing.
pub struct Mpsc;

impl Fifo for Mpsc {
    const NAME: &'static str = "tokio mpsc";
    const EVICTS: bool = false;

    type In<T: Send + 'static> = UnboundedSender<T>;
    type Out<T: Send + 'static> = UnboundedReceiver<T>;

    fn make<T: Send + 'static>(_slots: usize) -> (Self::In<T>, Self::Out<T>) {
        unbounded_channel()
    }

    fn push<T: Send + 'static>(queue: &mut Self::In<T>, value: T) -> bool {
        queue.send(value).is_ok()
    }

    fn pop<T: Send + 'static>(queue: &mut Self::Out<T>) -> Option<T> {
        queue.try_recv().ok()
    }
}

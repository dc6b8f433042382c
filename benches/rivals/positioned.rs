//! One node per run in a plain queue. Loss is derived from positions as in the ring.
//!
//! It is optimised: each side keeps its own positions local, with a copy of the other side's, which it reads again only
//! if the copy is not enough. The values that the sides write are on cache lines of their own. A wake costs one
//! store and one load.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::doze::Doze;
use super::fifo::Fifo;
use super::{Count, Limits, Pad, Queue, Receiver, Sender, Taken};

/// A run in the queue.
struct Node<T> {
    first: u64,
    count: u64,
    bytes: u64,
    value: T,
}

/// The state that both sides share.
#[derive(Default)]
struct Positions {
    /// Written by the sender at every publish.
    published: Pad<Published>,
    /// Written by the receiver at every take.
    taken: Pad<Takings>,
}

#[derive(Default)]
struct Published {
    /// Notifications received, lost ones too.
    seen: AtomicU64,
    closed: AtomicBool,
    receiver: Doze,
}

#[derive(Default)]
struct Takings {
    notifications: AtomicU64,
    bytes: AtomicU64,
    sender: Doze,
}

/// Queues made from a [`Fifo`].
pub struct Positioned<F>(PhantomData<F>);

impl<F: Fifo> Queue for Positioned<F> {
    const NAME: &'static str = F::NAME;
    const EVICTS: bool = F::EVICTS;

    type Sender<T: Send + 'static> = PositionedSender<F, T>;
    type Receiver<T: Send + 'static> = PositionedReceiver<F, T>;

    fn channel<T: Send + 'static>(slots: u64) -> (Self::Sender<T>, Self::Receiver<T>) {
        let (queue, out) = F::make(usize::try_from(slots).expect("as many slots as fit in memory"));
        let shared = Arc::new(Positions::default());
        let sender = PositionedSender {
            queue,
            shared: shared.clone(),
            seen: 0,
            kept: Count::default(),
            known_taken: Count::default(),
        };
        (
            sender,
            PositionedReceiver {
                queue: out,
                shared,
                next: 0,
                taken: Count::default(),
                stash: None,
            },
        )
    }
}

pub struct PositionedSender<F: Fifo, T: Send + 'static> {
    queue: F::In<Node<T>>,
    shared: Arc<Positions>,
    seen: u64,
    /// Put in and not evicted.
    kept: Count,
    /// What the receiver had taken at the last read of its position.
    known_taken: Count,
}

impl<F: Fifo, T: Send + 'static> PositionedSender<F, T> {
    fn fits(&self, limits: Limits, count: u64, bytes: u64) -> bool {
        self.kept.fits(self.known_taken, limits, count, bytes)
    }

    fn look(&mut self, order: Ordering) {
        self.known_taken.notifications = self.shared.taken.notifications.load(order);
        self.known_taken.bytes = self.shared.taken.bytes.load(Ordering::Acquire);
    }
}

impl<F: Fifo, T: Send + 'static> Sender<T> for PositionedSender<F, T> {
    fn unread(&self) -> u64 {
        self.kept.notifications - self.shared.taken.notifications.load(Ordering::Acquire)
    }

    fn unread_bytes(&self) -> u64 {
        self.kept.bytes - self.shared.taken.bytes.load(Ordering::Acquire)
    }

    fn has_room(&mut self, limits: Limits, count: u64, bytes: u64) -> bool {
        if self.fits(limits, count, bytes) {
            return true;
        }
        self.look(Ordering::Acquire);
        self.fits(limits, count, bytes)
    }

    fn push(&mut self, value: T, count: u64, bytes: u64) {
        let pushed = F::push(&mut self.queue, Node { first: self.seen, count, bytes, value });
        // As many slots as notifications, so that slots never are the limit.
        assert!(pushed, "the caller makes sure of the room");
        self.seen += count;
        self.kept.notifications += count;
        self.kept.bytes += bytes;
    }

    fn skip(&mut self, count: u64) {
        self.seen += count;
    }

    fn publish(&mut self) {
        self.shared.published.seen.store(self.seen, Ordering::SeqCst);
        self.shared.published.receiver.wake();
    }

    fn evict(&mut self) -> bool {
        let Some(node) = F::take_back(&mut self.queue) else { return false };
        self.kept.notifications -= node.count;
        self.kept.bytes -= node.bytes;
        true
    }

    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        limits: Limits,
        count: u64,
        bytes: u64,
    ) -> Poll<()> {
        if self.has_room(limits, count, bytes) {
            return Poll::Ready(());
        }
        self.shared.taken.sender.prepare(cx);
        self.look(Ordering::SeqCst);
        if self.fits(limits, count, bytes) {
            self.shared.taken.sender.cancel();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<F: Fifo, T: Send + 'static> Drop for PositionedSender<F, T> {
    fn drop(&mut self) {
        self.shared.published.seen.store(self.seen, Ordering::SeqCst);
        self.shared.published.closed.store(true, Ordering::SeqCst);
        self.shared.published.receiver.wake();
    }
}

pub struct PositionedReceiver<F: Fifo, T: Send + 'static> {
    queue: F::Out<Node<T>>,
    shared: Arc<Positions>,
    /// Sequence number of the next notification.
    next: u64,
    taken: Count,
    /// Popped, while a loss before it is not reported yet.
    stash: Option<Node<T>>,
}

impl<F: Fifo, T: Send + 'static> PositionedReceiver<F, T> {
    fn lose(&mut self, up_to: u64) -> Taken<T> {
        let first = std::mem::replace(&mut self.next, up_to);
        Taken::Lost { first, count: up_to - first }
    }

    fn pop(&mut self) -> Option<Node<T>> {
        let node = F::pop(&mut self.queue)?;
        self.taken.notifications += node.count;
        self.taken.bytes += node.bytes;
        self.shared.taken.bytes.store(self.taken.bytes, Ordering::Release);
        self.shared.taken.notifications.store(self.taken.notifications, Ordering::SeqCst);
        self.shared.taken.sender.wake();
        Some(node)
    }

    fn hand_out(&mut self, node: Node<T>) -> Taken<T> {
        if node.first > self.next {
            let lost = self.lose(node.first);
            self.stash = Some(node);
            return lost;
        }
        self.next = node.first + node.count;
        Taken::Item { value: node.value, first: node.first, skip: 0 }
    }
}

impl<F: Fifo, T: Send + 'static> Receiver<T> for PositionedReceiver<F, T> {
    fn try_take(&mut self) -> Taken<T> {
        if let Some(node) = self.stash.take().or_else(|| self.pop()) {
            return self.hand_out(node);
        }
        // In this order, so that items below `seen` are in the queue by now, or evicted.
        let closed = self.shared.published.closed.load(Ordering::SeqCst);
        let seen = self.shared.published.seen.load(Ordering::SeqCst);
        if seen > self.next {
            return match self.pop() {
                Some(node) => self.hand_out(node),
                None => self.lose(seen),
            };
        }
        if closed { Taken::Closed } else { Taken::Empty }
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<T>> {
        match self.try_take() {
            Taken::Empty => {}
            found => return Poll::Ready(found),
        }
        self.shared.published.receiver.prepare(cx);
        match self.try_take() {
            Taken::Empty => Poll::Pending,
            found => {
                self.shared.published.receiver.cancel();
                Poll::Ready(found)
            }
        }
    }
}

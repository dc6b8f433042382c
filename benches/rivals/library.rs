//! The library's ring.

use std::task::{Context, Poll};

use pgbell::proto::ring::{Consumer, Producer, channel};

use super::{Limits, Queue, Receiver, Sender, Taken};

pub struct Library;

impl Queue for Library {
    const NAME: &'static str = "pgbell::proto::ring";
    const EVICTS: bool = true;

    type Sender<T: Send + 'static> = Producer<T, ()>;
    type Receiver<T: Send + 'static> = Consumer<T, ()>;

    fn channel<T: Send + 'static>(slots: u64) -> (Producer<T, ()>, Consumer<T, ()>) {
        channel(slots)
    }
}

/// The check of a listener before it takes a run.
fn has_room<T>(ring: &Producer<T, ()>, limits: Limits, count: u64, bytes: u64) -> bool {
    ring.has_slot()
        && ring.unread() + count <= limits.notifications
        && ring.unread_bytes() + bytes <= limits.bytes
}

impl<T> Sender<T> for Producer<T, ()> {
    fn unread(&self) -> u64 {
        Self::unread(self)
    }

    fn unread_bytes(&self) -> u64 {
        Self::unread_bytes(self)
    }

    fn has_room(&mut self, limits: Limits, count: u64, bytes: u64) -> bool {
        has_room(self, limits, count, bytes)
    }

    fn push(&mut self, value: T, count: u64, bytes: u64) {
        Self::push(self, value, count, bytes);
    }

    fn skip(&mut self, count: u64) {
        Self::skip(self, count);
    }

    fn publish(&mut self) {
        Self::publish(self);
    }

    fn evict(&mut self) -> bool {
        Self::evict(self)
    }

    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        limits: Limits,
        count: u64,
        bytes: u64,
    ) -> Poll<()> {
        Self::poll_room(self, cx, |ring| has_room(ring, limits, count, bytes))
    }
}

impl<T> Receiver<T> for Consumer<T, ()> {
    fn try_take(&mut self) -> Taken<T> {
        Self::try_take(self)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<T>> {
        Self::poll_take(self, cx)
    }
}

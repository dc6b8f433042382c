//! [`Source`]: where a [receiver](super::receiver) takes runs and losses from.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::chunk::Chunk;
use super::counters::{self, ConsumerCounters};
use crate::notification::Gap;
use crate::proto::ring::{Consumer, Taken};

/// The consuming end of a queue, with the counters of its consumer.
pub(crate) trait Source {
    /// Takes the next element. It never waits.
    fn try_take(&mut self) -> Taken<Chunk, Gap>;

    /// Waits for the next element and takes it. It never returns `Ready(Taken::Empty)`.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<Chunk, Gap>>;

    /// Returns the sequence number of the next notification.
    fn sequence(&self) -> u64;

    /// Counts `count` notifications as delivered.
    fn count_delivered(&self, count: u64);
}

/// The consuming end of a ring.
#[derive(Debug)]
pub(crate) struct RingSource {
    consumer: Consumer<Chunk, Gap>,
    counters: Arc<ConsumerCounters>,
}

impl RingSource {
    pub(crate) fn new(consumer: Consumer<Chunk, Gap>, counters: Arc<ConsumerCounters>) -> Self {
        Self { consumer, counters }
    }

    /// Counts what was taken.
    #[inline]
    fn count_taken(&self, taken: &Taken<Chunk, Gap>) {
        match taken {
            Taken::Item { .. } => {
                counters::set(&self.counters.taken, self.consumer.taken());
                counters::set(&self.counters.taken_bytes, self.consumer.taken_bytes());
            }
            Taken::Lost { .. } => counters::set(&self.counters.lagged, self.consumer.lost()),
            Taken::Mark(_) | Taken::Empty | Taken::Closed => {}
        }
    }
}

impl Source for RingSource {
    fn try_take(&mut self) -> Taken<Chunk, Gap> {
        let taken = self.consumer.try_take();
        self.count_taken(&taken);
        taken
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<Chunk, Gap>> {
        let taken = self.consumer.poll_take(cx);
        if let Poll::Ready(taken) = &taken {
            self.count_taken(taken);
        }
        taken
    }

    fn sequence(&self) -> u64 {
        self.consumer.sequence()
    }

    #[inline(always)]
    fn count_delivered(&self, count: u64) {
        counters::add(&self.counters.delivered, count);
    }
}

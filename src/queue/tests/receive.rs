//! Tests of the receiver: every way to receive delivers the same stream, and counts it.

use std::task::Poll;

use super::pins::{check, check_owned};
use super::*;
use crate::error::{Error, ErrorKind};
use crate::notification::Event;
use crate::proto::supervisor::Owner;
use crate::queue::{CurrentRun, End, Receiver, RingSource};

#[derive(Debug, Clone)]
enum Step {
    Read(u64, usize),
    Gap,
    Poll,
    Try,
    Batch(usize),
    Next,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1_u64..30, 8_usize..120).prop_map(|(count, bytes)| Step::Read(count, bytes)),
        1 => (1_u64..300, 8_usize..3_000).prop_map(|(count, bytes)| Step::Read(count, bytes)),
        1 => Just(Step::Gap),
        8 => Just(Step::Poll),
        4 => Just(Step::Try),
        2 => (0_usize..20).prop_map(Step::Batch),
        4 => Just(Step::Next),
    ]
}

/// A queue and its receiver, with what the receiver must have counted.
struct Receiving {
    queue: Queue,
    receiver: Receiver<RingSource>,
    end: Arc<End>,
    delivered: u64,
    lagged: u64,
    /// Gaps that were put into the queue, and that were received. Gaps without a notification between them are one.
    gaps: (u64, u64),
}

impl Receiving {
    fn new(capacity: u64, overflow: Overflow) -> Self {
        let mut queue = Queue::new(capacity, 300 * 1024, overflow);
        let (_, none) = ring::channel(1);
        let consumer = std::mem::replace(&mut queue.consumer, none);
        let (counters, end) =
            (queue.counters.consumer.clone(), Arc::new(End::new(Owner::Listener)));
        let receiver = Receiver::new(
            RingSource::new(consumer, counters),
            CurrentRun::in_buffers(Pins::new(0)),
            end.clone(),
        );
        Self { queue, receiver, end, delivered: 0, lagged: 0, gaps: (0, 0) }
    }

    fn gap(&mut self) {
        let cause = Error::new(ErrorKind::Server, "dropped one");
        let gap = Gap::within_session(cause, SystemTime::UNIX_EPOCH, 1);
        self.queue.gap(gap);
        self.gaps.0 += 1;
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Notification(notification) => {
                assert_eq!(notification.sequence(), self.delivered + self.lagged);
                check_owned(&notification);
                self.delivered += 1;
            }
            Event::Lagged(lagged) => {
                assert_eq!(lagged.first_sequence(), self.delivered + self.lagged);
                self.lagged += lagged.count();
            }
            Event::Gap(_) => self.gaps.1 += 1,
        }
    }

    /// Returns whether there was something to receive.
    fn receive(&mut self, step: &Step) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match step {
            Step::Try => match self.receiver.try_recv().unwrap() {
                Some(event) => self.event(event),
                None => return false,
            },
            Step::Batch(max) => {
                let Poll::Ready(ready) = self.receiver.poll_batch(&mut cx) else { return false };
                ready.unwrap();
                let (batch, mut count) = (self.receiver.batch(*max), 0);
                assert!(batch.len() <= (*max).max(1));
                for notification in &batch {
                    assert_eq!(notification.sequence(), self.delivered + self.lagged + count);
                    check(&notification);
                    count += 1;
                }
                let loss = batch.loss().cloned();
                self.delivered += count;
                loss.into_iter().for_each(|loss| self.event(loss.into()));
            }
            Step::Next => match self.receiver.poll_next(&mut cx) {
                Poll::Ready(item) => self.event(item.unwrap().unwrap()),
                Poll::Pending => return false,
            },
            _ => match self.receiver.poll_recv(&mut cx) {
                Poll::Ready(event) => self.event(event.unwrap()),
                Poll::Pending => return false,
            },
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_mix_of_ways_to_receive_delivers_and_counts_each_notification_once(
        capacity in 1_u64..400,
        policy in 0..3,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let overflow = match policy {
            0 => Overflow::DropNewest,
            1 => Overflow::DropOldest,
            _ => Overflow::Block { max_stall: Duration::from_secs(1) },
        };
        let mut receiving = Receiving::new(capacity, overflow);
        for step in &steps {
            match step {
                Step::Read(count, bytes) => receiving.queue.read(*count, *bytes),
                Step::Gap => receiving.gap(),
                receive => drop(receiving.receive(receive)),
            }
            let stats = receiving.queue.counters.stats();
            prop_assert_eq!((stats.delivered, stats.lagged), (receiving.delivered, receiving.lagged));
            prop_assert!(stats.dropped >= stats.lagged);
            if overflow != Overflow::DropOldest {
                // What is taken and not delivered is in the current run.
                let left = stats.received - stats.dropped - stats.queued;
                prop_assert!(stats.delivered <= left && left <= stats.delivered + 300);
            }
        }
        let mut ways = [Step::Poll, Step::Try, Step::Batch(7), Step::Next].iter().cycle();
        while ways.next().is_some_and(|way| receiving.receive(way)) {}
        let stats = receiving.queue.counters.stats();
        prop_assert_eq!((stats.queued, stats.queued_bytes), (0, 0));
        prop_assert_eq!(stats.delivered + stats.lagged, receiving.queue.sent);
        prop_assert!(receiving.gaps.1 <= receiving.gaps.0);
        prop_assert_eq!(receiving.gaps.1 == 0, receiving.gaps.0 == 0);
    }
}

/// Each way to receive returns what is in the queue, then the cause, and then the error of a call after the end.
#[test]
fn every_way_to_receive_returns_the_cause_of_the_end_once() {
    // The cause may be of any kind, also of that of a call after the end.
    let kinds = [ErrorKind::Connect, ErrorKind::Closed];
    for (way, kind) in (0..5).flat_map(|way| kinds.map(|kind| (way, kind))) {
        let mut receiving = Receiving::new(100, Overflow::DropNewest);
        receiving.queue.read(2, 8);
        receiving.end.set(Error::new(kind, "lost"));
        let Receiving { queue, mut receiver, .. } = receiving;
        drop(queue);
        let mut cx = Context::from_waker(Waker::noop());
        let mut receive = || match way {
            0 => receiver.poll_recv(&mut cx).map_ok(|_| 1),
            1 => Poll::Ready(receiver.try_recv().map(|event| usize::from(event.is_some()))),
            2 => receiver.poll_batch(&mut cx).map_ok(|()| receiver.batch(1).len()),
            3 => Poll::Ready(match receiver.try_next() {
                Ok(event) => Ok(usize::from(event.is_some())),
                Err(cause) => cause.map_or(Ok(0), Err),
            }),
            _ => {
                receiver.poll_next(&mut cx).map(|item| item.map_or(Ok(0), |event| event.map(|_| 1)))
            }
        };
        for expected in [Ok(1), Ok(1), Err(kind)] {
            let Poll::Ready(received) = receive() else { panic!("there is something") };
            assert_eq!(received.map_err(|error| error.kind()), expected, "{way}");
        }
        let Poll::Ready(received) = receive() else { panic!("the queue has ended") };
        if way >= 3 {
            assert!(matches!(received, Ok(0)));
            assert!(receiver.is_terminated());
        } else {
            let error = received.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed, "{way}");
            assert!(std::error::Error::source(&error).is_some(), "{way}");
        }
    }
}

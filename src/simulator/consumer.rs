//! The consumer: it receives with every method of a listener, at different speeds, and sometimes pauses.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;

use super::clock::{SECOND, SimulatorEvent};
use super::{Simulation, log_line};
use crate::error::{Error, ErrorKind};
use crate::listener::Listener;
use crate::notification::{Event as Received, Notification};
use crate::notification::{Lagged, Loss, NotificationRef};

/// A waker that records whether it was woken.
#[derive(Debug, Default)]
pub(super) struct FlagWaker {
    is_woken: AtomicBool,
    count: AtomicU64,
}

impl FlagWaker {
    pub(super) fn take(&self) -> bool {
        self.is_woken.swap(false, Ordering::Relaxed)
    }

    pub(super) fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::Relaxed)
    }
}

impl Wake for FlagWaker {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) struct SimulatedConsumer {
    /// `None` after it was dropped.
    pub(super) listener: Option<Listener>,
    pub(super) waker: Arc<FlagWaker>,
    /// The last poll was pending: the next one follows when the waker is woken.
    pub(super) is_asleep: bool,
    /// The number of the next poll. Events with an older number are ignored.
    turn: u64,
    /// The next notification that was neither delivered nor reported as lost.
    pub(super) next: u64,
    /// The number of gaps received.
    pub(super) gaps: usize,
    /// The epoch of the last gap.
    pub(super) gap_epoch: u32,
    pub(super) delivered: u64,
    pub(super) lagged: u64,
    /// It has received the error that the listener ended with.
    has_cause: bool,
    /// It has received the end.
    pub(super) has_ended: bool,
}

impl SimulatedConsumer {
    pub(super) fn new(listener: Listener) -> Self {
        Self {
            listener: Some(listener),
            waker: Arc::default(),
            is_asleep: false,
            turn: 0,
            next: 0,
            gaps: 0,
            gap_epoch: 0,
            delivered: 0,
            lagged: 0,
            has_cause: false,
            has_ended: false,
        }
    }
}

/// The result of one poll.
enum Polled {
    Nothing { will_wake: bool },
    Something,
    End,
}

impl Simulation {
    /// Schedules the next poll of the consumer.
    pub(super) fn schedule_consumer(&mut self) {
        let nap = self.plan.naps && !self.is_calm && self.random.chance(5);
        let delay = if nap {
            self.random.range(0, 10 * SECOND)
        } else {
            self.random.range(1, if self.is_calm { 100 } else { self.plan.laziness })
        };
        self.consumer.turn += 1;
        self.clock.after(delay, SimulatorEvent::Consume(self.consumer.turn), &mut self.random);
    }

    /// Schedules a poll of the task and of the consumer if they were woken. Called after every event.
    pub(super) fn poll_woken(&mut self, event: SimulatorEvent) {
        if self.consumer.is_asleep && self.consumer.waker.take() {
            self.consumer.is_asleep = false;
            self.schedule_consumer();
        }
        if self.waker.take() && !self.has_task_ended && !self.is_scheduled {
            self.is_scheduled = true;
            // A task that wakes itself is polled at the same time, so that an endless loop is detected.
            let delay = if event == SimulatorEvent::Task { 0 } else { self.random.below(20) };
            self.clock.after(delay, SimulatorEvent::Task, &mut self.random);
        }
        let seen = (usize::try_from(self.consumer.next).unwrap(), self.consumer.gaps);
        if self.consumer.is_asleep
            && self.consumer.listener.is_some()
            && seen != self.sink.get().shown
        {
            let shown = self.sink.get().shown;
            self.fail(format!(
                "the consumer sleeps and was not woken: it has received {seen:?} of {shown:?} \
                 (notifications, gaps)"
            ));
        }
    }

    /// Polls the consumer at once.
    pub(super) fn consume_now(&mut self) {
        self.consume(self.consumer.turn);
    }

    pub(super) fn consume(&mut self, turn: u64) {
        if turn != self.consumer.turn || self.consumer.has_ended {
            return;
        }
        let Some(mut listener) = self.consumer.listener.take() else { return };
        let mut most = if self.is_calm { 1_000 } else { self.random.size(64) };
        loop {
            match self.poll_once(&mut listener) {
                Polled::Nothing { will_wake: true } => {
                    self.consumer.is_asleep = true;
                    break;
                }
                // It polls again, perhaps with a method that stores a waker.
                Polled::Nothing { will_wake: false } | Polled::Something => most -= 1,
                Polled::End => {
                    self.consumer.has_ended = true;
                    break;
                }
            }
            if most == 0 {
                self.schedule_consumer();
                break;
            }
        }
        self.consumer.listener = Some(listener);
    }

    fn poll_once(&mut self, listener: &mut Listener) -> Polled {
        let waker = Waker::from(self.consumer.waker.clone());
        let mut context = Context::from_waker(&waker);
        // Only the waker of this call may be woken.
        match self.random.below(4) {
            0 => match listener.try_recv() {
                Ok(Some(event)) => self.received(event),
                Ok(None) => Polled::Nothing { will_wake: false },
                Err(error) => self.received_end(Some(&error)),
            },
            1 if self.consumer.turn.is_multiple_of(2) => {
                match Pin::new(listener).poll_next(&mut context) {
                    Poll::Ready(Some(Ok(event))) => self.received(event),
                    Poll::Ready(Some(Err(error))) => self.received_end(Some(&error)),
                    Poll::Ready(None) => self.received_end(None),
                    Poll::Pending => Polled::Nothing { will_wake: true },
                }
            }
            1 => match listener.poll_recv(&mut context) {
                Poll::Ready(Ok(event)) => self.received(event),
                Poll::Ready(Err(error)) => self.received_end(Some(&error)),
                Poll::Pending => Polled::Nothing { will_wake: true },
            },
            way => {
                let max = if way == 2 { usize::MAX } else { self.random.index(9) };
                // The future is dropped after one poll, which must not lose anything.
                match pin!(listener.recv_batch_max(max)).poll(&mut context) {
                    Poll::Ready(Ok(batch)) => {
                        if let Some(loss) = batch.loss() {
                            self.missed(loss.clone());
                        }
                        for one in batch.iter() {
                            self.notified(&one);
                        }
                        Polled::Something
                    }
                    Poll::Ready(Err(error)) => self.received_end(Some(&error)),
                    Poll::Pending => Polled::Nothing { will_wake: true },
                }
            }
        }
    }

    fn received(&mut self, event: Received) -> Polled {
        match event {
            Received::Notification(one) => self.notified_owned(&one),
            Received::Gap(gap) => self.missed(Loss::Gap(gap)),
            Received::Lagged(lagged) => self.missed(Loss::Lagged(lagged)),
        }
        Polled::Something
    }

    fn notified_owned(&mut self, one: &Notification) {
        self.delivered(
            one.sequence(),
            one.process_id(),
            one.epoch(),
            one.channel_bytes(),
            one.payload_bytes(),
        );
    }

    fn notified(&mut self, one: &NotificationRef<'_>) {
        self.delivered(
            one.sequence(),
            one.process_id(),
            one.epoch(),
            one.channel_bytes(),
            one.payload_bytes(),
        );
    }

    fn missed(&mut self, loss: Loss) {
        match loss {
            Loss::Lagged(Lagged { first_sequence, count }) => self.lagged(first_sequence, count),
            Loss::Gap(gap) => self.received_gap(&gap),
        }
    }

    /// An error, or the end of the stream.
    fn received_end(&mut self, error: Option<&Error>) -> Polled {
        let text = error.map(Error::to_string);
        log_line!(self, "consumer: {text:?}");
        if self.done.is_none() {
            self.fail(format!("the consumer received the end too early: {text:?}"));
        }
        let all = (self.sink.get().taken.len() as u64, self.sink.get().gaps.len());
        if (self.consumer.next, self.consumer.gaps) != all {
            self.fail(format!("the consumer received the end before all of {all:?}"));
        }
        // The cause comes first, and once.
        let has_cause = std::mem::replace(&mut self.consumer.has_cause, true);
        if let Some(Err(cause)) = &self.done
            && !has_cause
        {
            let cause = cause.to_string();
            if text.as_ref() != Some(&cause) {
                self.fail(format!("the cause is {cause:?}, and the consumer received {text:?}"));
            }
            return Polled::Something;
        }
        if let Some(error) = error.filter(|error| error.kind() != ErrorKind::Closed) {
            self.fail(format!("the consumer received an error after the end: {error}"));
        }
        Polled::End
    }
}

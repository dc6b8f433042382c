//! [`Subscriber`]: a user of a hub that subscribes, receives and leaves.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::super::consumer::FlagWaker;
use super::super::{Simulation, log_line};
use super::model::{Choice, Model};
use crate::error::{Error, ErrorKind};
use crate::hub::{Subscribe, Subscription};
use crate::proto::supervisor::Listening;

pub(super) struct Subscriber {
    pub(super) choice: Choice,
    pub(super) stage: SubscriberStage,
    pub(super) waker: Arc<FlagWaker>,
    /// The last poll was pending: the next one follows when the waker is woken.
    pub(super) is_asleep: bool,
    /// It sometimes pauses for seconds.
    pub(super) naps: bool,
    /// It has received something, if it must begin with a gap.
    pub(super) must_begin_with_gap: bool,
    /// The number of gaps that were recorded before it joined. `None`: it has not joined.
    pub(super) joined: Option<usize>,
    pub(super) model: Model,
    pub(super) has_cause: bool,
}

/// What a subscriber does.
pub(super) enum SubscriberStage {
    Subscribing(Pin<Box<dyn Future<Output = Result<Subscription, Error>> + Send>>),
    Receiving(Box<Subscription>),
}

impl Subscriber {
    pub(super) fn new(choice: Choice, subscribe: Subscribe, naps: bool) -> Self {
        Self {
            choice,
            stage: SubscriberStage::Subscribing(subscribe.into_future()),
            waker: Arc::default(),
            is_asleep: false,
            naps,
            must_begin_with_gap: false,
            joined: None,
            model: Model::default(),
            has_cause: false,
        }
    }

    pub(super) fn is_receiving(&self) -> bool {
        matches!(self.stage, SubscriberStage::Receiving(_))
    }
}

impl Simulation {
    /// Polls a subscriber: its subscribe, or its subscription.
    pub(in super::super) fn poll_subscriber(&mut self, number: usize) {
        self.follow_stream();
        let Some(hub) = &mut self.hub else { return };
        let Some(mut subscriber) = hub.subscribers.remove(&number) else { return };
        subscriber.is_asleep = false;
        let stays = match &mut subscriber.stage {
            SubscriberStage::Subscribing(_) => self.continue_subscribe(number, &mut subscriber),
            SubscriberStage::Receiving(_) => self.receive_some(number, &mut subscriber),
        };
        if let Some(hub) = self.hub.as_mut().filter(|_| stays) {
            hub.subscribers.insert(number, subscriber);
        }
    }

    /// Polls a subscribe. Returns whether the subscriber stays.
    pub(super) fn continue_subscribe(
        &mut self,
        number: usize,
        subscriber: &mut Subscriber,
    ) -> bool {
        let SubscriberStage::Subscribing(future) = &mut subscriber.stage else { return true };
        let waker = Waker::from(subscriber.waker.clone());
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        match polled {
            Poll::Pending => {
                subscriber.is_asleep = true;
                true
            }
            Poll::Ready(Ok(subscription)) => {
                self.has_subscribed(number, subscriber, subscription);
                true
            }
            Poll::Ready(Err(error)) => {
                self.subscribe_failed(number, subscriber, &error);
                false
            }
        }
    }

    fn has_subscribed(
        &mut self,
        number: usize,
        subscriber: &mut Subscriber,
        subscription: Subscription,
    ) {
        let listening = subscription.listening();
        log_line!(self, "subscriber {number}: {listening:?}");
        let sink = self.sink.get();
        let (gaps, held_at) = (sink.gaps.len(), sink.held_at);
        drop(sink);
        let Some(hub) = &mut self.hub else { return };
        if subscriber.joined.is_none() {
            hub.counts.at_once += 1;
            subscriber.joined = Some(gaps);
            if held_at.is_some() && listening == Listening::Active {
                return self
                    .fail(format!("subscriber {number} is active, and everything is held back"));
            }
        } else {
            hub.counts.waited += 1;
        }
        let Some(hub) = &mut self.hub else { return };
        subscriber.must_begin_with_gap = listening == Listening::Pending;
        hub.counts.pending += u64::from(subscriber.must_begin_with_gap);
        subscriber.stage = SubscriberStage::Receiving(Box::new(subscription));
        let delay = hub.random.range(1, 100);
        let event = super::super::clock::SimulatorEvent::Subscriber(number);
        self.clock.after(delay, event, &mut hub.random);
    }

    fn subscribe_failed(&mut self, number: usize, subscriber: &Subscriber, error: &Error) {
        log_line!(self, "subscriber {number}: {error}");
        let mut channels = subscriber.choice.channels.iter();
        let may_be_refused = channels.any(|&channel| self.channels.0[channel].is_refusable);
        let has_ended =
            self.is_closing || self.done.is_some() || self.has_task_ended || self.is_dropped;
        let Some(hub) = &mut self.hub else { return };
        match error.kind() {
            ErrorKind::Closed if has_ended => hub.counts.refused_at_the_end += 1,
            _ if error.sqlstate().is_some() && may_be_refused => hub.counts.refused += 1,
            kind => self.fail(format!("subscriber {number} gets {kind:?}: {error}")),
        }
    }

    /// Drops a subscriber.
    pub(in super::super) fn leave(&mut self, number: usize) {
        let is_outage = !self.has_live_session();
        let Some(hub) = &mut self.hub else { return };
        let Some(subscriber) = hub.subscribers.remove(&number) else { return };
        log_line!(self, "subscriber {number} leaves");
        let channels = hub.probe.channels();
        let is_last = subscriber.choice.channels.iter().any(|&channel| {
            let view = channels.get(&self.channels.0[channel].name);
            view.is_some_and(|view| view.subscriptions == 1)
        });
        let counts = &mut hub.counts;
        match &subscriber.stage {
            SubscriberStage::Subscribing(_) if subscriber.joined.is_none() => {
                counts.dropped_waiting += 1;
            }
            // The answer is there, and was not seen.
            SubscriberStage::Subscribing(_) => counts.dropped_after_the_answer += 1,
            SubscriberStage::Receiving(_) => {
                counts.left += 1;
                counts.left_unread += u64::from(!subscriber.model.expected.is_empty());
            }
        }
        counts.last_left_in_an_outage += u64::from(is_last && is_outage);
        match subscriber.stage {
            SubscriberStage::Receiving(subscription) if number.is_multiple_of(2) => {
                subscription.close();
            }
            stage => drop(stage),
        }
    }
}
